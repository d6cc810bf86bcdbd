//! Certificates of encrypted connections.

use serde_json::Value;
use virtwire_conf::domain::disk::SecretReference;
use virtwire_protocol::VirtError;

use super::{Json, Vault};
use crate::command::CommandLine;
use crate::policy::Tls;

/// What encrypted connections of a kind need.
#[derive(Clone, Copy)]
pub(crate) struct Credentials<'a> {
    pub(crate) tls: &'a Tls,
    pub(crate) vault: &'a Vault,
}

impl Credentials<'_> {
    /// Adds the certificates of a connection, and before them the password of their key.
    ///
    /// # Errors
    /// The password was not looked up.
    pub(crate) fn add(
        self,
        line: &mut CommandLine,
        id: &str,
        secret: &str,
        serves: bool,
    ) -> Result<(), VirtError> {
        let reference = reference(self.tls);
        if let Some(reference) = &reference {
            self.vault.object(secret, self.vault.value(reference)?).add(line);
        }
        Json::object("tls-creds-x509", id)
            .with("dir", self.tls.dir.as_str())
            .with("endpoint", if serves { "server" } else { "client" })
            // Who serves has to show a certificate always.
            .with("verify-peer", !serves || self.tls.verify)
            .with_if("passwordid", reference.map(|_| Value::from(secret)))
            .add(line);
        Ok(())
    }
}

/// The secret that holds the password of a key, if it has one.
pub(crate) fn reference(tls: &Tls) -> Option<SecretReference> {
    tls.secret.map(|uuid| SecretReference { uuid: Some(uuid), ..SecretReference::default() })
}
