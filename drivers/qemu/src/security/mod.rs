//! Who a guest's QEMU runs as, and whose its files are meanwhile: the DAC security driver, as `qemu.conf` sets it.
//!
//! Files that a guest alone writes to get its owner at the start and have their former one back at the end, also when
//! the guest ends under another daemon. What guests only read or share changes hands once and stays.

mod files;
mod label;
mod owner;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use virtwire_conf::domain::disk::Disk;
use virtwire_conf::domain::{Devices, Seclabel, SeclabelType};
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::error::Result;
use crate::guest::Live;
use crate::namespace::is_node;
use crate::policy::opens_files;
use crate::settings::Settings;
pub(crate) use files::chardevs;
use files::{File, files};
pub(crate) use label::{Credentials, Ids};

/// Who emulators of TPMs run as where nothing is configured: the user and group that Debian's package makes.
const TPM_USER: &str = "tss";

/// The name of this driver.
pub(crate) const DAC: &str = "dac";
/// The name of having none.
pub(crate) const NONE: &str = "none";

/// The driver.
pub(crate) struct Dac {
    /// Of guests that say nothing else.
    pub(crate) ids: Ids,
    /// Who emulators of TPMs run as, by name: user and group (`swtpm_user`, `swtpm_group`).
    emulators: [String; 2],
    /// Whether files change hands (`dynamic_ownership`).
    dynamic: bool,
    /// Whether QEMU gets files open that it writes to for the guest; then they stay whose they are.
    opens_files: bool,
    /// Whether former owners are written down (`remember_owner`).
    remember: bool,
    /// What is read of a file's attributes holds until it is written again.
    attributes: Mutex<()>,
}

impl Dac {
    /// The driver as `qemu.conf` says, with libvirt's values for what it does not.
    ///
    /// # Errors
    /// It says something that is none of that, or names a user or group that there is not.
    pub(crate) fn of(settings: &Settings) -> io::Result<Self> {
        let name = |key| Ok::<_, io::Error>(settings.text(key)?.unwrap_or_else(|| TPM_USER.to_owned()));
        let emulators = [name("swtpm_user")?, name("swtpm_group")?];
        let ids = match (settings.text("user")?, settings.text("group")?) {
            (None, None) => label::of_guests(),
            (user, group) => {
                let usual = label::of_guests();
                let unknown = |error: VirtError| io::Error::other(error.message);
                Ids {
                    user: user.map_or(Ok(usual.user), |name| label::user(&name)).map_err(unknown)?,
                    group: group.map_or(Ok(usual.group), |name| label::group(&name)).map_err(unknown)?,
                }
            }
        };
        Ok(Self {
            ids,
            emulators,
            opens_files: opens_files(settings)?,
            dynamic: settings.flag("dynamic_ownership")?.unwrap_or(true),
            remember: settings.flag("remember_owner")?.unwrap_or(true),
            attributes: Mutex::default(),
        })
    }

    /// Who emulators of TPMs run as.
    ///
    /// # Errors
    /// There is no such user or group.
    pub(crate) fn of_emulators(&self) -> Result<Ids> {
        let [user, group] = &self.emulators;
        Ok(Ids { user: label::user(user)?, group: label::group(group)? })
    }

    /// The definition of a run gets its label.
    ///
    /// # Errors
    /// A label that means nobody.
    fn generate(&self, domain: &mut Domain) -> Result<()> {
        let seclabel = match domain.seclabel.iter_mut().find(|label| label.model.as_deref() == Some(DAC)) {
            Some(label) => label,
            None => {
                domain.seclabel.push(Seclabel { model: Some(DAC.to_owned()), ..Seclabel::default() });
                let Some(label) = domain.seclabel.last_mut() else { return Ok(()) };
                label
            }
        };
        match seclabel.type_ {
            Some(SeclabelType::None) => return Ok(()),
            Some(SeclabelType::Static) => {
                label::parse(seclabel.label.as_deref().unwrap_or_default())?;
            }
            Some(SeclabelType::Dynamic) | None => {
                seclabel.type_ = Some(SeclabelType::Dynamic);
                seclabel.relabel = Some(YesNo::Yes);
                seclabel.label = Some(self.ids.to_string());
            }
        }
        if seclabel.relabel == Some(YesNo::Yes) {
            seclabel.imagelabel.clone_from(&seclabel.label);
        }
        Ok(())
    }

    /// Whom a guest's QEMU runs as.
    ///
    /// # Errors
    /// The guest's label means nobody.
    pub(crate) fn credentials(&self, domain: &Domain) -> Result<Credentials> {
        let label = of(domain).filter(|label| label.type_ != Some(SeclabelType::None));
        let ids = label.and_then(|label| label.label.as_deref()).map_or(Ok(self.ids), label::parse)?;
        Ok(ids.credentials())
    }

    /// Lets a guest's QEMU, and those of its user's others, use a device that belongs to no guest, where there is one.
    ///
    /// # Errors
    /// The guest's label means nobody, or the device cannot be given away.
    pub(crate) fn lend(&self, domain: &Domain, device: &Path) -> Result<()> {
        let Ids { user, group } = self.credentials(domain)?.ids;
        match std::os::unix::fs::chown(device, Some(user), Some(group)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let what = format_args!(
                    "unable to set user and group to '{user}:{group}' on '{}'",
                    device.display()
                );
                Err(VirtError::system(ErrorDomain::SECURITY, &error, what))
            }
            _ => Ok(()),
        }
    }

    /// Whose a guest's files are while it runs; `None` where they stay whose they are.
    pub(crate) fn owner_of_files(&self, domain: &Domain) -> Result<Option<Ids>> {
        let label = of(domain).filter(|label| self.dynamic && label.relabel == Some(YesNo::Yes));
        label.and_then(|label| label.imagelabel.as_deref()).map(label::parse).transpose()
    }

    /// Gives a guest, which may have its own `/dev`, its files: all, or none where one cannot be given.
    ///
    /// # Errors
    /// A file is not there, is in use by another, or cannot be given away.
    pub(crate) fn give(&self, domain: &Domain, own_dev: bool) -> Result<Given<'_>> {
        match self.owner_of_files(domain)? {
            Some(owner) => self.give_all(files(domain), owner, own_dev),
            None => Ok(Given { dac: self, files: Vec::new() }),
        }
    }

    /// Gives a running guest the images of a new disk.
    ///
    /// # Errors
    /// As of [`give`](Self::give).
    pub(crate) fn give_disk(&self, live: &Live, disk: &Disk) -> Result<Given<'_>> {
        match self.owner_of_files(&live.domain)? {
            Some(owner) => self.give_all(files::of_disk(disk), owner, live.has_own_dev()),
            None => Ok(Given { dac: self, files: Vec::new() }),
        }
    }

    /// Gives a running guest the files of new devices.
    ///
    /// # Errors
    /// As of [`give`](Self::give).
    pub(crate) fn give_devices(&self, live: &Live, devices: &Devices) -> Result<Given<'_>> {
        match self.owner_of_files(&live.domain)? {
            Some(owner) => {
                let files = files::of_devices(devices).into_iter().flatten().collect();
                self.give_all(files, owner, live.has_own_dev())
            }
            None => Ok(Given { dac: self, files: Vec::new() }),
        }
    }

    /// Whether a file is opened for the guest.
    fn stays(&self, file: &File) -> bool {
        file.made && self.opens_files
    }

    /// Gives all; devices where the guest has not its own `/dev`, in which they are its own.
    fn give_all(&self, files: Vec<File>, owner: Ids, own_dev: bool) -> Result<Given<'_>> {
        let mut given = Given { dac: self, files: Vec::new() };
        let elsewhere = |file: &File| own_dev && is_node(&file.path);
        for file in files.into_iter().filter(|file| !self.stays(file) && !elsewhere(file)) {
            let owner = match &file.label {
                Some(own) => label::parse(own)?,
                None => owner,
            };
            let _one = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
            if file.made {
                // One that cannot be made cannot be given either.
                let _ = OpenOptions::new().append(true).create(true).mode(0o600).open(&file.path);
            }
            owner::give(&file.path, owner, self.remember && file.comes_back)?;
            given.files.push(file);
        }
        Ok(given)
    }

    /// Whether former owners are written down.
    pub(crate) fn remembers(&self) -> bool {
        self.remember
    }

    /// Gives the guest's own directories, keys and sockets, which end with it.
    ///
    /// # Errors
    /// One of them cannot be given away.
    pub(crate) fn give_own(&self, domain: &Domain, path: &Path) -> Result<()> {
        owner::change_own(path, self.credentials(domain)?.ids)
    }

    /// Gives back what a guest had, which may have had its own `/dev`. What cannot be given back is left, with a line in the log.
    pub(crate) fn take_back(&self, domain: &Domain, own_dev: bool) {
        if let Ok(Some(_)) = self.owner_of_files(domain) {
            self.take_back_all(files(domain), own_dev);
        }
    }

    /// Gives back the images of a disk that has left a guest.
    pub(crate) fn take_back_disk(&self, live: &Live, disk: &Disk) {
        if let Ok(Some(_)) = self.owner_of_files(&live.domain) {
            self.take_back_all(files::of_disk(disk), live.has_own_dev());
        }
    }

    /// Gives back the files of devices that have left a guest.
    pub(crate) fn take_back_devices(&self, live: &Live, devices: &Devices) {
        if let Ok(Some(_)) = self.owner_of_files(&live.domain) {
            let files = files::of_devices(devices).into_iter().flatten().collect();
            self.take_back_all(files, live.has_own_dev());
        }
    }

    fn take_back_all(&self, files: Vec<File>, own_dev: bool) {
        for file in files.into_iter().filter(|file| !(own_dev && is_node(&file.path))) {
            let _one = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
            // An image that was the guest's own may be below another one by now.
            if (!file.comes_back || self.stays(&file)) && !owner::is_written_down(&file.path) {
                continue;
            }
            if let Err(error) = owner::take_back(&file.path, self.remember) {
                tracing::warn!(path = %file.path.display(), %error, "has not got its owner back");
            }
        }
    }
}

/// Files that a guest was given. They go back when this is dropped, unless the guest keeps them.
#[must_use]
pub(crate) struct Given<'a> {
    dac: &'a Dac,
    files: Vec<File>,
}

impl Given<'_> {
    /// The guest has them from now on.
    pub(crate) fn keep(mut self) {
        self.files.clear();
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        // Devices of a guest with its own `/dev` are not among them.
        self.dac.take_back_all(std::mem::take(&mut self.files), false);
    }
}

/// The label of a definition.
fn of(domain: &Domain) -> Option<&Seclabel> {
    domain.seclabel.iter().find(|label| label.model.as_deref() == Some(DAC))
}

/// The definition of a run gets the labels of what security drivers there are.
///
/// # Errors
/// A label of a driver that is not there, or that means nobody.
pub(crate) fn prepare(dac: Option<&Dac>, domain: &mut Domain) -> Result<()> {
    let of_guest = domain.seclabel.iter().map(|label| label.model.as_deref());
    for model in of_guest.chain(files::models(domain)) {
        if model != Some(NONE) && (model != Some(DAC) || dac.is_none()) {
            let model = model.unwrap_or("(null)");
            let text = format_args!("Security driver model '{model}' is not available");
            return Err(ErrorDomain::SECURITY.config_unsupported(text));
        }
    }
    dac.map_or(Ok(()), |dac| dac.generate(domain))
}

/// What a running guest's label is, for each security driver in turn.
pub(crate) fn labels(dac: Option<&Dac>, live: Option<&Domain>) -> Vec<String> {
    let label = |_: &Dac| live.and_then(of).and_then(|label| label.label.clone()).unwrap_or_default();
    [String::new()].into_iter().chain(dac.map(label)).collect()
}

/// Makes a directory whose is a guest's user. An administrator may have put a link in its place, and nobody else.
///
/// # Errors
/// It cannot be made or given away, or is another's link.
pub(crate) fn make_dir(dac: Option<&Dac>, dir: &PathBuf) -> io::Result<()> {
    crate::dirs::make_private(dir)?;
    let Some(dac) = dac else { return Ok(()) };
    let there = std::fs::symlink_metadata(dir)?;
    if there.is_symlink() && there.uid() != 0 {
        return Err(io::Error::other(format!("'{}' is a link that is not root's", dir.display())));
    }
    std::os::unix::fs::chown(dir, Some(dac.ids.user), Some(dac.ids.group))
}
