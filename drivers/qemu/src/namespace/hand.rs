//! What a running guest gets with a new device, and gives up with one that has gone: files that become its own, and
//! devices that it sees.

use std::path::{Path, PathBuf};

use virtwire_conf::domain::Devices;
use virtwire_conf::domain::disk::Disk;

use super::nodes::{self, Node};
use super::{Always, DEV, Inside, paths};
use crate::driver::Qemu;
use crate::error::{Result, file};
use crate::guest::Live;
use crate::security::Given;

/// What a guest was given. It goes back when this is dropped, unless the guest keeps it.
#[must_use]
pub(crate) struct Handed<'a> {
    given: Option<Given<'a>>,
    shown: Option<Shown>,
}

/// Nodes that were made for a guest.
struct Shown {
    inside: Inside,
    made: Vec<PathBuf>,
}

impl Handed<'_> {
    /// The guest has it from now on.
    pub(crate) fn keep(mut self) {
        self.given.take().into_iter().for_each(Given::keep);
        self.shown = None;
    }
}

impl Drop for Handed<'_> {
    fn drop(&mut self) {
        if let Some(Shown { inside, made }) = self.shown.take()
            && let Err(error) = inside.remove(&made)
        {
            tracing::warn!(%error, "a guest still sees a device that it does not have");
        }
    }
}

impl Qemu {
    /// Gives a running guest the images of a new disk.
    ///
    /// # Errors
    /// A file is not there, is in use by another, or cannot be given away.
    pub(crate) fn give_disk(&self, live: &Live, disk: &Disk) -> Result<Handed<'_>> {
        let security = self.shared.security.as_ref();
        let given = security.map(|dac| dac.give_disk(live, disk)).transpose()?;
        Ok(Handed { given, shown: self.show(live, paths::of_disk(disk))? })
    }

    /// Gives a running guest the files of new devices.
    ///
    /// # Errors
    /// As of [`give_disk`](Self::give_disk).
    pub(crate) fn give_devices(&self, live: &Live, devices: &Devices) -> Result<Handed<'_>> {
        let security = self.shared.security.as_ref();
        let given = security.map(|dac| dac.give_devices(live, devices)).transpose()?;
        Ok(Handed { given, shown: self.show(live, paths::of_devices(devices))? })
    }

    /// Gives back the images of a disk that has left a guest.
    pub(crate) fn take_back_disk(&self, live: &Live, disk: &Disk) {
        if let Some(dac) = &self.shared.security {
            dac.take_back_disk(live, disk);
        }
        self.hide(live, paths::of_disk(disk));
    }

    /// Gives back the files of devices that have left a guest.
    pub(crate) fn take_back_devices(&self, live: &Live, devices: &Devices) {
        if let Some(dac) = &self.shared.security {
            dac.take_back_devices(live, devices);
        }
        self.hide(live, paths::of_devices(devices));
    }

    /// Has a guest that has its own `/dev` see devices.
    fn show(&self, live: &Live, paths: Vec<PathBuf>) -> Result<Option<Shown>> {
        if !live.has_own_dev() {
            return Ok(None);
        }
        let security = self.shared.security.as_ref();
        let owner = security.map_or(Ok(None), |dac| dac.owner_of_files(&live.domain))?;
        let nodes: Vec<_> = paths.iter().flat_map(|path| nodes::describe(path, owner)).collect();
        let made = || {
            let inside = Inside::of(live.process.pid())?;
            let made = inside.add(&nodes)?;
            Ok(Shown { inside, made })
        };
        made().map(Some).map_err(|error: std::io::Error| {
            let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
            file(&error, format_args!("Unable to create device {first}"))
        })
    }

    /// Has it see them no more, except those that it has otherwise.
    fn hide(&self, live: &Live, paths: Vec<PathBuf>) {
        if !live.has_own_dev() {
            return;
        }
        let mut others = paths::of_devices(&live.domain.devices);
        for path in &paths {
            // The device that goes is among the guest's still, or is no more.
            if let Some(at) = others.iter().position(|other| other == path) {
                others.swap_remove(at);
            }
        }
        others.extend(Always::of_all(self.shared.dev.as_ref()));
        let stay: Vec<_> = others.iter().flat_map(|path| below(path)).collect();
        let mut go: Vec<_> = paths.iter().flat_map(|path| below(path)).collect();
        go.retain(|path| !stay.contains(path));
        let removed = Inside::of(live.process.pid()).and_then(|inside| inside.remove(&go));
        if let Err(error) = removed {
            tracing::debug!(%error, "a guest still sees a device that it does not have");
        }
    }
}

/// All that a path consists of, also where nothing is at its end any more.
fn below(path: &Path) -> Vec<PathBuf> {
    let own = nodes::plain(path).strip_prefix(DEV).map(Path::to_owned);
    let nodes = nodes::describe(path, None).into_iter().map(|Node { path, .. }| path);
    own.into_iter().chain(nodes).collect()
}
