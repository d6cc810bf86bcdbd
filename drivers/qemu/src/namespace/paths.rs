//! Which paths of a definition may be devices of the host's.

use std::fs;
use std::iter::successors;
use std::path::{Path, PathBuf};

use virtwire_conf::domain::Devices;
use virtwire_conf::domain::chardev::{CharType, RngModel};
use virtwire_conf::domain::disk::Disk;
use virtwire_conf::domain::misc::{Hostdev, HostdevMode, HostdevType};

use crate::argv;
use crate::security::chardevs;
use crate::usb;

/// Those of devices: one for each that has it.
pub(super) fn of_devices(devices: &Devices) -> Vec<PathBuf> {
    let disks = devices.disks.iter().flat_map(of_disk);
    let chardevs = chardevs(devices).filter(|chardev| chardev.type_ == CharType::Dev);
    let chardevs = chardevs.filter_map(|chardev| chardev.source.first()?.path.clone());
    let backends = devices.rngs.iter().filter_map(|rng| rng.backend.as_ref());
    let random = backends.filter(|backend| backend.model == RngModel::Random);
    let random = random.filter_map(|backend| backend.path.clone());
    let inputs = devices.inputs.iter().filter_map(|input| input.source.as_ref()?.dev.clone());
    let memories = devices.memories.iter().filter_map(|memory| memory.source.as_ref()?.path.clone());
    let words = chardevs.chain(random).chain(inputs).chain(memories).map(PathBuf::from);
    let hostdevs = devices.hostdevs.iter().flat_map(of_hostdev);
    disks.chain(words).chain(hostdevs).filter(|path| path.starts_with(super::DEV)).collect()
}

/// Those of a disk's images.
pub(super) fn of_disk(disk: &Disk) -> Vec<PathBuf> {
    let below = successors(disk.backing_store.as_deref(), |below| below.backing_store.as_deref());
    let all = disk.source.iter().chain(below.filter_map(|below| below.source.as_ref()));
    let opened = all.filter(|source| source.fdgroup.is_none());
    opened.filter_map(|source| source.dev.as_deref().or(source.file.as_deref())).map(PathBuf::from).collect()
}

/// What the kernel says of devices by which VFIO gives them away.
const PCI: &str = "/sys/bus/pci/devices";
const MEDIATED: &str = "/sys/bus/mdev/devices";

/// Those of a device that a guest has for itself.
fn of_hostdev(hostdev: &Hostdev) -> Vec<PathBuf> {
    match (hostdev.mode, hostdev.type_) {
        (HostdevMode::Subsystem, HostdevType::Usb) => usb::node(hostdev).into_iter().collect(),
        (HostdevMode::Subsystem, HostdevType::Pci) => {
            argv::hostdev::place(hostdev).map_or_else(Vec::new, |place| by_vfio(&Path::new(PCI).join(place)))
        }
        (HostdevMode::Subsystem, HostdevType::Mdev) => argv::hostdev::uuid(hostdev)
            .map_or_else(Vec::new, |uuid| by_vfio(&Path::new(MEDIATED).join(uuid))),
        (HostdevMode::Subsystem, HostdevType::Scsi) => {
            let found = argv::hostdev::generic_device(hostdev.source.as_ref());
            found.into_iter().map(PathBuf::from).collect()
        }
        _ => Vec::new(),
    }
}

/// VFIO's device for a group, and the one for all.
fn by_vfio(device: &Path) -> Vec<PathBuf> {
    let group = fs::read_link(device.join("iommu_group")).ok();
    let group = group.as_deref().and_then(Path::file_name).map(|group| Path::new("/dev/vfio").join(group));
    group.into_iter().chain([PathBuf::from("/dev/vfio/vfio")]).collect()
}

#[cfg(test)]
mod tests {
    use virtwire_conf::{Domain, ParseOptions};

    use super::*;

    #[test]
    fn devices_of_every_kind_have_paths() {
        let xml = "<domain type='kvm'><name>g</name><memory>1</memory><os><type>hvm</type></os><devices>
            <disk type='block' device='disk'><source dev='/dev/disk/by-id/x'/>
              <backingStore type='block'><format type='raw'/><source dev='/dev/vg/base'/></backingStore>
              <target dev='vda'/></disk>
            <disk type='file' device='disk'><source file='/srv/x.img'/><target dev='vdb'/></disk>
            <serial type='dev'><source path='/dev/ttyS0'/></serial><serial type='pty'/>
            <input type='evdev'><source dev='/dev/input/event1'/></input>
            <rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>
            <hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>
            <hostdev mode='subsystem' type='pci'>
              <source><address domain='0' bus='0xff' slot='0' function='0'/></source></hostdev>
            </devices></domain>";
        let domain = Domain::parse(xml, &ParseOptions::default()).unwrap();
        let expected = [
            "/dev/disk/by-id/x",
            "/dev/vg/base",
            "/dev/ttyS0",
            "/dev/hwrng",
            "/dev/input/event1",
            "/dev/bus/usb/001/002",
            "/dev/vfio/vfio",
        ];
        assert_eq!(of_devices(&domain.devices), expected.map(PathBuf::from));
    }
}
