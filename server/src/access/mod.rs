//! Who may do what to which object. The checks are generated from the definition files' annotations; what they ask
//! is decided by a rule file, or by nobody.

mod object;
mod resolve;
mod rules;

use virtwire_driver_api::Peer;
use virtwire_protocol::error::{ErrorDomain, VirtError};

pub(crate) use object::{Attributes, Object};
pub(crate) use resolve::Resolve;
pub use rules::{RuleError, Rules};

/// Whom a connection belongs to, as far as the daemon has seen for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The process at the other end of a unix socket.
    pub peer: Option<Peer>,
    /// The name under which SASL has authenticated it.
    pub sasl: Option<String>,
    /// The distinguished name of its certificate.
    pub certificate: Option<String>,
}

/// Who decides.
#[derive(Clone, Debug, Default)]
pub enum Policy {
    /// Nobody: whoever is connected may do what the connection may.
    #[default]
    Open,
    /// A rule file.
    Rules(std::sync::Arc<Rules>),
}

impl Policy {
    /// Whether anything is ever refused.
    pub(crate) fn is_guarded(&self) -> bool {
        matches!(self, Self::Rules(_))
    }

    /// Whether `who` has a permission on an object of a kind.
    pub(crate) fn permits<O: Object + ?Sized>(
        &self,
        who: &Identity,
        kind: &'static str,
        permission: &'static str,
        object: &O,
    ) -> bool {
        match self {
            Self::Open => true,
            Self::Rules(rules) => {
                let mut attributes = Attributes::default();
                object.describe(kind, &mut attributes);
                rules.permit(who, kind, permission, &attributes)
            }
        }
    }
}

/// The refusal; it says nothing of the object.
pub(crate) fn denied() -> VirtError {
    ErrorDomain::ACCESS.access_denied("")
}
