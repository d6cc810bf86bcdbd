//! The file that says a guest runs, in libvirt's layout.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::{fs, io};

use virtwire_conf::xml::Document;
use virtwire_conf::{Domain, FormatOptions, ParseOptions};
use virtwire_protocol::error::ErrorDomain;
use virtwire_store::{self as store, with_warning};

use crate::backup;
use crate::blockjob::{self, BlockJob};
use crate::driver::Qemu;
use crate::guest::Guest;
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

impl Qemu {
    /// Writes down what a daemon that comes after this one needs to find the guest again.
    pub(crate) fn save_status(&self, guest: &Guest) {
        // What is read here is older than what the next one reads, and is to be written before it.
        let _one = guest.status.lock().unwrap_or_else(PoisonError::into_inner);
        let (live, state, moving) = {
            let inner = guest.lock();
            let Some(live) = &inner.live else { return };
            (live.clone(), inner.state, inner.moving.as_ref().map(Record::from))
        };
        let pid = live.process.pid();
        let moving = moving.map(|moving| moving.write()).unwrap_or_default();
        let work = moving + &blockjob::write(&live.block_jobs) + &backup::write(live.backup.as_ref());
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
        let xml = domain.to_xml(&FormatOptions { secure: true, ..FormatOptions::default() });
        let text = write(state, pid, &dir.join("monitor.sock"), work, &xml);
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
