//! `<capabilities>`: this host, and what guests each installed QEMU runs.

use std::collections::HashSet;
use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;

use uuid::Uuid;
use virtwire_conf::capabilities::*;
use virtwire_conf::domain::features::{CpuTopology, Distances, Sibling};
use virtwire_conf::table::{Cpuset, KiB, Positive, Value};
use virtwire_conf::{ARCHITECTURES, Capabilities, OnOff, YesNo};
use virtwire_cpu::{Kind, X86, decode_host, kind};
use virtwire_protocol::remote::ConnectGetCapabilitiesRet;

use crate::driver::Qemu;
use crate::error::Result;
use crate::host::{Cell, Host};
use crate::probe::{QemuCaps, find_program};
use crate::security::{DAC, Dac, Ids, NONE};

/// The size of an ordinary page, KiB.
pub(crate) const PAGE: u64 = 4;

pub(crate) async fn capabilities(driver: &Qemu) -> Result<ConnectGetCapabilitiesRet> {
    let mut guests = Vec::new();
    for arch in ARCHITECTURES {
        // A program that is there and cannot be asked has no guests.
        if let Some(program) = program_for(arch)
            && let Ok(caps) = driver.caps_of(&program).await
        {
            guests.push(guest(arch, &caps));
        }
    }
    let host = host(driver).await?;
    Ok(ConnectGetCapabilitiesRet { capabilities: Capabilities { host, guests }.to_xml().into() })
}

/// The program for guests of an architecture; a 64-bit PC runs 32-bit guests too.
pub(crate) fn program_for(arch: &str) -> Option<PathBuf> {
    find_program(arch).or_else(|| if arch == "i686" { find_program("x86_64") } else { None })
}

async fn host(driver: &Qemu) -> Result<CapsHost> {
    let host = &driver.shared.host;
    let transports = ["tcp", "rdma"].map(str::to_owned).to_vec();
    Ok(CapsHost {
        uuid: Some(driver.shared.host_uuid),
        cpu: Some(cpu(driver).await?),
        power_management: Some(PowerManagement::default()),
        iommu: Some(IommuSupport { support: yes_no(has_iommu()) }),
        migration_features: Some(MigrationFeatures {
            live: true,
            uri_transports: Some(UriTransports { uri_transport: transports }),
        }),
        topology: Some(topology(host)),
        cache: cache(host),
        secmodels: secmodels(driver.shared.security.as_ref()),
    })
}

/// The security drivers, with the labels of guests that have none of their own.
fn secmodels(dac: Option<&Dac>) -> Vec<Secmodel> {
    let model = |model: &str, baselabel| Secmodel { model: model.to_owned(), doi: "0".to_owned(), baselabel };
    let base =
        |ids: Ids| ["kvm", "qemu"].map(|kind| Baselabel { type_: kind.to_owned(), label: ids.to_string() });
    let dac = dac.map(|dac| model(DAC, base(dac.ids).into()));
    [model(NONE, Vec::new())].into_iter().chain(dac).collect()
}

/// The machine's own UUID, as its firmware has it; one for this run where the firmware says nothing.
pub(crate) fn host_uuid() -> Uuid {
    let text = fs::read_to_string("/sys/class/dmi/id/product_uuid").unwrap_or_default();
    let told = Uuid::parse_str(text.trim()).ok().filter(|uuid| !uuid.is_nil() && !uuid.is_max());
    told.unwrap_or_else(Uuid::new_v4)
}

fn yes_no(yes: bool) -> YesNo {
    if yes { YesNo::Yes } else { YesNo::No }
}

pub(crate) fn has_iommu() -> bool {
    fs::read_dir("/sys/kernel/iommu_groups").is_ok_and(|mut groups| groups.next().is_some())
}

async fn cpu(driver: &Qemu) -> Result<HostCpu> {
    let host = &driver.shared.host;
    let mut cpu = HostCpu { arch: std::env::consts::ARCH.to_owned(), ..HostCpu::default() };
    let number = |key: &str| {
        let text = host.cpuinfo(key)?;
        match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let (family, model) = (number("cpu family"), number("model"));
    let own = driver.host_cpu().await?;
    if let Some(decoded) = decode_host(own.features, own.vendor.as_deref(), family.zip(model)) {
        let names = X86::table().names(&decoded.require);
        cpu.model = Some(decoded.model.name.to_owned());
        cpu.feature = names.into_iter().map(|name| HostFeature { name: name.to_owned() }).collect();
    }
    cpu.vendor = own.vendor;
    cpu.microcode = number("microcode").map(|version| Microcode { version });
    if let (Some(family), Some(model), Some(stepping)) = (family, model, number("stepping")) {
        cpu.signature = Some(Signature { family, model, stepping });
    }
    cpu.counter = tsc(host);
    let info = host.node_info();
    let count = |number: u32| Positive(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN));
    cpu.topology = Some(CpuTopology {
        sockets: count(info.sockets),
        dies: Some(count(1)),
        clusters: Some(count(1)),
        cores: count(info.cores),
        threads: count(info.threads),
    });
    cpu.maxphysaddr = super::address_bits().map(|bits| HostPhysAddr { mode: "emulate".to_owned(), bits });
    let sizes = std::iter::once(PAGE).chain(host.huge_pages());
    cpu.pages = sizes.map(|size| HostPages { unit: "KiB".to_owned(), size, count: None }).collect();
    Ok(cpu)
}

/// The time stamp counter's speed, as KVM has measured it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn tsc(host: &Host) -> Option<Counter> {
    let machine = kvm_ioctls::Kvm::new().ok()?.create_vm().ok()?;
    let khz = machine.create_vcpu(0).ok()?.get_tsc_khz().ok()?;
    // Spelled as AMD and as Intel have it.
    let flags = [("flags", "tsc_scale"), ("vmx flags", "tsc_scaling")];
    let has = |(key, flag)| host.cpuinfo(key).is_some_and(|flags| flags.split(' ').any(|word| word == flag));
    Some(Counter {
        name: "tsc".to_owned(),
        frequency: u64::from(khz) * 1000,
        scaling: Some(yes_no(flags.into_iter().any(has))),
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn tsc(_: &Host) -> Option<Counter> {
    None
}

fn topology(host: &Host) -> HostTopology {
    let cells = host.cells();
    let cell = cells.iter().map(|cell| node(host, cell)).collect();
    HostTopology { cells: Some(HostCells { num: cells.len() as u32, cell }) }
}

fn node(host: &Host, cell: &Cell) -> HostCell {
    let huge: Vec<(u64, u64)> =
        host.huge_pages().into_iter().map(|size| (size, host.huge_page_counts(cell.id, size).0)).collect();
    let in_huge: u64 = huge.iter().map(|(size, count)| size * count).sum();
    let ordinary = (PAGE, cell.memory.saturating_sub(in_huge) / PAGE);
    let pages = std::iter::once(ordinary).chain(huge);
    let sibling = (0..).zip(&cell.distances).map(|(id, &value)| Sibling { id, value }).collect();
    let number = |number: i64| u32::try_from(number).ok();
    let cpus = cell.cpus.iter().map(|cpu| HostCpuId {
        id: cpu.id,
        socket_id: number(cpu.socket),
        die_id: number(cpu.die),
        cluster_id: number(cpu.cluster),
        core_id: number(cpu.core),
        siblings: Cpuset::parse(&cpu.siblings).ok().flatten(),
    });
    HostCell {
        id: cell.id,
        memory: Some(KiB(cell.memory)),
        pages: pages
            .map(|(size, count)| HostPages { unit: "KiB".to_owned(), size, count: Some(count) })
            .collect(),
        distances: (!cell.distances.is_empty()).then_some(Distances { sibling }),
        cpus: Some(HostCpus { num: cell.cpus.len() as u32, cpu: cpus.collect() }),
    }
}

fn cache(host: &Host) -> Option<HostCache> {
    let banks = host.caches().into_iter().map(|bank| {
        let (size, unit) = match bank.size {
            size if size > 0 && size % (1 << 20) == 0 => (size >> 20, "MiB"),
            size => (size >> 10, "KiB"),
        };
        CacheBank {
            id: bank.id,
            level: bank.level,
            type_: bank.kind.to_owned(),
            size,
            unit: unit.to_owned(),
            cpus: Cpuset::parse(&bank.cpus).ok().flatten(),
        }
    });
    let bank: Vec<_> = banks.collect();
    (!bank.is_empty()).then_some(HostCache { bank })
}

fn guest(arch: &str, caps: &QemuCaps) -> CapsGuest {
    let mut listed = HashSet::new();
    let mut ordered: Vec<_> = caps.machines.iter().filter(|machine| machine.name != "none").collect();
    ordered.sort_by_key(|machine| !machine.is_default);
    let machines = ordered.into_iter().filter(|machine| listed.insert(&machine.name)).flat_map(|machine| {
        let full = CapsMachine {
            canonical: None,
            max_cpus: Some(machine.cpu_max),
            deprecated: machine.deprecated.then_some(YesNo::Yes),
            name: machine.name.clone(),
        };
        let short = machine.alias.clone().map(|alias| CapsMachine {
            canonical: Some(machine.name.clone()),
            name: alias,
            ..full.clone()
        });
        [Some(full), short].into_iter().flatten()
    });
    let kinds = if caps.kvm { &["qemu", "kvm"][..] } else { &["qemu"] };
    let domain = kinds.iter().map(|kind| CapsDomain { type_: (*kind).to_owned(), ..CapsDomain::default() });
    CapsGuest {
        os_type: "hvm".to_owned(),
        arch: CapsArch {
            name: arch.to_owned(),
            wordsize: if arch.contains("64") || arch == "s390x" || arch == "alpha" { 64 } else { 32 },
            emulator: Some(caps.program.display().to_string()),
            machine: machines.collect(),
            domain: domain.collect(),
            ..CapsArch::default()
        },
        features: Some(features(arch)),
    }
}

fn features(arch: &str) -> GuestFeatures {
    let toggle = |toggle| GuestToggle { default: Some(OnOff::On), toggle: Some(yes_no(toggle)) };
    let pc = kind(arch).flatten() == Some(Kind::X86);
    GuestFeatures {
        pae: arch == "i686",
        nonpae: arch == "i686",
        acpi: (pc || arch == "aarch64").then(|| toggle(true)),
        apic: pc.then(|| toggle(false)),
        cpuselection: true,
        deviceboot: true,
        disksnapshot: Some(toggle(false)),
        external_snapshot: Some(GuestToggle::default()),
        ..GuestFeatures::default()
    }
}
