//! At the target: a guest's disks wait for their content, which the source's QEMU writes as a client of this one's.

use serde_json::{Value, json};

use super::params::{Asked, name};
use super::place::{Entrance, Goal, listen_address};
use super::{copied, tls};
use crate::argv::storage::top_node;
use crate::blockjob::say;
use crate::error::{QEMU, Result};
use crate::guest::Live;
use crate::ports::Lease;

/// Where the content comes in.
#[derive(Debug)]
pub(super) struct Server {
    /// In QEMU's words.
    address: Value,
    /// The port that the source is told of.
    port: Option<u16>,
    /// Nobody else's meanwhile.
    lease: Option<Lease>,
}

impl Server {
    /// Finds a place, if content of disks comes.
    ///
    /// # Errors
    /// No port is free, or what is asked for cannot be.
    pub(super) fn open(entrance: &Entrance, asked: &Asked) -> Result<Option<Self>> {
        if !copied::any(asked) {
            return Ok(None);
        }
        let (host, port) = match Goal::of_disks(asked)? {
            Some(Goal::Unix(path)) => {
                let address = json!({"type": "unix", "data": {"path": path}});
                return Ok(Some(Self { address, port: None, lease: None }));
            }
            Some(Goal::Tcp(host, port)) => (host, port),
            None => {
                let port = asked.number(name::DISKS_PORT).and_then(|port| u16::try_from(port).ok());
                (listen_address(entrance, asked), port.filter(|port| *port > 0))
            }
        };
        let lease = if port.is_none() { Some(entrance.port()?) } else { None };
        let port = port.or(lease.as_ref().map(Lease::port));
        let at = port.unwrap_or_default().to_string();
        let address = json!({"type": "inet", "data": {"host": host, "port": at}});
        Ok(Some(Self { address, port, lease }))
    }

    /// In QEMU's words.
    pub(super) fn address(&self) -> Value {
        self.address.clone()
    }

    /// Whether the port was chosen here.
    pub(super) fn is_leased(&self) -> bool {
        self.lease.is_some()
    }

    /// The port, where there is one.
    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }
}

/// Has QEMU wait for the content of the disks that come.
///
/// # Errors
/// What QEMU says.
pub(super) async fn serve(live: &Live, asked: &Asked, address: &Value) -> Result<()> {
    let disks = copied::of(&live.domain, asked);
    if disks.is_empty() {
        return Ok(());
    }
    let mut server = json!({"addr": address});
    for (name, value) in tls::parameters(asked, None).into_iter().take(1) {
        server[name] = value;
    }
    say(&live.monitor, "nbd-server-start", server).await?;
    for disk in disks {
        let none = || QEMU.internal_error("a disk without a node cannot come");
        let node = top_node(disk).ok_or_else(none)?;
        let export = json!({"type": "nbd", "id": format!("libvirt-nbd-{node}"), "node-name": node,
            "writable": true, "name": copied::export(disk)});
        say(&live.monitor, "block-export-add", export).await?;
    }
    Ok(())
}

/// All of it has come.
///
/// # Errors
/// What QEMU says.
pub(super) async fn stop(live: &Live, asked: &Asked) -> Result<()> {
    match copied::of(&live.domain, asked).is_empty() {
        true => Ok(()),
        false => say(&live.monitor, "nbd-server-stop", Value::Null).await,
    }
}
