//! Numbers about guests: disks, interfaces, processors.

use std::net::Ipv4Addr;

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::Disk;
use virtwire_protocol::remote::{self as wire, TypedParam};

use super::guest::Guest;
use super::list::matches;
use super::throttle::interface;
use crate::clock::Now;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;

/// Every disk is as large as this, in bytes.
const CAPACITY: u64 = 1_099_506_450_432;
/// So much of each disk is used.
const ALLOCATION: u64 = 1_099_511_627_776;

/// Target and source path of a disk.
pub(super) fn disk_paths(disk: &Disk) -> (&str, Option<&str>) {
    let target = disk.target.as_ref().and_then(|target| target.dev.as_deref()).unwrap_or_default();
    (target, disk.source.as_ref().and_then(|source| source.file.as_deref().or(source.dev.as_deref())))
}

/// Whether `path` means this disk.
pub(super) fn is_disk(disk: &Disk, path: &str) -> bool {
    let (target, source) = disk_paths(disk);
    target == path || source == Some(path)
}

fn has_disk(domain: &Domain, path: &str) -> bool {
    domain.devices.disks.iter().any(|disk| is_disk(disk, path))
}

pub(crate) fn block(host: &mut Host, args: wire::DomainBlockStatsArgs) -> Result<wire::DomainBlockStatsRet> {
    let guest = host.guest(&args.dom)?;
    if args.path.as_bytes().is_empty() {
        return Err(TEST.operation_unsupported("summary statistics are not supported yet"));
    }
    guest.check_running()?;
    if !has_disk(guest.definition().domain(), &args.path.to_str_lossy()) {
        return Err(TEST.invalid_arg(format_args!("invalid path: {}", args.path)));
    }
    let now = Now::read();
    let every = |micros| now.every(micros) as i64;
    Ok(wire::DomainBlockStatsRet {
        rd_req: every(10),
        rd_bytes: every(20),
        wr_req: every(30),
        wr_bytes: every(40),
        errs: now.every_seconds(2) as i64,
    })
}

pub(crate) fn network(
    host: &mut Host,
    args: wire::DomainInterfaceStatsArgs,
) -> Result<wire::DomainInterfaceStatsRet> {
    let guest = host.guest(&args.dom)?;
    guest.check_running()?;
    interface(guest.definition().domain(), &args.device.to_str_lossy())?;
    let now = Now::read();
    let (every, every_seconds) =
        (|micros| now.every(micros) as i64, |seconds| now.every_seconds(seconds) as i64);
    Ok(wire::DomainInterfaceStatsRet {
        rx_bytes: every(10),
        rx_packets: every(100),
        rx_errs: every_seconds(1),
        rx_drop: every_seconds(2),
        tx_bytes: every(20),
        tx_packets: every(110),
        tx_errs: every_seconds(3),
        tx_drop: every_seconds(4),
    })
}

pub(crate) fn block_info(
    host: &mut Host,
    args: wire::DomainGetBlockInfoArgs,
) -> Result<wire::DomainGetBlockInfoRet> {
    check_flags(args.flags, 0, "testDomainGetBlockInfo")?;
    if !has_disk(host.guest(&args.dom)?.definition().domain(), &args.path.to_str_lossy()) {
        return Err(TEST.invalid_arg(format_args!("invalid path {} not assigned to domain", args.path)));
    }
    Ok(wire::DomainGetBlockInfoRet { allocation: ALLOCATION, capacity: CAPACITY, physical: ALLOCATION })
}

/// Every disk has an error; the two kinds take turns.
pub(crate) fn disk_errors(
    host: &mut Host,
    args: wire::DomainGetDiskErrorsArgs,
) -> Result<wire::DomainGetDiskErrorsRet> {
    let guest = host.guest(&args.dom)?;
    guest.check_running()?;
    let disks = &guest.definition().domain().devices.disks;
    if args.maxerrors == 0 {
        return Ok(wire::DomainGetDiskErrorsRet { errors: Vec::new(), nerrors: disks.len() as i32 });
    }
    let error = |(n, disk): (usize, &Disk)| wire::DomainDiskError {
        disk: disk_paths(disk).0.into(),
        error: 1 + n as i32 % 2,
    };
    let errors: Vec<_> = disks.iter().enumerate().map(error).take(args.maxerrors as usize).collect();
    let nerrors = errors.len() as i32;
    Ok(wire::DomainGetDiskErrorsRet { errors, nerrors })
}

/// Nanoseconds that every guest has used, whatever it did.
const TOTALS: [(&str, u64); 3] =
    [("cpu_time", 48_772_617_035), ("user_time", 5_540_000_000), ("system_time", 6_460_000_000)];

pub(crate) fn cpu(host: &mut Host, args: wire::DomainGetCpuStatsArgs) -> Result<wire::DomainGetCpuStatsRet> {
    const STRING_OKAY: u32 = 4;
    check_flags(args.flags, STRING_OKAY, "testDomainGetCPUStats")?;
    let guest = host.guest(&args.dom)?;
    guest.check_running()?;
    let vcpus = Guest::vcpus(guest.definition().domain()).0;
    let per_cpu = |n: u64| [("cpu_time", TOTALS[0].1 / 2 + n), ("vcpu_time", VCPU_TIME + n)];
    let rows =
        |list: &[(&str, u64)]| list.iter().map(|(name, value)| TypedParam::new(*name, *value)).collect();
    let ask = |nparams| Ok(wire::DomainGetCpuStatsRet { params: Vec::new(), nparams });
    match (args.start_cpu, args.ncpus, args.nparams) {
        (-1, _, 0) => ask(TOTALS.len() as i32),
        (-1, ..) => Ok(wire::DomainGetCpuStatsRet { params: rows(&TOTALS), nparams: TOTALS.len() as i32 }),
        (_, 0, _) => ask(vcpus as i32),
        (_, _, 0) => ask(2),
        (start, count, _) => {
            let start = u32::try_from(start).unwrap_or(0);
            if start >= vcpus {
                let text =
                    format_args!("start_cpu {start} larger than maximum of {}", vcpus.saturating_sub(1));
                return Err(TEST.invalid_arg(text));
            }
            let end = start.saturating_add(count).min(vcpus);
            let params = (start..end).flat_map(|n| -> Vec<_> { rows(&per_cpu(n.into())) }).collect();
            Ok(wire::DomainGetCpuStatsRet { params, nparams: 2 })
        }
    }
}

/// Nanoseconds that the first virtual processor has used.
const VCPU_TIME: u64 = 23_151_740_627;

/// `VIR_DOMAIN_STATS_STATE`, the only group there is.
const STATS_STATE: u32 = 1;
/// `virConnectGetAllDomainStatsFlags`: fail rather than leave a group out.
const ENFORCE: u32 = 1 << 31;

pub(crate) fn all(
    host: &mut Host,
    args: wire::ConnectGetAllDomainStatsArgs,
) -> Result<wire::ConnectGetAllDomainStatsRet> {
    let unknown = args.stats & !STATS_STATE;
    if args.flags & ENFORCE != 0 && unknown != 0 {
        let text = format_args!("Stats types bits {unknown:#x} are not supported by this daemon");
        return Err(TEST.argument_unsupported(text));
    }
    let wanted = args.stats == 0 || args.stats & STATS_STATE != 0;
    let record = |guest: &Guest| wire::DomainStatsRecord {
        dom: guest.wire.clone(),
        params: if wanted {
            vec![
                TypedParam::new("state.state", guest.status.state.0),
                TypedParam::new("state.reason", guest.status.reason),
            ]
        } else {
            Vec::new()
        },
    };
    let filter = args.flags & !ENFORCE;
    let ret_stats = if args.doms.is_empty() {
        host.guests.iter().filter(|guest| matches(guest, filter)).map(record).collect()
    } else {
        args.doms
            .iter()
            .filter_map(|dom| host.guest(dom).ok())
            .filter(|guest| matches(guest, filter))
            .map(record)
            .collect()
    };
    Ok(wire::ConnectGetAllDomainStatsRet { ret_stats })
}

/// Where guests without a network of ours get their addresses from.
const ELSEWHERE: (Ipv4Addr, u32) = (Ipv4Addr::new(192, 168, 0, 0), 24);
/// How far apart the addresses of two guests are.
const STEP: u32 = 20;

/// `virDomainInterfaceAddressesSource`: lease, agent and ARP tell the same.
const SOURCES: u32 = 3;

pub(crate) fn addresses(
    host: &mut Host,
    args: wire::DomainInterfaceAddressesArgs,
) -> Result<wire::DomainInterfaceAddressesRet> {
    check_flags(args.flags, 0, "testDomainInterfaceAddresses")?;
    let guest = host.guest(&args.dom)?;
    guest.check_running()?;
    if args.source >= SOURCES {
        return Err(TEST.argument_unsupported(format_args!("Unknown IP address data source {}", args.source)));
    }
    let mut ifaces = Vec::new();
    for (n, interface) in guest.definition().domain().devices.interfaces.iter().enumerate() {
        let n = n as u32 + 1;
        let network = interface.source.as_ref().and_then(|source| source.network.as_deref());
        let (base, prefix, offset) = match network {
            Some(name) => {
                let (base, prefix) = host.network_by_name(name)?.first_address().unwrap_or(ELSEWHERE);
                (base, prefix, n + STEP * (guest.wire.id.max(1) as u32 - 1))
            }
            None => (ELSEWHERE.0, ELSEWHERE.1, n),
        };
        let addr = Ipv4Addr::from(u32::from(base).wrapping_add(offset));
        let mac = interface.mac.as_ref().and_then(|mac| mac.address);
        ifaces.push(wire::DomainInterface {
            name: interface.target.as_ref().and_then(|t| t.dev.as_deref()).unwrap_or_default().into(),
            hwaddr: mac.map(|mac| mac.to_string().into()),
            addrs: vec![wire::DomainIpAddr { r#type: 0, addr: addr.to_string().into(), prefix }],
        });
    }
    Ok(wire::DomainInterfaceAddressesRet { ifaces })
}
