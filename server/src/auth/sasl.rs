//! SASL (RFC 4422): which mechanisms are offered where, and a login from its start to its end.

use std::path::PathBuf;

use ring::rand::{SecureRandom, SystemRandom};
use virtwire_socket::Seal;

#[cfg(feature = "gssapi")]
use super::gssapi;
use super::scram::Challenge;
use super::verifier::{Sum, Verifier};
use super::{PasswordFile, Refused};
use crate::config::Settings;
use crate::glob;
use crate::transport::{self, Socket};
use crate::users;

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// The password is proved and never sent.
    ScramSha256,
    /// The password is sent.
    Plain,
    /// The transport knows who it is: by certificate, or by user id.
    External,
    /// Kerberos knows who it is, and what follows can be encrypted.
    #[cfg(feature = "gssapi")]
    Gssapi,
}

/// The mechanisms by name, best first.
pub(crate) const MECHANISMS: &[(&str, Mechanism)] = &[
    #[cfg(feature = "gssapi")]
    ("GSSAPI", Mechanism::Gssapi),
    ("SCRAM-SHA-256", Mechanism::ScramSha256),
    ("PLAIN", Mechanism::Plain),
    ("EXTERNAL", Mechanism::External),
];

impl Mechanism {
    fn of(name: &str) -> Option<Self> {
        MECHANISMS.iter().find(|(known, _)| *known == name).map(|(_, mechanism)| *mechanism)
    }

    /// How strong the encryption of what comes after it is, in bits: the least that Kerberos has now.
    fn strength(self) -> u32 {
        match self {
            #[cfg(feature = "gssapi")]
            Self::Gssapi => 112,
            Self::ScramSha256 | Self::Plain | Self::External => 0,
        }
    }

    /// Whether it may be used here; on plain TCP it must have this strength (`tcp_min_ssf`).
    fn fits(self, socket: &Socket, least: u32) -> bool {
        match (self, socket) {
            (_, Socket::Tcp(_)) => self.strength() >= least,
            #[cfg(feature = "gssapi")]
            (Self::Gssapi, _) => true,
            (Self::ScramSha256, Socket::Unix(_) | Socket::Tls(_)) | (Self::Plain, Socket::Tls(_)) => true,
            (Self::Plain, Socket::Unix(_)) => false,
            (Self::External, _) => external(socket).is_some(),
        }
    }
}

/// Who the transport says that the client is.
fn external(socket: &Socket) -> Option<String> {
    match socket {
        Socket::Unix(_) => users::user(transport::peer(socket)?.uid),
        Socket::Tls(_) => socket.peer_name().map(str::to_owned),
        Socket::Tcp(_) => None,
    }
}

/// What all logins of a daemon share.
pub(crate) struct Sasl {
    mechanisms: Vec<Mechanism>,
    users: PathBuf,
    /// The strength that a mechanism must have on plain TCP.
    least: u32,
    /// Patterns of names; `None` is everybody.
    allowed: Option<Vec<String>>,
    /// What decoys are made of.
    secret: Sum,
}

/// A login that has begun.
pub(crate) enum Exchange {
    /// The client knows the mechanisms.
    Offered,
    /// The client is to prove that it knows the password.
    Challenged(Box<Challenge>),
    /// The client has shown its ticket.
    #[cfg(feature = "gssapi")]
    Ticket(Box<gssapi::Login>),
}

/// What comes next of a login.
pub(crate) enum Step {
    /// The client must answer this.
    Goes(Exchange, Vec<u8>),
    /// It is this user; there may be a last word for the client, and encryption behind it.
    Done { name: String, data: Option<Vec<u8>>, seal: Option<Box<dyn Seal>> },
}

impl Sasl {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut secret = Sum::default();
        // Without random numbers no login succeeds; the decoys are then of no use to anybody.
        let _ = SystemRandom::new().fill(&mut secret);
        Self {
            mechanisms: settings.sasl_mechanisms.iter().filter_map(|name| Mechanism::of(name)).collect(),
            users: PathBuf::from(&settings.sasl_users_file),
            least: settings.tcp_min_ssf,
            allowed: settings.sasl_allowed_username_list.clone(),
            secret,
        }
    }

    /// The names of the mechanisms that may be used over this socket.
    pub(crate) fn offer(&self, socket: &Socket) -> Result<String, Refused> {
        let fits =
            |mechanism: Mechanism| self.mechanisms.contains(&mechanism) && mechanism.fits(socket, self.least);
        let names: Vec<_> = MECHANISMS.iter().filter(|row| fits(row.1)).map(|row| row.0).collect();
        if names.is_empty() { Err(Refused("no SASL mechanisms are available")) } else { Ok(names.join(",")) }
    }

    /// The first message of a login.
    pub(crate) fn start(
        &self,
        socket: &Socket,
        mechanism: &str,
        data: Option<&[u8]>,
    ) -> Result<Step, Refused> {
        let data = data.unwrap_or_default();
        let mechanism = Mechanism::of(mechanism).filter(|known| self.mechanisms.contains(known));
        match mechanism.filter(|mechanism| mechanism.fits(socket, self.least)) {
            Some(Mechanism::ScramSha256) => {
                let (challenge, answer) = Challenge::new(data, |name| self.keys(name))?;
                Ok(Step::Goes(Exchange::Challenged(Box::new(challenge)), answer))
            }
            #[cfg(feature = "gssapi")]
            Some(Mechanism::Gssapi) => {
                self.ticket(gssapi::Login::start(data, matches!(socket, Socket::Tcp(_)))?)
            }
            Some(Mechanism::Plain) => self.done(self.plain(data)?, None, None),
            Some(Mechanism::External) => {
                let name = external(socket).ok_or(Refused("the transport does not know the client"))?;
                if !data.is_empty() && data != name.as_bytes() {
                    return Err(Refused("nobody speaks for others here"));
                }
                self.done(name, None, None)
            }
            None => Err(Refused("the SASL mechanism was not offered")),
        }
    }

    /// The next message.
    pub(crate) fn step(&self, exchange: Exchange, data: Option<&[u8]>) -> Result<Step, Refused> {
        let data = data.unwrap_or_default();
        match exchange {
            Exchange::Offered => Err(Refused("no SASL login has begun")),
            Exchange::Challenged(challenge) => {
                let (name, answer) = challenge.prove(data)?;
                self.done(name, Some(answer), None)
            }
            #[cfg(feature = "gssapi")]
            Exchange::Ticket(login) => self.ticket(login.step(data)?),
        }
    }

    #[cfg(feature = "gssapi")]
    fn ticket(&self, next: gssapi::Next) -> Result<Step, Refused> {
        match next {
            gssapi::Next::Goes(login, data) => Ok(Step::Goes(Exchange::Ticket(Box::new(login)), data)),
            gssapi::Next::Done(name, seal) => self.done(name, None, seal),
        }
    }

    fn done(
        &self,
        name: String,
        data: Option<Vec<u8>>,
        seal: Option<Box<dyn Seal>>,
    ) -> Result<Step, Refused> {
        let fits = |list: &Vec<String>| list.iter().any(|pattern| glob::matches(pattern, &name));
        if self.allowed.as_ref().is_none_or(fits) {
            Ok(Step::Done { name, data, seal })
        } else {
            Err(Refused("the user is not in sasl_allowed_username_list"))
        }
    }

    /// A user's keys; a decoy's where there is no such user.
    fn keys(&self, name: &str) -> Result<Verifier, Refused> {
        let users = PasswordFile::read(&self.users).map_err(|error| {
            tracing::error!(%error, "the SASL users cannot be read");
            Refused("the users file cannot be read")
        })?;
        Ok(users.get(name).cloned().unwrap_or_else(|| Verifier::decoy(&self.secret, name)))
    }

    //= RFC 4616, section 2
    //# message   = [authzid] UTF8NUL authcid UTF8NUL passwd
    fn plain(&self, message: &[u8]) -> Result<String, Refused> {
        let malformed = Refused("malformed PLAIN message");
        let mut parts = std::str::from_utf8(message).map_err(|_| malformed)?.split('\0');
        let (Some(authzid), Some(name), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed);
        };
        if !authzid.is_empty() && authzid != name {
            return Err(Refused("nobody speaks for others here"));
        }
        if self.keys(name)?.fits(password) {
            Ok(name.to_owned())
        } else {
            Err(Refused("no such user, or the wrong password"))
        }
    }
}
