//! Names and passwords: from the URI, from `auth.conf`, from whoever opens the connection.

use std::fmt;
use std::sync::Arc;

use super::{AuthError, file};
use crate::uri::Target;

/// What is asked for: `virConnectCredentialType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// The name to log in with.
    AuthName,
    /// The password to it.
    Passphrase,
}

/// A question to whoever opens a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialRequest<'a> {
    /// What is asked for.
    pub kind: CredentialKind,
    /// The host that asks.
    pub host: &'a str,
    /// The SASL mechanism.
    pub mechanism: &'a str,
    /// A text to show, such as `Enter anna's password for far`.
    pub prompt: &'a str,
}

/// Who is asked for names and passwords that stand in no file. `None` gives up. It is called once per question, from the
/// task that opens the connection.
#[derive(Clone)]
pub struct Credentials(Arc<Answer>);

/// Gives what is asked for.
type Answer = dyn Fn(&CredentialRequest<'_>) -> Option<String> + Send + Sync;

impl Credentials {
    /// Asks a function.
    pub fn ask(answer: impl Fn(&CredentialRequest<'_>) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    /// Gives this name and password to whoever asks.
    pub fn fixed(name: impl Into<String>, password: impl Into<String>) -> Self {
        let (name, password) = (name.into(), password.into());
        Self::ask(move |request| {
            Some(match request.kind {
                CredentialKind::AuthName => name.clone(),
                CredentialKind::Passphrase => password.clone(),
            })
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A name and its password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// Where a connection may take a login from.
pub(crate) struct Source<'a> {
    pub(crate) target: &'a Target,
    pub(crate) callback: Option<&'a Credentials>,
    /// Whether nobody on the way can read and change what is sent.
    pub(crate) private: bool,
}

impl Source<'_> {
    /// The name of the URI goes before that of `auth.conf`, and the file before whoever can be asked.
    pub(super) fn login(&self, mechanism: &str) -> Result<Option<Login>, AuthError> {
        let host = self.target.host();
        let (mut name, password) = file::lookup(self.target.parameters.authfile.as_deref(), host)?;
        if self.target.user.is_some() {
            name = self.target.user.clone();
        }
        let ask = |kind, prompt: &str| {
            self.callback
                .and_then(|callback| (callback.0)(&CredentialRequest { kind, host, mechanism, prompt }))
        };
        let name = name.or_else(|| ask(CredentialKind::AuthName, &format!("Enter username for {host}")));
        let Some(name) = name else { return Ok(None) };
        let prompt = format!("Enter {name}'s password for {host}");
        let password = password.or_else(|| ask(CredentialKind::Passphrase, &prompt));
        Ok(password.map(|password| Login { name, password }))
    }
}
