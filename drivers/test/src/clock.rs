//! Statistics that grow with the clock: every counter is a fraction of the time since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

/// A reading of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    micros: u64,
}

impl Now {
    /// The time it is.
    pub(crate) fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { micros: u64::try_from(since.as_micros()).unwrap_or(u64::MAX) }
    }

    /// Whole seconds.
    pub(crate) fn seconds(self) -> u64 {
        self.micros / 1_000_000
    }

    /// Nanoseconds, as far as they are known.
    pub(crate) fn nanos(self) -> u64 {
        self.micros.saturating_mul(1000)
    }

    /// One count every `micros` microseconds.
    pub(crate) fn every(self, micros: u64) -> u64 {
        self.micros / micros
    }

    /// One count every `seconds` seconds.
    pub(crate) fn every_seconds(self, seconds: u64) -> u64 {
        self.seconds() / seconds
    }
}
