//! Programs of the system that do what a pool needs.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use tokio::process::Command;
use virtwire_protocol::error::ErrorDomain;

use crate::{Result, STORAGE};

/// What a program printed, and how it ended.
///
/// # Errors
/// `VIR_ERR_INTERNAL_ERROR` if it cannot be started.
pub(crate) async fn output(program: &str, args: &[impl AsRef<OsStr>]) -> Result<Output> {
    let done = Command::new(program).args(args).env("LC_ALL", "C").stdin(Stdio::null()).output().await;
    done.map_err(|error| STORAGE.internal_error(format_args!("Cannot run '{program}': {error}")))
}

/// Runs a program that must succeed.
///
/// # Errors
/// `VIR_ERR_INTERNAL_ERROR` with what it printed if it fails, or why it cannot be started.
pub(crate) async fn run(program: &str, args: &[impl AsRef<OsStr>]) -> Result<()> {
    let output = output(program, args).await?;
    let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    check(&output, &format!("{} {}", find(program).display(), words.join(" ")))
}

/// A program that was called with a line has succeeded.
///
/// # Errors
/// `VIR_ERR_INTERNAL_ERROR` with what it printed.
pub(crate) fn check(output: &Output, line: &str) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let (status, why) = (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr));
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    Err(ErrorDomain::NONE
        .internal_error(format_args!("Child process ({line}) unexpected exit status {status}{why}")))
}

/// Where a program is, searched in `PATH`.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(program));
    places.find(|place| place.is_file()).unwrap_or_else(|| program.into())
}
