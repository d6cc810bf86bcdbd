//! The host's policy decides on each object: the questions that libvirt asks, `org.libvirt.api.KIND.PERMISSION`.

use std::collections::HashMap;
use std::time::Duration;

use super::{Attributes, Identity};
use crate::auth::polkit::{Authority, Question};

/// What the authority may take to answer: as long as the bus itself lets anybody take.
const PATIENCE: Duration = Duration::from_secs(25);

/// An action, in polkit's words.
fn action(kind: &str, permission: &str) -> String {
    format!("org.libvirt.api.{kind}.{permission}").replace('_', "-")
}

impl Authority {
    /// Whether a client has a permission on an object. Only local processes can be asked about; nobody is asked for a
    /// password meanwhile, and no answer is a no.
    pub(super) async fn permits(
        &self,
        who: &Identity,
        kind: &str,
        permission: &str,
        object: &Attributes,
    ) -> bool {
        let (Some(peer), Some(started)) = (who.peer, who.started) else {
            tracing::info!(kind, permission, "polkit knows local processes only");
            return false;
        };
        let action = action(kind, permission);
        let details: HashMap<_, _> = object.iter().collect();
        let question = Question {
            peer,
            started,
            action: &action,
            details,
            interactive: false,
            patience: Some(PATIENCE),
        };
        match self.check(question).await {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(
                    pid = peer.pid,
                    uid = peer.uid,
                    action,
                    reason = error.message,
                    "polkit says no"
                );
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_no_local_process_is_refused() {
        let object = Attributes::default();
        assert!(!Authority::default().permits(&Identity::default(), "connect", "getattr", &object).await);
    }

    #[test]
    fn actions_are_libvirts() {
        assert_eq!(action("node_device", "getattr"), "org.libvirt.api.node-device.getattr");
        assert_eq!(action("domain", "read_secure"), "org.libvirt.api.domain.read-secure");
    }
}
