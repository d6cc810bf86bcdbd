//! Calls that wait for their replies: which serial belongs to whom. No socket, no waiting.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

/// A reply to a call that was never made. The peer cannot be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSerial(pub u32);

impl fmt::Display for UnknownSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a reply to call {}, which was never made", self.0)
    }
}

impl std::error::Error for UnknownSerial {}

/// The calls of one connection, all programs together. `W` is whoever waits for a reply.
#[derive(Debug)]
pub struct Calls<W> {
    /// Calls made so far. The next serial is its low half, as the real client counts: from 0, one more per call.
    made: u64,
    waiting: HashMap<u32, W>,
    late: u64,
}

impl<W> Default for Calls<W> {
    fn default() -> Self {
        Self { made: 0, waiting: HashMap::new(), late: 0 }
    }
}

impl<W> Calls<W> {
    /// A serial for a new call, whose reply `waiter` waits for.
    pub fn issue(&mut self, waiter: W) -> u32 {
        loop {
            let serial = self.made as u32;
            self.made += 1;
            // After four thousand million calls the count starts again, while an old call may still be waiting.
            if let Entry::Vacant(slot) = self.waiting.entry(serial) {
                slot.insert(waiter);
                return serial;
            }
        }
    }

    /// Whether a call of this serial has ever been made.
    pub fn was_issued(&self, serial: u32) -> bool {
        u64::from(serial) < self.made
    }

    /// Whoever waits for this serial.
    pub fn get(&self, serial: u32) -> Option<&W> {
        self.waiting.get(&serial)
    }

    /// Takes a call out of the table; should its reply come, it is late.
    pub fn forget(&mut self, serial: u32) -> Option<W> {
        self.waiting.remove(&serial)
    }

    /// A reply has come: hands out whoever waits for it. `None` says that nobody does any more.
    pub fn reply(&mut self, serial: u32) -> Result<Option<W>, UnknownSerial> {
        match self.waiting.remove(&serial) {
            Some(waiter) => Ok(Some(waiter)),
            None if self.was_issued(serial) => {
                self.late += 1;
                Ok(None)
            }
            None => Err(UnknownSerial(serial)),
        }
    }

    /// Everybody who waits: the connection has ended.
    pub fn drain(&mut self) -> impl Iterator<Item = W> + use<'_, W> {
        self.waiting.drain().map(|(_, waiter)| waiter)
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many replies came after their caller had left.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_grow_by_one_and_replies_come_in_any_order() {
        let mut calls = Calls::default();
        assert_eq!(["a", "b", "c"].map(|who| calls.issue(who)), [0, 1, 2]);
        assert_eq!(calls.reply(2), Ok(Some("c")));
        assert_eq!(calls.reply(0), Ok(Some("a")));
        assert_eq!(calls.issue("d"), 3);
        assert_eq!(calls.waiting(), 2);
        let mut left: Vec<_> = calls.drain().collect();
        left.sort_unstable();
        assert_eq!(left, ["b", "d"]);
    }

    #[test]
    fn a_late_reply_is_counted_and_one_to_no_call_is_an_error() {
        let mut calls = Calls::default();
        let serial = calls.issue(());
        assert_eq!(calls.forget(serial), Some(()));
        assert_eq!((calls.waiting(), calls.late()), (0, 0));
        assert_eq!(calls.reply(serial), Ok(None));
        assert_eq!(calls.late(), 1);
        assert_eq!(calls.reply(1), Err(UnknownSerial(1)));
        assert_eq!(calls.late(), 1);
    }

    #[test]
    fn a_serial_that_still_waits_is_not_used_again() {
        let mut calls = Calls { made: u64::from(u32::MAX), ..Calls::default() };
        calls.waiting.insert(0, "old");
        assert_eq!(calls.issue("last"), u32::MAX);
        assert_eq!(calls.issue("new"), 1);
        assert_eq!(calls.reply(0), Ok(Some("old")));
        assert!(calls.was_issued(u32::MAX));
    }
}
