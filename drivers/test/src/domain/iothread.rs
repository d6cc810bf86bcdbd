//! I/O threads.

use std::num::NonZeroU32;

use virtwire_conf::Domain;
use virtwire_conf::domain::tune::{Iothread, IothreadIds, IothreadPin};
use virtwire_conf::table::{Cpuset, Positive};
use virtwire_driver_api::params::{Kind, validate};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote as wire;

use super::guest::{Guest, affect};
use crate::error::{Result, TEST, check_flags, unknown_cause};
use crate::host::Host;

const KNOWN: u32 = affect::LIVE | affect::CONFIG;

/// The threads' numbers.
fn ids(domain: &Domain) -> Vec<u32> {
    let mut ids: Vec<u32> = domain.all_iothreads().iter().map(|thread| thread.id.get()).collect();
    ids.sort_unstable();
    ids
}

/// Names the threads that there are now.
fn set_ids(domain: &mut Domain, ids: &[u32]) {
    let old = domain.iothreadids.take().unwrap_or_default().iothread;
    let thread = |id: &NonZeroU32| {
        let known = old.iter().find(|thread| thread.id.get() == id.get()).cloned();
        known.unwrap_or_else(|| Iothread { id: Positive(*id), ..Iothread::default() })
    };
    let iothread: Vec<_> = ids.iter().filter_map(|id| NonZeroU32::new(*id)).map(|id| thread(&id)).collect();
    domain.iothreads = (!iothread.is_empty()).then_some(iothread.len() as u32);
    domain.iothreadids = Some(IothreadIds { iothread });
}

pub(crate) fn info(
    host: &mut Host,
    args: wire::DomainGetIothreadInfoArgs,
) -> Result<wire::DomainGetIothreadInfoRet> {
    check_flags(args.flags, KNOWN, "testDomainGetIOThreadInfo")?;
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let everywhere = Cpuset::first(Guest::vcpus(domain).0);
    let bytes = host.node.cpus().div_ceil(8) as usize;
    let pins = domain.cputune.as_ref().map(|tune| tune.iothreadpin.as_slice()).unwrap_or_default();
    let info: Vec<_> = ids(domain)
        .into_iter()
        .map(|iothread_id| {
            let pin = pins.iter().find(|pin| pin.iothread == iothread_id).and_then(|pin| pin.cpuset.as_ref());
            let mut cpumap = pin.unwrap_or(&everywhere).to_map(bytes);
            cpumap.truncate(cpumap.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            wire::DomainIothreadInfo { iothread_id, cpumap }
        })
        .collect();
    let ret = info.len() as u32;
    Ok(wire::DomainGetIothreadInfoRet { info, ret })
}

pub(crate) fn pin(host: &mut Host, args: wire::DomainPinIothreadArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "testDomainPinIOThread")?;
    let id = args.iothreads_id;
    host.guest_mut(&args.dom)?.change_one(args.flags, |domain| {
        if !ids(domain).contains(&id) {
            return Err(TEST.invalid_arg(format_args!("iothreadid {} not found", id as i32)));
        }
        let pins = &mut domain.cputune.get_or_insert_default().iothreadpin;
        pins.retain(|pin| pin.iothread != id);
        pins.push(IothreadPin { iothread: id, cpuset: Some(Cpuset::from_map(&args.cpumap)) });
        pins.sort_by_key(|pin| pin.iothread);
        Ok(())
    })
}

pub(crate) fn add(host: &mut Host, args: wire::DomainAddIothreadArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "testDomainAddIOThread")?;
    let id = args.iothread_id;
    if id == 0 {
        return Err(TEST.invalid_arg("invalid value of 0 for iothread_id"));
    }
    host.guest_mut(&args.dom)?.change_one(args.flags, |domain| {
        let mut ids = ids(domain);
        if ids.contains(&id) {
            let text = format_args!("an IOThread is already using iothread_id '{id}'");
            return Err(ErrorDomain::DOMAIN.invalid_arg(text));
        }
        ids.push(id);
        set_ids(domain, &ids);
        Ok(())
    })
}

pub(crate) fn delete(host: &mut Host, args: wire::DomainDelIothreadArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "testDomainDelIOThread")?;
    let id = args.iothread_id;
    host.guest_mut(&args.dom)?.change_one(args.flags, |domain| {
        let mut ids = ids(domain);
        if !ids.contains(&id) {
            let text = format_args!("cannot find IOThread '{id}' in iothreadids list");
            return Err(ErrorDomain::DOMAIN.invalid_arg(text));
        }
        ids.retain(|other| *other != id);
        set_ids(domain, &ids);
        if let Some(tune) = &mut domain.cputune {
            tune.iothreadpin.retain(|pin| pin.iothread != id);
        }
        Ok(())
    })
}

pub(crate) fn set_params(host: &mut Host, args: wire::DomainSetIothreadParamsArgs) -> Result<()> {
    check_flags(args.flags, affect::LIVE, "testDomainSetIOThreadParams")?;
    if args.iothread_id == 0 {
        return Err(TEST.invalid_arg("invalid value of 0 for iothread_id"));
    }
    let guest = host.guest(&args.dom)?;
    if !guest.is_running() && args.flags == 0 {
        return Err(unknown_cause());
    }
    let id = args.iothread_id;
    if ids(guest.one_definition(args.flags)?.domain()).contains(&id) {
        validate(
            &args.params,
            &[("poll_max_ns", Kind::Ullong), ("poll_grow", Kind::Uint), ("poll_shrink", Kind::Uint)],
        )
    } else {
        Err(TEST.invalid_arg(format_args!("cannot find IOThread '{id}' in iothreadids")))
    }
}
