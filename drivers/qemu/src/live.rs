//! From a stored definition to that of one run: a number, names for the devices, ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use virtwire_conf::domain::Devices;
use virtwire_conf::domain::chardev::{Channel, CharMode, CharType, Chardev};
use virtwire_conf::domain::device::{Address, Alias, DeviceInfo};
use virtwire_conf::domain::disk::{Disk, DiskBus, DiskCache, StorageProtocol};
use virtwire_conf::domain::misc::{ControllerType, MemballoonModel, MemoryModel};
use virtwire_conf::domain::net::{Interface, InterfaceType};
use virtwire_conf::domain::tune::Resource;
use virtwire_conf::table::KiB;
use virtwire_conf::{Domain, YesNo};
use virtwire_qmp::replies::ChardevInfo;

use crate::argv::is_q35;
use crate::argv::storage::has_one_number;
use crate::dirs::Dirs;
use crate::policy::Policy;

/// The definition of a run.
pub(crate) fn domain(stored: &Domain, id: i32, dirs: &Dirs, policy: &Policy) -> Domain {
    let mut domain = stored.clone();
    domain.id = Some(id);
    domain
        .resource
        .get_or_insert_with(|| Resource { partition: Some("/machine".to_owned()), ..Resource::default() });
    domain.vcpus.iter_mut().for_each(|vcpus| crate::vcpus::order(&mut vcpus.vcpu));
    align_memory(&mut domain);
    say_usual(&mut domain, policy);
    name_devices(&mut domain);
    number_sources(&mut domain);
    place_channels(&mut domain, dirs);
    domain
}

/// What a run adds to a device that comes to it.
pub(crate) fn prepare(alone: &mut Domain, dirs: &Dirs, policy: &Policy) {
    say_usual(alone, policy);
    place_channels(alone, dirs);
}

/// What a run has where the definition leaves it open.
fn say_usual(domain: &mut Domain, policy: &Policy) {
    for disk in domain.devices.disks.iter_mut().filter(|disk| disk.shareable) {
        // What the host keeps of it, others would not see.
        let driver = disk.driver.get_or_insert_default();
        driver.cache.get_or_insert(DiskCache::None);
    }
    // A drive without a medium has none whose format could be known.
    for disk in domain.devices.disks.iter_mut().filter(|disk| disk.source.is_none()) {
        disk.driver.iter_mut().for_each(|driver| driver.type_ = None);
    }
    let devices = &mut domain.devices;
    let chardevs = (devices.serials.iter_mut().map(|serial| &mut serial.chardev))
        .chain(devices.parallels.iter_mut().map(|parallel| &mut parallel.chardev))
        .chain(devices.channels.iter_mut().map(|channel| &mut channel.chardev))
        .chain(devices.consoles.iter_mut().map(|console| &mut console.chardev))
        .chain(devices.redirdevs.iter_mut().map(|device| &mut device.chardev));
    let ends =
        chardevs.filter(|chardev| chardev.type_ == CharType::Tcp).flat_map(|chardev| &mut chardev.source);
    let cards = devices.smartcards.iter_mut().filter(|card| card.type_ == Some(CharType::Tcp));
    for source in ends.chain(cards.flat_map(|card| &mut card.source)) {
        source.tls.get_or_insert(yes_or_no(policy.chardev.enabled));
    }
    for source in domain.devices.disks.iter_mut().filter_map(|disk| disk.source.as_mut()) {
        if policy.nbd.enabled && source.protocol == Some(StorageProtocol::Nbd) {
            source.tls.get_or_insert(YesNo::Yes);
        }
    }
}

fn yes_or_no(is: bool) -> YesNo {
    if is { YesNo::Yes } else { YesNo::No }
}

/// The socket between host and guest gets a number that no other guest has.
pub(crate) fn number_vsock(domain: &mut Domain, taken: &[u32]) {
    /// Those below are the hypervisor's, the host's and reserved.
    const FIRST: u32 = 3;
    let Some(cid) = domain.devices.vsock.as_mut().and_then(|vsock| vsock.cid.as_mut()) else { return };
    if cid.auto == Some(YesNo::Yes) {
        cid.address = (FIRST..).find(|number| !taken.contains(number));
    }
}

/// Memory of the guest and of each node is a multiple of 1 MiB, that of a module of 2 MiB. Nodes and modules make the whole.
fn align_memory(domain: &mut Domain) {
    let mut modules = 0;
    for target in domain.devices.memories.iter_mut().filter_map(|module| module.target.as_mut()) {
        if let Some(size) = &mut target.size {
            *size = KiB(size.0.checked_next_multiple_of(MODULE_UNIT).unwrap_or(size.0));
            modules += size.0;
        }
    }
    let cells = domain.cpu.as_mut().and_then(|cpu| cpu.numa.as_mut()).map(|numa| &mut numa.cell);
    let nodes = cells.filter(|cells| !cells.is_empty()).map(|cells| {
        cells.iter_mut().for_each(|cell| cell.memory = whole_mebibytes(cell.memory));
        cells.iter().map(|cell| cell.memory).sum::<u64>()
    });
    if let Some(memory) = &mut domain.memory {
        let own = nodes.unwrap_or_else(|| whole_mebibytes(memory.size.0.saturating_sub(modules)));
        memory.size.0 = own + modules;
    }
    if let Some(most) = &mut domain.max_memory {
        most.size.0 = whole_mebibytes(most.size.0);
    }
}

/// KiB that memory modules are multiples of.
const MODULE_UNIT: u64 = 2048;

fn whole_mebibytes(kib: u64) -> u64 {
    kib.checked_next_multiple_of(1024).unwrap_or(kib)
}

/// What an interface is to who only wants to see the command line: a card of some model, at the end of some tap. What
/// is at the other end would have to be made first.
pub(crate) fn disconnect(interface: &mut Interface) {
    let kept = std::mem::take(interface);
    *interface = Interface {
        type_: InterfaceType::Ethernet,
        mac: kept.mac,
        model: kept.model,
        script: kept.script,
        ..Interface::default()
    };
}

/// Sockets of channels that have no place of their own get one.
fn place_channels(domain: &mut Domain, dirs: &Dirs) {
    let dir = dirs.domain_channels(domain.id.unwrap_or(-1), &domain.name);
    for channel in &mut domain.devices.channels {
        let source = channel.chardev.source.first();
        if channel.chardev.type_ != CharType::Unix || source.is_some_and(|source| source.path.is_some()) {
            continue;
        }
        let name = channel.target.as_ref().and_then(|target| target.name.clone());
        let name = name.unwrap_or_else(|| port_name(channel.info.address.as_ref()));
        let mut source = source.cloned().unwrap_or_default();
        source.mode = Some(CharMode::Bind);
        source.path = Some(dir.join(name).display().to_string());
        channel.chardev.source = vec![source];
    }
}

/// What a socket is called whose port has no name.
fn port_name(address: Option<&Address>) -> String {
    let (controller, bus, port) = match address {
        Some(Address::VirtioSerial(at)) => (at.controller, at.bus, at.port),
        _ => (0, 0, 0),
    };
    format!("vioser-{controller:02}-{bus:02}-{port:02}.sock")
}

/// The directory of such sockets, if there are any.
pub(crate) fn own_channel_dir(domain: &Domain, dirs: &Dirs) -> Option<PathBuf> {
    let dir = dirs.domain_channels(domain.id.unwrap_or(-1), &domain.name);
    let sources = domain.devices.channels.iter().flat_map(|channel| &channel.chardev.source);
    let mut paths = sources.filter_map(|source| source.path.as_deref());
    paths.any(|path| Path::new(path).starts_with(&dir)).then_some(dir)
}

/// The sockets that were made for a guest to listen on.
pub(crate) fn listening(devices: &Devices) -> impl Iterator<Item = &Path> {
    let serials = devices.serials.iter().map(|serial| &serial.chardev);
    let channels = devices.channels.iter().map(|channel| &channel.chardev);
    let consoles = devices.consoles.iter().filter(|console| console.is_virtio());
    let all = serials.chain(channels).chain(consoles.map(|console| &console.chardev));
    let sources = all.filter(|chardev| chardev.type_ == CharType::Unix).flat_map(|chardev| &chardev.source);
    sources
        .filter(|source| !matches!(source.mode, Some(CharMode::Connect | CharMode::Client)))
        .filter_map(|source| Some(Path::new(source.path.as_ref()?)))
}

/// Says whether somebody in the guest has a channel open.
pub(crate) fn set_channel_state(domain: &mut Domain, alias: &str, open: bool) {
    let is = |channel: &&mut Channel| channel.info.alias.as_ref().is_some_and(|known| known.name == alias);
    if let Some(channel) = domain.devices.channels.iter_mut().find(is)
        && channel.is_virtio()
        && let Some(target) = &mut channel.target
    {
        target.state = Some(if open { "connected" } else { "disconnected" }.to_owned());
    }
}

/// Images are numbered from the last disk; the highest number is returned. A drive without a medium has one too.
pub(crate) fn number_sources(domain: &mut Domain) -> u32 {
    // Cards in a board's slots have no block nodes.
    let has_nodes =
        |disk: &&mut Disk| disk.target.as_ref().is_none_or(|target| target.bus != Some(DiskBus::Sd));
    let disks = domain.devices.disks.iter_mut().rev().filter(has_nodes);
    disks.fold(0, |last, disk| number_chain(disk, last + 1))
}

/// Numbers a disk's images, its own first, then the filters on top; the last number is returned.
pub(crate) fn number_chain(disk: &mut Disk, first: u32) -> u32 {
    if let Some(source) = &mut disk.source {
        source.index = Some(first);
    }
    let mut last = first;
    let mut below = disk.backing_store.as_deref_mut();
    while let Some(store) = below {
        if store.source.is_some() {
            last += 1;
            store.index = Some(last);
        }
        below = store.backing_store.as_deref_mut();
    }
    let filters = disk.throttlefilters.as_ref().map_or(0, |filters| filters.throttlefilter.len());
    last.saturating_add(u32::try_from(filters).unwrap_or_default())
}

/// The image of a disk that does not say what is behind it is shown as the last of its chain.
pub(crate) fn end_chain(disk: &mut Disk) {
    if disk.source.is_some() {
        disk.backing_store.get_or_insert_default();
    }
}

/// Every device gets libvirt's name for it; names of the user's stay.
pub(crate) fn name_devices(domain: &mut Domain) {
    let q35 = is_q35(domain);
    let indexes =
        domain.devices.controllers.iter().filter_map(|controller| u32::try_from(controller.index?).ok());
    let one_number: Vec<_> = indexes.filter(|index| has_one_number(domain, *index)).collect();
    let devices = &mut domain.devices;
    for disk in &mut devices.disks {
        let bus = disk.target.as_ref().and_then(|target| target.bus).unwrap_or(DiskBus::Ide);
        let letter = disk.target.as_ref().and_then(|target| target.dev.as_deref()).map_or(0, disk_number);
        let name = match (&disk.info.address, bus) {
            (Some(Address::Drive(at)), DiskBus::Scsi) if !one_number.contains(&at.controller) => {
                format!("scsi{}-{}-{}-{}", at.controller, at.bus, at.target, at.unit)
            }
            (Some(Address::Drive(at)), _) => {
                format!("{}{}-{}-{}", bus.as_str(), at.controller, at.bus, at.unit)
            }
            _ => format!("{}-disk{letter}", bus.as_str()),
        };
        set(&mut disk.info, name);
    }
    for controller in &mut devices.controllers {
        let index = controller.index.unwrap_or_default();
        let name = match controller.type_ {
            ControllerType::Pci if index == 0 && q35 => "pcie.0".to_owned(),
            ControllerType::Pci => format!("pci.{index}"),
            ControllerType::Usb if index == 0 => "usb".to_owned(),
            ControllerType::Ide if index == 0 => "ide".to_owned(),
            ControllerType::Sata if index == 0 && q35 => "ide".to_owned(),
            other => format!("{}{index}", other.as_str()),
        };
        set(&mut controller.info, name);
    }
    macro_rules! number {
        ($($list:ident $word:literal;)*) => {
            $(for (index, device) in devices.$list.iter_mut().enumerate() {
                set(&mut device.info, format!(concat!($word, "{}"), index));
            })*
        };
    }
    number! {
        interfaces "net";
        serials "serial";
        channels "channel";
        consoles "console";
        inputs "input";
        parallels "parallel";
        sounds "sound";
        videos "video";
        watchdogs "watchdog";
        rngs "rng";
        hubs "hub";
        filesystems "fs";
        smartcards "smartcard";
        tpms "tpm";
        hostdevs "hostdev";
        redirdevs "redir";
        shmems "shmem";
        cryptos "crypto";
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for module in &mut devices.memories {
        let word = match module.model {
            MemoryModel::Dimm => "dimm",
            MemoryModel::Nvdimm => "nvdimm",
            MemoryModel::VirtioPmem => "virtiopmem",
            MemoryModel::VirtioMem => "virtiomem",
            MemoryModel::SgxEpc => "epc",
        };
        let count = counts.entry(word).or_default();
        // Modules in slots are named after these.
        let name = match &module.info.address {
            Some(Address::Dimm(at)) => format!("{word}{}", at.slot),
            _ => format!("{word}{count}"),
        };
        *count += 1;
        set(&mut module.info, name);
    }
    // The first console is the first serial port, seen from elsewhere.
    if let (Some(console), Some(serial)) = (devices.consoles.first_mut(), devices.serials.first())
        && !console.is_virtio()
    {
        console.info.alias.clone_from(&serial.info.alias);
    }
    let single = [
        (devices.vsock.as_mut().map(|vsock| &mut vsock.info), "vsock0"),
        (devices.iommu.as_mut().map(|iommu| &mut iommu.info), "iommu0"),
        (devices.pstore.as_mut().map(|pstore| &mut pstore.info), "pstore0"),
    ];
    for (info, name) in single {
        if let Some(info) = info {
            set(info, name.to_owned());
        }
    }
    if let Some(balloon) = &mut devices.memballoon
        && balloon.model != MemballoonModel::None
    {
        set(&mut balloon.info, "balloon0".to_owned());
    }
}

fn set(info: &mut DeviceInfo, name: String) {
    if info.alias.as_ref().is_none_or(|alias| !alias.name.starts_with("ua-")) {
        info.alias = Some(Alias { name });
    }
}

/// `vda` is 0, `vdb` 1, `vdaa` 26.
fn disk_number(dev: &str) -> usize {
    let letters = dev.get(2..).unwrap_or_default().bytes().take_while(u8::is_ascii_lowercase);
    letters.fold(0, |number, letter| number * 26 + usize::from(letter - b'a') + 1).saturating_sub(1)
}

/// The terminals that QEMU made for character devices become known.
pub(crate) fn fill_in_terminals(domain: &mut Domain, chardevs: &[ChardevInfo]) {
    let terminal = |alias: &Option<Alias>| {
        let label = format!("char{}", alias.as_ref()?.name);
        let found = chardevs.iter().find(|chardev| chardev.label == label)?;
        found.filename.strip_prefix("pty:").map(str::to_owned)
    };
    let fill = |chardev: &mut Chardev, alias: &Option<Alias>| {
        if chardev.type_ == CharType::Pty
            && let Some(path) = terminal(alias)
        {
            let mut source = chardev.source.first().cloned().unwrap_or_default();
            source.path = Some(path);
            chardev.source = vec![source];
        }
    };
    for serial in &mut domain.devices.serials {
        fill(&mut serial.chardev, &serial.info.alias);
    }
    for channel in &mut domain.devices.channels {
        fill(&mut channel.chardev, &channel.info.alias);
    }
    for console in &mut domain.devices.consoles {
        fill(&mut console.chardev, &console.info.alias);
        if console.chardev.type_ == CharType::Pty && !console.is_virtio() {
            console.chardev.tty = console.chardev.source.first().and_then(|source| source.path.clone());
        }
    }
}

/// Which ports somebody in the guest has open becomes known.
pub(crate) fn fill_in_ports(domain: &mut Domain, chardevs: &[ChardevInfo]) {
    for chardev in chardevs {
        if let Some(alias) = chardev.label.strip_prefix("char") {
            set_channel_state(domain, alias, chardev.frontend_open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_whole_mebibytes() {
        for (asked, given) in [(219_100, 219_136), (65_536, 65_536), (u64::MAX, u64::MAX)] {
            assert_eq!(whole_mebibytes(asked), given);
        }
    }

    #[test]
    fn disks_count_by_letters() {
        for (dev, number) in [("vda", 0), ("sdb", 1), ("vdz", 25), ("vdaa", 26), ("sdab", 27), ("x", 0)] {
            assert_eq!(disk_number(dev), number, "{dev}");
        }
    }
}
