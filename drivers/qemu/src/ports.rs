//! Ports that QEMU listens at, or is about to.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{QEMU, Result};

/// Those that are taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports(Arc<Mutex<BTreeSet<u16>>>);

impl Ports {
    /// Takes the first of a range, by its name, at which nobody listens.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn take(&self, name: &str, range: &RangeInclusive<u16>) -> Result<Lease> {
        self.take_if(is_free, name, range)
    }

    fn take_if(&self, is_free: fn(u16) -> bool, name: &str, range: &RangeInclusive<u16>) -> Result<Lease> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = range.clone().find(|port| !taken.contains(port) && is_free(*port));
        let port = free.ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            QEMU.internal_error(format_args!(
                "Unable to find an unused port in range '{name}' ({first}-{last})"
            ))
        })?;
        taken.insert(port);
        Ok(Lease { port, ports: self.clone() })
    }
}

/// A port that nobody else takes for as long as there is this.
#[derive(Debug)]
pub(crate) struct Lease {
    port: u16,
    ports: Ports,
}

impl Lease {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ports.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.port);
    }
}

/// Whether nobody listens at a port, by either protocol.
fn is_free(port: u16) -> bool {
    ["0.0.0.0", "::"].iter().all(|address| match TcpListener::bind((*address, port)) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::AddrInUse,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_somebodys_until_it_is_given_up() {
        let (ports, range) = (Ports::default(), 10..=12);
        let take = || ports.take_if(|port| port != 11, "x", &range);
        let (first, second) = (take().unwrap(), take().unwrap());
        assert_eq!((first.port(), second.port()), (10, 12));
        let text = "Unable to find an unused port in range 'x' (10-12)";
        assert!(take().unwrap_err().message.ends_with(text));
        drop(first);
        assert_eq!(take().unwrap().port(), 10);
    }

    #[test]
    fn a_port_at_which_somebody_listens_is_not_free() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let used = other.local_addr().unwrap().port();
        assert!(Ports::default().take("x", &(used..=used)).is_err());
    }
}
