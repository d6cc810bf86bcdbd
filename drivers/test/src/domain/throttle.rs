//! Limits of single disks and interfaces.

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{Disk, Iotune};
use virtwire_conf::domain::net::{Bandwidth, Interface, Rate};
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
        .find(|interface| is_interface(interface, id))
        .ok_or_else(|| ErrorDomain::DOMAIN.invalid_arg(format_args!("'{id}' is not a known interface")))
}

fn is_interface(interface: &Interface, id: &str) -> bool {
    let name = interface.target.as_ref().and_then(|target| target.dev.as_deref());
    let mac = interface.mac.as_ref().and_then(|mac| mac.address);
    name == Some(id) || (mac.is_some() && mac == virtwire_conf::table::Mac::parse_text(id))
}

/// The parts of one direction, in the order they are told.
fn rate_params(direction: &str, rate: &Rate, floor: bool) -> Vec<TypedParam> {
    let param = |name: &str, value: Option<u64>| {
        TypedParam::new(format!("{direction}.{name}"), value.unwrap_or(0) as u32)
    };
    let mut params =
        vec![param("average", rate.average), param("peak", rate.peak), param("burst", rate.burst)];
    if floor {
        params.push(param("floor", rate.floor));
    }
    params
}

const INTERFACE_PARAMS: [(&str, Kind); 7] = [
    ("inbound.average", Kind::Uint),
    ("inbound.peak", Kind::Uint),
    ("inbound.burst", Kind::Uint),
    ("inbound.floor", Kind::Uint),
    ("outbound.average", Kind::Uint),
    ("outbound.peak", Kind::Uint),
    ("outbound.burst", Kind::Uint),
];

pub(crate) fn interface_params(
    host: &mut Host,
    args: wire::DomainGetInterfaceParametersArgs,
) -> Result<wire::DomainGetInterfaceParametersRet> {
    check_flags(args.flags, GET_KNOWN, "testDomainGetInterfaceParameters")?;
    if args.nparams == 0 {
        return Ok(wire::DomainGetInterfaceParametersRet {
            nparams: INTERFACE_PARAMS.len() as i32,
            ..Default::default()
        });
    }
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let bandwidth = interface(domain, &args.device.to_str_lossy())?.bandwidth.clone().unwrap_or_default();
    let mut all = rate_params("inbound", &bandwidth.inbound.unwrap_or_default(), true);
    all.extend(rate_params("outbound", &bandwidth.outbound.unwrap_or_default(), false));
    let (params, nparams) = answer(all, args.nparams, args.flags);
    Ok(wire::DomainGetInterfaceParametersRet { params, nparams })
}

/// One direction as the parameters change it. Without an average or a floor they change nothing; a zero ends the limit.
fn changed(params: &[TypedParam], direction: &str, old: Option<Rate>) -> Option<Rate> {
    let part = |name: &str| number(params, &format!("{direction}.{name}"));
    let (average, floor) = (part("average"), part("floor"));
    if average.is_none() && floor.is_none() {
        return old;
    }
    let set = |value: Option<u64>| value.filter(|value| *value > 0);
    let rate =
        Rate { average: set(average), peak: set(part("peak")), floor: set(floor), burst: set(part("burst")) };
    (rate.average.is_some() || rate.floor.is_some()).then_some(rate)
}

pub(crate) fn set_interface_params(
    host: &mut Host,
    args: wire::DomainSetInterfaceParametersArgs,
) -> Result<()> {
    check_flags(args.flags, SET_KNOWN, "testDomainSetInterfaceParameters")?;
    validate(&args.params, &INTERFACE_PARAMS)?;
    let id = args.device.to_string();
    host.guest_mut(&args.dom)?.change(args.flags, |domain| {
        interface(domain, &id)?;
        for interface in domain.devices.interfaces.iter_mut().filter(|interface| is_interface(interface, &id))
        {
            let old = interface.bandwidth.take().unwrap_or_default();
            let inbound = changed(&args.params, "inbound", old.inbound);
            let outbound = changed(&args.params, "outbound", old.outbound);
            let none = inbound.is_none() && outbound.is_none();
            interface.bandwidth = (!none).then_some(Bandwidth { inbound, outbound, ..old });
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

    #[test]
    fn a_rate_changes_only_with_average_or_floor() {
        let old = || Some(Rate { average: Some(5), ..Rate::default() });
        let params = |name: &str, value: u32| vec![TypedParam::new(name, value)];
        assert_eq!(changed(&params("inbound.peak", 9), "inbound", old()), old());
        assert_eq!(changed(&params("inbound.average", 0), "inbound", old()), None);
        assert_eq!(changed(&params("inbound.floor", 3), "inbound", old()).and_then(|r| r.average), None);
    }
}
