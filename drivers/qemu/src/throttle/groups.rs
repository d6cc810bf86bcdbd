//! Limits that disks share, by name.

use serde_json::{Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Iotune, ThrottleGroup};
use virtwire_driver_api::params::{self, Kind};
use virtwire_protocol::remote::*;

use super::{GROUP, LIMITS, MOST, changed, check_totals};
use crate::affect::{Affected, CONFIG, LIVE, edit_live, store, tell};
use crate::argv::storage::{group_id, group_limits};
use crate::blockjob::say;
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};

/// The limits of a name.
fn find<'d>(domain: &'d Domain, name: &str) -> Option<&'d Iotune> {
    let all = domain.throttlegroups.iter().flat_map(|groups| &groups.throttlegroup);
    all.map(|group| &group.0).find(|group| group.group_name.as_deref() == Some(name))
}

/// Gives a name other limits, or takes it away.
fn put(domain: &mut Domain, name: &str, tune: Option<Iotune>) {
    let groups = domain.throttlegroups.get_or_insert_default();
    let at = groups.throttlegroup.iter().position(|group| group.0.group_name.as_deref() == Some(name));
    match (at, tune) {
        (Some(at), Some(tune)) => groups.throttlegroup[at] = ThrottleGroup(tune),
        (None, Some(tune)) => groups.throttlegroup.push(ThrottleGroup(tune)),
        (Some(at), None) => drop(groups.throttlegroup.remove(at)),
        (None, None) => {}
    }
    if groups.throttlegroup.is_empty() {
        domain.throttlegroups = None;
    }
}

/// The limits of a name as they are to be.
fn wanted(domain: &Domain, name: &str, given: &[TypedParam]) -> Result<Iotune> {
    let tune = Iotune { group_name: Some(name.to_owned()), ..changed(find(domain, name), given) };
    check_totals(&tune)?;
    Ok(tune)
}

/// Refuses bursts that QEMU would not take.
fn check_bursts(tune: &Iotune) -> Result<()> {
    let mut tune = tune.clone();
    let mut value = |name: &str| {
        LIMITS.iter().find(|limit| limit.0 == name).and_then(|limit| *limit.3(&mut tune)).unwrap_or(0)
    };
    for limit in &LIMITS[..6] {
        let (usual, most) = (limit.0, format!("{}_max", limit.0));
        let burst = value(&most);
        if burst > 0 && burst < value(usual) {
            let text = format_args!("value '{most}' cannot be smaller than '{usual}'");
            return Err(QEMU.config_unsupported(text));
        }
    }
    Ok(())
}

pub(crate) async fn set(driver: &Qemu, args: DomainSetThrottleGroupArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetThrottleGroup")?;
    let limits = LIMITS.iter().map(|limit| (limit.0, Kind::Ullong));
    params::validate(&args.params, &limits.chain([(GROUP, Kind::String)]).collect::<Vec<_>>())?;
    if LIMITS.iter().filter_map(|limit| params::number(&args.params, limit.0)).any(|value| value > MOST) {
        let text = format_args!("block I/O throttle limit value must be no more than {MOST}");
        return Err(QEMU.argument_unsupported(text));
    }
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    let name = args.group.to_string();
    let next = stored.as_ref().map(|stored| wanted(stored, &name, &args.params)).transpose()?;
    if let Some(live) = live {
        let tune = wanted(&live.domain, &name, &args.params)?;
        check_bursts(&tune)?;
        let (id, limits) = (group_id(&name), Value::from(group_limits(&tune)));
        match find(&live.domain, &name) {
            Some(_) => {
                say(&live.monitor, "qom-set", json!({"path": id, "property": "limits", "value": limits}))
                    .await?;
            }
            None => {
                let object = json!({"qom-type": "throttle-group", "id": id, "limits": limits});
                say(&live.monitor, "object-add", object).await?;
            }
        }
        edit_live(driver, &guest, |domain| put(domain, &name, Some(tune)));
        let named = TypedParam::new(format!("blkdeviotune.{GROUP}"), name.as_str());
        let given = args.params.iter();
        let given =
            given.map(|param| TypedParam::new(format!("blkdeviotune.{}", param.field), param.value.clone()));
        tell(driver, &guest, [named].into_iter().chain(given).collect());
    }
    store(driver, &guest, stored, |domain| {
        put(domain, &name, next);
        Ok(())
    })
}

/// Refuses to take away what a disk needs.
fn check_unused(domain: &Domain, name: &str) -> Result<()> {
    let uses = |disk: &&virtwire_conf::domain::disk::Disk| {
        let mut filters = disk.throttlefilters.iter().flat_map(|filters| &filters.throttlefilter);
        filters.any(|filter| filter.group == name)
    };
    let Some(disk) = domain.devices.disks.iter().find(uses) else { return Ok(()) };
    let text = format_args!("throttle group '{name}' is still being used by disk {}", target(disk));
    Err(QEMU.invalid_arg(text))
}

pub(crate) async fn delete(driver: &Qemu, args: DomainDelThrottleGroupArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainDelThrottleGroup")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    let name = args.group.map(|group| group.to_string()).unwrap_or_default();
    let live_domain = live.as_ref().map(|live| &*live.domain);
    live_domain.into_iter().chain(&stored).try_for_each(|domain| check_unused(domain, &name))?;
    if let Some(live) = live {
        say(&live.monitor, "object-del", json!({"id": group_id(&name)})).await?;
        edit_live(driver, &guest, |domain| put(domain, &name, None));
    }
    store(driver, &guest, stored, |domain| {
        put(domain, &name, None);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_and_go_by_name() {
        let mut domain = Domain::default();
        let given = |value: u64| [TypedParam::new("total_iops_sec", value)];
        let tune = wanted(&domain, "a", &given(7)).unwrap();
        put(&mut domain, "a", Some(tune));
        let more = [TypedParam::new("total_bytes_sec", 9_u64)];
        let tune = wanted(&domain, "a", &more).unwrap();
        assert_eq!(
            (tune.total_iops_sec, tune.total_bytes_sec, tune.group_name.as_deref()),
            (Some(7), Some(9), Some("a"))
        );
        put(&mut domain, "a", Some(tune));
        assert_eq!(domain.throttlegroups.as_ref().map(|groups| groups.throttlegroup.len()), Some(1));
        put(&mut domain, "b", None);
        put(&mut domain, "a", None);
        assert_eq!(domain.throttlegroups, None);
    }

    #[test]
    fn a_burst_is_no_less_than_what_is_usual() {
        let tune = Iotune { total_iops_sec: Some(10), total_iops_sec_max: Some(5), ..Iotune::default() };
        let error = check_bursts(&tune).unwrap_err();
        assert!(
            error.message.ends_with("value 'total_iops_sec_max' cannot be smaller than 'total_iops_sec'")
        );
        assert_eq!(check_bursts(&Iotune { total_iops_sec_max: Some(10), ..tune }), Ok(()));
    }
}
