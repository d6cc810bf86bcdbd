//! What a host's audit system is to know of guests.

use virtwire_protocol::remote::NonnullDomain;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// The guest.
    pub guest: NonnullDomain,
    /// Whether it was done, or only tried.
    pub success: bool,
    /// What was done.
    pub fact: AuditFact,
}

/// What was done to a guest.
#[derive(Clone, Debug, PartialEq)]
pub enum AuditFact {
    /// It was started or stopped.
    Operation {
        /// `start`, `stop`
        name: &'static str,
        /// Why, in libvirt's words.
        reason: &'static str,
        /// Its process; 0 where there is none.
        pid: u32,
    },
    /// It runs under a label.
    Label {
        /// The security driver: `dac`.
        model: String,
        /// The label of its process.
        process: String,
        /// The label of its images.
        image: String,
    },
    /// It got something of the host's, or something else than before.
    Resource(Resource),
}

/// Something of the host's that a guest has.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// `disk`, `net`, `mem`, …
    pub kind: &'static str,
    /// `start`, `attach`, `update`
    pub reason: &'static str,
    /// What it had.
    pub old: Amount,
    /// What it has.
    pub new: Amount,
}

/// Which, or how much.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// So many, or so many KiB.
    Number(u64),
    /// The file, the address; `None` where there is none.
    Name(Option<String>),
}
