//! Snapshots within images, and images upon others: `qemu-img` for guests that are off, QEMU's jobs for those that run.

use std::path::Path;
use std::time::Duration;

use virtwire_qmp::Monitor;
use virtwire_qmp::commands::{JobDismiss, QueryJobs};

use crate::error::{QEMU, Result, child, monitor};
use crate::process::helper;

/// How often QEMU is asked how far a job is: it does not tell in words of its own.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs `qemu-img`.
///
/// # Errors
/// It is not there, or says no.
pub(crate) async fn qemu_img(args: &[&str]) -> Result<()> {
    let output = helper("qemu-img").args(args).kill_on_drop(true).output().await;
    let output = output.map_err(|_| QEMU.internal_error("unable to find qemu-img"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(child(&format!("qemu-img {}", args.join(" ")), &output))
}

/// The image that one says it is upon.
pub(super) async fn backing_file(path: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Info {
        full_backing_filename: Option<String>,
    }
    let info = ["info", "-U", "--output=json", path];
    let output = helper("qemu-img").args(info).kill_on_drop(true).output().await;
    serde_json::from_slice::<Info>(&output.ok()?.stdout).ok()?.full_backing_filename
}

/// An empty image upon another one, of the same size, which is told where the other one is in use.
///
/// # Errors
/// It cannot be made.
pub(crate) async fn overlay(path: &Path, base: &Path, format: &str, size: Option<u64>) -> Result<()> {
    let (path, base) = (path.to_string_lossy(), base.to_string_lossy());
    let mut args = vec!["create", "-q", "-f", "qcow2", "-F", format, "-b", &base];
    // The one below is not looked into where its size is known: a guest has it.
    let size = size.map(|size| size.to_string());
    args.extend(size.is_some().then_some("-u"));
    args.push(&path);
    args.extend(size.as_deref());
    qemu_img(&args).await
}

/// Waits for a job's end.
///
/// # Errors
/// What the job failed with.
pub(crate) async fn job(qemu: &Monitor, id: &str) -> Result<()> {
    loop {
        let jobs = qemu.execute(&QueryJobs {}).await.map_err(monitor)?;
        let Some(job) = jobs.into_iter().find(|job| job.id == id) else { return Ok(()) };
        if job.status == "ready" {
            // What was copied takes the place of what it was copied from.
            let id = serde_json::Map::from_iter([("id".to_owned(), serde_json::json!(id))]);
            qemu.execute_raw("job-complete", &id).await.map_err(monitor)?;
        }
        if job.status == "concluded" {
            qemu.execute(&JobDismiss { id: id.to_owned() }).await.map_err(monitor)?;
            return job.error.map_or(Ok(()), |error| Err(QEMU.operation_failed(error)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
