//! From the driver that raises an event to the sessions that want it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use virtwire_protocol::{qemu, remote};

use crate::AuditRecord;

/// An event of any program.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What every hypervisor has.
    Remote(remote::Event),
    /// QEMU's own monitor events.
    Qemu(qemu::Event),
    /// What the host's audit system is to know; no client hears of it.
    Audit(AuditRecord),
}

impl From<remote::Event> for Event {
    fn from(event: remote::Event) -> Self {
        Self::Remote(event)
    }
}

impl From<qemu::Event> for Event {
    fn from(event: qemu::Event) -> Self {
        Self::Qemu(event)
    }
}

/// Takes events; a session is one. It must not block and must not call back into the driver.
pub trait EventSink: Send + Sync {
    /// An event has happened.
    fn deliver(&self, event: &Event);
}

/// Where a driver raises its events. Sinks are held weakly: a session that is gone is forgotten.
#[derive(Default)]
pub struct EventHub {
    sinks: Mutex<Vec<Weak<dyn EventSink>>>,
    ids: Mutex<HashMap<&'static str, i32>>,
}

impl EventHub {
    /// A hub without listeners.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a listener.
    pub fn subscribe(&self, sink: &Arc<dyn EventSink>) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        // Where nothing happens for long, those who left would pile up.
        if sinks.len() == sinks.capacity() {
            sinks.retain(|sink| sink.strong_count() > 0);
        }
        sinks.push(Arc::downgrade(sink));
    }

    /// A callback id: libvirt counts them per driver and class for the whole daemon.
    pub fn next_id(&self, class: &'static str) -> i32 {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let next = ids.entry(class).or_default();
        let id = *next;
        *next = next.wrapping_add(1).max(0);
        id
    }

    /// Raises an event. Do not hold the lock of a driver's state over this if a sink could wait for it.
    pub fn emit(&self, event: impl Into<Event>) {
        let event = event.into();
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|sink| match sink.upgrade() {
            Some(sink) => {
                sink.deliver(&event);
                true
            }
            None => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl EventSink for Nobody {
        fn deliver(&self, _: &Event) {}
    }

    #[test]
    fn who_left_before_anything_happened_is_forgotten() {
        let hub = EventHub::new();
        let stays: Arc<dyn EventSink> = Arc::new(Nobody);
        hub.subscribe(&stays);
        for _ in 0..1000 {
            let leaves: Arc<dyn EventSink> = Arc::new(Nobody);
            hub.subscribe(&leaves);
        }
        let sinks = hub.sinks.lock().unwrap();
        assert!(sinks.len() <= 4, "{}", sinks.len());
        assert!(sinks[0].upgrade().is_some());
    }
}
