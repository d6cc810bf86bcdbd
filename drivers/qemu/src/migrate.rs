//! A guest's memory goes into a file or comes out of one.

use std::fs::File;
use std::time::Duration;

use virtwire_qmp::Monitor;
use virtwire_qmp::commands::{Getfd, Migrate, MigrateIncoming, QueryMigrate};

use crate::error::{QEMU, Result, monitor};

/// How often QEMU is asked how far it is.
const PAUSE: Duration = Duration::from_millis(5);
/// QEMU's name of the file.
const NAME: &str = "memory";

/// Puts a guest's memory into a file, from where it stands.
///
/// # Errors
/// What QEMU says.
pub(crate) async fn out(qemu: &Monitor, file: File) -> Result<()> {
    pass(qemu, file).await?;
    qemu.execute(&Migrate { uri: format!("fd:{NAME}"), resume: None }).await.map_err(monitor)?;
    done(qemu).await
}

/// Fills the memory of a guest that waits for it.
///
/// # Errors
/// What QEMU says.
pub(crate) async fn into(qemu: &Monitor, file: File) -> Result<()> {
    pass(qemu, file).await?;
    qemu.execute(&MigrateIncoming { uri: format!("fd:{NAME}"), exit_on_error: None })
        .await
        .map_err(monitor)?;
    done(qemu).await
}

async fn pass(qemu: &Monitor, file: File) -> Result<()> {
    let name = Getfd { fdname: NAME.to_owned() };
    qemu.execute_with_fds(&name, vec![file.into()]).await.map_err(monitor)?;
    Ok(())
}

/// Waits for the end of what QEMU does with its memory.
///
/// # Errors
/// What it has failed with.
pub(crate) async fn done(qemu: &Monitor) -> Result<()> {
    loop {
        let now = qemu.execute(&QueryMigrate {}).await.map_err(monitor)?;
        match now.status.as_deref() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = now.error_desc.unwrap_or_else(|| "unexpectedly failed".to_owned());
                return Err(QEMU.operation_failed(format_args!("job 'save' failed: {why}")));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
