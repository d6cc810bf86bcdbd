//! The guest's clock.

use serde_json::{Map, Value, json};
use virtwire_protocol::remote::*;

use super::{ask, check};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};

/// `VIR_DOMAIN_TIME_SYNC`
const SYNC: u32 = 1;
const NANOSECONDS: i64 = 1_000_000_000;

pub(crate) async fn time(driver: &Qemu, args: DomainGetTimeArgs) -> Result<DomainGetTimeRet> {
    check_flags(args.flags, 0, "qemuDomainGetTime")?;
    let guest = driver.guest(&args.dom)?;
    let now: i64 = ask(&guest, "DomainGetTime", "guest-get-time", Value::Null).await?;
    let nseconds = now.rem_euclid(NANOSECONDS) as u32;
    Ok(DomainGetTimeRet { seconds: now.div_euclid(NANOSECONDS), nseconds })
}

pub(crate) async fn set_time(driver: &Qemu, args: DomainSetTimeArgs) -> Result<()> {
    check_flags(args.flags, SYNC, "qemuDomainSetTime")?;
    let guest = driver.guest(&args.dom)?;
    check(&guest)?;
    let arguments = match args.flags & SYNC {
        0 => json!({"time": nanoseconds(args.seconds, args.nseconds)?}),
        _ => Value::Null,
    };
    ask::<Value>(&guest, "DomainSetTime", "guest-set-time", arguments).await?;
    // Ticks that the guest has missed would put its clock wrong again; not every machine counts them.
    let _ = guest.live()?.monitor.execute_raw("rtc-reset-reinjection", &Map::new()).await;
    Ok(())
}

fn nanoseconds(seconds: i64, nanoseconds: u32) -> Result<i64> {
    let whole = seconds.checked_mul(NANOSECONDS).and_then(|whole| whole.checked_add(nanoseconds.into()));
    whole.ok_or_else(|| QEMU.invalid_arg(format_args!("Time '{seconds}' is too big for guest agent")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_no_clock_shows_are_refused() {
        assert_eq!(nanoseconds(1, 5), Ok(NANOSECONDS + 5));
        assert_eq!(nanoseconds(-1, 0), Ok(-NANOSECONDS));
        assert_eq!(nanoseconds(9_223_372_036, 854_775_807), Ok(i64::MAX));
        for (seconds, rest) in [(9_223_372_036, 854_775_808), (i64::MAX, 0), (i64::MIN, 0)] {
            assert!(nanoseconds(seconds, rest).is_err(), "{seconds}");
        }
    }
}
