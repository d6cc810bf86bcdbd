//! When to ping, and when the peer is dead. Time comes in as an argument.

use std::time::{Duration, Instant};

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// Nothing until then.
    Wait(Instant),
    /// Send a ping.
    Ping,
    /// The peer has not answered: close the connection.
    Dead,
}

/// Pings after `interval` of silence; gives up when `count` pings in a row went unanswered.
#[derive(Clone, Debug)]
pub struct KeepaliveTimer {
    interval: Duration,
    count: u32,
    unanswered: u32,
    next: Instant,
}

impl KeepaliveTimer {
    /// A timer that starts at `now`.
    pub fn new(interval: Duration, count: u32, now: Instant) -> Self {
        Self { interval, count, unanswered: 0, next: now + interval }
    }

    /// Any frame from the peer shows that it lives.
    pub fn heard(&mut self, now: Instant) {
        self.unanswered = 0;
        self.next = now + self.interval;
    }

    /// What is due at `now`.
    pub fn poll(&mut self, now: Instant) -> Keepalive {
        if now < self.next {
            return Keepalive::Wait(self.next);
        }
        if self.unanswered >= self.count {
            return Keepalive::Dead;
        }
        self.unanswered += 1;
        self.next = now + self.interval;
        Keepalive::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_dead_after_interval_times_count_plus_one() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut timer = KeepaliveTimer::new(Duration::from_secs(5), 2, start);
        assert_eq!(timer.poll(second(4)), Keepalive::Wait(second(5)));
        assert_eq!(timer.poll(second(5)), Keepalive::Ping);
        assert_eq!(timer.poll(second(10)), Keepalive::Ping);
        assert_eq!(timer.poll(second(15)), Keepalive::Dead);
        timer.heard(second(15));
        assert_eq!(timer.poll(second(15)), Keepalive::Wait(second(20)));
    }
}
