//! QEMU's stream into a file or out of one, from where the file stands.

use std::fs::File;
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use serde_json::json;
use tokio::process::Child;
use virtwire_qmp::Monitor;
use virtwire_qmp::commands::{AddFd, Migrate, MigrateIncoming, RemoveFd};

use super::format::Format;
use crate::blockjob::say;
use crate::error::{Result, child, file, monitor};
use crate::migrate;
use crate::process::helper;

/// A file, and how a guest's memory is in it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) file: File,
    pub(crate) format: Format,
    /// Where the stream begins.
    pub(crate) offset: u64,
    /// How many threads work on a `sparse` one; one, unless it is said.
    pub(crate) channels: Option<u32>,
}

impl Stream {
    /// Has QEMU put a guest's memory into it.
    ///
    /// # Errors
    /// What QEMU says, or the program on the way.
    pub(crate) async fn fill(self, qemu: &Monitor) -> Result<()> {
        match (self.format, self.format.program()) {
            (Format::Sparse, _) => self.mapped(qemu, Way::Out).await,
            (_, None) => migrate::out(qemu, self.file).await,
            (_, Some(program)) => {
                let (from, to) = pipe().map_err(|error| file(&error, "Unable to create pipes"))?;
                let small = start(program, "-c", OwnedFd::from(from).into(), self.file)?;
                let sent = migrate::out(qemu, OwnedFd::from(to).into()).await;
                let ended = end(small, program).await;
                sent.and(ended)
            }
        }
    }

    /// Fills a guest's memory from it.
    ///
    /// # Errors
    /// What QEMU says; a program on the way that cannot be started.
    pub(crate) async fn drain(self, qemu: &Monitor) -> Result<()> {
        match (self.format, self.format.program()) {
            (Format::Sparse, _) => self.mapped(qemu, Way::In).await,
            (_, None) => migrate::into(qemu, self.file).await,
            (_, Some(program)) => {
                let (from, to) = pipe().map_err(|error| file(&error, "Unable to create pipes"))?;
                let large = start(program, "-dc", self.file, OwnedFd::from(to).into())?;
                let read = migrate::into(qemu, OwnedFd::from(from).into()).await;
                // Where QEMU has failed nobody reads the rest, and the program's end says nothing.
                let ended = end(large, program).await;
                read.and(ended)
            }
        }
    }

    /// Each page at its place in the file.
    async fn mapped(self, qemu: &Monitor, way: Way) -> Result<()> {
        let add = AddFd { fdset_id: None, opaque: Some("libvirt-migrate".to_owned()) };
        let set = qemu.execute_with_fds(&add, vec![self.file.into()]).await.map_err(monitor)?.fdset_id;
        let uri = format!("file:/dev/fdset/{set},offset={:#x}", self.offset);
        capabilities(qemu, true, self.channels.is_some()).await?;
        if let Some(channels) = self.channels {
            say(qemu, "migrate-set-parameters", json!({"multifd-channels": channels})).await?;
        }
        match way {
            Way::Out => qemu.execute(&Migrate { uri, resume: None }).await.map(drop).map_err(monitor)?,
            Way::In => qemu
                .execute(&MigrateIncoming { uri, exit_on_error: None })
                .await
                .map(drop)
                .map_err(monitor)?,
        }
        let done = migrate::done(qemu).await;
        // The next migration of this guest may be another kind.
        let restored = capabilities(qemu, false, self.channels.is_some()).await;
        let _ = qemu.execute(&RemoveFd { fdset_id: set, fd: None }).await;
        done.and(restored)
    }
}

#[derive(Clone, Copy)]
enum Way {
    Out,
    In,
}

/// Has QEMU use files with places for pages, or no longer.
async fn capabilities(qemu: &Monitor, on: bool, parallel: bool) -> Result<()> {
    let mut all = vec![json!({"capability": "mapped-ram", "state": on})];
    if parallel {
        all.push(json!({"capability": "multifd", "state": on}));
    }
    say(qemu, "migrate-set-capabilities", json!({"capabilities": all})).await
}

fn start(program: &str, option: &str, from: File, to: File) -> Result<Child> {
    let mut command = helper(program);
    command.arg(option).stdin(from).stdout(to).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(|error| file(&error, format_args!("Cannot run '{program}'")))
}

async fn end(running: Child, program: &str) -> Result<()> {
    let output = running.wait_with_output().await;
    let output = output.map_err(|error| file(&error, format_args!("Cannot wait for '{program}'")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(child(program, &output)),
    }
}
