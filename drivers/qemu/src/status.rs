//! The file that says a guest runs, in libvirt's layout.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::{fs, io};

use virtwire_conf::table::Element;
use virtwire_conf::xml::{Document, Writer};
use virtwire_conf::{Domain, FormatOptions, ParseOptions};
use virtwire_protocol::error::ErrorDomain;
use virtwire_store::{self as store, with_warning};

use crate::agent;
use crate::argv::storage::last_number;
use crate::backup;
use crate::blockjob::{self, BlockJob};
use crate::driver::Qemu;
use crate::guest::Guest;
use crate::handover::{self, Counters};
use crate::migration::{self, Record};
use crate::process::write_pid;
use crate::state::State;

/// What a status file says.
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) pid: u32,
    pub(crate) monitor: PathBuf,
    pub(crate) block_jobs: Vec<BlockJob>,
    pub(crate) moving: Option<Record>,
    pub(crate) backup: Option<backup::Running>,
    pub(crate) counters: Counters,
    /// What is kept as it is ([`handover::kept`]).
    pub(crate) beside: String,
    pub(crate) domain: Domain,
}

/// The text of a status file; `work` are the elements of what goes on with the guest and of what is kept beside.
pub(crate) fn write(state: State, pid: u32, monitor: &Path, work: &str, domain: &Domain) -> String {
    let (state, reason) = state.words();
    let options = FormatOptions { secure: true, status: true, ..FormatOptions::default() };
    let mut out = Writer::new(&options);
    out.open("domstatus");
    for (name, value) in [("state", state), ("reason", reason), ("pid", &pid.to_string())] {
        out.attribute(name, value);
    }
    out.open("monitor");
    out.attribute("path", &monitor.display().to_string());
    out.attribute("type", "unix");
    out.close("monitor");
    out.verbatim(work);
    out.open("domain");
    handover::told(domain).write(&mut out);
    out.close("domain");
    out.close("domstatus");
    with_warning("edit", &out.finish())
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
    let mut domain = Domain::parse(domain, &ParseOptions::default()).map_err(|error| error.message)?;
    handover::understood(&mut domain);
    let (block_jobs, backup) = (blockjob::read(root), backup::read(root));
    let usual = Counters { agent: agent::BLOCK, ..Counters::default() };
    let (counters, beside) = (Counters::read(root, usual), handover::kept(root));
    let moving = migration::read_record(root);
    Ok(Status { state, pid, monitor, block_jobs, backup, moving, counters, beside, domain })
}

impl Qemu {
    /// Writes down what a daemon that comes after this one needs to find the guest again.
    pub(crate) fn save_status(&self, guest: &Guest) {
        // What is read here is older than what the next one reads, and is to be written before it.
        let _one = guest.status.lock().unwrap_or_else(PoisonError::into_inner);
        let (live, state, moving, counters) = {
            let inner = guest.lock();
            let Some(live) = &inner.live else { return };
            let counters = Counters {
                taint: inner.taint,
                nodes: last_number(&live.domain).max(live.last_source),
                sets: live.sets.load(Ordering::Relaxed),
                agent: inner.agent_timeout,
            };
            (live.clone(), inner.state, inner.moving.as_ref().map(Record::from), counters)
        };
        let pid = live.process.pid();
        let moving = moving.map(|moving| moving.write()).unwrap_or_default();
        let jobs = blockjob::write(&live.block_jobs) + &backup::write(live.backup.as_ref());
        let work = [&live.beside, moving.as_str(), &counters.write(), &jobs].concat();
        if let Err(error) = self.write_status(&live.domain, &work, state, pid, &live.dir) {
            tracing::warn!(guest = guest.name, %error, "its status cannot be saved");
        }
    }

    /// Writes it down for a guest with this definition; `work` are the elements of what goes on with it.
    pub(crate) fn write_status(
        &self,
        domain: &Domain,
        work: &str,
        state: State,
        pid: u32,
        dir: &Path,
    ) -> io::Result<()> {
        let text = write(state, pid, &dir.join("monitor.sock"), work, domain);
        let dirs = &self.shared.dirs;
        store::write(&dirs.status(&domain.name), &text)?;
        write_pid(&dirs.pid(&domain.name), pid)
    }

    /// Nobody is to look for the guest.
    pub(crate) fn forget_status(&self, name: &str) {
        let _ = fs::remove_file(self.shared.dirs.status(name));
        let _ = fs::remove_file(self.shared.dirs.pid(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "<domain type='kvm' id='7'><name>a</name><description>two\n lines</description>
        <memory>1024</memory><os><type>hvm</type></os></domain>";

    #[test]
    fn what_is_written_is_read() {
        let domain = Domain::parse(DOMAIN, &ParseOptions::default()).unwrap();
        let counters = Counters { taint: 3, nodes: 9, sets: 2, agent: 5 };
        let work = counters.write() + "<libDir path='/y'/>\n";
        let text = write(State::RUNNING_BOOTED, 42, Path::new("/x/do'main-7-a/monitor.sock"), &work, &domain);
        let status = read(&text).unwrap();
        assert_eq!((status.state, status.pid), (State::RUNNING_BOOTED, 42));
        assert_eq!(status.monitor, Path::new("/x/do'main-7-a/monitor.sock"));
        assert_eq!((status.domain, status.counters), (domain, counters));
        assert_eq!(status.beside, "<libDir path=\"/y\"/>\n");
        assert!(read("<domstatus state='running'/>").is_err());
    }

    #[test]
    fn what_libvirtd_has_written_down_stays() {
        let text = format!(
            "<domstatus state='paused' reason='user' pid='1'><taint flag='custom-monitor'/><taint flag='new'/>
            <monitor path='/m' type='unix'/><namespaces><mount/></namespaces><vcpus><vcpu id='0' pid='2'/></vcpus>
            <qemuCaps><flag name='kvm'/></qemuCaps><blockjobs active='no'/>{DOMAIN}</domstatus>"
        );
        let status = read(&text).unwrap();
        let kept =
            "<namespaces>\n  <mount/>\n</namespaces>\n<qemuCaps>\n  <flag name=\"kvm\"/>\n</qemuCaps>\n";
        assert_eq!(status.beside, kept);
        let counters = Counters { taint: 2, agent: agent::BLOCK, ..Counters::default() };
        assert_eq!((status.counters, status.state), (counters, State::PAUSED_USER));
    }
}
