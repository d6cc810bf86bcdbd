//! How fast a disk may be: limits that a running guest keeps, and those of its next start.

pub(crate) mod groups;

use serde_json::{Map, Value};
use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, Iotune};
use virtwire_driver_api::params::{self, Kind};
use virtwire_protocol::remote::*;

use crate::affect::{Affected, CONFIG, LIVE, edit_live, store, tell};
use crate::disks::{find, known, target};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor};
use crate::info::one_definition;

/// Greatest number that a limit can be.
const MOST: u64 = 1_000_000_000_000_000;

/// A limit: its name, QEMU's name, which others are given with it, and its place in a definition.
struct Limit(&'static str, &'static str, Together, fn(&mut Iotune) -> &mut Option<u64>);

/// Limits that are given together: where one is, those that are not said are none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Together {
    Bytes,
    Iops,
    BytesMax,
    IopsMax,
    Size,
    BytesLength,
    IopsLength,
}
use Together::*;

const LIMITS: [Limit; 19] = [
    Limit("total_bytes_sec", "bps", Bytes, |t| &mut t.total_bytes_sec),
    Limit("read_bytes_sec", "bps_rd", Bytes, |t| &mut t.read_bytes_sec),
    Limit("write_bytes_sec", "bps_wr", Bytes, |t| &mut t.write_bytes_sec),
    Limit("total_iops_sec", "iops", Iops, |t| &mut t.total_iops_sec),
    Limit("read_iops_sec", "iops_rd", Iops, |t| &mut t.read_iops_sec),
    Limit("write_iops_sec", "iops_wr", Iops, |t| &mut t.write_iops_sec),
    Limit("total_bytes_sec_max", "bps_max", BytesMax, |t| &mut t.total_bytes_sec_max),
    Limit("read_bytes_sec_max", "bps_rd_max", BytesMax, |t| &mut t.read_bytes_sec_max),
    Limit("write_bytes_sec_max", "bps_wr_max", BytesMax, |t| &mut t.write_bytes_sec_max),
    Limit("total_iops_sec_max", "iops_max", IopsMax, |t| &mut t.total_iops_sec_max),
    Limit("read_iops_sec_max", "iops_rd_max", IopsMax, |t| &mut t.read_iops_sec_max),
    Limit("write_iops_sec_max", "iops_wr_max", IopsMax, |t| &mut t.write_iops_sec_max),
    Limit("size_iops_sec", "iops_size", Size, |t| &mut t.size_iops_sec),
    Limit("total_bytes_sec_max_length", "bps_max_length", BytesLength, |t| &mut t.total_bytes_sec_max_length),
    Limit("read_bytes_sec_max_length", "bps_rd_max_length", BytesLength, |t| {
        &mut t.read_bytes_sec_max_length
    }),
    Limit("write_bytes_sec_max_length", "bps_wr_max_length", BytesLength, |t| {
        &mut t.write_bytes_sec_max_length
    }),
    Limit("total_iops_sec_max_length", "iops_max_length", IopsLength, |t| &mut t.total_iops_sec_max_length),
    Limit("read_iops_sec_max_length", "iops_rd_max_length", IopsLength, |t| &mut t.read_iops_sec_max_length),
    Limit("write_iops_sec_max_length", "iops_wr_max_length", IopsLength, |t| {
        &mut t.write_iops_sec_max_length
    }),
];

/// The group's name, and where it stands among the limits.
const GROUP: &str = "group_name";
const GROUP_AT: usize = 13;

/// `VIR_TYPED_PARAM_STRING_OKAY`
const STRINGS: u32 = 4;

pub(crate) async fn get(driver: &Qemu, args: DomainGetBlockIoTuneArgs) -> Result<DomainGetBlockIoTuneRet> {
    check_flags(args.flags, LIVE | CONFIG | STRINGS, "qemuDomainGetBlockIoTune")?;
    let guest = driver.guest(&args.dom)?;
    let domain = one_definition(&guest.lock(), args.flags)?;
    let runs = args.flags & CONFIG == 0 && guest.lock().live.is_some();
    if args.nparams == 0 && args.disk.is_none() {
        return Ok(DomainGetBlockIoTuneRet { nparams: 1 + LIMITS.len() as i32, ..Default::default() });
    }
    let path = args.disk.map(|disk| disk.to_string()).unwrap_or_default();
    let disk = if runs { running(&domain, &path)? } else { known(&domain, &path)? };
    let mut tune = disk.iotune.clone().unwrap_or_default();
    if runs && limits(&tune) {
        as_qemu_has_it(&mut tune, disk);
    }
    let mut all: Vec<_> =
        LIMITS.iter().map(|limit| TypedParam::new(limit.0, limit.3(&mut tune).unwrap_or(0))).collect();
    all.insert(GROUP_AT, TypedParam::new(GROUP, tune.group_name.unwrap_or_default()));
    let (params, nparams) = params::answer(all, args.nparams, args.flags);
    Ok(DomainGetBlockIoTuneRet { params, nparams })
}

/// What is not said of a running guest's limits: its group is its own, and a burst lasts a second.
fn as_qemu_has_it(tune: &mut Iotune, disk: &Disk) {
    tune.group_name.get_or_insert_with(|| qdev(disk));
    for length in LIMITS.iter().filter(|limit| matches!(limit.2, BytesLength | IopsLength)) {
        let of = LIMITS.iter().find(|limit| length.0.strip_suffix("_length") == Some(limit.0));
        if of.is_some_and(|of| of.3(tune).is_some()) {
            length.3(tune).get_or_insert(1);
        }
    }
}

fn running<'a>(domain: &'a Domain, path: &str) -> Result<&'a Disk> {
    find(domain, path).ok_or_else(|| QEMU.invalid_arg(format_args!("disk '{path}' not found in domain")))
}

/// The limits of a disk as they are to be.
fn changed(now: Option<&Iotune>, given: &[TypedParam]) -> Iotune {
    let mut tune = now.cloned().unwrap_or_default();
    let named = |limit: &Limit| params::number(given, limit.0);
    for limit in &LIMITS {
        let together = LIMITS.iter().any(|other| other.2 == limit.2 && named(other).is_some());
        if together {
            *limit.3(&mut tune) = named(limit).filter(|value| *value > 0);
        }
    }
    if let Some(group) = params::text(given, GROUP) {
        tune.group_name = Some(group).filter(|group| !group.is_empty());
    }
    tune
}

/// Refuses limits on everything beside those on a part of it.
fn check_totals(tune: &Iotune) -> Result<()> {
    let mut tune = tune.clone();
    let mut value = |name: &str| {
        LIMITS.iter().find(|limit| limit.0 == name).and_then(|limit| *limit.3(&mut tune)).unwrap_or(0)
    };
    for what in ["bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max"] {
        let [total, read, write] = ["total", "read", "write"].map(|kind| value(&format!("{kind}_{what}")));
        if total > 0 && (read > 0 || write > 0) {
            let text = format_args!("total and read/write of {what} cannot be set at the same time");
            return Err(QEMU.invalid_arg(text));
        }
    }
    Ok(())
}

/// What contradicts itself.
fn check(tune: &Iotune) -> Result<()> {
    check_totals(tune)?;
    let mut tune = tune.clone();
    let mut value = |name: &str| {
        LIMITS.iter().find(|limit| limit.0 == name).and_then(|limit| *limit.3(&mut tune)).unwrap_or(0)
    };
    for limit in &LIMITS[..6] {
        let most = format!("{}_max", limit.0);
        let (usual, burst) = (value(limit.0), value(&most));
        if burst > 0 && burst <= usual {
            return Err(QEMU.config_unsupported(format_args!(
                "value '{burst}' for {most} must be greater than {}",
                limit.0
            )));
        }
        let length = format!("{most}_length");
        if value(&length) > 0 && burst == 0 {
            let text = format_args!("{most}_length requires {most} to be set");
            return Err(QEMU.config_unsupported(text));
        }
    }
    Ok(())
}

/// Whether there is any limit.
fn limits(tune: &Iotune) -> bool {
    let mut tune = tune.clone();
    LIMITS.iter().any(|limit| limit.3(&mut tune).is_some())
}

pub(crate) async fn set(driver: &Qemu, args: DomainSetBlockIoTuneArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetBlockIoTune")?;
    let allowed: Vec<_> =
        LIMITS.iter().map(|limit| (limit.0, Kind::Ullong)).chain([(GROUP, Kind::String)]).collect();
    params::validate(&args.params, &allowed)?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    let number = |limit: &Limit| params::number(&args.params, limit.0);
    if LIMITS.iter().any(|limit| number(limit).is_some_and(|value| value > MOST)) {
        let text = format_args!("block I/O throttle limit value must be no more than {MOST}");
        return Err(QEMU.argument_unsupported(text));
    }
    let path = args.disk.to_str_lossy();
    let next = match &stored {
        Some(stored) => {
            let none =
                || QEMU.invalid_arg(format_args!("missing persistent configuration for disk '{path}'"));
            let tune = changed(find(stored, &path).ok_or_else(none)?.iotune.as_ref(), &args.params);
            check(&tune)?;
            Some(tune)
        }
        None => None,
    };
    if let Some(live) = live {
        let disk = running(&live.domain, &path)?;
        let device = qdev(disk);
        let tune = changed(disk.iotune.as_ref(), &args.params);
        check(&tune)?;
        let command = command(&tune, &device);
        live.monitor.execute_raw("block_set_io_throttle", &command).await.map_err(monitor)?;
        let name = target(disk).to_owned();
        edit_live(driver, &guest, |domain| put(domain, &name, &tune));
        let mut told = vec![TypedParam::new("blkdeviotune.disk", name.as_str())];
        told.extend(
            args.params
                .iter()
                .map(|param| TypedParam::new(format!("blkdeviotune.{}", param.field), param.value.clone())),
        );
        tell(driver, &guest, told);
    }
    store(driver, &guest, stored, |domain| {
        if let Some(next) = &next {
            let name = target(known(domain, &path)?).to_owned();
            put(domain, &name, next);
        }
        Ok(())
    })
}

fn put(domain: &mut Domain, name: &str, tune: &Iotune) {
    if let Some(disk) = domain.devices.disks.iter_mut().find(|disk| target(disk) == name) {
        disk.iotune = limits(tune).then(|| tune.clone());
    }
}

/// QEMU's name of the part of a device that reads and writes.
fn qdev(disk: &Disk) -> String {
    let alias = disk.info.alias.as_ref().map(|alias| alias.name.clone()).unwrap_or_default();
    match alias.starts_with("virtio-disk") {
        true => format!("/machine/peripheral/{alias}/virtio-backend"),
        false => alias,
    }
}

/// What QEMU is told: all limits, those that are none as zeros; how long a burst lasts only where that is said.
fn command(tune: &Iotune, device: &str) -> Map<String, Value> {
    let mut tune = tune.clone();
    let mut arguments = Map::from_iter([("id".to_owned(), device.into())]);
    for limit in &LIMITS {
        let value = *limit.3(&mut tune);
        let optional = matches!(limit.2, BytesLength | IopsLength);
        if let Some(value) = value.or_else(|| (!optional).then_some(0)) {
            arguments.insert(limit.1.to_owned(), value.into());
        }
    }
    if let Some(group) = tune.group_name {
        arguments.insert("group".to_owned(), group.into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(all: &[(&'static str, u64)]) -> Vec<TypedParam> {
        all.iter().map(|(name, value)| TypedParam::new(*name, *value)).collect()
    }

    #[test]
    fn limits_of_one_kind_are_given_together() {
        let old = Iotune { total_iops_sec: Some(5), read_bytes_sec: Some(7), ..Iotune::default() };
        let new = changed(Some(&old), &given(&[("write_bytes_sec", 9)]));
        assert_eq!((new.read_bytes_sec, new.write_bytes_sec, new.total_iops_sec), (None, Some(9), Some(5)));
        assert!(!limits(&changed(Some(&new), &given(&[("total_bytes_sec", 0), ("total_iops_sec", 0)]))));
    }

    #[test]
    fn contradictions_are_found() {
        let message = |all: &[(&'static str, u64)]| check(&changed(None, &given(all))).map_err(|e| e.message);
        assert_eq!(message(&[("total_iops_sec", 5), ("total_iops_sec_max", 9)]), Ok(()));
        assert_eq!(
            message(&[("total_iops_sec", 5), ("read_iops_sec", 9)]).unwrap_err(),
            "invalid argument: total and read/write of iops_sec cannot be set at the same time"
        );
        assert!(message(&[("total_iops_sec_max_length", 3)]).is_err());
    }
}
