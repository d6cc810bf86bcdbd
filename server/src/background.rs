//! Running in the background: the daemon is started anew in a session of its own, and the command waits until it
//! is ready.

use std::env;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

/// Set for the process that stays.
const MARK: &str = "VIRTWIRED_BACKGROUND";

/// Whether this is the process that stays.
pub(crate) fn is_started() -> bool {
    env::var_os(MARK).is_some()
}

/// Starts this command again, marked, and returns once that is ready.
pub(crate) fn start() -> io::Result<()> {
    let mut child = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut word = [0];
    let told = child.stdout.take().map(|mut pipe| pipe.read(&mut word)).transpose()?;
    if told == Some(1) {
        return Ok(());
    }
    let status = child.wait()?;
    Err(io::Error::other(format!("the daemon did not start: {status}")))
}

/// Tells the command that waits, if one does.
pub(crate) fn ready() {
    if !is_started() {
        return;
    }
    let told = io::stdout().write_all(b"1").and_then(|()| io::stdout().flush());
    let detached = std::fs::File::options().read(true).write(true).open("/dev/null").and_then(|null| {
        rustix::stdio::dup2_stdout(&null)?;
        rustix::process::setsid()?;
        Ok(())
    });
    if let Err(error) = told.and(detached) {
        tracing::warn!(%error, "cannot leave the terminal");
    }
}
