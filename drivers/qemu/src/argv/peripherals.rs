//! Small devices: what watches, fills, feeds or encrypts for the guest.

use virtwire_conf::domain::chardev::{Chardev, Rng, RngBackend, RngModel};
use virtwire_conf::domain::device::Address;
use virtwire_conf::domain::disk::VirtioModel;
use virtwire_conf::domain::misc::{
    Crypto, IommuDriver, IommuModel, MemballoonModel, PanicModel, Shmem, Vsock, Watchdog, WatchdogModel,
};
use virtwire_conf::{Domain, OnOff};
use virtwire_protocol::VirtError;

use super::chardev::{Backend, HostEnd};
use super::{Context, Json, alias};
use crate::command::CommandLine;
use crate::error::QEMU;

/// What the watchdogs do; a Q35 has one of its own.
pub(super) fn watchdogs(line: &mut CommandLine, domain: &Domain) {
    let watchdogs = &domain.devices.watchdogs;
    for watchdog in watchdogs {
        match watchdog.model {
            WatchdogModel::Itco => line.option("-global", "ICH9-LPC.noreboot=off"),
            _ => self::watchdog(line, domain, watchdog),
        }
    }
    if let Some(last) = watchdogs.last() {
        line.option("-watchdog-action", action(last));
    }
}

/// What QEMU does when a watchdog runs out. It only stops the guest where the daemon is to make a dump.
pub(crate) fn action(watchdog: &Watchdog) -> &str {
    match watchdog.action.as_str() {
        "dump" => "pause",
        action => action,
    }
}

pub(super) fn watchdog(line: &mut CommandLine, domain: &Domain, watchdog: &Watchdog) {
    let device = Json::new(watchdog.model.as_str()).with("id", alias(&watchdog.info));
    device.at(domain, &watchdog.info).add(line);
}

pub(super) fn balloon(line: &mut CommandLine, domain: &Domain) {
    let Some(balloon) = &domain.devices.memballoon else { return };
    let model = match balloon.model {
        MemballoonModel::None | MemballoonModel::Xen => return,
        MemballoonModel::Virtio => VirtioModel::Virtio,
        MemballoonModel::VirtioTransitional => VirtioModel::VirtioTransitional,
        MemballoonModel::VirtioNonTransitional => VirtioModel::VirtioNonTransitional,
    };
    let options = balloon.driver.as_ref().map(|driver| &driver.virtio);
    Json::virtio("virtio-balloon", balloon.info.address.as_ref(), Some(model), options)
        .with("id", alias(&balloon.info))
        .switch("deflate-on-oom", balloon.autodeflate)
        .switch("free-page-reporting", balloon.free_page_reporting)
        .at(domain, &balloon.info)
        .add(line);
}

pub(super) fn rng(
    line: &mut CommandLine,
    domain: &Domain,
    rng: &Rng,
    context: &Context<'_>,
) -> Result<(), VirtError> {
    let name = alias(&rng.info);
    source(line, rng, context)?.add(line);
    let options = rng.driver.as_ref().map(|driver| &driver.virtio);
    let rate = rng.rate.as_ref();
    Json::virtio("virtio-rng", rng.info.address.as_ref(), Some(rng.model), options)
        .with("rng", format!("obj{name}"))
        .with("id", name)
        .with_if("max-bytes", rate.map(|rate| rate.bytes))
        .with_if("period", rate.map(|rate| rate.period.unwrap_or(DEFAULT_PERIOD)))
        .at(domain, &rng.info)
        .add(line);
    Ok(())
}

/// Milliseconds that a rate is per, if nothing is said.
const DEFAULT_PERIOD: u32 = 1000;

/// Where randomness comes from.
fn source(line: &mut CommandLine, rng: &Rng, context: &Context<'_>) -> Result<Json, VirtError> {
    let name = alias(&rng.info);
    let id = format!("obj{name}");
    let backend = rng.backend.as_ref();
    Ok(match backend.map_or(RngModel::Random, |backend| backend.model) {
        RngModel::Random => {
            let path = backend.and_then(|backend| backend.path.as_deref()).unwrap_or("/dev/urandom");
            Json::object("rng-random", id).with("filename", path)
        }
        RngModel::Builtin => Json::object("rng-builtin", id),
        RngModel::Egd => {
            HostEnd::from(&daemon(backend)).add(line, name, context.chardevs())?;
            Json::object("rng-egd", id).with("chardev", format!("char{name}"))
        }
    })
}

/// The line to an entropy daemon.
fn daemon(backend: Option<&RngBackend>) -> Chardev {
    let Some(backend) = backend else { return Chardev::default() };
    Chardev {
        type_: backend.type_.unwrap_or_default(),
        source: backend.source.clone(),
        protocol: backend.protocol.clone(),
        ..Chardev::default()
    }
}

/// How the guest tells of a panic. Hyper-V's way is part of the processor, that of s390 and POWER of the machine.
pub(super) fn panics(line: &mut CommandLine, domain: &Domain) {
    for panic in &domain.devices.panics {
        match panic.model {
            Some(PanicModel::Isa) | None => {
                let port = match &panic.info.address {
                    Some(Address::Isa(at)) => at.iobase.map(|base| base.0),
                    _ => None,
                };
                Json::new("pvpanic").with_if("ioport", port).add(line);
            }
            Some(PanicModel::Pvpanic) => Json::new("pvpanic-pci").at(domain, &panic.info).add(line),
            Some(PanicModel::Hyperv | PanicModel::S390 | PanicModel::Pseries) => {}
        }
    }
}

/// Memory that guests share, by a file or a server.
pub(super) fn shared_memory(line: &mut CommandLine, domain: &Domain, shmem: &Shmem) {
    let name = alias(&shmem.info);
    if shmem.model.as_ref().is_some_and(|model| model.type_ == "ivshmem-doorbell") {
        let path = shmem.server.as_ref().and_then(|server| server.path.clone());
        let named = shmem.name.as_deref().unwrap_or_default();
        let path = path.unwrap_or_else(|| format!("/var/lib/libvirt/shmem-{named}-sock"));
        doorbell(shmem).at(domain, &shmem.info).add(line);
        Backend::new("socket").with("path", path).add(line, &format!("char{name}"));
        return;
    }
    let path = format!("/dev/shm/{}", shmem.name.as_deref().unwrap_or_default());
    let bytes = shmem.size.map_or(DEFAULT_SHMEM, |size| size.0) << 20;
    let memory = format!("shmmem-{name}");
    Json::object("memory-backend-file", memory.as_str())
        .with("mem-path", path)
        .with("size", bytes)
        .with("share", true)
        .add(line);
    let master = shmem.role.as_deref().map(|role| if role == "master" { "on" } else { "off" });
    Json::new("ivshmem-plain")
        .with("id", name)
        .with("memdev", memory)
        .with_if("master", master)
        .at(domain, &shmem.info)
        .add(line);
}

/// MiB of shared memory, if nothing is said.
const DEFAULT_SHMEM: u64 = 4;

fn doorbell(shmem: &Shmem) -> Json {
    let name = alias(&shmem.info);
    let msi = shmem.msi.as_ref();
    Json::new("ivshmem-doorbell")
        .with("id", name)
        .with("chardev", format!("char{name}"))
        .with_some("vectors", msi.and_then(|msi| msi.vectors))
        .switch("ioeventfd", msi.and_then(|msi| msi.ioeventfd))
}

pub(super) fn crypto(line: &mut CommandLine, domain: &Domain, crypto: &Crypto) {
    let name = alias(&crypto.info);
    let (id, backend) = (format!("obj{name}"), crypto.backend.as_ref());
    let model = backend.map_or("builtin", |backend| backend.model.as_str());
    Json::object(&format!("cryptodev-backend-{model}"), id.as_str())
        .with_some("queues", backend.and_then(|backend| backend.queues))
        .add(line);
    let options = crypto.driver.as_ref().map(|driver| &driver.virtio);
    Json::virtio("virtio-crypto", crypto.info.address.as_ref(), None, options)
        .with("cryptodev", id)
        .with("id", name)
        .at(domain, &crypto.info)
        .add(line);
}

/// The kernel's side of the socket between host and guest.
const VHOST_VSOCK: &str = "/dev/vhost-vsock";

/// The socket between host and guest. The number of its file tells a guest that is only shown that there is none.
///
/// # Errors
/// The kernel has no such socket.
pub(super) fn vsock(line: &mut CommandLine, domain: &Domain, vsock: &Vsock) -> Result<(), VirtError> {
    let opened = line.device(VHOST_VSOCK);
    let opened = opened.map_err(|_| QEMU.config_unsupported("unable to open vhost-vsock device"))?;
    let options = vsock.driver.as_ref().map(|driver| &driver.virtio);
    let cid = vsock.cid.as_ref().and_then(|cid| cid.address).unwrap_or_default();
    Json::virtio("vhost-vsock", vsock.info.address.as_ref(), vsock.model, options)
        .with("id", alias(&vsock.info))
        .with("guest-cid", cid)
        .with("vhostfd", opened.as_deref().unwrap_or("-1"))
        .at(domain, &vsock.info)
        .add(line);
    Ok(())
}

/// The IOMMU: other devices go through it, so it comes before all of them.
pub(super) fn iommu(line: &mut CommandLine, domain: &Domain) {
    let Some(iommu) = &domain.devices.iommu else { return };
    let id = alias(&iommu.info);
    let driver = iommu.driver.as_ref();
    match iommu.model {
        IommuModel::Intel => {
            let said = |value: fn(&IommuDriver) -> Option<OnOff>| driver.and_then(value);
            Json::new("intel-iommu")
                .with("id", id)
                .with_if("intremap", said(|driver| driver.intremap).map(OnOff::as_str))
                .switch("caching-mode", said(|driver| driver.caching_mode))
                .with_if("eim", said(|driver| driver.eim).map(OnOff::as_str))
                .switch("device-iotlb", said(|driver| driver.iotlb))
                .with_some("aw-bits", driver.and_then(|driver| driver.aw_bits))
                .switch("dma-translation", said(|driver| driver.dma_translation))
                .add(line);
        }
        IommuModel::Virtio => Json::new("virtio-iommu").with("id", id).at(domain, &iommu.info).add(line),
        // It is a property of the machine.
        IommuModel::Smmuv3 => {}
    }
}

/// Where the guest keeps its last words.
pub(super) fn pstore(line: &mut CommandLine, domain: &Domain) {
    let Some(pstore) = &domain.devices.pstore else { return };
    let name = alias(&pstore.info);
    let memory = format!("mem{name}");
    Json::object("memory-backend-file", memory.as_str())
        .with_if("mem-path", pstore.path.clone())
        .with("size", pstore.size.map_or(0, |size| size.0) * 1024)
        .with("share", true)
        .add(line);
    let device = Json::new("acpi-erst").with("id", name).with("memdev", memory);
    device.at(domain, &pstore.info).add(line);
}
