//! The guest's processors: `-cpu` and `-smp`.

use virtwire_conf::domain::VirtType;
use virtwire_conf::domain::features::{
    Cpu, CpuCacheMode, CpuFeaturePolicy, CpuMode, Features, Hyperv, HypervMode, KvmFeatures, Switch,
};
use virtwire_conf::domain::misc::PanicModel;
use virtwire_conf::domain::os::{TickPolicy, Timer, TimerName};
use virtwire_conf::{Domain, OnOff, YesNo};

use super::Context;
use crate::command::{CommandLine, Options};
use crate::cpu::qemu_feature;

pub(super) fn cpu(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) {
    if domain.cpu.is_none() && !context.x86() {
        return;
    }
    let options = model(domain, context);
    let timers = domain.clock.iter().flat_map(|clock| &clock.timer);
    let options = timers.fold(options, timer);
    let none = Features::default();
    let features = domain.features.as_ref().unwrap_or(&none);
    let state =
        |state: &Option<virtwire_conf::domain::os::State>| state.as_ref().and_then(|state| state.state);
    let options = options
        .with_if("kvm-pv-eoi", features.apic.as_ref().and_then(|apic| apic.eoi).map(word))
        .with_if("kvm-pv-unhalt", state(&features.pvspinlock).map(word));
    let options = features.hyperv.iter().fold(options, hyperv);
    let crash = domain.devices.panics.iter().any(|panic| panic.model == Some(PanicModel::Hyperv));
    let options = if crash { options.word("hv-crash") } else { options };
    let options = features.kvm.iter().fold(options, kvm);
    let options = options.with_if("pmu", state(&features.pmu).map(word));
    let options = domain.cpu.iter().fold(options, physical);
    line.option("-cpu", options);
}

fn word(state: OnOff) -> &'static str {
    state.as_str()
}

/// The model, and what differs from it.
fn model(domain: &Domain, context: &Context<'_>) -> Options {
    let default = Cpu::default();
    let cpu = domain.cpu.as_ref().unwrap_or(&default);
    let named = cpu.model.as_ref();
    let options = match cpu.mode {
        Some(CpuMode::HostPassthrough) => Options::new("host"),
        Some(CpuMode::HostModel) if domain.type_ == VirtType::Kvm => Options::new("host"),
        Some(CpuMode::HostModel | CpuMode::Maximum) => Options::new("max"),
        Some(CpuMode::Custom) | None => {
            let name = named.and_then(|model| model.name.clone());
            Options::new(&name.unwrap_or_else(|| context.default_cpu(domain)))
        }
    };
    let options = match cpu.mode {
        Some(CpuMode::HostPassthrough | CpuMode::Maximum) => {
            let asked = context.caps.arch != "i386";
            options.with_if("migratable", cpu.migratable.filter(|_| asked).map(word))
        }
        _ => options.with_if("vendor", named.and_then(|model| model.vendor_id.as_ref())),
    };
    cpu.feature.iter().fold(options, |options, feature| match feature.policy {
        Some(CpuFeaturePolicy::Disable | CpuFeaturePolicy::Forbid) => {
            options.with(&qemu_feature(&feature.name), "off")
        }
        // Only a model that is known can tell whether there is such a feature.
        Some(CpuFeaturePolicy::Optional) => options,
        Some(CpuFeaturePolicy::Force | CpuFeaturePolicy::Require) | None => {
            options.with(&qemu_feature(&feature.name), "on")
        }
    })
}

/// Clocks that belong to the processor.
fn timer(options: Options, timer: &Timer) -> Options {
    let present = timer.present.map(|present| if present == YesNo::Yes { "on" } else { "off" });
    match timer.name {
        TimerName::Kvmclock => options.with_if("kvmclock", present),
        TimerName::Hypervclock => options.with_if("hv-time", present.filter(|present| *present == "on")),
        TimerName::Tsc => options.with_if("tsc-frequency", timer.frequency),
        TimerName::Armvtimer => {
            let adjusts = timer.tickpolicy.map(|policy| policy == TickPolicy::Discard);
            options.with_if("kvm-no-adjvtime", adjusts.map(|adjusts| if adjusts { "off" } else { "on" }))
        }
        _ => options,
    }
}

fn hyperv(options: Options, hyperv: &Hyperv) -> Options {
    if hyperv.mode == Some(HypervMode::Passthrough) {
        return options.with("hv-passthrough", "on");
    }
    let on = |state: OnOff| (state == OnOff::On).then_some("on");
    let switch = |switch: &Option<Switch>| switch.as_ref().and_then(|switch| on(switch.state));
    let (spinlocks, vendor) = (hyperv.spinlocks.as_ref(), hyperv.vendor_id.as_ref());
    let retries = spinlocks.filter(|spinlocks| spinlocks.state == OnOff::On).and_then(|s| s.retries);
    let vendor = vendor.filter(|vendor| vendor.state == OnOff::On).and_then(|vendor| vendor.value.as_ref());
    let stimer = hyperv.stimer.as_ref().filter(|stimer| stimer.state == OnOff::On);
    let flush = hyperv.tlbflush.as_ref().filter(|flush| flush.state == OnOff::On);
    options
        .with_if("hv-relaxed", switch(&hyperv.relaxed))
        .with_if("hv-vapic", switch(&hyperv.vapic))
        .with_if("hv-spinlocks", retries.map(|retries| format!("{retries:#x}")))
        .with_if("hv-vpindex", switch(&hyperv.vpindex))
        .with_if("hv-runtime", switch(&hyperv.runtime))
        .with_if("hv-synic", switch(&hyperv.synic))
        .with_if("hv-stimer", stimer.map(|_| "on"))
        .with_if("hv-stimer-direct", stimer.and_then(|stimer| switch(&stimer.direct)))
        .with_if("hv-reset", switch(&hyperv.reset))
        .with_if("hv-vendor-id", vendor)
        .with_if("hv-frequencies", switch(&hyperv.frequencies))
        .with_if("hv-reenlightenment", switch(&hyperv.reenlightenment))
        .with_if("hv-tlbflush", flush.map(|_| "on"))
        .with_if("hv-tlbflush-direct", flush.and_then(|flush| switch(&flush.direct)))
        .with_if("hv-tlbflush-ext", flush.and_then(|flush| switch(&flush.extended)))
        .with_if("hv-ipi", switch(&hyperv.ipi))
        .with_if("hv-evmcs", switch(&hyperv.evmcs))
        .with_if("hv-avic", switch(&hyperv.avic))
        .with_if("hv-emsr-bitmap", switch(&hyperv.emsr_bitmap))
        .with_if("hv-xmm-input", switch(&hyperv.xmm_input))
}

/// What KVM tells the guest. Each is said only where it differs from QEMU's default.
fn kvm(options: Options, kvm: &KvmFeatures) -> Options {
    let is = |switch: &Option<Switch>, state| switch.as_ref().is_some_and(|switch| switch.state == state);
    options
        .with_if("kvm", is(&kvm.hidden, OnOff::On).then_some("off"))
        .with_if("kvm-hint-dedicated", is(&kvm.hint_dedicated, OnOff::On).then_some("on"))
        .with_if("kvm-poll-control", is(&kvm.poll_control, OnOff::On).then_some("on"))
        .with_if("kvm-pv-ipi", is(&kvm.pv_ipi, OnOff::Off).then_some("off"))
}

/// Caches and the width of addresses.
fn physical(options: Options, cpu: &Cpu) -> Options {
    // Only of the host's own processor its caches could be shown.
    let hidden = matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum)).then_some("off");
    let options = match cpu.cache.as_ref().map(|cache| cache.mode) {
        Some(CpuCacheMode::Emulate) => options.with("l3-cache", "on").with_if("host-cache-info", hidden),
        Some(CpuCacheMode::Passthrough) => options.with("host-cache-info", "on").with("l3-cache", "off"),
        Some(CpuCacheMode::Disable) => options.with_if("host-cache-info", hidden).with("l3-cache", "off"),
        None => options,
    };
    match &cpu.maxphysaddr {
        Some(width) if width.mode == CpuCacheMode::Emulate => match width.bits.filter(|bits| *bits > 0) {
            Some(bits) => options.with("phys-bits", bits),
            None => options.with("host-phys-bits", "off"),
        },
        Some(width) => options.with("host-phys-bits", "on").with_if("host-phys-bits-limit", width.limit),
        None => options,
    }
}

/// How many processors, and how they are arranged.
pub(super) fn smp(line: &mut CommandLine, domain: &Domain) {
    let count = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    let current = domain.vcpu.as_ref().and_then(|vcpu| vcpu.current).unwrap_or(count);
    // Processors that can be taken out are added one by one.
    let options = Options::new(&current.to_string()).with_if("maxcpus", (current != count).then_some(count));
    let options = match domain.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref()) {
        Some(topology) => options
            .with("sockets", topology.sockets.get())
            .with("dies", topology.dies.unwrap_or_default().get())
            .with("clusters", topology.clusters.unwrap_or_default().get())
            .with("cores", topology.cores.get())
            .with("threads", topology.threads.get()),
        None => options.with("sockets", count).with("cores", 1).with("threads", 1),
    };
    line.option("-smp", options);
}
