//! Limits of single disks and interfaces.

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, Iotune};
use virtwire_conf::domain::net::{Bandwidth, Interface};
use virtwire_driver_api::params::{Kind, answer, number, text, validate};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::{self as wire, TypedParam};

use super::tuning::{GET_KNOWN, SET_KNOWN};
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;

/// Greatest number that a block limit can be.
const LIMIT_MAX: u64 = 1_000_000_000_000_000;

/// A limit: its name, and its place in the definition.
type Limit = (&'static str, fn(&mut Iotune) -> &mut Option<u64>);

/// Where the group's name stands among the limits.
const GROUP_AT: usize = 13;
const GROUP: &str = "group_name";

const LIMITS: [Limit; 19] = [
    ("total_bytes_sec", |t| &mut t.total_bytes_sec),
    ("read_bytes_sec", |t| &mut t.read_bytes_sec),
    ("write_bytes_sec", |t| &mut t.write_bytes_sec),
    ("total_iops_sec", |t| &mut t.total_iops_sec),
    ("read_iops_sec", |t| &mut t.read_iops_sec),
    ("write_iops_sec", |t| &mut t.write_iops_sec),
    ("total_bytes_sec_max", |t| &mut t.total_bytes_sec_max),
    ("read_bytes_sec_max", |t| &mut t.read_bytes_sec_max),
    ("write_bytes_sec_max", |t| &mut t.write_bytes_sec_max),
    ("total_iops_sec_max", |t| &mut t.total_iops_sec_max),
    ("read_iops_sec_max", |t| &mut t.read_iops_sec_max),
    ("write_iops_sec_max", |t| &mut t.write_iops_sec_max),
    ("size_iops_sec", |t| &mut t.size_iops_sec),
    ("total_bytes_sec_max_length", |t| &mut t.total_bytes_sec_max_length),
    ("read_bytes_sec_max_length", |t| &mut t.read_bytes_sec_max_length),
    ("write_bytes_sec_max_length", |t| &mut t.write_bytes_sec_max_length),
    ("total_iops_sec_max_length", |t| &mut t.total_iops_sec_max_length),
    ("read_iops_sec_max_length", |t| &mut t.read_iops_sec_max_length),
    ("write_iops_sec_max_length", |t| &mut t.write_iops_sec_max_length),
];

/// The disk that a target or source path means.
fn disk<'d>(domain: &'d mut Domain, path: &str) -> Result<&'d mut Disk> {
    let found = domain.devices.disks.iter_mut().find(|disk| super::stats::is_disk(disk, path));
    found.ok_or_else(|| TEST.invalid_arg(format_args!("disk '{path}' was not found in the domain config")))
}

fn value(tune: &mut Iotune, name: &str) -> u64 {
    LIMITS.iter().find(|(limit, _)| *limit == name).and_then(|(_, place)| *place(tune)).unwrap_or(0)
}

pub(crate) fn block_io(
    host: &mut Host,
    args: wire::DomainGetBlockIoTuneArgs,
) -> Result<wire::DomainGetBlockIoTuneRet> {
    check_flags(args.flags, GET_KNOWN, "testDomainGetBlockIoTune")?;
    if args.nparams == 0 {
        return Ok(wire::DomainGetBlockIoTuneRet { nparams: 1 + LIMITS.len() as i32, ..Default::default() });
    }
    let mut domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain().clone();
    let path = args.disk.map(|path| path.to_string());
    let mut tune = match &path {
        Some(path) => disk(&mut domain, path)?.iotune.clone().unwrap_or_default(),
        None => Iotune::default(),
    };
    let mut all: Vec<_> =
        LIMITS.iter().map(|(name, place)| TypedParam::new(*name, place(&mut tune).unwrap_or(0))).collect();
    all.insert(GROUP_AT, TypedParam::new(GROUP, tune.group_name.unwrap_or_default()));
    let (params, nparams) = answer(all, args.nparams, args.flags);
    Ok(wire::DomainGetBlockIoTuneRet { params, nparams })
}

/// What contradicts itself.
fn check_limits(tune: &mut Iotune) -> Result<()> {
    for what in ["bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max"] {
        let [total, read, write] =
            ["total", "read", "write"].map(|kind| value(tune, &format!("{kind}_{what}")));
        if total > 0 && (read > 0 || write > 0) {
            let text = format_args!("total and read/write of {what} cannot be set at the same time");
            return Err(TEST.invalid_arg(text));
        }
    }
    for (name, _) in &LIMITS[..6] {
        let most = format!("{name}_max");
        if value(tune, name) > value(tune, &most) {
            return Err(TEST.invalid_arg(format_args!("{name} cannot be set higher than {most}")));
        }
    }
    Ok(())
}

pub(crate) fn set_block_io(host: &mut Host, args: wire::DomainSetBlockIoTuneArgs) -> Result<()> {
    check_flags(args.flags, SET_KNOWN, "testDomainSetBlockIoTune")?;
    let known = LIMITS.iter().map(|(name, _)| (*name, Kind::Ullong)).chain([(GROUP, Kind::String)]);
    validate(&args.params, &known.collect::<Vec<_>>())?;
    let path = args.disk.to_string();
    let guest = host.guest_mut(&args.dom)?;
    guest.definitions(args.flags)?;
    if LIMITS.iter().any(|(name, _)| number(&args.params, name).is_some_and(|value| value > LIMIT_MAX)) {
        let text = format_args!("block I/O throttle limit value must be no more than {LIMIT_MAX}");
        return Err(TEST.argument_unsupported(text));
    }
    guest.change(args.flags, |domain| {
        let tune = disk(domain, &path)?.iotune.get_or_insert_default();
        for (name, place) in &LIMITS {
            if let Some(value) = number(&args.params, name) {
                *place(tune) = Some(value).filter(|value| *value > 0);
            }
        }
        if let Some(group) = text(&args.params, GROUP) {
            tune.group_name = Some(group).filter(|group| !group.is_empty());
        }
        check_limits(tune)
    })
}

/// The interface of that name or MAC address.
pub(super) fn interface<'d>(domain: &'d Domain, id: &str) -> Result<&'d Interface> {
    domain
        .devices
        .interfaces
        .iter()
        .find(|interface| interface.is_called(id))
        .ok_or_else(|| ErrorDomain::DOMAIN.invalid_arg(format_args!("'{id}' is not a known interface")))
}

/// The parts of an interface's limits.
fn rate_params() -> [(&'static str, Kind); 7] {
    Bandwidth::PARTS.map(|name| (name, Kind::Uint))
}

pub(crate) fn interface_params(
    host: &mut Host,
    args: wire::DomainGetInterfaceParametersArgs,
) -> Result<wire::DomainGetInterfaceParametersRet> {
    check_flags(args.flags, GET_KNOWN, "testDomainGetInterfaceParameters")?;
    if args.nparams == 0 {
        return Ok(wire::DomainGetInterfaceParametersRet {
            nparams: Bandwidth::PARTS.len() as i32,
            ..Default::default()
        });
    }
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let bandwidth = interface(domain, &args.device.to_str_lossy())?.bandwidth.clone().unwrap_or_default();
    let all =
        Bandwidth::PARTS.map(|name| TypedParam::new(name, bandwidth.part(name).unwrap_or_default() as u32));
    let (params, nparams) = answer(all.into(), args.nparams, args.flags);
    Ok(wire::DomainGetInterfaceParametersRet { params, nparams })
}

pub(crate) fn set_interface_params(
    host: &mut Host,
    args: wire::DomainSetInterfaceParametersArgs,
) -> Result<()> {
    check_flags(args.flags, SET_KNOWN, "testDomainSetInterfaceParameters")?;
    validate(&args.params, &rate_params())?;
    let id = args.device.to_string();
    host.guest_mut(&args.dom)?.change(args.flags, |domain| {
        interface(domain, &id)?;
        for interface in domain.devices.interfaces.iter_mut().filter(|interface| interface.is_called(&id)) {
            let said = |part: &str| number(&args.params, part);
            interface.bandwidth = Bandwidth::changed(interface.bandwidth.take(), said);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_found() {
        let check = |tune: Iotune| check_limits(&mut { tune }).map_err(|error| error.message);
        assert_eq!(check(Iotune::default()), Ok(()));
        assert_eq!(
            check(Iotune { total_iops_sec: Some(1), read_iops_sec: Some(1), ..Iotune::default() }),
            Err("invalid argument: total and read/write of iops_sec cannot be set at the same time".into())
        );
        assert_eq!(
            check(Iotune { read_iops_sec: Some(2), read_iops_sec_max: Some(1), ..Iotune::default() }),
            Err("invalid argument: read_iops_sec cannot be set higher than read_iops_sec_max".into())
        );
    }
}
