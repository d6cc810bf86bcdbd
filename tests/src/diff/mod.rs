//! The differential run: operations written once, run through libvirt's library and through Virtwire's client on two
//! daemons, and every value, error and event compared.

pub mod corpus;
pub mod deviations;
pub mod own;
pub mod python;
pub mod report;
pub mod script;
pub mod xml;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Operations that belong together; what one session makes, it removes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Session {
    /// What it is about, `domain/life`: the part before the slash is its category.
    pub title: String,
    /// Its operations, in order.
    pub steps: Vec<Step>,
}

/// One call of libvirt's API.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The name that later steps know the object by that it returns.
    pub bind: Option<String>,
    /// The function, `virDomainSuspend`.
    pub api: String,
    /// Its arguments in the order of libvirt's C API, without the connection.
    pub args: Vec<Argument>,
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Argument {
    /// What an earlier step returned.
    Object(String),
    /// A number, a text, a list, or typed parameters as `{"weight:uint": 30}`.
    Value(Value),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// With a value; objects by what they are and their name, several results as a list.
    Value(Value),
    /// With an error of libvirt's.
    Error {
        /// `virErrorNumber`
        code: i32,
        /// `virErrorDomain`
        domain: i32,
        /// `virErrorLevel`
        level: i32,
        /// The whole text.
        message: String,
    },
    /// It was not made: its object is missing, or the client does not know the call.
    Unknown(String),
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// Class and id, `domain 0`.
    pub kind: String,
    /// The object's name.
    pub object: String,
    /// What else it says; of a life cycle, event and detail.
    pub detail: String,
}

/// How one session went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Played {
    /// An outcome per step.
    pub outcomes: Vec<Outcome>,
    /// The events until its end, in the order of their kinds.
    pub events: Vec<Happened>,
}

/// Operations on one hypervisor.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// The hypervisor.
    pub uri: &'static str,
    /// The file of operations, and the section of deviations.
    pub operations: &'static str,
}

/// The scripts that the tests play.
pub const SCRIPTS: &[Script] = &[TEST, QEMU];
/// The test hypervisor.
pub const TEST: Script = Script { uri: "test:///default", operations: "diff/test.txt" };
/// Guests of the machine.
pub const QEMU: Script = Script { uri: "qemu:///system", operations: "diff/qemu.txt" };

/// The two clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Client {
    /// libvirt's library, by its Python binding.
    Library,
    /// `virtwire-client`.
    Own,
}

impl Client {
    /// Plays all sessions at a URI.
    ///
    /// # Errors
    /// If the client cannot connect or loses its connection: the sessions played until then are lost with it.
    pub fn play(self, uri: &str, sessions: &[Session]) -> Result<Vec<Played>, String> {
        match self {
            Self::Library => python::play(uri, sessions),
            Self::Own => own::play(uri, sessions),
        }
    }
}

/// The domain whose definition and removal end each session, so that events until then are known to be all; of the
/// kind of the URI's hypervisor.
pub fn fence(uri: &str) -> String {
    let kind = if uri.starts_with("test") { "test" } else { "qemu" };
    format!(
        "<domain type='{kind}'><name>{FENCE}</name><memory>8192</memory><os><type>hvm</type></os></domain>"
    )
}

/// The name of [`fence`]'s domain.
pub const FENCE: &str = "end-of-session";

/// The classes of events, and how many ids of each are registered.
pub const EVENTS: &[(&str, i32)] =
    &[("domain", 27), ("network", 2), ("storage_pool", 2), ("node_device", 2), ("secret", 2)];

/// Without the event of a QEMU that shuts down because it is told to end: libvirtd hears of it in time or not.
fn heard(mut played: Vec<Played>) -> Vec<Played> {
    for session in &mut played {
        session.events.retain(|event| (event.kind.as_str(), event.detail.as_str()) != ("domain 0", "6 2"));
    }
    played
}

/// Plays the sessions with both clients at both URIs, and says where the answers differ.
///
/// # Errors
/// If a client cannot play them.
pub fn run(uris: [&str; 2], sessions: &[Session]) -> Result<report::Differences, String> {
    let mut found = report::Differences::default();
    let mut played = Vec::new();
    for client in [Client::Library, Client::Own] {
        let [left, right] = uris.map(|uri| client.play(uri, sessions));
        let (left, right) = (heard(left?), heard(right?));
        found.daemons(client, sessions, &left, &right);
        played.push([left, right]);
    }
    if let [library, own] = &played[..] {
        for (uri, (library, own)) in uris.iter().zip(library.iter().zip(own)) {
            found.clients(uri, sessions, library, own);
        }
    }
    Ok(found)
}
