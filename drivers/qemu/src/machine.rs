//! The host, as clients see it through this driver.

use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::caps::KVM_MAX_VCPUS;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::info::map_len;

pub(crate) async fn kind(_: &Qemu) -> Result<ConnectGetTypeRet> {
    Ok(ConnectGetTypeRet { r#type: "QEMU".into() })
}

pub(crate) async fn version(driver: &Qemu) -> Result<ConnectGetVersionRet> {
    Ok(ConnectGetVersionRet { hv_ver: driver.caps().await?.version_number() })
}

pub(crate) async fn is_secure(_: &Qemu) -> Result<ConnectIsSecureRet> {
    Ok(ConnectIsSecureRet { secure: 1 })
}

pub(crate) async fn hostname(driver: &Qemu) -> Result<ConnectGetHostnameRet> {
    Ok(ConnectGetHostnameRet { hostname: driver.shared.host.name().into() })
}

pub(crate) async fn max_vcpus(_: &Qemu, args: ConnectGetMaxVcpusArgs) -> Result<ConnectGetMaxVcpusRet> {
    let kind = args.r#type.map_or_else(|| "qemu".to_owned(), |kind| kind.to_string().to_lowercase());
    match kind.as_str() {
        // KVM takes what the host has, and more; as many as processors is what is recommended.
        "qemu" => Ok(ConnectGetMaxVcpusRet { max_vcpus: 16 }),
        "kvm" => Ok(ConnectGetMaxVcpusRet { max_vcpus: KVM_MAX_VCPUS as i32 }),
        other => Err(QEMU.invalid_arg(format_args!("unknown type '{other}'"))),
    }
}

pub(crate) async fn node_info(driver: &Qemu) -> Result<NodeGetInfoRet> {
    let info = driver.shared.host.node_info();
    let mut model = [0; 32];
    // The last byte stays the C string's end.
    for (to, from) in model.iter_mut().take(31).zip(info.model.bytes()) {
        *to = from;
    }
    let number = |number: u32| number as i32;
    Ok(NodeGetInfoRet {
        model,
        memory: info.memory,
        cpus: number(info.cpus),
        mhz: number(info.mhz),
        nodes: number(info.nodes),
        sockets: number(info.sockets),
        cores: number(info.cores),
        threads: number(info.threads),
    })
}

pub(crate) async fn cpu_stats(driver: &Qemu, args: NodeGetCpuStatsArgs) -> Result<NodeGetCpuStatsRet> {
    check_flags(args.flags, 0, "virHostCPUGetStats")?;
    let cpu = u32::try_from(args.cpu_num).ok();
    let times = driver
        .shared
        .host
        .cpu_times(cpu)
        .ok_or_else(|| QEMU.invalid_arg(format_args!("Invalid cpuNum in virHostCPUGetStatsLinux")))?;
    let all =
        [("kernel", times.kernel), ("user", times.user), ("idle", times.idle), ("iowait", times.iowait)];
    let nparams = all.len() as i32;
    let wanted = if args.nparams == 0 { 0 } else { all.len() };
    let params =
        all.into_iter().take(wanted).map(|(field, value)| NodeGetCpuStats { field: field.into(), value });
    Ok(NodeGetCpuStatsRet { params: params.collect(), nparams })
}

pub(crate) async fn memory_stats(
    driver: &Qemu,
    args: NodeGetMemoryStatsArgs,
) -> Result<NodeGetMemoryStatsRet> {
    check_flags(args.flags, 0, "virHostMemGetStats")?;
    let host = &driver.shared.host;
    let all = match usize::try_from(args.cell_num) {
        Err(_) => vec![
            ("total", host.memory("MemTotal")),
            ("free", host.memory("MemFree")),
            ("buffers", host.memory("Buffers")),
            ("cached", host.memory("Cached")),
        ],
        Ok(number) => {
            let cells = host.cells();
            let cell = cells.get(number).ok_or_else(|| {
                QEMU.invalid_arg(format_args!(
                    "cellNum in virHostMemGetStats must be less than or equal to {}",
                    cells.len().saturating_sub(1)
                ))
            })?;
            vec![("total", cell.memory), ("free", cell.free)]
        }
    };
    let nparams = all.len() as i32;
    let wanted = if args.nparams == 0 { 0 } else { all.len() };
    let params =
        all.into_iter().take(wanted).map(|(field, value)| NodeGetMemoryStats { field: field.into(), value });
    Ok(NodeGetMemoryStatsRet { params: params.collect(), nparams })
}

pub(crate) async fn cells_free_memory(
    driver: &Qemu,
    args: NodeGetCellsFreeMemoryArgs,
) -> Result<NodeGetCellsFreeMemoryRet> {
    let first = usize::try_from(args.start_cell).unwrap_or(usize::MAX);
    let most = usize::try_from(args.maxcells).unwrap_or_default();
    let all = driver.shared.host.cells();
    if first >= all.len() {
        let last = all.len().saturating_sub(1);
        return Err(
            ErrorDomain::NONE.internal_error(format_args!("start cell {first} out of range (0-{last})"))
        );
    }
    let cells = all.into_iter().skip(first).take(most).map(|cell| cell.free * 1024);
    Ok(NodeGetCellsFreeMemoryRet { cells: cells.collect() })
}

pub(crate) async fn free_memory(driver: &Qemu) -> Result<NodeGetFreeMemoryRet> {
    Ok(NodeGetFreeMemoryRet { free_mem: driver.shared.host.memory("MemFree") * 1024 })
}

pub(crate) async fn cpu_map(driver: &Qemu, args: NodeGetCpuMapArgs) -> Result<NodeGetCpuMapRet> {
    check_flags(args.flags, 0, "virHostCPUGetMap")?;
    let host = &driver.shared.host;
    let (present, online) = (host.present(), host.cpus());
    let count = present.iter().max().map_or(0, |last| *last as usize + 1);
    let mut map = vec![0_u8; map_len(count)];
    for cpu in &online {
        if let Some(byte) = map.get_mut(cpu.id as usize / 8) {
            *byte |= 1 << (cpu.id % 8);
        }
    }
    Ok(NodeGetCpuMapRet {
        cpumap: if args.need_map != 0 { map } else { Vec::new() },
        online: if args.need_online != 0 { online.len() as u32 } else { 0 },
        ret: count as i32,
    })
}

pub(crate) async fn security_model(_: &Qemu) -> Result<NodeGetSecurityModelRet> {
    // Lists of characters end with a NUL.
    Ok(NodeGetSecurityModelRet { model: b"none\0".to_vec(), doi: b"0\0".to_vec() })
}
