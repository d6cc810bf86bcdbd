//! Migration over TLS: QEMU at both ends has the keys that `qemu.conf` names.

use serde_json::{Value, json};
use virtwire_conf::secret::SecretUsageType;
use virtwire_qmp::Monitor;

use super::capabilities::Side;
use super::params::{Asked, flag, name};
use super::place::Goal;
use crate::argv::tls::{Credentials, reference};
use crate::blockjob::say;
use crate::command::CommandLine;
use crate::devices::run;
use crate::driver::Qemu;
use crate::error::Result;
use crate::guest::Live;
use crate::policy::Tls;
use crate::prepare;

/// QEMU's name of the keys.
const ID: &str = "objlibvirt_migrate_tls0";

/// QEMU's name of what their password is in.
const SECRET: &str = "libvirt_migrate-secret0";

/// The keys, and their password.
pub(super) struct Keys {
    tls: Tls,
    password: Option<Vec<u8>>,
}

impl Keys {
    /// Those of this host, with their password where they are asked for.
    ///
    /// # Errors
    /// There is no such secret, or nothing in it.
    pub(super) async fn of(driver: &Qemu, asked: &Asked) -> Result<Self> {
        let tls = driver.shared.entrance.keys.clone();
        let password = match tls.secret.filter(|_| asked.has(flag::TLS)) {
            Some(uuid) => Some(prepare::password(driver, SecretUsageType::Tls, uuid).await?),
            None => None,
        };
        Ok(Self { tls, password })
    }

    /// Gives them to a guest's QEMU, if they are asked for.
    ///
    /// # Errors
    /// QEMU cannot use them.
    pub(super) async fn give(&self, live: &Live, asked: &Asked, side: Side) -> Result<()> {
        if !asked.has(flag::TLS) {
            return Ok(());
        }
        // What an earlier migration may have left is not what is asked for now.
        take(&live.monitor).await;
        let mut vault = prepare::vault_of(&live.dir)?;
        if let (Some(reference), Some(password)) = (reference(&self.tls), &self.password) {
            vault.insert(reference, password.clone());
        }
        let mut line = CommandLine::to_plug(0);
        let credentials = Credentials { tls: &self.tls, vault: &vault };
        credentials.add(&mut line, ID, SECRET, matches!(side, Side::Target))?;
        run(&live.monitor, line).await
    }
}

/// Takes them from a QEMU that may have some.
pub(super) async fn take(qemu: &Monitor) {
    for id in [ID, SECRET] {
        let _ = say(qemu, "object-del", json!({"id": id})).await;
    }
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
