//! Events of which the name says all, and what makes them.

use virtwire_protocol::remote::*;
use virtwire_qmp::events::MemoryFlags;

/// The watchdog of a guest has run out.
pub(crate) fn watchdog(dom: NonnullDomain, action: &str) -> Event {
    // VIR_DOMAIN_EVENT_WATCHDOG_…
    let words = ["none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi"];
    let action = words.iter().position(|word| *word == action).unwrap_or_default() as i32;
    Event::DomainWatchdog(DomainEventCallbackWatchdogMsg {
        callback_id: 0,
        msg: DomainEventWatchdogMsg { dom, action },
    })
}

/// A guest has set its clock.
pub(crate) fn rtc_change(dom: NonnullDomain, offset: i64) -> Event {
    let msg = DomainEventRtcChangeMsg { dom, offset };
    Event::DomainRtcChange(DomainEventCallbackRtcChangeMsg { callback_id: 0, msg })
}

/// A guest's balloon has moved; in KiB.
pub(crate) fn balloon_change(dom: NonnullDomain, actual: u64) -> Event {
    let msg = DomainEventBalloonChangeMsg { dom, actual };
    Event::DomainBalloonChange(DomainEventCallbackBalloonChangeMsg { callback_id: 0, msg })
}

/// Whether the agent of a guest can be asked has changed: because the guest has started, or because its port was opened
/// or closed.
pub(crate) fn agent_lifecycle(dom: NonnullDomain, connected: bool, by_start: bool) -> Event {
    // VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_… and …_REASON_…
    let (state, reason) = (if connected { 1 } else { 2 }, if by_start { 1 } else { 2 });
    Event::DomainAgentLifecycle(DomainEventCallbackAgentLifecycleMsg { callback_id: 0, dom, state, reason })
}

/// A guest sleeps.
pub(crate) fn sleeps(dom: NonnullDomain) -> Event {
    let msg = DomainEventPmsuspendMsg { dom };
    Event::DomainPmsuspend(DomainEventCallbackPmsuspendMsg { callback_id: 0, reason: 0, msg })
}

/// A guest sleeps, with its memory on disk.
pub(crate) fn sleeps_on_disk(dom: NonnullDomain) -> Event {
    let msg = DomainEventPmsuspendDiskMsg { dom };
    Event::DomainPmsuspendDisk(DomainEventCallbackPmsuspendDiskMsg { callback_id: 0, reason: 0, msg })
}

/// A guest has woken up.
pub(crate) fn wakes(dom: NonnullDomain) -> Event {
    let msg = DomainEventPmwakeupMsg { dom };
    Event::DomainPmwakeup(DomainEventCallbackPmwakeupMsg { callback_id: 0, reason: 0, msg })
}

/// A guest does not let a device go.
pub(crate) fn keeps(dom: NonnullDomain, alias: &str) -> Event {
    let dev_alias = alias.into();
    Event::DomainDeviceRemovalFailed(DomainEventCallbackDeviceRemovalFailedMsg {
        callback_id: 0,
        dom,
        dev_alias,
    })
}

/// Memory of a guest has failed.
pub(crate) fn memory_failure(dom: NonnullDomain, recipient: &str, action: &str, flags: MemoryFlags) -> Event {
    // VIR_DOMAIN_EVENT_MEMORY_FAILURE_…
    let number = |words: &[&str], word| words.iter().position(|known| *known == word).unwrap_or_default();
    let recipient = number(&["hypervisor", "guest"], recipient) as i32;
    let action = number(&["ignore", "inject", "fatal", "reset"], action) as i32;
    let flags = u32::from(flags.action_required) | u32::from(flags.recursive) << 1;
    Event::DomainMemoryFailure(DomainEventMemoryFailureMsg { callback_id: 0, dom, recipient, action, flags })
}

/// A guest's memory device has another size; in bytes.
pub(crate) fn memory_size(dom: NonnullDomain, alias: &str, size: u64) -> Event {
    let (alias, size) = (alias.into(), size / 1024);
    Event::DomainMemoryDeviceSizeChange(DomainEventMemoryDeviceSizeChangeMsg {
        callback_id: 0,
        dom,
        alias,
        size,
    })
}
