//! Migration over TLS: QEMU at both ends has the keys that `qemu.conf` names.

use std::io;
use std::path::Path;

use serde_json::{Value, json};
use virtwire_qmp::Monitor;

use super::capabilities::Side;
use super::params::{Asked, flag, name};
use super::place::Goal;
use crate::blockjob::say;
use crate::error::Result;
use crate::settings::Settings;

/// QEMU's name of the keys.
const ID: &str = "objlibvirt_migrate_tls0";

/// Where keys for migrations are, if they are there, and where those for everything are.
const OWN: &str = "/etc/pki/libvirt-migrate";
const COMMON: &str = "/etc/pki/qemu";

/// What `qemu.conf` says of keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Where they are (`migrate_tls_x509_cert_dir`, `default_tls_x509_cert_dir`).
    dir: String,
    /// Whether a target wants to see the source's (`migrate_tls_x509_verify`, `default_tls_x509_verify`).
    verify: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self { dir: COMMON.to_owned(), verify: true }
    }
}

impl Keys {
    /// As `qemu.conf` says.
    ///
    /// # Errors
    /// It says something that is none of that.
    pub(super) fn of(settings: &Settings) -> io::Result<Self> {
        let usual = settings.text("default_tls_x509_cert_dir")?;
        let own = || Some(OWN.to_owned()).filter(|own| Path::new(own).is_dir());
        let dir = settings.text("migrate_tls_x509_cert_dir")?.or(usual).or_else(own);
        let verify = settings.flag("migrate_tls_x509_verify")?.or(settings.flag("default_tls_x509_verify")?);
        Ok(Self { dir: dir.unwrap_or_else(|| COMMON.to_owned()), verify: verify.unwrap_or(true) })
    }

    /// Gives them to a QEMU, if they are asked for.
    ///
    /// # Errors
    /// QEMU cannot use them.
    pub(super) async fn give(&self, qemu: &Monitor, asked: &Asked, side: Side) -> Result<()> {
        if !asked.has(flag::TLS) {
            return Ok(());
        }
        // What an earlier migration may have left is not what is asked for now.
        take(qemu).await;
        let (endpoint, verify) = match side {
            Side::Source => ("client", true),
            Side::Target => ("server", self.verify),
        };
        let keys = json!({"qom-type": "tls-creds-x509", "id": ID, "dir": self.dir, "endpoint": endpoint,
            "verify-peer": verify});
        say(qemu, "object-add", keys).await
    }
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
