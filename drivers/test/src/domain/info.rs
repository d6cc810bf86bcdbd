//! What a guest is: state, size, text, labels.

use virtwire_conf::FormatOptions;
use virtwire_conf::domain::{GuestMemory, LifecycleAction};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote as wire;

use super::guest::{Guest, affect};
use crate::clock::Now;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;
use crate::node::{SECURITY_LABEL, c_text};

/// `virDomainXMLFlags` that are understood: SECURE 1, INACTIVE 2, MIGRATABLE 8.
const XML_KNOWN: u32 = 1 | 2 | 8;

impl Guest {
    /// How many virtual processors it has now, and may have.
    pub(crate) fn vcpus(domain: &virtwire_conf::Domain) -> (u32, u32) {
        let vcpu = domain.vcpu.clone().unwrap_or_default();
        let most = vcpu.count.max(1);
        (vcpu.current.unwrap_or(most), most)
    }
}

pub(crate) fn info(host: &mut Host, args: wire::DomainGetInfoArgs) -> Result<wire::DomainGetInfoRet> {
    let guest = host.guest(&args.dom)?;
    let domain = guest.definition().domain();
    let (now, _) = Guest::vcpus(domain);
    Ok(wire::DomainGetInfoRet {
        state: guest.status.state.0 as u8,
        max_mem: domain.memory.as_ref().map_or(0, GuestMemory::kib),
        memory: super::memory::current(domain),
        nr_virt_cpu: now as u16,
        cpu_time: Now::read().nanos(),
    })
}

pub(crate) fn state(host: &mut Host, args: wire::DomainGetStateArgs) -> Result<wire::DomainGetStateRet> {
    check_flags(args.flags, 0, "testDomainGetState")?;
    let status = host.guest(&args.dom)?.status;
    Ok(wire::DomainGetStateRet { state: status.state.0, reason: status.reason })
}

pub(crate) fn control_info(
    host: &mut Host,
    args: wire::DomainGetControlInfoArgs,
) -> Result<wire::DomainGetControlInfoRet> {
    check_flags(args.flags, 0, "testDomainGetControlInfo")?;
    host.guest(&args.dom)?.check_running()?;
    Ok(wire::DomainGetControlInfoRet::default())
}

pub(crate) fn xml_desc(
    host: &mut Host,
    args: wire::DomainGetXmlDescArgs,
) -> Result<wire::DomainGetXmlDescRet> {
    check_flags(args.flags, XML_KNOWN, "testDomainGetXMLDesc")?;
    let guest = host.guest(&args.dom)?;
    let options = FormatOptions::from_flags(args.flags);
    let definition = if options.inactive { guest.stored_definition() } else { guest.definition() };
    Ok(wire::DomainGetXmlDescRet { xml: definition.text(options) })
}

pub(crate) fn autostart(
    host: &mut Host,
    args: wire::DomainGetAutostartArgs,
) -> Result<wire::DomainGetAutostartRet> {
    Ok(wire::DomainGetAutostartRet { autostart: host.guest(&args.dom)?.autostart.into() })
}

pub(crate) fn set_autostart(host: &mut Host, args: wire::DomainSetAutostartArgs) -> Result<()> {
    host.guest_mut(&args.dom)?.autostart = args.autostart != 0;
    Ok(())
}

/// Every guest runs the same system, even one that isn't there.
pub(crate) fn os_type(_: &mut Host, _: wire::DomainGetOsTypeArgs) -> Result<wire::DomainGetOsTypeRet> {
    Ok(wire::DomainGetOsTypeRet { r#type: "linux".into() })
}

pub(crate) fn is_active(host: &mut Host, args: wire::DomainIsActiveArgs) -> Result<wire::DomainIsActiveRet> {
    Ok(wire::DomainIsActiveRet { active: host.guest(&args.dom)?.is_running().into() })
}

pub(crate) fn is_persistent(
    host: &mut Host,
    args: wire::DomainIsPersistentArgs,
) -> Result<wire::DomainIsPersistentRet> {
    Ok(wire::DomainIsPersistentRet { persistent: host.guest(&args.dom)?.is_persistent().into() })
}

/// Never: definitions change only when asked to, even those of guests that aren't there.
pub(crate) fn is_updated(_: &mut Host, _: wire::DomainIsUpdatedArgs) -> Result<wire::DomainIsUpdatedRet> {
    Ok(wire::DomainIsUpdatedRet { updated: 0 })
}

pub(crate) fn security_label(
    host: &mut Host,
    args: wire::DomainGetSecurityLabelArgs,
) -> Result<wire::DomainGetSecurityLabelRet> {
    let running = host.guest(&args.dom)?.is_running();
    Ok(wire::DomainGetSecurityLabelRet {
        label: c_text(if running { SECURITY_LABEL } else { "" }),
        enforcing: running.into(),
    })
}

/// `virDomainLifecycle`
const LIFECYCLES: [&str; 3] = ["poweroff", "reboot", "crash"];

pub(crate) fn set_lifecycle_action(host: &mut Host, args: wire::DomainSetLifecycleActionArgs) -> Result<()> {
    check_flags(args.flags, affect::LIVE | affect::CONFIG, "testDomainSetLifecycleAction")?;
    let kind = LIFECYCLES.get(args.r#type as usize).ok_or_else(|| {
        ErrorDomain::DOMAIN.invalid_arg(format_args!("invalid lifecycle type '{}'", args.r#type))
    })?;
    let action = LifecycleAction::ALL.get(args.action as usize).copied().ok_or_else(|| {
        ErrorDomain::DOMAIN.invalid_arg(format_args!("invalid lifecycle action '{}'", args.action))
    })?;
    let dumps = matches!(action, LifecycleAction::CoredumpDestroy | LifecycleAction::CoredumpRestart);
    if dumps && *kind != "crash" {
        return Err(ErrorDomain::DOMAIN.config_unsupported(format_args!(
            "Lifecycle event '{kind}' doesn't support '{}' action",
            action.as_str()
        )));
    }
    host.guest_mut(&args.dom)?.change(args.flags, |domain| {
        let place = match args.r#type {
            0 => &mut domain.on_poweroff,
            1 => &mut domain.on_reboot,
            _ => &mut domain.on_crash,
        };
        *place = Some(action);
        Ok(())
    })
}

/// What a guest's messages would be: none.
pub(crate) fn messages(
    host: &mut Host,
    args: wire::DomainGetMessagesArgs,
) -> Result<wire::DomainGetMessagesRet> {
    check_flags(args.flags, 0b11, "testDomainGetMessages")?;
    host.guest(&args.dom)?;
    Ok(wire::DomainGetMessagesRet::default())
}

/// Nothing about launch security can be told, not even to clients that understand texts.
pub(crate) fn launch_security_info(
    host: &mut Host,
    args: wire::DomainGetLaunchSecurityInfoArgs,
) -> Result<wire::DomainGetLaunchSecurityInfoRet> {
    const STRING_OKAY: u32 = 4;
    check_flags(args.flags | STRING_OKAY, 0, "testDomainGetLaunchSecurityInfo")?;
    host.guest(&args.dom)?;
    Ok(wire::DomainGetLaunchSecurityInfoRet::default())
}

/// Guests have room for this: the largest size that a caller may ask for is theirs already.
pub(crate) fn max_vcpus_of_host(
    _: &mut Host,
    _: wire::ConnectGetMaxVcpusArgs,
) -> Result<wire::ConnectGetMaxVcpusRet> {
    Ok(wire::ConnectGetMaxVcpusRet { max_vcpus: crate::node::MAX_VCPUS })
}

/// A guest without a definition of its own can't be saved for later.
pub(super) fn check_saveable(guest: &Guest) -> Result<()> {
    guest.check_running()?;
    if guest.is_persistent() {
        Ok(())
    } else {
        Err(TEST.operation_invalid("cannot do managed save for transient domain"))
    }
}
