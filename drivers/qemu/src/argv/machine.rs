//! The machine: its type and properties, and who runs it.

use std::os::fd::OwnedFd;

use virtwire_conf::domain::features::{Features, IoapicDriver};
use virtwire_conf::domain::misc::{IommuModel, MemoryModel};
use virtwire_conf::domain::os::TimerName;
use virtwire_conf::domain::{LaunchSecurityType, VirtType};
use virtwire_conf::{Domain, OnOff, YesNo};

use super::{Context, Json, audio, firmware, memory, numa};
use crate::command::{CommandLine, Options};

/// What the guest's memory cannot be read by, if anything: the object that says how.
pub(super) const SECURITY: &str = "lsec0";

/// `-machine` and `-accel`.
pub(super) fn machine(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) {
    let name = domain.os.type_.as_ref().and_then(|os| os.machine.as_deref()).unwrap_or("pc");
    let none = Features::default();
    let features = domain.features.as_ref().unwrap_or(&none);
    let options = feature_options(Options::new(name).with("usb", "off"), features, &context.caps.arch);
    let iommu = domain.devices.iommu.as_ref().filter(|iommu| iommu.model == IommuModel::Smmuv3);
    let backing = domain.memory_backing.as_ref();
    let dumped = domain.memory.as_ref().and_then(|memory| memory.dump_core);
    let dumped = dumped.map_or(context.policy.dumps_memory, |dumped| dumped == OnOff::On);
    let nvdimm = domain.devices.memories.iter().any(|memory| memory.model == MemoryModel::Nvdimm);
    let options = options
        .with_if("iommu", iommu.map(|_| "smmuv3"))
        .with("dump-guest-core", if dumped { "on" } else { "off" })
        .with_if("mem-merge", backing.filter(|backing| backing.nosharepages).map(|_| "off"))
        .with_if("nvdimm", nvdimm.then_some("on"));
    let options = keywrap(enclaves(options, domain), domain)
        .with_if("hmat", numa::has_hmat(domain).then_some("on"))
        .with_if("confidential-guest-support", domain.launch_security.as_ref().map(|_| SECURITY))
        .with_if("memory-backend", memory::whole(domain, context));
    let options = firmware::machine_options(options, domain);
    let hpet = timer_present(domain, TimerName::Hpet).filter(|_| context.x86());
    let serial = domain.os.bios.as_ref().and_then(|bios| bios.useserial) == Some(YesNo::Yes);
    let acpi = context.machine(domain).is_none_or(|machine| machine.acpi);
    let options = options
        .with_if("hpet", hpet.map(|present| if present { "on" } else { "off" }))
        .with_if("pcspk-audiodev", audio::speaker(domain))
        .with_if("graphics", serial.then_some("off"))
        .with_if("acpi", acpi.then_some(if features.acpi { "on" } else { "off" }));
    line.option("-machine", options);
    accelerator(line, domain, features);
}

/// Features that are properties of the machine.
fn feature_options(options: Options, features: &Features, arch: &str) -> Options {
    let state = |state: &Option<virtwire_conf::domain::os::State>| {
        state.as_ref().and_then(|state| state.state).map(|state| state.as_str())
    };
    let switch = |switch: &Option<virtwire_conf::domain::features::Switch>| {
        switch.as_ref().map(|switch| switch.state.as_str())
    };
    let value = |value: &Option<virtwire_conf::domain::features::FeatureValue>| {
        value.as_ref().and_then(|value| value.value.clone())
    };
    let ioapic = features.ioapic.as_ref().and_then(|ioapic| ioapic.driver).map(|driver| match driver {
        IoapicDriver::Kvm => "on",
        IoapicDriver::Qemu => "split",
    });
    // A 32-bit guest has the one that it always had.
    let gic = features.gic.as_ref().and_then(|gic| gic.version).filter(|_| arch != "arm");
    let hpt = features.hpt.as_ref();
    options
        .with_if("vmport", state(&features.vmport))
        .with_if("smm", features.smm.as_ref().map(|smm| smm.state.unwrap_or(OnOff::On).as_str()))
        .with_if("gic-version", gic.map(|version| version.as_str()))
        .with_if("kernel_irqchip", ioapic)
        .with_if("resize-hpt", hpt.and_then(|hpt| hpt.resizing.as_ref()))
        .with_if(
            "cap-hpt-max-page-size",
            hpt.and_then(|hpt| hpt.maxpagesize).map(|size| format!("{}k", size.0)),
        )
        .with_if("cap-htm", switch(&features.htm))
        .with_if("cap-nested-hv", switch(&features.nested_hv))
        .with_if("cap-ccf-assist", switch(&features.ccf_assist))
        .with_if("cap-cfpc", value(&features.cfpc))
        .with_if("cap-sbbc", value(&features.sbbc))
        .with_if("cap-ibs", value(&features.ibs))
        .with_if("ras", switch(&features.ras))
        .with_if("i8042", switch(&features.ps2))
}

/// Memory of enclaves is the machine's own: QEMU counts it.
fn enclaves(options: Options, domain: &Domain) -> Options {
    let enclaves = domain.devices.memories.iter().filter(|memory| memory.model == MemoryModel::SgxEpc);
    enclaves.enumerate().fold(options, |options, (number, memory)| {
        let node = memory.target.as_ref().and_then(|target| target.node);
        options
            .with(&format!("sgx-epc.{number}.memdev"), format!("mem{}", super::alias(&memory.info)))
            .with_if(&format!("sgx-epc.{number}.node"), node)
    })
}

/// Keys of an s390 guest that are wrapped.
fn keywrap(options: Options, domain: &Domain) -> Options {
    let ciphers = domain.keywrap.iter().flat_map(|keywrap| &keywrap.cipher);
    ciphers.fold(options, |options, cipher| {
        options.with(&format!("{}-key-wrap", cipher.name), cipher.state.as_str())
    })
}

fn accelerator(line: &mut CommandLine, domain: &Domain, features: &Features) {
    let ring = features.kvm.as_ref().and_then(|kvm| kvm.dirty_ring.as_ref());
    let ring = ring.filter(|ring| ring.state == OnOff::On).and_then(|ring| ring.size);
    let cache = features.tcg.as_ref().and_then(|tcg| Some(tcg.tb_cache?.0 / 1024));
    let options = match domain.type_ {
        VirtType::Kvm => Options::new("kvm").with_if("dirty-ring-size", ring),
        VirtType::Hvf => Options::new("hvf"),
        _ => Options::new("tcg").with_if("tb-size", cache),
    };
    line.option("-accel", options);
    let tseg = features.smm.as_ref().and_then(|smm| smm.tseg.as_ref());
    if let Some(mib) = tseg.and_then(|tseg| tseg.mebibytes()) {
        line.option("-global", Options::new("").with("mch.extended-tseg-mbytes", mib));
    }
}

/// Whether a timer is said to be there.
pub(super) fn timer_present(domain: &Domain, name: TimerName) -> Option<bool> {
    let timers = domain.clock.iter().flat_map(|clock| &clock.timer);
    let present = timers.filter(|timer| timer.name == name).find_map(|timer| timer.present);
    present.map(|present| present == YesNo::Yes)
}

/// What becomes of words that QEMU will not understand for long.
pub(super) fn deprecation(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) {
    let behavior = domain.qemu_deprecation.as_ref().and_then(|deprecation| deprecation.behavior.as_deref());
    let behavior = behavior.or(context.policy.deprecation.as_deref());
    let input = match behavior {
        Some("omit") => None,
        Some("reject" | "crash") => behavior,
        _ => return,
    };
    Json::begin("-compat", "deprecated-output", "hide").with_if("deprecated-input", input).add(line);
}

/// Who the guest is.
pub(super) fn identity(line: &mut CommandLine, domain: &Domain) {
    if let Some(uuid) = domain.uuid {
        line.option("-uuid", uuid.hyphenated().to_string());
    }
}

/// Tells the guest apart from its copies.
pub(super) fn generation(line: &mut CommandLine, domain: &Domain) {
    if let Some(id) = domain.genid {
        Json::new("vmgenid").with("guid", id.0.hyphenated().to_string()).with("id", "vmgenid0").add(line);
    }
}

/// The monitor listens already when QEMU starts: nobody has to wait for it.
pub(super) fn monitor(line: &mut CommandLine, context: &Context<'_>, listener: Option<OwnedFd>) {
    let options = Options::new("socket").with("id", "charmonitor");
    let options = match listener {
        Some(listener) => options.with("fd", line.pass(listener)),
        None => options.with("path", context.dir.join("monitor.sock").display()),
    };
    line.option("-chardev", options.with("server", "on").with("wait", "off"));
    line.option("-mon", "chardev=charmonitor,id=monitor,mode=control");
}

/// The guest leaves notes for who reads its memory after a crash.
pub(super) fn core_dumps(line: &mut CommandLine, domain: &Domain) {
    if domain.features.as_ref().is_some_and(|features| {
        features.vmcoreinfo.as_ref().is_some_and(|state| state.state == Some(OnOff::On))
    }) {
        Json::new("vmcoreinfo").add(line);
    }
}

/// QEMU's memory is given back by another process, so that nobody waits for it.
pub(super) fn teardown(line: &mut CommandLine, domain: &Domain) {
    let teardown = domain.features.as_ref().and_then(|features| features.async_teardown.as_ref());
    if let Some(enabled) = teardown.and_then(|teardown| teardown.enabled) {
        let word = if enabled == YesNo::Yes { "on" } else { "off" };
        line.option("-run-with", Options::new("").with("async-teardown", word));
    }
}

/// The object that keeps the guest's memory from the host.
pub(super) fn launch_security(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) {
    let Some(security) = &domain.launch_security else { return };
    let kind = match security.type_ {
        LaunchSecurityType::Sev => "sev-guest",
        LaunchSecurityType::SevSnp => "sev-snp-guest",
        LaunchSecurityType::S390Pv => "s390-pv-guest",
    };
    let mut object = Json::object(kind, SECURITY);
    if security.type_ != LaunchSecurityType::S390Pv {
        let file = |name: &str| context.dir.join(name).display().to_string();
        object = object
            .with_if("cbitpos", security.cbitpos)
            .with_if("reduced-phys-bits", security.reduced_phys_bits)
            .with_if("policy", security.policy.map(|policy| policy.0))
            .with_if("dh-cert-file", security.dh_cert.as_ref().map(|_| file("dh_cert.base64")))
            .with_if("session-file", security.session.as_ref().map(|_| file("session.base64")))
            .with_if("guest-visible-workarounds", security.guest_visible_workarounds.clone())
            .with_if("id-block", security.id_block.clone())
            .with_if("id-auth", security.id_auth.clone())
            .with_if("host-data", security.host_data.clone())
            .with_if("kernel-hashes", security.kernel_hashes.map(|state| state == YesNo::Yes))
            .with_if("author-key-enabled", security.author_key.map(|state| state == YesNo::Yes))
            .with_if("vcek-disabled", security.vcek.map(|state| state == YesNo::No));
    }
    object.add(line);
}
