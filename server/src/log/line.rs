//! One message, and how it looks as a line: time, thread, priority, source and text, as in libvirt's logs.

use std::fmt::{self, Write};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
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
        DateTime::<Utc>::from(self.0).format("%F %T%.3f+0000").fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

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
