//! Programs of the system that do what a pool needs.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use tokio::process::Command;

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
    if output.status.success() {
        return Ok(());
    }
    let program = find(program);
    let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    let (status, why) = (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr));
    Err(STORAGE.internal_error(format_args!(
        "Child process ({} {}) unexpected exit status {status}: {why}",
        program.display(),
        words.join(" ")
    )))
}

/// Where a program is, searched in `PATH`.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(program));
    places.find(|place| place.is_file()).unwrap_or_else(|| program.into())
}
