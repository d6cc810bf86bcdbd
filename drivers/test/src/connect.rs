//! The host as the hypervisor sees it.

use virtwire_conf::ARCHITECTURES;
use virtwire_conf::domain::VirtType;
use virtwire_conf::table::Value;
use virtwire_conf::xml::Document;
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote as wire;

use crate::error::{Result, TEST, check_flags};
use crate::host::Host;
use crate::node::{self, SECURITY_MODEL, SYSINFO, VERSION, c_array, c_text, domain_capabilities};

pub(crate) fn kind(_: &mut Host) -> Result<wire::ConnectGetTypeRet> {
    Ok(wire::ConnectGetTypeRet { r#type: "TEST".into() })
}

pub(crate) fn version(_: &mut Host) -> Result<wire::ConnectGetVersionRet> {
    Ok(wire::ConnectGetVersionRet { hv_ver: VERSION })
}

pub(crate) fn is_secure(_: &mut Host) -> Result<wire::ConnectIsSecureRet> {
    Ok(wire::ConnectIsSecureRet { secure: 1 })
}

pub(crate) fn hostname(_: &mut Host) -> Result<wire::ConnectGetHostnameRet> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(wire::ConnectGetHostnameRet { hostname: name.into() })
}

pub(crate) fn sysinfo(_: &mut Host, args: wire::ConnectGetSysinfoArgs) -> Result<wire::ConnectGetSysinfoRet> {
    check_flags(args.flags, 0, "testConnectGetSysinfo")?;
    Ok(wire::ConnectGetSysinfoRet { sysinfo: SYSINFO.into() })
}

pub(crate) fn capabilities(host: &mut Host) -> Result<wire::ConnectGetCapabilitiesRet> {
    Ok(wire::ConnectGetCapabilitiesRet { capabilities: host.node.capabilities().into() })
}

pub(crate) fn domain_capabilities_of(
    _: &mut Host,
    args: wire::ConnectGetDomainCapabilitiesArgs,
) -> Result<wire::ConnectGetDomainCapabilitiesRet> {
    check_flags(args.flags, 0, "testConnectGetDomainCapabilities")?;
    let text = |value: Option<virtwire_protocol::XdrString>| value.map(|value| value.to_string());
    let arch = text(args.arch).unwrap_or_else(|| "i686".into());
    if !ARCHITECTURES.contains(&arch.as_str()) {
        return Err(TEST.invalid_arg(format_args!("unknown architecture: {arch}")));
    }
    let kind = text(args.virttype).unwrap_or_else(|| "test".into());
    if VirtType::parse(&kind).is_err() {
        return Err(TEST.invalid_arg(format_args!("unknown virttype: {kind}")));
    }
    let (emulator, machine) = (text(args.emulatorbin), text(args.machine));
    let xml = domain_capabilities(emulator.as_deref(), machine.as_deref(), &arch, &kind);
    Ok(wire::ConnectGetDomainCapabilitiesRet { capabilities: xml.into() })
}

pub(crate) fn cpu_models(
    _: &mut Host,
    args: wire::ConnectGetCpuModelNamesArgs,
) -> Result<wire::ConnectGetCpuModelNamesRet> {
    check_flags(args.flags, 0, "testConnectGetCPUModelNames")?;
    let arch = args.arch.to_string();
    let models = match virtwire_cpu::kind(&arch) {
        None => return Err(TEST.invalid_arg(format_args!("cannot find architecture {arch}"))),
        Some(None) => {
            let detail = format_args!("'{arch}' architecture is not supported by CPU driver");
            return Err(ErrorDomain::CPU.no_support(detail));
        }
        Some(Some(kind)) => virtwire_cpu::model_names(kind),
    };
    let ret = models.len() as i32;
    let shown = if args.need_results == 0 { &[][..] } else { &models };
    Ok(wire::ConnectGetCpuModelNamesRet { models: shown.iter().map(|name| (*name).into()).collect(), ret })
}

/// Only processors that are the same have a baseline here: that processor.
pub(crate) fn baseline_cpu(
    _: &mut Host,
    args: wire::ConnectBaselineCpuArgs,
) -> Result<wire::ConnectBaselineCpuRet> {
    /// `virConnectBaselineCPUFlags`: EXPAND_FEATURES 1, MIGRATABLE 2.
    const KNOWN: u32 = 1 | 2;
    const CPU: ErrorDomain = ErrorDomain::CPU;
    check_flags(args.flags, KNOWN, "testConnectBaselineCPU")?;
    let mut model: Option<String> = None;
    for xml in &args.xml_cpus {
        let xml = xml.to_str_lossy();
        let document = Document::parse_root(&xml, "cpu", CPU)?;
        let name = document.root().child("model").map(|node| node.text().into_owned()).unwrap_or_default();
        if model.as_ref().is_some_and(|model| *model != name) {
            return Err(CPU.config_unsupported("CPUs of different models have no baseline on this host"));
        }
        model = Some(name);
    }
    let model = model.ok_or_else(|| CPU.invalid_arg("No CPUs given"))?;
    let xml =
        format!("<cpu mode='custom' match='exact'>\n  <model fallback='forbid'>{model}</model>\n</cpu>\n");
    Ok(wire::ConnectBaselineCpuRet { cpu: xml.into() })
}

pub(crate) fn node_info(host: &mut Host) -> Result<wire::NodeGetInfoRet> {
    let node = &host.node;
    Ok(wire::NodeGetInfoRet {
        model: c_array(&node.model),
        memory: node.memory,
        cpus: node.active as i32,
        mhz: node.mhz as i32,
        nodes: node.nodes as i32,
        sockets: node.sockets as i32,
        cores: node.cores as i32,
        threads: node.threads as i32,
    })
}

/// Nanoseconds the processors have spent, whichever is asked for, and for good.
const CPU_STATS: [(&str, u64); 4] = [
    ("user", 9_797_400_000),
    ("kernel", 34_678_723_400_000),
    ("idle", 87_264_900_000),
    ("iowait", 763_600_000),
];

pub(crate) fn cpu_stats(_: &mut Host, args: wire::NodeGetCpuStatsArgs) -> Result<wire::NodeGetCpuStatsRet> {
    check_flags(args.flags, 0, "testNodeGetCPUStats")?;
    let rows = CPU_STATS
        .iter()
        .map(|(field, value)| wire::NodeGetCpuStats { field: (*field).into(), value: *value });
    let shown = usize::try_from(args.nparams).unwrap_or(0);
    // The number goes only to those who ask for none.
    let nparams = if shown == 0 { CPU_STATS.len() as i32 } else { 0 };
    Ok(wire::NodeGetCpuStatsRet { params: rows.take(shown).collect(), nparams })
}

pub(crate) fn cells_free_memory(
    host: &mut Host,
    args: wire::NodeGetCellsFreeMemoryArgs,
) -> Result<wire::NodeGetCellsFreeMemoryRet> {
    let cells = &host.node.cells;
    let start = usize::try_from(args.start_cell).ok().filter(|start| *start < cells.len());
    let start = start.ok_or_else(|| TEST.invalid_arg("Range exceeds available cells"))?;
    let count = usize::try_from(args.maxcells).unwrap_or(0);
    let cells = cells[start..].iter().take(count).map(|cell| cell.memory).collect();
    Ok(wire::NodeGetCellsFreeMemoryRet { cells })
}

pub(crate) fn free_memory(host: &mut Host) -> Result<wire::NodeGetFreeMemoryRet> {
    match host.node.free() {
        0 => Err(crate::error::unknown_cause()),
        free_mem => Ok(wire::NodeGetFreeMemoryRet { free_mem }),
    }
}

/// How many pages are free follows from the cell and the place of the size in the question.
pub(crate) fn free_pages(
    _: &mut Host,
    args: wire::NodeGetFreePagesArgs,
) -> Result<wire::NodeGetFreePagesRet> {
    check_flags(args.flags, 0, "testNodeGetFreePages")?;
    let total = u64::from(args.cell_count).saturating_mul(args.pages.len() as u64);
    if total > u64::from(wire::REMOTE_NODE_MAX_CELLS) {
        return Err(TEST.invalid_arg("too many counts of pages asked for"));
    }
    let mut counts = Vec::with_capacity(total as usize);
    for cell in 0..i64::from(args.cell_count) {
        for n in 0..args.pages.len() {
            let (first, step) = free_of_size(n);
            counts.push((first + step * (i64::from(args.start_cell) + cell)) as u64);
        }
    }
    Ok(wire::NodeGetFreePagesRet { counts })
}

/// Free pages of the `n`th size asked for: those of cell 0, and how many more each further cell has.
fn free_of_size(n: usize) -> (i64, i64) {
    let (first, step) = (0..n).fold((7i64, 12i64), |(first, step), _| {
        (first.wrapping_mul(2).wrapping_add(7), step.wrapping_mul(2))
    });
    (first, step)
}

pub(crate) fn cpu_map(_: &mut Host, args: wire::NodeGetCpuMapArgs) -> Result<wire::NodeGetCpuMapRet> {
    check_flags(args.flags, 0, "testNodeGetCPUMap")?;
    const EVERY_SECOND_OF_SIX: u8 = 0b1_0101;
    let wanted = |asked: i32| asked != 0;
    Ok(wire::NodeGetCpuMapRet {
        cpumap: if wanted(args.need_map) { vec![EVERY_SECOND_OF_SIX] } else { Vec::new() },
        online: if wanted(args.need_online) { EVERY_SECOND_OF_SIX.count_ones() } else { 0 },
        ret: node::PIN_CPUS as i32,
    })
}

pub(crate) fn security_model(_: &mut Host) -> Result<wire::NodeGetSecurityModelRet> {
    Ok(wire::NodeGetSecurityModelRet { model: c_text(SECURITY_MODEL), doi: c_text("") })
}
