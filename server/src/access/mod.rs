//! Who may do what to which object. The checks are generated from the definition files' annotations; what they ask
//! is decided by a rule file, by the host's policy (polkit), by both together, or by nobody.

mod events;
mod object;
mod polkit;
mod resolve;
mod rules;
pub(crate) mod stated;

use std::path::Path;
use std::sync::Arc;

use virtwire_driver_api::Peer;
use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::auth::polkit::Authority;

pub(crate) use events::Watched;
pub(crate) use object::{Attributes, Object};
pub(crate) use resolve::Resolve;
pub use rules::{RuleError, Rules};

/// Whom a connection belongs to, as far as the daemon has seen for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The process at the other end of a unix socket.
    pub peer: Option<Peer>,
    /// When that process was started, in clock ticks since the host was: with its id it is one process for ever.
    pub started: Option<u64>,
    /// The name under which SASL has authenticated it.
    pub sasl: Option<String>,
    /// The distinguished name of its certificate.
    pub certificate: Option<String>,
}

/// What `access_drivers` may name.
pub const DRIVERS: [&str; 3] = ["none", "polkit", "rules"];

/// Who decides: all of these together. Where there are none, whoever is connected may do what the connection may.
#[derive(Clone, Debug, Default)]
pub struct Policy(Vec<Driver>);

#[derive(Clone, Debug)]
enum Driver {
    Rules(Arc<Rules>),
    Polkit(Arc<Authority>),
}

impl Policy {
    /// A rule file decides.
    pub fn rules(rules: Rules) -> Self {
        Self(vec![Driver::Rules(Arc::new(rules))])
    }

    /// The drivers of these names; unknown ones are none. `rules` is the file of the driver of that name.
    pub(crate) fn named(drivers: &[String], rules: &Path) -> Result<Self, RuleError> {
        let driver = |name: &String| match name.as_str() {
            "rules" => Some(Rules::read(rules).map(|rules| Driver::Rules(Arc::new(rules)))),
            "polkit" => Some(Ok(Driver::Polkit(Arc::default()))),
            _ => None,
        };
        drivers.iter().filter_map(driver).collect::<Result<_, _>>().map(Self)
    }

    /// Whether anything is ever refused.
    pub(crate) fn is_guarded(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether `who` has a permission on an object of a kind.
    pub(crate) async fn permits(
        &self,
        who: &Identity,
        kind: &str,
        permission: &str,
        object: &Attributes,
    ) -> bool {
        for driver in &self.0 {
            let permitted = match driver {
                Driver::Rules(rules) => rules.permit(who, kind, permission, object),
                Driver::Polkit(authority) => authority.permits(who, kind, permission, object).await,
            };
            if !permitted {
                return false;
            }
        }
        true
    }
}

/// The refusal; it says nothing of the object.
pub(crate) fn denied(driver: &str) -> VirtError {
    ErrorDomain::ACCESS.access_denied(format_args!("'{driver}' denied access"))
}
