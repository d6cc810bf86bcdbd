//! What the daemon counts, for Prometheus: calls, errors and times of each procedure, clients, events, guests.
//!
//! A call costs two looks at the clock and two atomic additions where metrics are asked for, else a branch.

mod exposition;
mod guests;
mod http;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use virtwire_protocol::net::MessageHeader;
use virtwire_protocol::procedures::Program;
use virtwire_protocol::{admin, lxc, qemu, remote};

pub(crate) use http::Listener;

/// The programs whose calls are counted, each with its name.
const PROGRAMS: [(&str, &Program); 4] = [
    ("remote", &remote::PROGRAM),
    ("qemu", &qemu::PROGRAM),
    ("lxc", &lxc::PROGRAM),
    ("admin", &admin::PROGRAM),
];

/// Upper ends of the classes of times: powers of four microseconds, from 1 µs to 4 s. Behind the last is the rest.
const CLASSES: usize = 12;

/// What has been counted of one procedure. The sum of all classes is the number of calls.
#[derive(Default)]
struct Tally {
    classes: [AtomicU64; CLASSES + 1],
    nanoseconds: AtomicU64,
    errors: AtomicU64,
}

/// What has been counted since the daemon was started.
pub(crate) struct Metrics {
    tallies: [Vec<Tally>; PROGRAMS.len()],
    events: AtomicU64,
    refused: AtomicU64,
}

/// The class of a time.
fn class(time: Duration) -> usize {
    let microseconds = u64::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
    let bits = u64::BITS - microseconds.saturating_sub(1).leading_zeros();
    (bits.div_ceil(2) as usize).min(CLASSES)
}

/// The upper end of a class, in seconds.
fn upper_end(class: usize) -> f64 {
    4f64.powi(class as i32) / 1e6
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let tallies =
            PROGRAMS.map(|(_, program)| program.procedures.iter().map(|_| Tally::default()).collect());
        Self { tallies, events: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// A call has been answered.
    pub(crate) fn call(&self, header: &MessageHeader, begun: Instant, failed: bool) {
        let program = PROGRAMS.iter().position(|(_, program)| program.number == header.prog);
        let tallies = program.and_then(|program| self.tallies.get(program));
        let number = usize::try_from(header.proc).ok();
        // Procedures that nobody knows are not counted: their numbers are the client's.
        let Some(tally) = tallies.zip(number).and_then(|(tallies, number)| tallies.get(number)) else {
            return;
        };
        let time = begun.elapsed();
        tally.classes[class(time)].fetch_add(1, Ordering::Relaxed);
        tally.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        if failed {
            tally.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events have been sent to a client.
    pub(crate) fn events(&self, count: usize) {
        self.events.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A client has not been let in.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_class_whose_upper_end_it_does_not_pass() {
        for (nanoseconds, expected) in [
            (0, 0),
            (1_000, 0),
            (1_001, 1),
            (4_000, 1),
            (4_001, 2),
            (16_000, 2),
            (1_024_000, 5),
            (4_194_304_000, 11),
            (4_194_304_001, CLASSES),
            (u64::MAX, CLASSES),
        ] {
            let time = Duration::from_nanos(nanoseconds);
            assert_eq!(class(time), expected, "{time:?}");
            assert!(expected == CLASSES || time.as_secs_f64() <= upper_end(expected));
        }
    }

    #[test]
    fn numbers_that_no_procedure_has_are_passed_over() {
        let metrics = Metrics::new();
        for (prog, proc) in [(0, 1), (remote::PROGRAM.number, -1), (remote::PROGRAM.number, i32::MAX)] {
            metrics.call(&MessageHeader { prog, proc, ..MessageHeader::default() }, Instant::now(), true);
        }
        let all = metrics.tallies.iter().flatten();
        assert_eq!(all.map(|tally| tally.errors.load(Ordering::Relaxed)).sum::<u64>(), 0);
    }
}
