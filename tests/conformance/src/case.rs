//! What a case is, and how it ends.

use std::fmt;
use std::path::PathBuf;

use crate::peer::{Peer, PeerError};

/// The daemon under test.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its read-write socket.
    pub socket: PathBuf,
    /// Its read-only socket.
    pub socket_ro: Option<PathBuf>,
    /// Its administration socket.
    pub socket_admin: Option<PathBuf>,
    /// The hypervisor to open, without transport.
    pub uri: String,
    /// Whether it is to be spared what not every daemon survives.
    pub spared: bool,
}

impl Target {
    /// Connected, nothing said.
    pub fn connect(&self) -> Result<Peer, PeerError> {
        Peer::connect(&self.socket)
    }

    /// Authenticated and open.
    pub fn open(&self) -> Result<Peer, PeerError> {
        let mut peer = self.connect()?;
        peer.open(&self.uri)?;
        Ok(peer)
    }

    /// Authenticated and open on the read-only socket.
    pub fn open_read_only(&self) -> Result<Peer, Failure> {
        let Some(socket) = &self.socket_ro else { return Err(Failure::Skipped("no read-only socket given")) };
        let mut peer = Peer::connect(socket)?;
        peer.open(&self.uri)?;
        Ok(peer)
    }

    /// Open on the administration socket.
    pub fn open_admin(&self) -> Result<Peer, Failure> {
        let Some(socket) = &self.socket_admin else {
            return Err(Failure::Skipped("no administration socket given"));
        };
        Ok(Peer::connect(socket)?)
    }
}

/// One thing to find out.
pub struct Case {
    /// `remote/DOMAIN_SUSPEND/truncated`: stable, so that results can be compared over time.
    pub id: String,
    /// What it proves.
    pub proves: &'static str,
    /// Where the rule comes from.
    pub source: &'static str,
    /// Finds out.
    pub run: Run,
}

/// How a case finds out.
pub type Run = Box<dyn Fn(&Target) -> Result<(), Failure> + Send + Sync>;

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// Why a case is not passed.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be tried here.
    Skipped(&'static str),
    /// The daemon did something else.
    Differs(String),
    /// The connection broke where it should not.
    Peer(PeerError),
}

impl From<PeerError> for Failure {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(why) => write!(f, "skipped: {why}"),
            Self::Differs(how) => f.write_str(how),
            Self::Peer(error) => error.fmt(f),
        }
    }
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "lowercase")]
pub enum Outcome {
    /// As it should.
    Passed,
    /// Otherwise, and how.
    Failed(String),
    /// Could not be tried, and why.
    Skipped(String),
}

impl Case {
    /// Finds out.
    pub fn outcome(&self, target: &Target) -> Outcome {
        match (self.run)(target) {
            Ok(()) => Outcome::Passed,
            Err(Failure::Skipped(why)) => Outcome::Skipped(why.to_owned()),
            Err(failure) => Outcome::Failed(failure.to_string()),
        }
    }
}

/// `Ok` if `got` is `expected`, else both.
pub fn expect<T: PartialEq + fmt::Debug>(what: &str, expected: T, got: T) -> Result<(), Failure> {
    if got == expected {
        return Ok(());
    }
    Err(Failure::Differs(format!("{what}: expected {expected:?}, got {got:?}")))
}
