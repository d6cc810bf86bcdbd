//! A guest that sleeps.

use virtwire_protocol::remote::DomainPmWakeupArgs;
use virtwire_qmp::commands::SystemWakeup;

use crate::driver::Qemu;
use crate::error::{Result, check_flags, monitor};

pub(crate) async fn wake(driver: &Qemu, args: DomainPmWakeupArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainPMWakeup")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    guest.live()?.monitor.execute(&SystemWakeup {}).await.map_err(monitor)?;
    Ok(())
}
