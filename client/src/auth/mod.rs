//! Authentication: what the daemon asks for, and who answers.

mod credentials;
mod file;
mod sasl;

use std::fmt;

use virtwire_protocol::remote::AuthType;

use crate::{Connection, Error};

use credentials::Login;
pub(crate) use credentials::Source;
pub use credentials::{CredentialKind, CredentialRequest, Credentials};

/// Why a daemon does not let us in, as far as it is not the daemon's own error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The daemon asks for kinds of authentication that are not known here, by number.
    Unknown(Vec<i32>),
    /// SASL over plain TCP: what follows the login could be read and changed by anybody on the way.
    Unprotected,
    /// None of the mechanisms that the daemon offers is known here, or it offers none.
    NoMechanism(String),
    /// The daemon asks for a name and a password, and nobody has given them.
    NoCredentials(String),
    /// The daemon's part of the exchange is wrong: it may not know the password, or not be who it says.
    Exchange(String),
    /// `auth.conf` cannot be used: file and reason.
    File(std::path::PathBuf, String),
    /// polkit has not said yes.
    Polkit,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(kinds) => {
                write!(f, "the daemon asks for authentication of kinds {kinds:?}, which are not known")
            }
            Self::Unprotected => f.write_str(
                "the daemon asks for a login over plain TCP, which anybody on the way could take over: use tls or ssh",
            ),
            Self::NoMechanism(offered) => write!(
                f,
                "the daemon offers the SASL mechanisms '{offered}'; known are SCRAM-SHA-512, SCRAM-SHA-256, PLAIN and \
                 EXTERNAL"
            ),
            Self::NoCredentials(host) => write!(
                f,
                "the daemon asks for a name and a password: put them into auth.conf, section \
                 [auth-libvirt-{host}], or give a callback"
            ),
            Self::Exchange(why) => write!(f, "SASL: {why}"),
            Self::File(file, why) => write!(f, "{}: {why}", file.display()),
            Self::Polkit => f.write_str("polkit has not allowed it"),
        }
    }
}

impl std::error::Error for AuthError {}

/// Does what the daemon asks for; a choice that holds "none", and nothing to choose from, let the client in.
pub(crate) async fn authenticate(connection: &Connection, source: &Source<'_>) -> Result<(), Error> {
    let types = connection.auth_list().await?.types;
    if types.is_empty() || types.contains(&AuthType::NONE) {
        return Ok(());
    }
    if types.contains(&AuthType::SASL) {
        return sasl::login(connection, source).await;
    }
    if types.contains(&AuthType::POLKIT) {
        let done = connection.auth_polkit().await?.complete != 0;
        return if done { Ok(()) } else { Err(AuthError::Polkit.into()) };
    }
    Err(AuthError::Unknown(types.iter().map(|kind| kind.0).collect()).into())
}
