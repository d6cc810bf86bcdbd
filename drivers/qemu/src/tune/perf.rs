//! Events that the host's processors count (`virDomainSetPerfEvents`).

use virtwire_conf::domain::os::{PERF_EVENTS, PerfEvent};
use virtwire_conf::{Domain, YesNo};
use virtwire_driver_api::params::{Kind, STRING_OKAY, validate};
use virtwire_protocol::remote::*;

use super::KNOWN;
use crate::affect::{Affected, edit_live, store};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::info::one_definition;

/// None is counted: what a definition asks for is told, nothing is measured.
pub(crate) async fn get(driver: &Qemu, args: DomainGetPerfEventsArgs) -> Result<DomainGetPerfEventsRet> {
    check_flags(args.flags, KNOWN | STRING_OKAY, "qemuDomainGetPerfEvents")?;
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    let asked = |name: &str| {
        let mut events = domain.perf.iter().flat_map(|perf| &perf.event);
        events.any(|event| event.name == name && event.enabled == YesNo::Yes)
    };
    let params = PERF_EVENTS.iter().map(|name| TypedParam::new(*name, asked(name)));
    Ok(DomainGetPerfEventsRet { params: params.collect() })
}

fn is_on(param: &TypedParam) -> bool {
    matches!(param.value, TypedParamValue::Boolean(on) if on != 0)
}

fn put(domain: &mut Domain, params: &[TypedParam]) {
    let events = &mut domain.perf.get_or_insert_default().event;
    for param in params {
        let name = param.field.to_string();
        let enabled = if is_on(param) { YesNo::Yes } else { YesNo::No };
        events.retain(|event| event.name != name);
        events.push(PerfEvent { name, enabled });
    }
    events.sort_by_key(|event| PERF_EVENTS.iter().position(|name| *name == event.name));
}

/// Changes what a definition asks for; a run counts nothing.
///
/// # Errors
/// An event is to be counted in a run.
pub(crate) async fn set(driver: &Qemu, args: DomainSetPerfEventsArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "qemuDomainSetPerfEvents")?;
    validate(&args.params, &PERF_EVENTS.map(|name| (name, Kind::Boolean)))?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    if live.is_some() {
        if let Some(event) = args.params.iter().find(|param| is_on(param)) {
            let text = format_args!("unable to enable host cpu perf event for {}", event.field);
            return Err(QEMU.argument_unsupported(text));
        }
        edit_live(driver, &guest, |domain| put(domain, &args.params));
    }
    store(driver, &guest, stored, |domain| {
        put(domain, &args.params);
        Ok(())
    })
}
