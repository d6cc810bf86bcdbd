//! What all drivers have in common.

use uuid::Uuid;
use virtwire_protocol::{ErrorDomain, VirtError};

use super::{check, devices, drives, others, resources, rules, silent, vcpus};
use crate::domain::features::{CpuFallback, CpuMatch, CpuMode, HypervMode};
use crate::domain::os::{BootDevice, Clock, Loader, LoaderType, OsBoot};
use crate::domain::tune::Vcpu;
use crate::domain::{Domain, GuestMemory, LifecycleAction};
use crate::table::KiB;
use crate::xml::namespace_of;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// What comes before the driver's own part: identity, resources, boot.
pub(super) fn begin(domain: &mut Domain, host_arch: &str, nodes_first: bool) -> Result<(), VirtError> {
    rules::read(domain)?;
    identity(domain)?;
    silent::forget(domain);
    processors(domain)?;
    boot(domain, host_arch);
    memory(domain, nodes_first);
    pages(domain);
    resources::complete(domain);
    actions(domain, nodes_first);
    drives::sort(domain);
    devices::begin(domain)?;
    drives::controllers_of_hostdevs(domain);
    Ok(())
}

/// What comes after the driver's own part.
pub(super) fn finish(domain: &mut Domain) -> Result<(), VirtError> {
    devices::finish(domain)
}

/// Disk addresses and the controllers they need.
pub(super) fn place(domain: &mut Domain) -> Result<(), VirtError> {
    devices::check_consoles(domain)?;
    drives::assign(domain)?;
    drives::controllers(domain);
    check::late(domain)
}

fn identity(domain: &mut Domain) -> Result<(), VirtError> {
    domain.uuid.get_or_insert_with(Uuid::new_v4);
    let said = [
        domain.qemu_commandline.as_ref().is_some_and(|it| !it.arg.is_empty() || !it.env.is_empty()),
        domain.qemu_capabilities.as_ref().is_some_and(|it| !it.add.is_empty() || !it.del.is_empty()),
        domain.qemu_override.as_ref().is_some_and(|it| !it.device.is_empty()),
        domain.qemu_deprecation.as_ref().is_some_and(|it| it.behavior.is_some()),
    ];
    let qemu = said.contains(&true);
    domain.xmlns_qemu = namespace_of("qemu").filter(|_| qemu);
    domain.id = None;
    Ok(())
}

fn processors(domain: &mut Domain) -> Result<(), VirtError> {
    let vcpu = domain.vcpu.get_or_insert_with(|| Vcpu { count: 1, ..Vcpu::default() });
    if vcpu.current == Some(vcpu.count) && domain.vcpus.is_none() {
        vcpu.current = None;
    }
    vcpus::complete(domain);
    if let Some(cpu) = &mut domain.cpu {
        if let Some(topology) = &mut cpu.topology {
            topology.dies.get_or_insert_default();
            topology.clusters.get_or_insert_default();
        }
        if !matches!(cpu.mode, None | Some(CpuMode::Custom)) {
            cpu.match_ = None;
            let host = cpu.mode == Some(CpuMode::HostModel);
            cpu.model.take_if(|model| !host || model.name.is_none() && model.vendor_id.is_none());
        }
        if let Some(model) = cpu.model.as_mut().filter(|m| m.name.is_some()) {
            model.fallback.get_or_insert(CpuFallback::Allow);
            if cpu.mode == Some(CpuMode::Custom) || cpu.mode.is_none() {
                cpu.mode = Some(CpuMode::Custom);
                cpu.match_.get_or_insert(CpuMatch::Exact);
            }
        }
        if let Some(numa) = &mut cpu.numa {
            for (n, cell) in (0..).zip(&mut numa.cell) {
                cell.id.get_or_insert(n);
                let unit = crate::table::unit(cell.unit.as_deref(), 1024)?;
                cell.memory = cell.memory.saturating_mul(unit).div_ceil(1024);
                cell.unit = Some("KiB".to_owned());
            }
            numa.cell.sort_by_key(|cell| cell.id);
        }
    }
    Ok(())
}

/// Memory of the guest as a whole, or of all its nodes: where both are said, `nodes_first` decides.
fn memory(domain: &mut Domain, nodes_first: bool) {
    let cells = domain.cpu.iter().filter_map(|c| c.numa.as_ref()).flat_map(|n| &n.cell);
    let numa: u64 = cells.map(|cell| cell.memory).fold(0, u64::saturating_add);
    let modules = domain.devices.memories.iter().filter_map(|m| m.target.as_ref()?.size);
    let modules = modules.map(|size| size.0).fold(0, u64::saturating_add);
    let written = domain.memory.as_ref().map_or(0, GuestMemory::kib);
    let total =
        if numa > 0 && (nodes_first || written == 0) { numa.saturating_add(modules) } else { written };
    domain.memory.get_or_insert_default().size = KiB(total);
    let current = domain.current_memory.filter(|c| c.0 != 0 && c.0 <= total);
    domain.current_memory = Some(current.unwrap_or(KiB(total)));
}

/// Huge pages are counted in KiB.
fn pages(domain: &mut Domain) {
    let backing = domain.memory_backing.as_mut().and_then(|backing| backing.hugepages.as_mut());
    for page in backing.into_iter().flat_map(|hugepages| &mut hugepages.page) {
        (page.size, page.unit) = (page.kib(), Some("KiB".to_owned()));
    }
}

fn boot(domain: &mut Domain, host_arch: &str) {
    let ordered = is_ordered(domain);
    if let Some(kind) = &mut domain.os.type_ {
        kind.arch.get_or_insert_with(|| host_arch.to_owned());
        if kind.name == "hvm" && domain.os.boot.is_empty() && !ordered {
            domain.os.boot.push(OsBoot { dev: BootDevice::Hd });
        }
    }
}

/// Whether devices say in which order they are booted from.
fn is_ordered(domain: &Domain) -> bool {
    let devices = &domain.devices;
    devices.disks.iter().any(|d| d.info.boot.is_some())
        || devices.interfaces.iter().any(|d| d.info.boot.is_some())
        || devices.hostdevs.iter().any(|d| d.info.boot.is_some())
        || devices.redirdevs.iter().any(|d| d.info.boot.is_some())
}

/// What can be said once everything else is filled in: how much memory there is, and from what the guest boots.
pub(super) fn check_whole(domain: &Domain) -> Result<(), VirtError> {
    let total = domain.memory.as_ref().map_or(0, GuestMemory::kib);
    // Where there are nodes, modules come on top of them.
    let nodes = domain.cpu.iter().filter_map(|cpu| cpu.numa.as_ref()).any(|numa| !numa.cell.is_empty());
    let modules = domain.devices.memories.iter().filter(|_| !nodes).filter_map(|m| m.target.as_ref()?.size);
    let modules = modules.map(|size| size.0).fold(0, u64::saturating_add);
    refuse! {
        modules > total => DOMAIN.xml_error("Total size of memory devices exceeds the total memory size");
        total == modules => DOMAIN.xml_error("Memory size must be specified via <memory> or in the <numa> configuration");
        domain.max_memory.as_ref().is_some_and(|max| max.size.0 < total) =>
            DOMAIN.xml_error("maximum memory size must be equal or greater than the actual memory size");
        is_ordered(domain) && !domain.os.boot.is_empty() => DOMAIN.config_unsupported(
            "per-device boot elements cannot be used together with os/boot elements");
    }
    others::check_name(&domain.name, DOMAIN)
}

fn actions(domain: &mut Domain, formats: bool) {
    // Where firmware is chosen, what is chosen says where it is put.
    let chosen = domain.os.firmware.is_some();
    let open = |loader: &&mut Loader| loader.path.is_some() && loader.type_.is_none() && !chosen;
    if let Some(loader) = domain.os.loader.as_mut().filter(open) {
        loader.type_ = Some(LoaderType::Rom);
        if formats {
            loader.format.get_or_insert_default();
        }
    }
    if let Some(hyperv) = domain.features.as_mut().and_then(|f| f.hyperv.as_mut()) {
        hyperv.mode.get_or_insert(HypervMode::Custom);
    }
    if let Some(tseg) = domain.features.as_mut().and_then(|f| f.smm.as_mut()?.tseg.as_mut()) {
        tseg.unit.get_or_insert_with(|| "MiB".to_owned());
    }
    domain.clock.get_or_insert_with(Clock::default);
    domain.on_poweroff.get_or_insert(LifecycleAction::Destroy);
    domain.on_reboot.get_or_insert(LifecycleAction::Restart);
    domain.on_crash.get_or_insert(LifecycleAction::Destroy);
}
