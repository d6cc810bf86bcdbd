//! The guest's processors, as the guest sees them.

use serde::Deserialize;
use serde_json::{Value, json};
use virtwire_conf::table::Cpuset;
use virtwire_protocol::remote::*;

use super::{ask, bounded, check};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::Guest;

/// A processor as the agent tells of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Vcpu {
    logical_id: u32,
    online: bool,
    #[serde(default)]
    can_offline: bool,
}

async fn list(guest: &Guest, procedure: &'static str) -> Result<Vec<Vcpu>> {
    let all = ask(guest, procedure, "guest-get-vcpus", Value::Null).await?;
    bounded(all, REMOTE_VCPUINFO_MAX, "vCPUs")
}

/// The numbers of some processors as a list; those that no guest can have are left out.
fn numbers<'v>(vcpus: impl Iterator<Item = &'v Vcpu>) -> String {
    let mut map = vec![0_u8; REMOTE_VCPUINFO_MAX as usize / 8];
    for vcpu in vcpus {
        if let Some(byte) = map.get_mut(vcpu.logical_id as usize / 8) {
            *byte |= 1 << (vcpu.logical_id % 8);
        }
    }
    Cpuset::from_map(&map).to_string()
}

pub(crate) async fn guest_vcpus(
    driver: &Qemu,
    args: DomainGetGuestVcpusArgs,
) -> Result<DomainGetGuestVcpusRet> {
    check_flags(args.flags, 0, "qemuDomainGetGuestVcpus")?;
    let all = list(&*driver.guest(&args.dom)?, "DomainGetGuestVcpus").await?;
    let params = vec![
        TypedParam::new("vcpus", numbers(all.iter())),
        TypedParam::new("online", numbers(all.iter().filter(|vcpu| vcpu.online))),
        TypedParam::new("offlinable", numbers(all.iter().filter(|vcpu| vcpu.can_offline))),
    ];
    Ok(DomainGetGuestVcpusRet { params })
}

pub(crate) async fn set_guest_vcpus(driver: &Qemu, args: DomainSetGuestVcpusArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainSetGuestVcpus")?;
    if !matches!(args.state, 0 | 1) {
        return Err(QEMU.invalid_arg("unsupported state value"));
    }
    let text = args.cpumap.to_str_lossy();
    let wrong = || QEMU.invalid_arg(format_args!("Failed to parse bitmap '{text}'"));
    let wanted = Cpuset::parse_text(&text).ok_or_else(wrong)?;
    let guest = driver.guest(&args.dom)?;
    check(&guest)?;
    let procedure = "DomainSetGuestVcpus";
    let chosen = choose(list(&guest, procedure).await?, &wanted, args.state == 1)?;
    set(&guest, procedure, chosen).await
}

/// The processors of these numbers, as they are to be.
fn choose(all: Vec<Vcpu>, wanted: &Cpuset, online: bool) -> Result<Vec<Vcpu>> {
    let missing = wanted.iter().filter(|number| !all.iter().any(|vcpu| vcpu.logical_id == *number));
    let missing: Vec<_> = missing.map(|logical_id| Vcpu { logical_id, online, can_offline: false }).collect();
    if !missing.is_empty() {
        return Err(QEMU.invalid_arg(format_args!("guest is missing vCPUs '{}'", numbers(missing.iter()))));
    }
    let mut chosen: Vec<_> =
        all.into_iter().filter(|vcpu| wanted.iter().any(|number| number == vcpu.logical_id)).collect();
    if let Some(fixed) = chosen.iter().find(|vcpu| !online && !vcpu.can_offline) {
        let text = format_args!("vCPU '{}' is not offlinable", fixed.logical_id);
        return Err(QEMU.operation_unsupported(text));
    }
    chosen.iter_mut().for_each(|vcpu| vcpu.online = online);
    Ok(chosen)
}

/// Has the agent change processors; it may take them in parts.
async fn set(guest: &Guest, procedure: &'static str, mut vcpus: Vec<Vcpu>) -> Result<()> {
    while !vcpus.is_empty() {
        let each = vcpus.iter().map(|vcpu| json!({"logical-id": vcpu.logical_id, "online": vcpu.online}));
        let all = json!({"vcpus": each.collect::<Vec<_>>()});
        let done: usize = ask(guest, procedure, "guest-set-vcpus", all).await?;
        if done == 0 || done > vcpus.len() {
            let number = vcpus.first().map(|vcpu| vcpu.logical_id).unwrap_or_default();
            return Err(
                QEMU.internal_error(format_args!("failed to set state of cpu {number} via guest agent"))
            );
        }
        vcpus.drain(..done);
    }
    Ok(())
}

/// How many processors are in use.
///
/// # Errors
/// What the agent says.
pub(crate) async fn count(guest: &Guest) -> Result<i32> {
    let all = list(guest, "DomainGetVcpusFlags").await?;
    Ok(all.iter().filter(|vcpu| vcpu.online).count() as i32)
}

/// Has the guest use so many processors.
///
/// # Errors
/// It has not as many, or some cannot be given up.
pub(crate) async fn set_count(guest: &Guest, count: u32) -> Result<()> {
    let procedure = "DomainSetVcpusFlags";
    let all = list(guest, procedure).await?;
    set(guest, procedure, to_count(all, count as usize)?).await
}

/// The processors that change for so many to be in use: the last are given up, the first taken up.
fn to_count(all: Vec<Vcpu>, count: usize) -> Result<Vec<Vcpu>> {
    let online = all.iter().filter(|vcpu| vcpu.online).count();
    let (more, fewer) = (count.saturating_sub(online), online.saturating_sub(count));
    let changed: Vec<_> = match fewer {
        0 => all.into_iter().filter(|vcpu| !vcpu.online).take(more).collect(),
        _ => all.into_iter().rev().filter(|vcpu| vcpu.online && vcpu.can_offline).take(fewer).collect(),
    };
    if changed.len() < more.max(fewer) {
        let text = if more > 0 {
            "guest agent reports less cpu than requested"
        } else {
            "Cannot offline enough CPUs"
        };
        return Err(QEMU.internal_error(text));
    }
    Ok(changed.into_iter().map(|vcpu| Vcpu { online: !vcpu.online, ..vcpu }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(states: &[(u32, bool, bool)]) -> Vec<Vcpu> {
        let vcpu = |(logical_id, online, can_offline): &(u32, bool, bool)| Vcpu {
            logical_id: *logical_id,
            online: *online,
            can_offline: *can_offline,
        };
        states.iter().map(vcpu).collect()
    }

    const FOUR: &[(u32, bool, bool)] =
        &[(0, true, false), (1, true, true), (2, true, true), (3, false, true)];

    #[test]
    fn numbers_of_no_processor_are_left_out() {
        assert_eq!(numbers(all(FOUR).iter()), "0-3");
        assert_eq!(numbers(all(&[(u32::MAX, true, true), (5, true, true)]).iter()), "5");
    }

    #[test]
    fn processors_are_chosen_by_number() {
        let chosen = |text: &str, online| {
            let chosen = choose(all(FOUR), &Cpuset::parse_text(text).unwrap(), online);
            chosen.map(|it| it.iter().map(|vcpu| vcpu.logical_id).collect::<Vec<_>>()).map_err(|e| e.message)
        };
        assert_eq!(chosen("1-2", false), Ok(vec![1, 2]));
        assert!(chosen("0", false).unwrap_err().contains("vCPU '0' is not offlinable"));
        assert!(chosen("0-5", true).unwrap_err().contains("guest is missing vCPUs '4-5'"));
    }

    #[test]
    fn the_last_are_given_up_and_the_first_taken_up() {
        let changed = |count| to_count(all(FOUR), count).map(|it| numbers(it.iter())).map_err(|e| e.message);
        assert_eq!((changed(1), changed(2)), (Ok("1-2".into()), Ok("2".into())));
        assert_eq!((changed(3), changed(4)), (Ok(String::new()), Ok("3".into())));
        assert!(changed(0).is_err() && changed(5).is_err());
    }
}
