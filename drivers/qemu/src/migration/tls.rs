//! Migration over TLS: QEMU at both ends has the keys that `qemu.conf` names.

use serde_json::{Value, json};
use virtwire_qmp::Monitor;

use super::capabilities::Side;
use super::params::{Asked, flag, name};
use super::place::Goal;
use crate::blockjob::say;
use crate::error::Result;
use crate::policy::Tls;

/// QEMU's name of the keys.
const ID: &str = "objlibvirt_migrate_tls0";

/// Gives a QEMU the keys, if they are asked for.
///
/// # Errors
/// QEMU cannot use them.
pub(super) async fn give(keys: &Tls, qemu: &Monitor, asked: &Asked, side: Side) -> Result<()> {
    if !asked.has(flag::TLS) {
        return Ok(());
    }
    // What an earlier migration may have left is not what is asked for now.
    take(qemu).await;
    let (endpoint, verify) = match side {
        Side::Source => ("client", true),
        Side::Target => ("server", keys.verify),
    };
    let keys = json!({"qom-type": "tls-creds-x509", "id": ID, "dir": keys.dir, "endpoint": endpoint,
        "verify-peer": verify});
    say(qemu, "object-add", keys).await
}

/// Takes them from a QEMU that may have some.
pub(super) async fn take(qemu: &Monitor) {
    let _ = say(qemu, "object-del", json!({"id": ID})).await;
}

/// Whom the source wants to see at the other end: the client's word, or the host that it connects to.
fn host(asked: &Asked, goal: &Goal) -> String {
    let host = match goal {
        Goal::Tcp(host, _) => host.clone(),
        Goal::Unix(_) => String::new(),
    };
    asked.text(name::TLS_DESTINATION).unwrap_or(host)
}

/// What QEMU is told of its migration: which keys, and whom to see at `goal`, where it is the source.
pub(super) fn parameters(asked: &Asked, goal: Option<&Goal>) -> Vec<(&'static str, Value)> {
    if !asked.has(flag::TLS) {
        return Vec::new();
    }
    let host = goal.map(|goal| host(asked, goal)).unwrap_or_default();
    vec![("tls-creds", ID.into()), ("tls-hostname", host.into())]
}
