//! What all drivers have in common.

use std::collections::BTreeMap;

use uuid::Uuid;
use virtwire_protocol::{ErrorDomain, VirtError};

use super::{check, devices, drives, others, resources, rules, silent, vcpus};
use crate::domain::features::{CpuFallback, CpuMatch, CpuMode, HypervMode};
use crate::domain::os::{BootDevice, Clock, LoaderType, OsBoot};
use crate::domain::tune::Vcpu;
use crate::domain::{Domain, GuestMemory, LifecycleAction};
use crate::table::{Cpuset, KiB};
use crate::xml::namespace_of;

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

/// What comes before the driver's own part: identity, resources, boot.
pub(super) fn begin(domain: &mut Domain, host_arch: &str, nodes_first: bool) -> Result<(), VirtError> {
    identity(domain)?;
    check_devices_early(domain)?;
    silent::forget(domain);
    processors(domain)?;
    boot(domain, host_arch)?;
    memory(domain, nodes_first)?;
    pages(domain)?;
    resources::complete(domain);
    actions(domain);
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
    drives::assign(domain)?;
    drives::controllers(domain);
    check::late(domain)
}

fn identity(domain: &mut Domain) -> Result<(), VirtError> {
    if domain.name.is_empty() {
        return Err(DOMAIN.no_name(""));
    }
    others::check_name(&domain.name, DOMAIN)?;
    if domain.title.as_deref().is_some_and(|t| t.contains('\n')) {
        return Err(DOMAIN.xml_error("Domain title can't contain newlines"));
    }
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

fn check_devices_early(domain: &mut Domain) -> Result<(), VirtError> {
    check::early(domain)?;
    rules::read(domain)?;
    if domain.os.type_.as_ref().is_none_or(|t| t.name.is_empty()) && domain.bootloader.is_none() {
        return Err(DOMAIN.xml_error("an os <type> must be specified"));
    }
    if domain.os.type_.as_ref().is_some_and(|t| t.name == "exe") && domain.os.init.is_none() {
        return Err(DOMAIN.xml_error("init binary must be specified"));
    }
    Ok(())
}

fn processors(domain: &mut Domain) -> Result<(), VirtError> {
    if domain.vcpu.as_ref().is_some_and(|v| v.count == 0) {
        return Err(DOMAIN.internal_error("CPU IDs in <numa> exceed the <vcpu> count"));
    }
    let vcpu = domain.vcpu.get_or_insert_with(|| Vcpu { count: 1, ..Vcpu::default() });
    if vcpu.current.is_some_and(|current| current > vcpu.count) {
        let text = "maximum vCPU count must not be less than current vCPU count";
        return Err(DOMAIN.config_unsupported(text));
    }
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
            cpu.model.take_if(|model| !host || model.name.is_none());
        }
        if !cpu.feature.is_empty() && cpu.model.is_none() && matches!(cpu.mode, None | Some(CpuMode::Custom))
        {
            return Err(ErrorDomain::CPU.xml_error("Non-empty feature list specified without CPU model"));
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
fn memory(domain: &mut Domain, nodes_first: bool) -> Result<(), VirtError> {
    let cells = domain.cpu.iter().filter_map(|c| c.numa.as_ref()).flat_map(|n| &n.cell);
    let numa: u64 = cells.map(|cell| cell.memory).fold(0, u64::saturating_add);
    let modules = domain.devices.memories.iter().filter_map(|m| m.target.as_ref()?.size);
    let modules = modules.map(|size| size.0).fold(0, u64::saturating_add);
    let written = domain.memory.as_ref().map_or(0, GuestMemory::kib);
    let total =
        if numa > 0 && (nodes_first || written == 0) { numa.saturating_add(modules) } else { written };
    if total == 0 {
        let text = "Memory size must be specified via <memory> or in the <numa> configuration";
        return Err(DOMAIN.xml_error(text));
    }
    domain.memory.get_or_insert_default().size = KiB(total);
    let current = domain.current_memory.filter(|c| c.0 != 0 && c.0 <= total);
    domain.current_memory = Some(current.unwrap_or(KiB(total)));
    if let Some(max) = &domain.max_memory
        && max.size.0 < total
    {
        let text = "maximum memory size must be equal or greater than the actual memory size";
        return Err(DOMAIN.xml_error(text));
    }
    Ok(())
}

/// Huge pages are counted in KiB; each node has pages of one size.
fn pages(domain: &mut Domain) -> Result<(), VirtError> {
    let backing = domain.memory_backing.as_mut().and_then(|backing| backing.hugepages.as_mut());
    let Some(pages) = backing.map(|hugepages| &mut hugepages.page) else { return Ok(()) };
    let (mut whole, mut taken) = (None, BTreeMap::new());
    for page in pages {
        let unit = crate::table::unit(page.unit.as_deref(), 1024)?;
        let size = page.size.saturating_mul(unit).div_ceil(1024);
        (page.size, page.unit) = (size, Some("KiB".to_owned()));
        let others = page.nodeset.iter().flat_map(Cpuset::iter).filter_map(|node| taken.insert(node, size));
        let other = others.max();
        let first = whole.filter(|_| page.nodeset.is_none());
        refuse! {
            size == 0 => DOMAIN.xml_detail("hugepage size can't be zero");
            other.is_some() => DOMAIN.xml_detail(
                "nodeset attribute of hugepages of sizes {} and {size} intersect", other.unwrap_or_default());
            first.is_some() => DOMAIN.xml_detail(
                "two master hugepages detected: {size} and {}", first.unwrap_or_default());
        }
        if page.nodeset.is_none() {
            whole = Some(size);
        }
    }
    Ok(())
}

/// Operating system types libvirt knows.
const OS_TYPES: &[&str] = &["hvm", "xen", "linux", "exe", "uml", "xenpvh"];

fn boot(domain: &mut Domain, host_arch: &str) -> Result<(), VirtError> {
    if let Some(kind) = &mut domain.os.type_ {
        if !OS_TYPES.contains(&kind.name.as_str()) {
            return Err(DOMAIN.config_unsupported(format_args!("unknown OS type '{}'", kind.name)));
        }
        let arch = kind.arch.get_or_insert_with(|| host_arch.to_owned());
        if !crate::ARCHITECTURES.contains(&arch.as_str()) {
            return Err(DOMAIN.config_unsupported(format_args!("Unknown architecture {arch}")));
        }
        let devices = &domain.devices;
        let ordered = devices.disks.iter().any(|d| d.info.boot.is_some())
            || devices.interfaces.iter().any(|d| d.info.boot.is_some())
            || devices.hostdevs.iter().any(|d| d.info.boot.is_some())
            || devices.redirdevs.iter().any(|d| d.info.boot.is_some());
        if ordered && !domain.os.boot.is_empty() {
            let text = "per-device boot elements cannot be used together with os/boot elements";
            return Err(DOMAIN.config_unsupported(text));
        }
        if kind.name == "hvm" && domain.os.boot.is_empty() && !ordered {
            domain.os.boot.push(OsBoot { dev: BootDevice::Hd });
        }
    }
    Ok(())
}

fn actions(domain: &mut Domain) {
    // Where firmware is chosen, what is chosen says where it is put.
    let chosen = domain.os.firmware.is_some();
    if let Some(loader) = domain.os.loader.as_mut().filter(|l| l.path.is_some() && !chosen) {
        loader.type_.get_or_insert(LoaderType::Rom);
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
