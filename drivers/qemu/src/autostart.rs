//! Guests that start with the host, when its first daemon does: always, or once after the next boot.

use std::fs;
use std::path::PathBuf;

use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::{QEMU, Result, file};
use crate::guest::Guest;
use virtwire_store as store;

/// Which of the two marks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Always,
    Once,
}

pub(crate) async fn autostart(driver: &Qemu, args: DomainGetAutostartArgs) -> Result<DomainGetAutostartRet> {
    Ok(DomainGetAutostartRet { autostart: driver.guest(&args.dom)?.lock().autostart.into() })
}

pub(crate) async fn once(
    driver: &Qemu,
    args: DomainGetAutostartOnceArgs,
) -> Result<DomainGetAutostartOnceRet> {
    Ok(DomainGetAutostartOnceRet { autostart: driver.guest(&args.dom)?.lock().autostart_once.into() })
}

pub(crate) async fn set_autostart(driver: &Qemu, args: DomainSetAutostartArgs) -> Result<()> {
    driver.mark(&args.dom, Mark::Always, args.autostart != 0).await
}

pub(crate) async fn set_once(driver: &Qemu, args: DomainSetAutostartOnceArgs) -> Result<()> {
    driver.mark(&args.dom, Mark::Once, args.autostart != 0).await
}

impl Qemu {
    async fn mark(&self, dom: &NonnullDomain, mark: Mark, wanted: bool) -> Result<()> {
        let guest = self.guest(dom)?;
        let _job = guest.job.lock().await;
        if guest.lock().persistent.is_none() {
            return Err(QEMU.operation_invalid("cannot set autostart for transient domain"));
        }
        let dirs = &self.shared.dirs;
        let link = match mark {
            Mark::Always => dirs.autostart_link(&guest.name),
            Mark::Once => dirs.autostart_once_link(&guest.name),
        };
        let done =
            if wanted { store::link(&dirs.definition(&guest.name), &link) } else { store::remove(&link) };
        done.map_err(|e| file(&e, format_args!("Failed to change symlink '{}'", link.display())))?;
        let mut inner = guest.lock();
        match mark {
            Mark::Always => inner.autostart = wanted,
            Mark::Once => inner.autostart_once = wanted,
        }
        Ok(())
    }

    /// Removes both marks of a guest.
    pub(crate) fn unmark(&self, name: &str) -> std::io::Result<()> {
        store::remove(&self.shared.dirs.autostart_link(name))?;
        store::remove(&self.shared.dirs.autostart_once_link(name))
    }

    /// Starts what starts with the host, in the background.
    pub fn autostart(&self) {
        let first = self.first_since_boot();
        let waiting = self.all().into_iter().filter(|guest| {
            let once = first && self.take_once(guest);
            let inner = guest.lock();
            (first && inner.autostart || once) && inner.live.is_none()
        });
        let (driver, waiting) = (self.clone(), waiting.collect::<Vec<_>>());
        let delay = self.shared.policy.start_delay;
        if waiting.is_empty() {
            return;
        }
        tokio::spawn(async move {
            for guest in waiting {
                let _job = guest.job.lock().await;
                if guest.lock().live.is_some() {
                    continue;
                }
                if let Err(error) = driver.start(&guest, false).await {
                    tracing::warn!(guest = guest.name, %error, "cannot be started with the daemon");
                }
                tokio::time::sleep(delay).await;
            }
        });
    }

    /// Whether no daemon has come this far since the host has booted: a file says so that does not outlive a boot.
    fn first_since_boot(&self) -> bool {
        let path: PathBuf = self.shared.dirs.run.join("autostarted");
        let first = !path.exists();
        if let Err(error) = fs::OpenOptions::new().create(true).append(true).open(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot be written");
        }
        first
    }

    /// The mark for one start is used up before the start.
    fn take_once(&self, guest: &Guest) -> bool {
        let link = self.shared.dirs.autostart_once_link(&guest.name);
        if let Err(error) = store::remove(&link) {
            tracing::warn!(path = %link.display(), %error, "cannot be removed");
        }
        std::mem::take(&mut guest.lock().autostart_once)
    }
}
