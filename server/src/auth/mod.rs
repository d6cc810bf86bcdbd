//! Who a client is: SASL with the users of a file, or polkit for local processes.

#[cfg(feature = "gssapi")]
mod gssapi;
mod login;
mod password_file;
pub(crate) mod polkit;
mod sasl;
mod scram;
mod verifier;

pub(crate) use login::{Login, Message};
pub use password_file::PasswordFile;
pub(crate) use sasl::{MECHANISMS, Sasl};
pub use verifier::{NotAVerifier, Verifier};

/// Why a client is not let in. For the log; the client learns that it is not, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);
