//! Memory modules of a running guest: where QEMU has put them, and how much of them the guest has.

use virtwire_conf::Domain;
use virtwire_conf::domain::device::{Address, Alias};
use virtwire_conf::domain::misc::{MemoryAddress, MemoryModel};
use virtwire_conf::domain::one::Device;
use virtwire_conf::table::{KiB, Wide};
use virtwire_qmp::commands::QueryMemoryDevices;
use virtwire_qmp::replies::MemoryDevice;
use virtwire_qmp::{Monitor, QmpError};

/// Says in the definition of a run what QEMU tells of its modules.
///
/// # Errors
/// QEMU does not answer.
pub(crate) async fn settle(domain: &mut Domain, monitor: &Monitor) -> Result<(), QmpError> {
    if !domain.devices.memories.is_empty() {
        let told = monitor.execute(&QueryMemoryDevices {}).await?;
        note(domain, &told);
    }
    Ok(())
}

fn note(domain: &mut Domain, told: &[MemoryDevice]) {
    // Of a module that grows and shrinks, what is not plugged in is not there.
    let mut absent = 0;
    for module in &mut domain.devices.memories {
        let alias = module.info.alias.as_ref().map(|Alias { name }| name.as_str());
        let Some(found) = told.iter().find(|device| device.data.id.as_deref() == alias) else { continue };
        let base = found.data.addr.or(found.data.memaddr).map(Wide);
        if let Some(Address::Dimm(place)) = &mut module.info.address {
            place.base = base;
        } else if let Some(target) = &mut module.target {
            target.address = Some(MemoryAddress { base });
            if module.model == MemoryModel::VirtioMem {
                let current = found.data.size / 1024;
                target.current = Some(KiB(current));
                absent += target.size.map_or(0, |size| size.0.saturating_sub(current));
            }
        }
    }
    if let (Some(current), Some(memory)) = (&mut domain.current_memory, &domain.memory) {
        current.0 = current.0.min(memory.size.0.saturating_sub(absent));
    }
}

/// A module that comes to a run, or leaves it, is a part of the guest's memory.
pub(crate) fn counted(domain: &mut Domain, device: &Device, comes: bool) {
    let Device::Memory(module) = device else { return };
    let target = module.target.as_ref();
    let size = target.and_then(|target| target.size).map_or(0, |size| size.0);
    // Of one that grows and shrinks, the guest has what is plugged in.
    let has = match module.model {
        MemoryModel::VirtioMem => target.and_then(|target| target.current).map_or(0, |current| current.0),
        _ => size,
    };
    let count = |sum: &mut u64, part: u64| {
        *sum = if comes { sum.saturating_add(part) } else { sum.saturating_sub(part) };
    };
    if let Some(memory) = &mut domain.memory {
        count(&mut memory.size.0, size);
    }
    if let Some(current) = &mut domain.current_memory {
        count(&mut current.0, has);
    }
}

/// A running guest has more or less of a module than before; whether there is such a module.
pub(crate) fn resized(domain: &mut Domain, alias: &str, size: u64) -> bool {
    let mut modules = domain.devices.memories.iter_mut();
    let module = modules.find(|module| module.info.alias.as_ref().is_some_and(|own| own.name == alias));
    let Some(target) = module.and_then(|module| module.target.as_mut()) else { return false };
    let before = target.current.replace(KiB(size / 1024)).map_or(0, |before| before.0);
    if let Some(current) = &mut domain.current_memory {
        current.0 = current.0.saturating_sub(before).saturating_add(size / 1024);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use virtwire_conf::{FormatOptions, ParseOptions, QemuHost};

    use super::*;

    #[test]
    fn modules_are_where_qemu_has_put_them() {
        let xml = "<domain type='qemu'><name>g</name><maxMemory slots='4' unit='GiB'>2</maxMemory>
            <memory unit='MiB'>128</memory><vcpu>1</vcpu>
            <cpu><numa><cell id='0' cpus='0' memory='128' unit='MiB'/></numa></cpu>
            <os><type machine='q35'>hvm</type></os><devices>
            <memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>
            <memory model='virtio-mem'><target><size unit='MiB'>256</size><node>0</node><block unit='MiB'>2</block>
            <requested unit='MiB'>64</requested></target></memory></devices></domain>";
        let host = QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", false);
        let mut domain = Domain::parse(xml, &ParseOptions::qemu(Arc::new(host))).unwrap();
        crate::live::name_devices(&mut domain);
        let told = r#"[{"type": "dimm", "data": {"id": "dimm0", "addr": 4294967296, "size": 134217728, "slot": 0}},
            {"type": "virtio-mem", "data": {"id": "virtiomem0", "memaddr": 5368709120, "size": 67108864}}]"#;
        note(&mut domain, &serde_json::from_str::<Vec<MemoryDevice>>(told).unwrap());
        let shown = domain.to_xml(&FormatOptions::default());
        for part in [
            "<currentMemory unit='KiB'>327680</currentMemory>",
            "<address type='dimm' slot='0' base='0x100000000'/>",
            "<current unit='KiB'>65536</current>\n        <address base='0x140000000'/>",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(resized(&mut domain, "virtiomem0", 128 << 20));
        assert!(!resized(&mut domain, "virtiomem1", 128 << 20));
        let shown = domain.to_xml(&FormatOptions::default());
        for part in
            ["<currentMemory unit='KiB'>393216</currentMemory>", "<current unit='KiB'>131072</current>"]
        {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
}
