//! The clock, sleep, and what the guest boots.

use chrono::{DateTime, Local, Utc};
use virtwire_conf::domain::os::{
    AcpiTableType, BootDevice, Clock, ClockBasis, ClockOffset, TickPolicy, Timer, TimerName, TimerTrack,
};
use virtwire_conf::{Domain, YesNo};

use super::{Context, is_q35};
use crate::command::{CommandLine, Options};

/// `-rtc`, and timers that are not the processor's.
pub(super) fn clock(line: &mut CommandLine, domain: &Domain) {
    let default = Clock::default();
    let clock = domain.clock.as_ref().unwrap_or(&default);
    let timer = |name: TimerName| clock.timer.iter().find(|timer| timer.name == name);
    let rtc = timer(TimerName::Rtc);
    let track = rtc.and_then(|rtc| rtc.track).and_then(|track| match track {
        TimerTrack::Boot => None,
        TimerTrack::Guest => Some("vm"),
        TimerTrack::Wall => Some("host"),
        TimerTrack::Realtime => Some("rt"),
    });
    let catchup = |timer: &Timer| timer.tickpolicy == Some(TickPolicy::Catchup);
    let slew = rtc.is_some_and(catchup).then_some("slew");
    line.option(
        "-rtc",
        Options::new("").with("base", base(clock)).with_if("clock", track).with_if("driftfix", slew),
    );
    let policy = timer(TimerName::Pit).and_then(|pit| match pit.tickpolicy {
        None | Some(TickPolicy::Delay) => Some("delay"),
        Some(TickPolicy::Discard) => Some("discard"),
        Some(TickPolicy::Catchup | TickPolicy::Merge) => None,
    });
    // Only KVM's own timer can be told.
    if let Some(policy) = policy {
        line.option("-global", Options::new("").with("kvm-pit.lost_tick_policy", policy));
    }
}

/// Where the clock stands when the guest starts.
fn base(clock: &Clock) -> String {
    let at = |seconds: i64| {
        let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        time.format("%Y-%m-%dT%H:%M:%S").to_string()
    };
    match clock.offset {
        ClockOffset::Utc => "utc".to_owned(),
        // The zone is in QEMU's environment.
        ClockOffset::Localtime | ClockOffset::Timezone => "localtime".to_owned(),
        ClockOffset::Variable => {
            let adjustment = clock.adjustment.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
            let ahead = match clock.basis {
                Some(ClockBasis::Localtime) => Local::now().offset().local_minus_utc(),
                Some(ClockBasis::Utc) | None => 0,
            };
            at(Utc::now().timestamp().saturating_add(adjustment).saturating_add(ahead.into()))
        }
        ClockOffset::Absolute => at(clock.start.and_then(|start| i64::try_from(start).ok()).unwrap_or(0)),
    }
}

/// What becomes of a guest that powers off, and how it may sleep.
pub(super) fn power(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) {
    line.flag("-no-shutdown");
    let Some(pm) = domain.pm.as_ref().filter(|_| context.x86()) else { return };
    let chip = if is_q35(domain) { "ICH9-LPC" } else { "PIIX4_PM" };
    for (state, name) in [(&pm.suspend_to_mem, "disable_s3"), (&pm.suspend_to_disk, "disable_s4")] {
        if let Some(enabled) = state.as_ref().and_then(|state| state.enabled) {
            let value = u8::from(enabled == YesNo::No);
            line.option("-global", Options::new("").with(&format!("{chip}.{name}"), value));
        }
    }
}

/// The boot menu, a kernel, tables for ACPI.
pub(super) fn boot(line: &mut CommandLine, domain: &Domain) {
    let os = &domain.os;
    let menu = os.bootmenu.as_ref();
    let shown = menu.and_then(|menu| menu.enable);
    let splash = menu.filter(|_| shown == Some(YesNo::Yes)).and_then(|menu| menu.timeout);
    let reboot = os.bios.as_ref().and_then(|bios| bios.reboot_timeout);
    let options = Options::new("")
        .with_if("menu", shown.map(|shown| if shown == YesNo::Yes { "on" } else { "off" }))
        .with_if("reboot-timeout", reboot)
        .with_if("splash-time", splash)
        .with("strict", "on");
    line.option("-boot", options);
    let files = [
        ("-kernel", &os.kernel),
        ("-initrd", &os.initrd),
        ("-append", &os.cmdline),
        ("-shim", &os.shim),
        ("-dtb", &os.dtb),
    ];
    for (option, value) in files {
        if let Some(value) = value {
            line.option(option, value);
        }
    }
    for table in os.acpi.iter().flat_map(|acpi| &acpi.table) {
        let signature = match table.type_ {
            AcpiTableType::Raw | AcpiTableType::Rawset => None,
            AcpiTableType::Slic => Some("SLIC"),
            AcpiTableType::Msdm => Some("MSDM"),
        };
        line.option("-acpitable", Options::new("").with_if("sig", signature).with("file", &table.path));
    }
}

/// The place in the boot order that `<boot dev=…>` gives to the first device of its kind.
pub(super) fn boot_index(domain: &Domain, kind: BootDevice) -> Option<u32> {
    let place = domain.os.boot.iter().position(|boot| boot.dev == kind)?;
    u32::try_from(place + 1).ok()
}
