//! Clocks and timers.

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::YesNo;
use crate::domain::Domain;
use crate::domain::os::{ClockOffset, TickPolicy, Timer, TimerName, TimerTrack};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// What shows as it is read.
pub(super) fn read(domain: &Domain) -> Result {
    let Some(clock) = &domain.clock else { return Ok(()) };
    let adjustment = clock.adjustment.as_deref().unwrap_or("reset");
    let fixed = matches!(clock.offset, ClockOffset::Utc | ClockOffset::Localtime);
    refuse! {
        fixed && adjustment != "reset" && adjustment.parse::<i64>().is_err() =>
            DOMAIN.xml_error("unknown clock adjustment '{adjustment}'");
    }
    let blank = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    refuse! {
        clock.offset == ClockOffset::Timezone && blank(&clock.timezone) => DOMAIN.internal_error(
            "missing 'timezone' attribute for clock with offset='timezone'");
        clock.offset == ClockOffset::Absolute && clock.start.is_none() => DOMAIN.internal_error(
            "missing 'start' attribute for clock with offset='absolute'");
        clock.timer.iter().any(|timer| timer.catchup.is_some() && timer.tickpolicy != Some(TickPolicy::Catchup)) =>
            DOMAIN.xml_error("setting of timer catchup policies is only supported with tickpolicy='catchup'");
    }
    clock.timer.iter().try_for_each(timer)
}

/// What can be said of which timer.
fn timer(timer: &Timer) -> Result {
    use TimerName::{Hpet, Hypervclock, Kvmclock, Pit, Platform, Rtc, Tsc};
    let name = timer.name;
    let said = [
        ("tickpolicy", timer.tickpolicy.is_some(), matches!(name, Pit | Rtc | Platform | Hpet | Tsc)),
        ("track", timer.track.is_some(), matches!(name, Rtc | Platform)),
        ("frequency", timer.frequency.is_some_and(|hz| hz != 0), name == Tsc),
        ("mode", timer.mode.is_some(), name == Tsc),
    ];
    let first = said.into_iter().find(|(_, said, known)| *said && !known).map(|(what, ..)| what);
    let of_timer = match first {
        Some("mode" | "frequency" | "track") | None => first,
        Some(_) => first.filter(|_| matches!(name, Kvmclock | Hypervclock)),
    };
    let what = of_timer.unwrap_or_default();
    let spelled = if what == "mode" { "timer mode".to_owned() } else { format!("timer {what}") };
    refuse! {
        of_timer.is_some() => DOMAIN.config_unsupported(
            "timer {} doesn't support setting of {spelled}", name.as_str());
    }
    Ok(())
}

/// Everything in this file that QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    let timers = around.domain.clock.iter().flat_map(|clock| &clock.timer);
    let kind = around.domain.os.type_.clone().unwrap_or_default();
    for timer in timers {
        let (policy, track) = (timer.tickpolicy, timer.track);
        let on = timer.present != Some(YesNo::No);
        refuse! {
            timer.name == TimerName::Platform => QEMU.config_unsupported(
                "unsupported timer type (name) '{}'", timer.name.as_str());
            timer.name == TimerName::Armvtimer && around.is_pc() => QEMU.config_unsupported(
                "Configuring the 'armvtimer' timer is not supported for virtType={} arch={} machine={} guests",
                around.domain.type_, kind.arch.clone().unwrap_or_default(), kind.machine.clone().unwrap_or_default());
            timer.name == TimerName::Rtc && matches!(track, Some(TimerTrack::Boot)) => QEMU.config_unsupported(
                "unsupported rtc timer track '{}'", track.unwrap_or_default().as_str());
            timer.name == TimerName::Rtc && matches!(policy, Some(TickPolicy::Merge | TickPolicy::Discard)) =>
                QEMU.config_unsupported(
                    "unsupported rtc timer tickpolicy '{}'", policy.unwrap_or_default().as_str());
            timer.name == TimerName::Pit && policy == Some(TickPolicy::Merge) && on =>
                QEMU.config_unsupported("unsupported pit tickpolicy '{}'", policy.unwrap_or_default().as_str());
        }
    }
    Ok(())
}
