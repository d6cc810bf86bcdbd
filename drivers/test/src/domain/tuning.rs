//! Limits and shares: scheduler, memory, block I/O, NUMA, performance events.

use virtwire_conf::YesNo;
use virtwire_conf::blkio::DEVICE_LIMITS;
use virtwire_conf::domain::os::{PERF_EVENTS, PerfEvent};
use virtwire_conf::domain::tune::{Blkiotune, Memtune, NumaMode};
use virtwire_conf::table::{Cpuset, KiB};
use virtwire_driver_api::params::{Kind, STRING_OKAY, answer, number, text, validate};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::{self as wire, TypedParam};

use super::guest::affect;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;

/// Flags of procedures that change parameters.
pub(super) const SET_KNOWN: u32 = affect::LIVE | affect::CONFIG;
/// Flags of procedures that read them.
pub(super) const GET_KNOWN: u32 = SET_KNOWN | STRING_OKAY;

/// `VIR_DOMAIN_MEMORY_PARAM_UNLIMITED`
const UNLIMITED: u64 = 9_007_199_254_740_991;

/// The share of the processor that every guest has, for good.
const WEIGHT: (&str, u32) = ("weight", 50);

pub(crate) fn scheduler_type(
    _: &mut Host,
    _: wire::DomainGetSchedulerTypeArgs,
) -> Result<wire::DomainGetSchedulerTypeRet> {
    Ok(wire::DomainGetSchedulerTypeRet { r#type: "fair".into(), nparams: 1 })
}

pub(crate) fn scheduler(
    host: &mut Host,
    args: wire::DomainGetSchedulerParametersArgs,
) -> Result<wire::DomainGetSchedulerParametersRet> {
    host.guest(&args.dom)?;
    let (params, _) = answer(vec![TypedParam::new(WEIGHT.0, WEIGHT.1)], args.nparams, STRING_OKAY);
    Ok(wire::DomainGetSchedulerParametersRet { params })
}

pub(crate) fn scheduler_flags(
    host: &mut Host,
    args: wire::DomainGetSchedulerParametersFlagsArgs,
) -> Result<wire::DomainGetSchedulerParametersFlagsRet> {
    // The library asks for texts by itself, which the test driver of libvirt does not know here: nobody gets an answer.
    check_flags(args.flags | STRING_OKAY, 0, "testDomainGetSchedulerParametersFlags")?;
    host.guest(&args.dom)?;
    let (params, _) = answer(vec![TypedParam::new(WEIGHT.0, WEIGHT.1)], args.nparams, STRING_OKAY);
    Ok(wire::DomainGetSchedulerParametersFlagsRet { params })
}

pub(crate) fn set_scheduler(host: &mut Host, args: wire::DomainSetSchedulerParametersArgs) -> Result<()> {
    let wire::DomainSetSchedulerParametersArgs { dom, params } = args;
    set_scheduler_flags(host, wire::DomainSetSchedulerParametersFlagsArgs { dom, params, flags: 0 })
}

/// Taken, checked, and without effect.
pub(crate) fn set_scheduler_flags(
    host: &mut Host,
    args: wire::DomainSetSchedulerParametersFlagsArgs,
) -> Result<()> {
    check_flags(args.flags, 0, "testDomainSetSchedulerParametersFlags")?;
    validate(&args.params, &[(WEIGHT.0, Kind::Uint)])?;
    host.guest(&args.dom).map(drop)
}

const HARD_LIMIT: &str = "hard_limit";
const SOFT_LIMIT: &str = "soft_limit";
const SWAP_HARD_LIMIT: &str = "swap_hard_limit";
const MEMORY_PARAMS: [&str; 3] = [HARD_LIMIT, SOFT_LIMIT, SWAP_HARD_LIMIT];

pub(crate) fn memory(
    host: &mut Host,
    args: wire::DomainGetMemoryParametersArgs,
) -> Result<wire::DomainGetMemoryParametersRet> {
    check_flags(args.flags, GET_KNOWN, "testDomainGetMemoryParameters")?;
    if args.nparams == 0 {
        return Ok(wire::DomainGetMemoryParametersRet {
            nparams: MEMORY_PARAMS.len() as i32,
            ..Default::default()
        });
    }
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let tune = domain.memtune.clone().unwrap_or_default();
    let limit = |name, size: Option<KiB>| TypedParam::new(name, size.map_or(UNLIMITED, |size| size.0));
    let all = vec![
        limit(HARD_LIMIT, tune.hard_limit),
        limit(SOFT_LIMIT, tune.soft_limit),
        limit(SWAP_HARD_LIMIT, tune.swap_hard_limit),
    ];
    let (params, nparams) = answer(all, args.nparams, args.flags);
    Ok(wire::DomainGetMemoryParametersRet { params, nparams })
}

pub(crate) fn set_memory(host: &mut Host, args: wire::DomainSetMemoryParametersArgs) -> Result<()> {
    check_flags(args.flags, SET_KNOWN, "testDomainSetMemoryParameters")?;
    let known = MEMORY_PARAMS.map(|name| (name, Kind::Ullong));
    validate(&args.params, &known)?;
    host.guest_mut(&args.dom)?.change(args.flags, |domain| {
        let mut tune = domain.memtune.take().unwrap_or_default();
        let Memtune { hard_limit, soft_limit, swap_hard_limit, .. } = &mut tune;
        for (name, limit) in
            [(HARD_LIMIT, hard_limit), (SOFT_LIMIT, soft_limit), (SWAP_HARD_LIMIT, swap_hard_limit)]
        {
            if let Some(size) = number(&args.params, name) {
                *limit = (size < UNLIMITED).then_some(KiB(size));
            }
        }
        let or_unlimited = |size: Option<KiB>| size.map_or(UNLIMITED, |size| size.0);
        let changed = [HARD_LIMIT, SWAP_HARD_LIMIT].iter().any(|name| number(&args.params, name).is_some());
        if changed && or_unlimited(tune.hard_limit.or(Some(KiB(0)))) > or_unlimited(tune.swap_hard_limit) {
            return Err(TEST.invalid_arg(
                "memory hard_limit tunable value must be lower than or equal to swap_hard_limit",
            ));
        }
        domain.memtune = Some(tune);
        Ok(())
    })
}

pub(crate) fn blkio(
    host: &mut Host,
    args: wire::DomainGetBlkioParametersArgs,
) -> Result<wire::DomainGetBlkioParametersRet> {
    check_flags(args.flags, GET_KNOWN, "testDomainGetBlkioParameters")?;
    if args.nparams == 0 {
        return Ok(wire::DomainGetBlkioParametersRet {
            nparams: 1 + DEVICE_LIMITS.len() as i32,
            ..Default::default()
        });
    }
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let tune = domain.blkiotune.clone().unwrap_or_default();
    let mut all = vec![TypedParam::new("weight", tune.weight.unwrap_or(0))];
    all.extend(DEVICE_LIMITS.iter().map(|limit| TypedParam::new(limit.name, limit.list(&tune))));
    let (params, nparams) = answer(all, args.nparams, args.flags);
    Ok(wire::DomainGetBlkioParametersRet { params, nparams })
}

pub(crate) fn set_blkio(host: &mut Host, args: wire::DomainSetBlkioParametersArgs) -> Result<()> {
    check_flags(args.flags, SET_KNOWN, "testDomainSetBlkioParameters")?;
    let known = DEVICE_LIMITS.iter().map(|limit| (limit.name, Kind::String)).chain([("weight", Kind::Uint)]);
    validate(&args.params, &known.collect::<Vec<_>>())?;
    host.guest_mut(&args.dom)?.change(args.flags, |domain| {
        let tune: &mut Blkiotune = domain.blkiotune.get_or_insert_default();
        if let Some(weight) = number(&args.params, "weight") {
            tune.weight = Some(weight as u32).filter(|weight| *weight > 0);
        }
        for limit in &DEVICE_LIMITS {
            if let Some(list) = text(&args.params, limit.name) {
                limit.apply(tune, &list)?;
            }
        }
        Ok(())
    })
}

const NUMA_PARAMS: [(&str, Kind); 2] = [("numa_mode", Kind::Int), ("numa_nodeset", Kind::String)];

pub(crate) fn numa(
    host: &mut Host,
    args: wire::DomainGetNumaParametersArgs,
) -> Result<wire::DomainGetNumaParametersRet> {
    check_flags(args.flags, GET_KNOWN, "testDomainGetNumaParameters")?;
    if args.nparams == 0 {
        return Ok(wire::DomainGetNumaParametersRet {
            nparams: NUMA_PARAMS.len() as i32,
            ..Default::default()
        });
    }
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let memory = domain.numatune.as_ref().and_then(|tune| tune.memory.clone()).unwrap_or_default();
    let nodeset = memory.nodeset.map(|set| set.to_string()).unwrap_or_default();
    let mode = memory.mode.unwrap_or_default() as i32;
    let all = vec![TypedParam::new("numa_mode", mode), TypedParam::new("numa_nodeset", nodeset)];
    let (params, nparams) = answer(all, args.nparams, args.flags);
    Ok(wire::DomainGetNumaParametersRet { params, nparams })
}

pub(crate) fn set_numa(host: &mut Host, args: wire::DomainSetNumaParametersArgs) -> Result<()> {
    check_flags(args.flags, SET_KNOWN, "testDomainSetNumaParameters")?;
    validate(&args.params, &NUMA_PARAMS)?;
    let mode = args.params.iter().find(|param| param.field == "numa_mode").map(|param| match param.value {
        wire::TypedParamValue::Int(mode) => mode,
        _ => -1,
    });
    let mode = mode
        .map(|mode| {
            let known = usize::try_from(mode).ok().and_then(|at| NumaMode::ALL.get(at).copied());
            known.ok_or_else(|| TEST.invalid_arg(format_args!("unsupported numatune mode: '{mode}'")))
        })
        .transpose()?;
    let nodeset = text(&args.params, "numa_nodeset")
        .map(|set| {
            Cpuset::parse_text(&set)
                .ok_or_else(|| ErrorDomain::NONE.invalid_arg(format_args!("Failed to parse bitmap '{set}'")))
        })
        .transpose()?;
    let guest = host.guest_mut(&args.dom)?;
    let live = guest.is_running() && args.flags & affect::CONFIG == 0;
    guest.change(args.flags, |domain| {
        let memory = domain.numatune.get_or_insert_default().memory.get_or_insert_default();
        if live && memory.nodeset.is_some() && mode.is_some_and(|mode| Some(mode) != memory.mode) {
            return Err(TEST.operation_invalid("can't change numatune mode for running domain"));
        }
        memory.mode = mode.or(memory.mode).or(Some(NumaMode::Strict));
        if let Some(set) = &nodeset {
            memory.nodeset = Some(set.clone());
        }
        if memory.nodeset.is_none() {
            return Err(ErrorDomain::DOMAIN.config_unsupported(
                "nodeset for NUMA memory tuning must be set if 'placement' is 'static'",
            ));
        }
        Ok(())
    })
}

pub(crate) fn perf(
    host: &mut Host,
    args: wire::DomainGetPerfEventsArgs,
) -> Result<wire::DomainGetPerfEventsRet> {
    check_flags(args.flags, GET_KNOWN, "testDomainGetPerfEvents")?;
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let events = domain.perf.as_ref().map(|perf| perf.event.as_slice()).unwrap_or_default();
    let on = |name: &str| events.iter().any(|event| event.name == name && event.enabled == YesNo::Yes);
    let params = PERF_EVENTS.iter().map(|name| TypedParam::new(*name, on(name))).collect();
    Ok(wire::DomainGetPerfEventsRet { params })
}

pub(crate) fn set_perf(host: &mut Host, args: wire::DomainSetPerfEventsArgs) -> Result<()> {
    check_flags(args.flags, SET_KNOWN, "testDomainSetPerfEvents")?;
    validate(&args.params, &PERF_EVENTS.map(|name| (name, Kind::Boolean)))?;
    host.guest_mut(&args.dom)?.change(args.flags, |domain| {
        let events = &mut domain.perf.get_or_insert_default().event;
        for param in &args.params {
            let name = param.field.to_string();
            let on = matches!(param.value, wire::TypedParamValue::Boolean(on) if on != 0);
            let enabled = if on { YesNo::Yes } else { YesNo::No };
            events.retain(|event| event.name != name);
            events.push(PerfEvent { name, enabled });
        }
        events.sort_by_key(|event| PERF_EVENTS.iter().position(|name| *name == event.name));
        Ok(())
    })
}
