//! Who may do what to which object. The checks are generated from the definition files' annotations; what they ask
//! is decided by a rule file, by the host's policy (polkit), by both together, or by nobody.

mod events;
mod object;
mod polkit;
mod resolve;
mod rules;
pub(crate) mod stated;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use virtwire_driver_api::Peer;
use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::auth::polkit::Authority;
use crate::users::Names;

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
    Rules(Arc<RuleFile>),
    Polkit(Arc<Authority>),
}

/// The rules that hold now, and the file they came from.
#[derive(Debug)]
struct RuleFile {
    path: Option<PathBuf>,
    rules: RwLock<Arc<Rules>>,
}

impl RuleFile {
    fn driver(path: Option<PathBuf>, rules: Rules) -> Driver {
        Driver::Rules(Arc::new(Self { path, rules: RwLock::new(Arc::new(rules)) }))
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Policy {
    /// A rule file decides.
    pub fn rules(rules: Rules) -> Self {
        Self(vec![RuleFile::driver(None, rules)])
    }

    /// Reads the rule file again, if there is one. Where it is bad, what it said before holds.
    pub(crate) fn reload(&self) -> Result<(), RuleError> {
        for driver in &self.0 {
            if let Driver::Rules(file) = driver
                && let Some(path) = &file.path
            {
                let new = Arc::new(Rules::read(path)?);
                *file.rules.write().unwrap_or_else(PoisonError::into_inner) = new;
            }
        }
        Ok(())
    }

    /// The drivers of these names; unknown ones are none. `rules` is the file of the driver of that name.
    pub(crate) fn named(drivers: &[String], rules: &Path) -> Result<Self, RuleError> {
        let driver = |name: &String| match name.as_str() {
            "rules" => Some(Rules::read(rules).map(|read| RuleFile::driver(Some(rules.to_owned()), read))),
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
                Driver::Rules(file) => {
                    let names = match who.peer {
                        Some(peer) => Names::of(peer).await,
                        None => Arc::default(),
                    };
                    file.rules().permit(who, &names, kind, permission, object)
                }
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
