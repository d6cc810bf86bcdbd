//! One message, and how it looks as a line: time, thread, priority, source and text, as in libvirt's logs.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::Event;
use tracing::field::{Field, Visit};

use super::Priority;

/// A message on its way to the outputs.
pub(super) struct Message {
    pub(super) priority: Priority,
    pub(super) source: &'static str,
    pub(super) text: String,
}

impl Message {
    pub(super) fn new(event: &Event<'_>) -> Self {
        let mut text = Text(String::new());
        event.record(&mut text);
        let priority = Priority::of(*event.metadata().level());
        Self { priority, source: event.metadata().target(), text: text.0 }
    }

    /// The line, without its end. Whatever a peer put into the text, it stays one line.
    pub(super) fn line(&self, now: SystemTime) -> String {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let (time, word) = (Timestamp(now), self.priority.word());
        format!("{time}: {thread}: {word} : {} : {}", self.source, self.text)
    }
}

/// The message first, then the other fields as `name=value`.
struct Text(String);

impl Text {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let clean = value.to_string().replace(|c: char| c.is_control(), " ");
        if field.name() == "message" {
            let space = if self.0.is_empty() { "" } else { " " };
            self.0.insert_str(0, &format!("{clean}{space}"));
        } else {
            let space = if self.0.is_empty() { "" } else { " " };
            let _ = write!(self.0, "{space}{}={clean}", field.name());
        }
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }
}

/// `2026-11-24 11:51:30.280+0000`
pub(crate) struct Timestamp(pub(crate) SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let milli = since.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{milli:03}+0000")
    }
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar. Years are counted from March, so
/// that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_look_as_libvirts() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00.280+0000"),
            (951_782_400, "2000-02-29 00:00:00.280+0000"),
            (1_795_521_090, "2026-11-24 11:51:30.280+0000"),
            (4_107_542_399, "2100-02-28 23:59:59.280+0000"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 280);
            assert_eq!(Timestamp(time).to_string(), text);
        }
    }
}
