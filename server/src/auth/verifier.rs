//! What is kept of a password: SCRAM's keys (RFC 5802), written as RFC 5803 has them. Neither tells the password, nor
//! lets its holder log in.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

/// The scheme's name in a users file.
const SCHEME: &str = "SCRAM-SHA-256";
/// Rounds for new passwords. Cyrus' clients, virsh among them, refuse more than 65536.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(32_768).unwrap();

/// A SHA-256 sum.
pub(crate) type Sum = [u8; digest::SHA256_OUTPUT_LEN];

/// The keys of one user.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(crate) iterations: NonZeroU32,
    pub(crate) salt: Vec<u8>,
    pub(crate) stored_key: Sum,
    pub(crate) server_key: Sum,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// SHA-256.
pub(crate) fn sum(bytes: &[u8]) -> Sum {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap_or_default()
}

/// HMAC with SHA-256.
pub(crate) fn mac(key: &[u8], bytes: &[u8]) -> Sum {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, bytes).as_ref().try_into().unwrap_or_default()
}

impl Verifier {
    /// Keys for a new password, under a new salt. `None` where the password is empty or holds what no password may
    /// (RFC 4013), or the host has no random numbers.
    pub fn new(password: &str) -> Option<Self> {
        let mut salt = vec![0; 16];
        SystemRandom::new().fill(&mut salt).ok()?;
        Self::derive(password, &salt, ITERATIONS)
    }

    fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Option<Self> {
        let password = stringprep::saslprep(password).ok().filter(|password| !password.is_empty())?;
        let mut salted = Sum::default();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
        Some(Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: sum(&mac(&salted, b"Client Key")),
            server_key: mac(&salted, b"Server Key"),
        })
    }

    /// Whether this is the password. Takes as long as all of its rounds.
    pub(crate) fn fits(&self, password: &str) -> bool {
        let other = Self::derive(password, &self.salt, self.iterations);
        // Sums of secrets are compared; how far they agree tells nothing of these.
        other.is_some_and(|other| other.stored_key == self.stored_key)
    }

    /// Keys for a name that nobody has: always the same, and no password fits. Who is known cannot be found out.
    pub(crate) fn decoy(secret: &Sum, name: &str) -> Self {
        let part = |what: &str| mac(secret, format!("{what}:{name}").as_bytes());
        Self {
            iterations: ITERATIONS,
            salt: part("salt")[..16].to_vec(),
            stored_key: part("stored key"),
            server_key: part("server key"),
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        write!(f, "{SCHEME}${}:{salt}${stored}:{server}", self.iterations)
    }
}

/// A text that is no [`Verifier`].
#[derive(Debug, PartialEq, Eq)]
pub struct NotAVerifier;

impl fmt::Display for NotAVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {SCHEME}$ITERATIONS:SALT$STOREDKEY:SERVERKEY")
    }
}

impl std::error::Error for NotAVerifier {}

impl FromStr for Verifier {
    type Err = NotAVerifier;

    fn from_str(text: &str) -> Result<Self, NotAVerifier> {
        let parse = || {
            let (iterations, rest) = text.strip_prefix(SCHEME)?.strip_prefix('$')?.split_once(':')?;
            let (salt, keys) = rest.split_once('$')?;
            let (stored, server) = keys.split_once(':')?;
            let key = |text| BASE64.decode(text).ok()?.try_into().ok();
            let salt = BASE64.decode(salt).ok()?;
            Some(Self {
                iterations: iterations.parse().ok()?,
                salt,
                stored_key: key(stored)?,
                server_key: key(server)?,
            })
        };
        parse().ok_or(NotAVerifier)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// RFC 7677, section 3: the user `user` has the password `pencil`.
    pub(crate) fn pencil() -> Verifier {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        Verifier::derive("pencil", &salt, NonZeroU32::new(4096).unwrap()).unwrap()
    }

    #[test]
    fn is_written_and_read() {
        let keys = pencil();
        assert!(keys.to_string().starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"));
        assert_eq!(keys.to_string().parse(), Ok(keys));
        for wrong in ["", "SCRAM-SHA-256$0:YQ==$YQ==:YQ==", "SCRAM-SHA-1$4096:YQ==$YQ==:YQ==", "pencil"] {
            assert_eq!(wrong.parse::<Verifier>(), Err(NotAVerifier), "{wrong}");
        }
    }

    #[test]
    fn only_the_password_fits() {
        assert!(pencil().fits("pencil"));
        // SASLprep: a soft hyphen is nothing.
        assert!(pencil().fits("pen\u{ad}cil"));
        assert!(!pencil().fits("Pencil") && !pencil().fits(""));
        assert_ne!(Verifier::new("a").unwrap(), Verifier::new("a").unwrap());
        assert_eq!(Verifier::new(""), None);
    }

    #[test]
    fn a_decoy_is_the_same_each_time_and_another_for_each_name() {
        let decoy = |name| Verifier::decoy(&[7; 32], name);
        assert_eq!(decoy("a"), decoy("a"));
        assert_ne!(decoy("a").salt, decoy("b").salt);
        assert_eq!(decoy("a").salt.len(), Verifier::new("x").unwrap().salt.len());
    }
}
