//! The rule file: TOML that says who may do what to which objects.
//!
//! ```toml
//! # Operators do everything.
//! [[rule]]
//! group = ["libvirt"]
//! allow = ["*"]
//!
//! # Anna starts and stops her own guests, and sees nothing else.
//! [[rule]]
//! user = ["anna"]
//! allow = ["connect:getattr", "connect:search-domains", "domain:getattr", "domain:read", "domain:start"]
//! where = { domain_name = "anna-*" }
//! ```
//!
//! What no rule allows is refused. A rule holds if one of its users, groups, SASL names or certificates is the
//! client's (a rule that names none is everybody's), and if every attribute in `where` that an object of the kind
//! can have is known and fits. Permissions are libvirt's; `*` and `?` are patterns everywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;

use super::{Attributes, Identity};
use crate::glob;
use crate::users::Names;

/// The rules of a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    user: Vec<String>,
    #[serde(default)]
    group: Vec<String>,
    #[serde(default)]
    sasl: Vec<String>,
    #[serde(default)]
    certificate: Vec<String>,
    allow: Vec<String>,
    #[serde(default, rename = "where")]
    only: BTreeMap<String, String>,
}

/// Why a rule file is refused.
#[derive(Debug)]
pub struct RuleError(String);

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RuleError {}

/// Attributes, by the kinds of objects that have them.
const ATTRIBUTES: &[(&str, &[&str])] = &[
    ("domain_name", &["domain"]),
    ("domain_uuid", &["domain"]),
    ("network_name", &["network", "network_port"]),
    ("network_uuid", &["network", "network_port"]),
    ("port_uuid", &["network_port"]),
    ("pool_name", &["storage_pool", "storage_vol"]),
    ("pool_uuid", &["storage_pool", "storage_vol"]),
    ("vol_name", &["storage_vol"]),
    ("vol_key", &["storage_vol"]),
    ("interface_name", &["interface"]),
    ("interface_macaddr", &["interface"]),
    ("node_device_name", &["node_device"]),
    ("nwfilter_name", &["nwfilter"]),
    ("nwfilter_uuid", &["nwfilter"]),
    ("nwfilter_binding_portdev", &["nwfilter_binding"]),
    ("nwfilter_binding_filter", &["nwfilter_binding"]),
    ("secret_uuid", &["secret"]),
    ("secret_usage_volume", &["secret"]),
    ("secret_usage_ceph", &["secret"]),
    ("secret_usage_target", &["secret"]),
    ("secret_usage_name", &["secret"]),
];

/// The attribute that every object has.
const EVERYWHERE: &str = "connect_driver";

impl Rules {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, RuleError> {
        let refuse = |reason: String| RuleError(format!("{}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Self::parse(&text).map_err(|error| refuse(error.0))
    }

    /// Reads text. A key, attribute or permission that nobody knows is refused: it would not do what it says.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let rules: Self =
            toml::from_str(text).map_err(|error| RuleError(error.to_string().trim_end().to_owned()))?;
        for rule in &rules.rule {
            for name in rule.only.keys() {
                if name != EVERYWHERE && !ATTRIBUTES.iter().any(|(known, _)| known == name) {
                    return Err(RuleError(format!("no object has an attribute '{name}'")));
                }
            }
            if let Some(odd) = rule.allow.iter().find(|allow| *allow != "*" && !allow.contains(':')) {
                return Err(RuleError(format!("'{odd}' is no permission; one is written 'domain:getattr'")));
            }
        }
        Ok(rules)
    }

    /// Whether some rule permits it.
    pub(super) fn permit(
        &self,
        who: &Identity,
        names: &Names,
        kind: &str,
        permission: &str,
        object: &Attributes,
    ) -> bool {
        self.rule
            .iter()
            .any(|rule| rule.allows(kind, permission) && rule.covers(kind, object) && rule.is_for(who, names))
    }
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| glob::matches(pattern, text))
}

impl Rule {
    fn is_for(&self, who: &Identity, names: &Names) -> bool {
        let listed = [&self.user, &self.group, &self.sasl, &self.certificate];
        if listed.iter().all(|names| names.is_empty()) {
            return true;
        }
        let has =
            |names: &[String], name: &Option<String>| name.as_ref().is_some_and(|name| any(names, name));
        who.peer.is_some_and(|peer| any(&self.user, &peer.uid.to_string()))
            || has(&self.user, &names.user)
            || names.groups.iter().any(|group| any(&self.group, group))
            || has(&self.sasl, &who.sasl)
            || has(&self.certificate, &who.certificate)
    }

    fn allows(&self, kind: &str, permission: &str) -> bool {
        // libvirt's documents write kinds and permissions with hyphens.
        let (kind, permission) = (kind.replace('_', "-"), permission.replace('_', "-"));
        self.allow.iter().any(|allow| match allow.split_once(':') {
            Some((kinds, permissions)) => {
                glob::matches(kinds, &kind) && glob::matches(permissions, &permission)
            }
            None => allow == "*",
        })
    }

    fn covers(&self, kind: &str, object: &Attributes) -> bool {
        self.only.iter().all(|(name, pattern)| {
            let row = ATTRIBUTES.iter().find(|(known, _)| known == name);
            let applies = name == EVERYWHERE || row.is_some_and(|(_, kinds)| kinds.contains(&kind));
            !applies || object.get(name).is_some_and(|value| glob::matches(pattern, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use virtwire_driver_api::Peer;
    use virtwire_protocol::remote::NonnullDomain;

    use super::super::Object;
    use super::*;

    fn domain(name: &str) -> Attributes {
        let mut attributes = Attributes::default();
        NonnullDomain { name: name.into(), uuid: [7; 16], id: 1 }.describe("domain", &mut attributes);
        attributes
    }

    const FILE: &str = "[[rule]]\nuser = ['0']\nallow = ['connect:*', 'domain:*']\nwhere = { domain_name = 'a-*' }\n\
                        [[rule]]\nsasl = ['ann*']\nallow = ['*']\n[[rule]]\nallow = ['connect:getattr']\n\
                        [[rule]]\nuser = ['b?rt']\nallow = ['secret:getattr']\n\
                        [[rule]]\ngroup = ['ops']\nallow = ['secret:read']\n";

    #[test]
    fn rules_say_who_what_and_which() {
        let rules = Rules::parse(FILE).unwrap();
        let root = Identity { peer: Some(Peer { pid: 1, uid: 0, gid: 0 }), ..Identity::default() };
        let anna = Identity { sasl: Some("anna".into()), ..Identity::default() };
        let nobody = Identity::default();
        let names = Names { user: Some("bert".into()), groups: vec!["staff".into(), "ops".into()] };
        let unknown = Attributes::default();
        for (who, kind, permission, object, permitted) in [
            (&root, "domain", "start", &domain("a-1"), true),
            (&root, "domain", "start", &domain("b-1"), false),
            (&root, "domain", "start", &unknown, false),
            (&root, "connect", "search_domains", &unknown, true),
            (&root, "network", "getattr", &unknown, false),
            (&anna, "network", "delete", &unknown, true),
            (&anna, "domain", "start", &domain("b"), true),
            (&nobody, "connect", "getattr", &unknown, true),
            (&nobody, "connect", "write", &unknown, false),
            (&nobody, "domain", "getattr", &domain("a-1"), false),
            (&nobody, "secret", "getattr", &unknown, true),
            (&nobody, "secret", "read", &unknown, true),
            (&nobody, "secret", "write", &unknown, false),
        ] {
            assert_eq!(
                rules.permit(who, &names, kind, permission, object),
                permitted,
                "{kind} {permission} {object:?}"
            );
        }
    }

    #[test]
    fn a_rule_that_would_not_do_what_it_says_is_refused() {
        for (text, error) in [
            (
                "[[rule]]\nallow = ['*']\nwhere = { doman_name = 'x' }",
                "no object has an attribute 'doman_name'",
            ),
            ("[[rule]]\nallow = ['domain']", "'domain' is no permission; one is written 'domain:getattr'"),
            ("[[rule]]\nallow = ['*']\nusers = ['x']", "unknown field `users`"),
            ("[[rule]]\nuser = ['x']", "missing field `allow`"),
        ] {
            assert!(Rules::parse(text).unwrap_err().to_string().contains(error), "{text}");
        }
    }

    #[test]
    fn attributes_are_libvirts() {
        assert_eq!(domain("x").get("domain_uuid"), Some("07070707-0707-0707-0707-070707070707"));
    }
}
