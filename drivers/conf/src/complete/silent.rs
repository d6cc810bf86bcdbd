//! What says as much as nothing: zeros, empty elements, and options of what is not there.

use crate::domain::Domain;
use crate::domain::disk::{Disk, DiskSource, FilesystemDriverType, StorageType};
use crate::domain::display::GraphicsType;
use crate::domain::features::{Features, Hyperv, HypervMode};
use crate::domain::net::{Interface, InterfaceType};
use crate::domain::os::PERF_EVENTS;
use crate::domain::tune::{CacheShare, NumaMemory, Placement, Scheduler};
use crate::table::Cpuset;
use crate::{OnOff, YesNo};

/// Drops all that.
pub(super) fn forget(domain: &mut Domain) {
    devices(domain);
    tuning(domain);
    domain.iothreads.take_if(|count| *count == 0);
    if let Some(resource) = &mut domain.resource {
        resource.fibrechannel.take_if(|channel| channel.appid.as_deref().is_none_or(str::is_empty));
    }
    domain.max_memory.iter_mut().for_each(|memory| zero(&mut memory.slots));
    domain.features.iter_mut().for_each(features);
    // What a container begins with is no matter of a machine's.
    if domain.os.type_.as_ref().is_some_and(|kind| kind.name == "hvm") {
        let os = &mut domain.os;
        (os.init, os.initdir, os.inituser, os.initgroup) = (None, None, None, None);
        os.initarg.clear();
        os.initenv.clear();
    }
    let menu = domain.os.bootmenu.as_mut();
    menu.filter(|menu| menu.enable != Some(YesNo::Yes)).into_iter().for_each(|menu| menu.timeout = None);
    domain.clock.iter_mut().flat_map(|clock| &mut clock.timer).for_each(|timer| zero(&mut timer.frequency));
    if let Some(map) = &mut domain.idmap {
        map.uid.sort_by_key(|range| range.start);
        map.gid.sort_by_key(|range| range.start);
    }
    if let Some(perf) = &mut domain.perf {
        perf.event.sort_by_key(|event| PERF_EVENTS.iter().position(|name| *name == event.name));
    }
    domain.keywrap.iter_mut().for_each(|keys| keys.cipher.sort_by(|a, b| a.name.cmp(&b.name)));
    for entry in domain.sysinfo.iter_mut().flat_map(|info| &mut info.entry) {
        entry.value.take_if(|_| entry.file.is_some());
    }
}

fn zero<N: Default + PartialEq>(number: &mut Option<N>) {
    number.take_if(|number| *number == N::default());
}

fn devices(domain: &mut Domain) {
    let devices = &mut domain.devices;
    devices.disks.iter_mut().for_each(disk);
    devices.interfaces.iter_mut().for_each(interface);
    for info in devices.infos_mut() {
        let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        info.alias.take_if(|alias| !plain(&alias.name));
    }
    let virtiofs = Some(FilesystemDriverType::Virtiofs);
    for shared in &mut devices.filesystems {
        if shared.driver.as_ref().and_then(|driver| driver.type_) != virtiofs {
            shared.binary = None;
            shared.idmap = None;
        }
    }
    for screen in devices.graphics.iter_mut().filter(|screen| screen.type_ == GraphicsType::EglHeadless) {
        screen.gl.iter_mut().for_each(|gl| gl.enable = None);
    }
    for rng in &mut devices.rngs {
        rng.rate.take_if(|rate| rate.bytes == 0);
        rng.rate.iter_mut().for_each(|rate| zero(&mut rate.period));
    }
    devices.shmems.iter_mut().filter_map(|shmem| shmem.msi.as_mut()).for_each(|msi| zero(&mut msi.vectors));
    devices.iommu.iter_mut().filter_map(|iommu| iommu.driver.as_mut()).for_each(|it| zero(&mut it.aw_bits));
    devices.cryptos.iter_mut().filter_map(|it| it.backend.as_mut()).for_each(|it| zero(&mut it.queues));
    for target in devices.serials.iter_mut().filter_map(|serial| serial.target.as_mut()) {
        target.port.take_if(|port| *port < 0);
    }
}

fn disk(disk: &mut Disk) {
    if let Some(driver) = &mut disk.driver {
        zero(&mut driver.queues);
        zero(&mut driver.queue_size);
        driver.iothreads.take_if(|threads| threads.iothread.is_empty());
        driver.metadata_cache.take_if(|cache| cache.max_size.as_ref().is_none_or(|size| size.0 == 0));
    }
    for size in disk.blockio.iter_mut() {
        zero(&mut size.logical_block_size);
        zero(&mut size.physical_block_size);
        zero(&mut size.discard_granularity);
    }
    // Disks have no ROM.
    disk.info.rom = None;
    let kind = disk.type_;
    disk.source.iter_mut().for_each(|it| source(kind, it));
}

fn source(kind: StorageType, source: &mut DiskSource) {
    if let Some(slices) = &mut source.slices {
        slices.slice.retain(|slice| slice.type_.as_deref() == Some("storage"));
        slices.slice.truncate(1);
    }
    source.slices.take_if(|slices| slices.slice.is_empty());
    if kind != StorageType::Network || !source.speaks_http() {
        source.readahead = None;
        source.timeout = None;
        source.cookies = None;
        source.ssl = None;
    }
    source.readahead.iter_mut().for_each(|ahead| zero(&mut ahead.size));
    source.timeout.iter_mut().for_each(|timeout| zero(&mut timeout.seconds));
    source
        .seclabel
        .retain(|label| label.label.is_some() || label.relabel.is_some() || label.labelskip.is_some());
    if kind == StorageType::Nvme {
        source.managed.get_or_insert(YesNo::Yes);
    }
}

fn interface(interface: &mut Interface) {
    if interface.type_ != InterfaceType::Hostdev {
        interface.managed = None;
    }
    for rate in
        interface.bandwidth.iter_mut().flat_map(|width| [&mut width.inbound, &mut width.outbound]).flatten()
    {
        for part in [&mut rate.average, &mut rate.peak, &mut rate.floor, &mut rate.burst] {
            zero(part);
        }
    }
    interface.bandwidth.take_if(|width| {
        let nothing = |rate: &Option<crate::domain::net::Rate>| {
            rate.as_ref().is_none_or(|rate| *rate == crate::domain::net::Rate::default())
        };
        width.class_id.is_none() && nothing(&width.inbound) && nothing(&width.outbound)
    });
    // Names that a daemon gave to what it made for one run.
    let given = |name: &str| ["vnet", "macvtap", "macvlan"].iter().any(|prefix| name.starts_with(prefix));
    for target in interface.target.iter_mut().filter(|target| target.managed != Some(YesNo::No)) {
        target.dev.take_if(|dev| given(dev));
    }
    let again = interface.source.as_mut().and_then(|source| source.reconnect.as_mut());
    for again in again.into_iter().filter(|again| again.enabled != Some(YesNo::Yes)) {
        again.timeout = None;
    }
}

/// A size is shown in the largest unit that divides it.
fn rounded(share: &mut CacheShare) {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = crate::table::unit(share.unit.as_deref(), 1024).unwrap_or(1024);
    let (mut size, mut power) = (share.size.saturating_mul(unit), 0);
    while size != 0 && size.is_multiple_of(1024) {
        (size, power) = (size / 1024, power + 1);
    }
    (share.size, share.unit) = (size, UNITS.get(power).map(|unit| (*unit).to_owned()));
}

/// KiB of memory that are no limit.
const UNLIMITED: u64 = i64::MAX.cast_unsigned() >> 10;

fn tuning(domain: &mut Domain) {
    let vcpus = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    if let Some(tune) = &mut domain.cputune {
        tune.vcpupin.retain(|pin| pin.vcpu < vcpus);
        tune.vcpupin.sort_by_key(|pin| pin.vcpu);
        let real = |scheduler| matches!(scheduler, Scheduler::Fifo | Scheduler::Rr);
        tune.vcpusched.iter_mut().for_each(|it| _ = it.priority.take_if(|_| !real(it.scheduler)));
        tune.iothreadsched.iter_mut().for_each(|it| _ = it.priority.take_if(|_| !real(it.scheduler)));
        tune.emulatorsched.iter_mut().for_each(|it| _ = it.priority.take_if(|_| !real(it.scheduler)));
        tune.cachetune.iter_mut().flat_map(|it| &mut it.vcpus).for_each(|set| set.truncate(vcpus));
        tune.memorytune.iter_mut().flat_map(|it| &mut it.vcpus).for_each(|set| set.truncate(vcpus));
        let some = |set: &Option<Cpuset>| set.as_ref().is_some_and(|set| !set.0.is_empty());
        tune.cachetune.retain(|it| some(&it.vcpus) && !(it.cache.is_empty() && it.monitor.is_empty()));
        tune.memorytune.retain(|it| some(&it.vcpus) && !(it.node.is_empty() && it.monitor.is_empty()));
        tune.cachetune.iter_mut().flat_map(|it| &mut it.cache).for_each(rounded);
    }
    if let Some(tune) = &mut domain.memtune {
        let sizes =
            [&mut tune.hard_limit, &mut tune.soft_limit, &mut tune.min_guarantee, &mut tune.swap_hard_limit];
        sizes.into_iter().for_each(|size| _ = size.take_if(|size| size.0 >= UNLIMITED));
    }
    if let Some(tune) = &mut domain.blkiotune {
        zero(&mut tune.weight);
        for device in &mut tune.device {
            zero(&mut device.weight);
            zero(&mut device.read_iops_sec);
            zero(&mut device.write_iops_sec);
            zero(&mut device.read_bytes_sec);
            zero(&mut device.write_bytes_sec);
        }
        tune.device.retain(|device| {
            *device != crate::domain::tune::BlkioDevice { path: device.path.clone(), ..Default::default() }
                || device.path.is_empty()
        });
    }
    if let Some(tune) = &mut domain.numatune {
        tune.memory.take_if(|memory| *memory == NumaMemory::default());
    }
    if let Some(memory) = domain.numatune.as_mut().and_then(|tune| tune.memory.as_mut()) {
        memory.mode.get_or_insert_default();
        memory.nodeset.take_if(|_| memory.placement == Some(Placement::Auto));
        memory.placement.take_if(|placement| *placement == Placement::Static && memory.nodeset.is_some());
    }
    let allocation = domain.memory_backing.as_mut().and_then(|backing| backing.allocation.as_mut());
    allocation.into_iter().for_each(|allocation| zero(&mut allocation.threads));
}

fn features(features: &mut Features) {
    if let Some(spinlocks) = features.hyperv.as_mut().and_then(|hyperv| hyperv.spinlocks.as_mut()) {
        spinlocks.retries.take_if(|_| spinlocks.state == OnOff::Off);
    }
    if let Some(hyperv) = features.hyperv.as_mut().filter(|it| it.mode == Some(HypervMode::Passthrough)) {
        *hyperv = Hyperv { mode: hyperv.mode, ..Hyperv::default() };
    }
    if let Some(vendor) = features.hyperv.as_mut().and_then(|hyperv| hyperv.vendor_id.as_mut()) {
        vendor.value.take_if(|_| vendor.state == OnOff::Off);
    }
    if let Some(ring) = features.kvm.as_mut().and_then(|kvm| kvm.dirty_ring.as_mut()) {
        ring.size.take_if(|_| ring.state == OnOff::Off);
    }
    if let Some(passthrough) = features.xen.as_mut().and_then(|xen| xen.passthrough.as_mut()) {
        passthrough.mode.take_if(|_| passthrough.state == OnOff::Off);
    }
    if let Some(smm) = &mut features.smm {
        smm.tseg.take_if(|_| smm.state == Some(OnOff::Off));
    }
    if let Some(teardown) = &mut features.async_teardown {
        teardown.enabled.get_or_insert(YesNo::Yes);
    }
}
