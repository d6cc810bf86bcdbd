//! The file that says a guest runs, in libvirt's layout; and small events.

use std::path::{Path, PathBuf};

use virtwire_conf::xml::Document;
use virtwire_conf::{Domain, ParseOptions};
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::events::MemoryFlags;

use crate::backup;
use crate::blockjob::{self, BlockJob};
use crate::migration::{self, Record};
use crate::state::State;
use virtwire_store::with_warning;

/// What a status file says.
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) pid: u32,
    pub(crate) monitor: PathBuf,
    pub(crate) block_jobs: Vec<BlockJob>,
    pub(crate) moving: Option<Record>,
    pub(crate) backup: Option<backup::Running>,
    pub(crate) domain: Domain,
}

/// The text of a status file; `work` are the elements of what goes on with the guest.
pub(crate) fn write(state: State, pid: u32, monitor: &Path, work: &str, domain: &str) -> String {
    let (state, reason) = state.words();
    let indented: String = domain.lines().map(|line| format!("  {line}\n")).collect();
    let monitor =
        monitor.display().to_string().replace('&', "&amp;").replace('\'', "&apos;").replace('<', "&lt;");
    let text = format!(
        "<domstatus state='{state}' reason='{reason}' pid='{pid}'>\n  \
         <monitor path='{monitor}' type='unix'/>\n{work}{indented}</domstatus>\n"
    );
    with_warning("edit", &text)
}

/// Reads a status file.
pub(crate) fn read(text: &str) -> Result<Status, String> {
    let document =
        Document::parse_root(text, "domstatus", ErrorDomain::QEMU).map_err(|error| error.message)?;
    let root = document.root();
    let attribute = |name: &str| root.attribute(name).ok_or(format!("no attribute '{name}'"));
    let (state, reason) = (attribute("state")?, attribute("reason")?);
    let state = State::from_words(state, reason).unwrap_or(State::PAUSED_UNKNOWN);
    let pid = attribute("pid")?.parse().map_err(|_| "the pid is no number".to_owned())?;
    let monitor = root.children().find(|child| child.name() == "monitor");
    let monitor = monitor.as_ref().and_then(|monitor| monitor.attribute("path")).ok_or("no monitor")?.into();
    // The definition stands in the file as a document of its own.
    let begin = text.find("<domain ").ok_or("no definition")?;
    let end = text.rfind("</domain>").ok_or("no definition")? + "</domain>".len();
    let domain = text.get(begin..end).ok_or("no definition")?;
    let domain = Domain::parse(domain, &ParseOptions::default()).map_err(|error| error.message)?;
    let (block_jobs, backup) = (blockjob::read(root), backup::read(root));
    Ok(Status { state, pid, monitor, block_jobs, backup, moving: migration::read_record(root), domain })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let domain = "<domain type='kvm' id='7'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type>hvm</type></os>\n</domain>";
        let text = write(State::RUNNING_BOOTED, 42, Path::new("/x/domain-7-a/monitor.sock"), "", domain);
        let status = read(&text).unwrap();
        assert_eq!((status.state, status.pid), (State::RUNNING_BOOTED, 42));
        assert_eq!(status.monitor, Path::new("/x/domain-7-a/monitor.sock"));
        assert_eq!((status.domain.name.as_str(), status.domain.id), ("a", Some(7)));
        assert!(read("<domstatus state='running'/>").is_err());
    }
}
