//! From the names of a definition file to the names of Rust.

use proc_macro2::{Ident, Span};

/// A protocol: what its files are called and how its names begin.
pub struct Naming {
    /// The module that its types get.
    pub module: &'static str,
    /// File stems: ours first, then libvirt's.
    pub stems: &'static [&'static str],
    /// How its types begin; left out in Rust.
    pub types: &'static str,
    /// How the members of its procedure enum begin; left out in Rust.
    pub procedures: &'static str,
}

/// The protocols of libvirt, each after those whose types it uses.
pub const PROTOCOLS: &[Naming] = &[
    Naming {
        module: "remote",
        stems: &["remote", "remote_protocol"],
        types: "remote_",
        procedures: "REMOTE_PROC_",
    },
    Naming { module: "qemu", stems: &["qemu", "qemu_protocol"], types: "qemu_", procedures: "QEMU_PROC_" },
    Naming { module: "lxc", stems: &["lxc", "lxc_protocol"], types: "lxc_", procedures: "LXC_PROC_" },
    Naming {
        module: "admin",
        stems: &["admin", "admin_protocol"],
        types: "admin_",
        procedures: "ADMIN_PROC_",
    },
    Naming {
        module: "keepalive",
        stems: &["keepalive", "virkeepaliveprotocol"],
        types: "keepalive_",
        procedures: "KEEPALIVE_PROC_",
    },
    Naming { module: "net", stems: &["net", "virnetprotocol"], types: "virNet", procedures: "VIR_NET_PROC_" },
    Naming {
        module: "lock",
        stems: &["lock", "lock_protocol"],
        types: "virLockSpaceProtocol",
        procedures: "VIR_LOCK_SPACE_PROTOCOL_PROC_",
    },
    Naming {
        module: "log",
        stems: &["log", "log_protocol"],
        types: "virLogManagerProtocol",
        procedures: "VIR_LOG_MANAGER_PROTOCOL_PROC_",
    },
    Naming { module: "demo", stems: &["demo"], types: "demo_", procedures: "DEMO_PROC_" },
];

/// Results that are decoded often and large: they get a borrowed form, `…Ref`, beside the owned one.
pub const BORROWED: &[&str] = &[
    "remote_connect_get_all_domain_stats_ret",
    "remote_connect_list_all_domains_ret",
    "remote_domain_get_xml_desc_ret",
    "demo_list_ret",
];

/// The structs that name an object, and what `Subject` calls the object.
pub const OBJECTS: &[(&str, &str)] = &[
    ("remote_nonnull_domain", "Domain"),
    ("remote_nonnull_network", "Network"),
    ("remote_nonnull_storage_pool", "StoragePool"),
    ("remote_nonnull_node_device", "NodeDevice"),
    ("remote_nonnull_secret", "Secret"),
];

/// The protocol that a file defines.
pub fn protocol(file: &str) -> Option<&'static Naming> {
    PROTOCOLS.get(order(file))
}

/// Where a file comes among others, by its name: after those whose types it uses. Unknown files come last.
pub fn order(file: &str) -> usize {
    let known = |naming: &Naming| naming.stems.contains(&stem(file));
    PROTOCOLS.iter().position(known).unwrap_or(PROTOCOLS.len())
}

/// `remote` of `protocol/x/remote.x`.
pub fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".x").unwrap_or(name)
}

/// `remote_domain_create_xml_args` → `DomainCreateXmlArgs`, `virNetMessageError` → `MessageError`.
pub fn type_name(naming: &Naming, xdr: &str) -> String {
    camel(xdr.strip_prefix(naming.types).unwrap_or(xdr))
}

/// `DOMAIN_CREATE_XML` → `DomainCreateXml`; a name without underscores keeps its inner capitals.
pub fn camel(name: &str) -> String {
    let shouting = !name.contains(|c: char| c.is_ascii_lowercase());
    name.split('_')
        .flat_map(|part| {
            let (first, rest) = part.split_at(part.len().min(1));
            let rest = if shouting { rest.to_ascii_lowercase() } else { rest.to_owned() };
            [first.to_ascii_uppercase(), rest]
        })
        .collect()
}

/// `callbackID` → `callback_id`, `maxMem` → `max_mem`, `DOMAIN_SUSPEND` → `domain_suspend`.
pub fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut lower_before = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && lower_before {
            snake.push('_');
        }
        lower_before = c.is_ascii_lowercase() || c.is_ascii_digit();
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// A Rust identifier, raw where the name is a keyword.
pub fn ident(name: &str) -> Ident {
    syn::parse_str(name).unwrap_or_else(|_| Ident::new_raw(name, Span::call_site()))
}

/// What two names have in common whatever their style: `DOMAIN_SUSPEND` and `DomainSuspend` are one.
pub fn folded(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_from_definition_to_rust() {
        assert_eq!(camel("DOMAIN_CREATE_XML"), "DomainCreateXml");
        assert_eq!(camel("domain_create_xml_args"), "DomainCreateXmlArgs");
        assert_eq!(camel("MessageError"), "MessageError");
        assert_eq!(camel("migrate_begin3_params_args"), "MigrateBegin3ParamsArgs");
        for (name, snaked) in [
            ("DOMAIN_CREATE_XML", "domain_create_xml"),
            ("callbackID", "callback_id"),
            ("maxMem", "max_mem"),
            ("cpu0Time", "cpu0_time"),
            ("uri_out", "uri_out"),
        ] {
            assert_eq!(snake(name), snaked);
        }
        assert_eq!(ident("type").to_string(), "r#type");
        assert_eq!(folded("DOMAIN_SUSPEND"), folded("DomainSuspend"));
    }

    #[test]
    fn files_are_known_by_name_and_come_after_what_they_use() {
        let mut files = ["b/qemu_protocol.x", "other.x", "a/virnetprotocol.x", "remote.x"];
        files.sort_by_key(|file| order(file));
        assert_eq!(files, ["remote.x", "b/qemu_protocol.x", "a/virnetprotocol.x", "other.x"]);
        assert_eq!(protocol("src/lock_protocol.x").map(|naming| naming.module), Some("lock"));
        assert!(protocol("remote.y").is_none());
    }
}
