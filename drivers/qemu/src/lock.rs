//! How much of its memory a guest's QEMU may lock (`RLIMIT_MEMLOCK`).

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use virtwire_conf::Domain;
use virtwire_conf::domain::misc::{HostdevMode, HostdevType};

/// A guest whose memory is locked and that has no limit of its own may have as much as there is.
pub(crate) const UNLIMITED: u64 = (1 << 53) - 1;

/// Beside a guest's memory, a device that reaches all of it needs so much for what it maps.
const FOR_DEVICES: u64 = 1 << 30;

/// The bytes that a guest may lock; `None` leaves it at what the daemon itself may.
pub(crate) fn limit(domain: &Domain) -> Option<u64> {
    let hard = domain.memtune.as_ref().and_then(|memory| memory.hard_limit);
    if let Some(hard) = hard {
        return Some(hard.0.saturating_mul(1024).min(UNLIMITED));
    }
    if domain.memory_backing.as_ref().is_some_and(|backing| backing.locked) {
        return Some(UNLIMITED);
    }
    let reaches_memory = domain.devices.hostdevs.iter().any(|device| {
        device.mode == HostdevMode::Subsystem && matches!(device.type_, HostdevType::Pci | HostdevType::Mdev)
    });
    let memory = domain.memory.as_ref().map_or(0, |memory| memory.size.0.saturating_mul(1024));
    reaches_memory.then(|| memory.saturating_add(FOR_DEVICES).min(UNLIMITED))
}

/// Starts a process that may lock so much. A process has the limit of the one that starts it, so the daemon takes it on
/// for as long.
///
/// # Errors
/// Nobody may raise the limit here, or whatever `start` ends with.
pub(crate) fn with<T>(bytes: Option<u64>, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    static ONE: Mutex<()> = Mutex::new(());
    let Some(bytes) = bytes else { return start() };
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = getrlimit(Resource::Memlock);
    // The upper limit is only moved where it must be: to come back is a privilege.
    let maximum = before.maximum.map(|maximum| maximum.max(bytes));
    let raised = Rlimit { current: Some(bytes), maximum };
    let cannot = |error: rustix::io::Errno| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("cannot limit locked memory to {bytes}: {error}"))
    };
    setrlimit(Resource::Memlock, raised).map_err(cannot)?;
    let started = start();
    if let Err(error) = setrlimit(Resource::Memlock, before) {
        tracing::warn!(%error, "the daemon's own limit of locked memory stays that of a guest");
    }
    started
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;

    use super::*;

    fn limit_of(inside: &str) -> Option<u64> {
        let xml = format!(
            "<domain type='test'><name>g</name><memory unit='MiB'>64</memory>{inside}<os><type>hvm</type></os></domain>"
        );
        limit(&Domain::parse(&xml, &ParseOptions::default()).unwrap())
    }

    #[test]
    fn memory_is_locked_where_a_definition_asks_for_it() {
        let hard = "<memtune><hard_limit unit='MiB'>512</hard_limit></memtune>";
        let locked = "<memoryBacking><locked/></memoryBacking>";
        let device =
            "<devices><hostdev mode='subsystem' type='pci'><source><address domain='0' bus='1' slot='0'
            function='0'/></source></hostdev></devices>";
        assert_eq!(limit_of(""), None);
        assert_eq!(limit_of(hard), Some(512 << 20));
        assert_eq!(limit_of(locked), Some(UNLIMITED));
        assert_eq!(limit_of(&format!("{hard}{locked}")), Some(512 << 20));
        assert_eq!(limit_of(device), Some((64 << 20) + (1 << 30)));
    }

    #[test]
    fn a_limit_holds_for_as_long_as_a_process_is_started() {
        let before = getrlimit(Resource::Memlock);
        // Below any limit there is, so that it takes no privilege.
        let within = with(Some(4096), || Ok(getrlimit(Resource::Memlock).current)).unwrap();
        assert_eq!(within, Some(4096));
        assert_eq!(getrlimit(Resource::Memlock), before);
    }
}
