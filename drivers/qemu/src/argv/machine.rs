//! Machine, processors, memory, monitor, clock, boot.

use std::os::fd::OwnedFd;
use std::path::Path;

use serde_json::json;
use virtwire_conf::Domain;
use virtwire_conf::domain::VirtType;
use virtwire_conf::domain::os::BootDevice;

use super::{Context, is_q35};
use crate::command::{CommandLine, escape};

/// Everything up to the monitor.
pub(super) fn begin(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) {
    let key = context.dir.join("master-key.aes");
    line.json("-object", &json!({"qom-type": "secret", "id": "masterKey0", "format": "raw", "file": key}));
    super::storage::managed_helper(line, domain, context);
    machine(line, domain);
    line.option("-accel", if domain.type_ == VirtType::Kvm { "kvm" } else { "tcg" });
    line.option("-cpu", cpu(domain));
    let kib = domain.memory.map_or(0, |memory| memory.0);
    line.option("-m", format!("size={kib}k"));
    line.json("-object", &json!({"qom-type": "memory-backend-ram", "id": "pc.ram", "size": kib * 1024}));
    line.option("-overcommit", "mem-lock=off");
    line.option("-smp", smp(domain));
    super::iothreads::iothreads(line, domain);
    super::storage::throttle_groups(line, domain);
    if let Some(uuid) = domain.uuid {
        line.option("-uuid", uuid.hyphenated().to_string());
    }
    if domain.devices.graphics.is_empty() {
        line.option("-display", "none");
    }
    line.flag("-no-user-config");
    line.flag("-nodefaults");
}

fn machine(line: &mut CommandLine, domain: &Domain) {
    let name = domain.os.type_.as_ref().and_then(|os| os.machine.as_deref()).unwrap_or("pc");
    let acpi = domain.features.as_ref().is_some_and(|features| features.acpi);
    let acpi = if acpi { "on" } else { "off" };
    line.option("-machine", format!("{name},usb=off,dump-guest-core=off,memory-backend=pc.ram,acpi={acpi}"));
}

/// A named model with its features, or the host's; QEMU's own default where nothing is said.
fn cpu(domain: &Domain) -> String {
    use virtwire_conf::domain::features::{CpuFeaturePolicy, CpuMode};
    let Some(cpu) = &domain.cpu else { return "qemu64".to_owned() };
    let mut text = match cpu.mode {
        Some(CpuMode::HostPassthrough | CpuMode::HostModel) if domain.type_ == VirtType::Kvm => {
            "host,migratable=on".to_owned()
        }
        Some(CpuMode::HostPassthrough | CpuMode::HostModel | CpuMode::Maximum) => "max".to_owned(),
        _ => cpu.model.as_ref().and_then(|model| model.name.clone()).unwrap_or_else(|| "qemu64".to_owned()),
    };
    for feature in &cpu.feature {
        let on = match feature.policy {
            Some(CpuFeaturePolicy::Disable | CpuFeaturePolicy::Forbid) => "off",
            _ => "on",
        };
        text += &format!(",{}={on}", feature.name);
    }
    text
}

fn smp(domain: &Domain) -> String {
    let count = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    let current = domain.vcpu.as_ref().and_then(|vcpu| vcpu.current).unwrap_or(count);
    let maximum = if current == count { String::new() } else { format!(",maxcpus={count}") };
    let topology = domain.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    let (sockets, dies, cores, threads) = match topology {
        Some(t) => (t.sockets.0.get(), t.dies.map(|d| d.0.get()), t.cores.0.get(), t.threads.0.get()),
        None => (count, None, 1, 1),
    };
    let dies = dies.filter(|dies| *dies > 1).map_or(String::new(), |dies| format!(",dies={dies}"));
    format!("{current}{maximum},sockets={sockets}{dies},cores={cores},threads={threads}")
}

/// The monitor listens already when QEMU starts: nobody has to wait for it.
pub(super) fn monitor(line: &mut CommandLine, dir: &Path, listener: Option<OwnedFd>) {
    let at = match listener {
        Some(listener) => format!("fd={}", line.pass(listener)),
        None => format!("path={}", escape(&dir.join("monitor.sock").to_string_lossy())),
    };
    line.option("-chardev", format!("socket,id=charmonitor,{at},server=on,wait=off"));
    line.option("-mon", "chardev=charmonitor,id=monitor,mode=control");
}

/// Clock, power management and boot order of the firmware.
pub(super) fn clock_and_boot(line: &mut CommandLine, domain: &Domain) {
    let localtime = domain.clock.as_ref().is_some_and(|clock| clock.offset.as_str() == "localtime");
    line.option("-rtc", if localtime { "base=localtime" } else { "base=utc" });
    if domain.on_poweroff.is_none_or(|action| action.as_str() != "preserve") {
        line.flag("-no-shutdown");
    }
    if is_q35(domain)
        && let Some(pm) = &domain.pm
    {
        let state = |enabled: bool| if enabled { 0 } else { 1 };
        if let Some(mem) = &pm.suspend_to_mem {
            line.option(
                "-global",
                format!("ICH9-LPC.disable_s3={}", state(mem.enabled == Some(virtwire_conf::YesNo::Yes))),
            );
        }
        if let Some(disk) = &pm.suspend_to_disk {
            line.option(
                "-global",
                format!("ICH9-LPC.disable_s4={}", state(disk.enabled == Some(virtwire_conf::YesNo::Yes))),
            );
        }
    }
    let menu = domain.os.bootmenu.as_ref();
    let menu = menu.and_then(|menu| menu.enable).map_or("", |enable| match enable {
        virtwire_conf::YesNo::Yes => "menu=on,",
        virtwire_conf::YesNo::No => "menu=off,",
    });
    line.option("-boot", format!("{menu}strict=on"));
    for (option, value) in
        [("-kernel", &domain.os.kernel), ("-initrd", &domain.os.initrd), ("-append", &domain.os.cmdline)]
    {
        if let Some(value) = value {
            line.option(option, value);
        }
    }
}

/// The place in the boot order that `<boot dev=…>` gives to the first device of its kind.
pub(super) fn boot_index(domain: &Domain, kind: BootDevice) -> Option<u32> {
    let place = domain.os.boot.iter().position(|boot| boot.dev == kind)?;
    u32::try_from(place + 1).ok()
}
