//! Which files of a definition are a guest's.

use std::path::{Path, PathBuf};

use virtwire_conf::domain::Devices;
use virtwire_conf::domain::chardev::{CharMode, CharType, Chardev};
use virtwire_conf::domain::device::DeviceSeclabel;
use virtwire_conf::domain::disk::{Disk, DiskDevice, DiskSource};
use virtwire_conf::{Domain, YesNo};

use super::DAC;
use crate::usb;

/// A file that a guest is given.
pub(super) struct File {
    pub(super) path: PathBuf,
    /// A label of its own.
    pub(super) label: Option<String>,
    /// Whether it goes back; what others may use too does not.
    pub(super) comes_back: bool,
    /// Whether it is made where it is not there.
    pub(super) made: bool,
}

impl File {
    pub(super) fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), label: None, comes_back: true, made: false }
    }

    /// A file with what the definition says of its label; `None` where it is not to be relabelled.
    fn labelled(path: &str, labels: &[DeviceSeclabel], comes_back: bool) -> Option<Self> {
        let own = labels.iter().find(|label| label.model.as_deref() == Some(DAC));
        if own.is_some_and(|label| label.relabel == Some(YesNo::No)) {
            return None;
        }
        let label = own.and_then(|label| label.label.clone());
        Some(Self { path: path.into(), label, comes_back, made: false })
    }
}

/// All files of a guest, each before those that stand upon it.
pub(super) fn files(domain: &Domain) -> Vec<File> {
    let os = &domain.os;
    let nvram = os.nvram.iter().filter_map(|nvram| nvram.path.as_deref()).map(File::new);
    let kernel = [&os.kernel, &os.initrd, &os.dtb].into_iter().flatten().map(File::new);
    let [before, after] = of_devices(&domain.devices);
    before.into_iter().chain(nvram).chain(kernel).chain(after).collect()
}

/// The files of devices: those that come before a guest's firmware, and those behind it.
pub(super) fn of_devices(devices: &Devices) -> [Vec<File>; 2] {
    let disks = devices.disks.iter().flat_map(of_disk);
    let sources = chardevs(devices).flat_map(of_chardev);
    let usb = devices.hostdevs.iter().filter_map(usb::node).map(File::new);
    [disks.chain(sources).collect(), usb.collect()]
}

/// The images of a disk: its own, and those below it.
pub(super) fn of_disk(disk: &Disk) -> Vec<File> {
    let own = !disk.readonly && !disk.shareable && disk.device != DiskDevice::Cdrom;
    let top = disk.source.as_ref().and_then(|source| of_source(source, own));
    let below = std::iter::successors(disk.backing_store.as_deref(), |below| below.backing_store.as_deref());
    let below = below.filter_map(|below| of_source(below.source.as_ref()?, false));
    let mut all: Vec<_> = below.chain(top).collect();
    all.dedup_by(|a, b| a.path == b.path);
    all
}

fn of_source(source: &DiskSource, comes_back: bool) -> Option<File> {
    // What a client has opened is not looked for by its name.
    if source.fdgroup.is_some() {
        return None;
    }
    let path = source.file.as_deref().or(source.dev.as_deref()).or(source.dir.as_deref())?;
    File::labelled(path, &source.seclabel, comes_back)
}

/// Files, devices and pipes. Terminals are QEMU's own, and sockets that it listens on end with it.
fn of_chardev(chardev: &Chardev) -> Vec<File> {
    let Some(source) = chardev.source.first() else { return Vec::new() };
    let Some(path) = source.path.as_deref() else { return Vec::new() };
    let labelled = |path: &str| File::labelled(path, &source.seclabel, true);
    match chardev.type_ {
        CharType::Unix if matches!(source.mode, Some(CharMode::Connect | CharMode::Client)) => {
            labelled(path).into_iter().collect()
        }
        CharType::Dev => labelled(path).into_iter().collect(),
        CharType::File => labelled(path).map(|file| File { made: true, ..file }).into_iter().collect(),
        CharType::Pipe => {
            let ends = [format!("{path}.in"), format!("{path}.out"), path.to_owned()];
            ends.iter().filter(|end| Path::new(end).exists()).filter_map(|end| labelled(end)).collect()
        }
        _ => Vec::new(),
    }
}

/// The character devices that may be files.
pub(crate) fn chardevs(devices: &Devices) -> impl Iterator<Item = &Chardev> {
    let serials = devices.serials.iter().map(|serial| &serial.chardev);
    let parallels = devices.parallels.iter().map(|parallel| &parallel.chardev);
    let channels = devices.channels.iter().map(|channel| &channel.chardev);
    // A serial console is the serial port seen from elsewhere.
    let consoles = devices.consoles.iter().filter(|console| console.is_virtio());
    serials.chain(parallels).chain(channels).chain(consoles.map(|console| &console.chardev))
}

/// The security drivers that labels of files name.
pub(super) fn models(domain: &Domain) -> impl Iterator<Item = Option<&str>> {
    let disks = domain.devices.disks.iter().filter_map(|disk| disk.source.as_ref());
    let of_disks = disks.flat_map(|source| &source.seclabel);
    let sources = chardevs(&domain.devices).flat_map(|chardev| &chardev.source);
    of_disks.chain(sources.flat_map(|source| &source.seclabel)).map(|label| label.model.as_deref())
}
