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
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let used = other.local_addr().unwrap().port();
        let (ports, range) = (Ports::default(), used..=used);
        let text = format!("Unable to find an unused port in range 'x' ({used}-{used})");
        assert!(ports.take("x", &range).unwrap_err().message.ends_with(&text));
        drop(other);
        let lease = ports.take("x", &range).unwrap();
        assert_eq!(lease.port(), used);
        assert!(ports.take("x", &range).is_err());
        drop(lease);
        ports.take("x", &range).unwrap();
    }
}
