//! Which driver family a procedure belongs to. libvirt's own division: one table of functions per kind of driver.

/// A family of procedures, served by one trait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// What the daemon answers itself: open, close, authentication, event registration.
    Session,
    /// The daemon's own administration, on its own socket.
    Admin,
    /// Domains, snapshots, checkpoints, the host as the hypervisor sees it.
    Hypervisor,
    /// Virtual networks and their ports.
    Network,
    /// Storage pools and volumes.
    Storage,
    /// Host network interfaces.
    Interface,
    /// Devices of the host.
    NodeDevice,
    /// Secrets.
    Secret,
    /// Network filters and their bindings.
    Nwfilter,
}

impl Family {
    /// The families that drivers implement, in the order of the support table.
    pub const DRIVERS: [Self; 7] = [
        Self::Hypervisor,
        Self::Network,
        Self::Storage,
        Self::Interface,
        Self::NodeDevice,
        Self::Secret,
        Self::Nwfilter,
    ];

    /// All families.
    pub const ALL: [Self; 9] = [
        Self::Session,
        Self::Admin,
        Self::Hypervisor,
        Self::Network,
        Self::Storage,
        Self::Interface,
        Self::NodeDevice,
        Self::Secret,
        Self::Nwfilter,
    ];

    /// Its trait's name.
    pub fn trait_name(self) -> &'static str {
        match self {
            Self::Session => "SessionProcedures",
            Self::Admin => "AdminProcedures",
            Self::Hypervisor => "HypervisorDriver",
            Self::Network => "NetworkDriver",
            Self::Storage => "StorageDriver",
            Self::Interface => "InterfaceDriver",
            Self::NodeDevice => "NodeDeviceDriver",
            Self::Secret => "SecretDriver",
            Self::Nwfilter => "NwfilterDriver",
        }
    }

    /// Its name in a table, and that of the method which gives a call its driver.
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Admin => "admin",
            Self::Hypervisor => "hypervisor",
            Self::Network => "network",
            Self::Storage => "storage",
            Self::Interface => "interface",
            Self::NodeDevice => "node_device",
            Self::Secret => "secret",
            Self::Nwfilter => "nwfilter",
        }
    }

    /// What it is about, as the heading of a table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Session => "Connection",
            Self::Admin => "Administration",
            Self::Hypervisor => "Domains and the host",
            Self::Network => "Networks",
            Self::Storage => "Storage pools and volumes",
            Self::Interface => "Host interfaces",
            Self::NodeDevice => "Host devices",
            Self::Secret => "Secrets",
            Self::Nwfilter => "Network filters",
        }
    }
}

/// Procedures that the daemon answers itself, whatever the driver.
const SESSION: &[&str] = &[
    "CONNECT_OPEN",
    "CONNECT_CLOSE",
    "CONNECT_GET_LIB_VERSION",
    "CONNECT_GET_URI",
    "CONNECT_SUPPORTS_FEATURE",
    "CONNECT_REGISTER_CLOSE_CALLBACK",
    "CONNECT_UNREGISTER_CLOSE_CALLBACK",
    "CONNECT_SET_IDENTITY",
];

/// Endings of event registrations, the daemon's as well.
const REGISTRATIONS: &[&str] = &["_REGISTER", "_DEREGISTER", "_REGISTER_ANY", "_DEREGISTER_ANY"];

/// Procedures whose names begin like another family's: a hypervisor driver takes a device from the host.
const HYPERVISOR: &[&str] =
    &["NODE_DEVICE_DETTACH", "NODE_DEVICE_DETACH_FLAGS", "NODE_DEVICE_RE_ATTACH", "NODE_DEVICE_RESET"];

/// What a name of a family holds; the first row that fits decides.
const WORDS: &[(&str, Family)] = &[
    ("DOMAIN_", Family::Hypervisor),
    ("DOMAINS", Family::Hypervisor),
    ("NODE_DEVICE", Family::NodeDevice),
    ("NODE_NUM_OF_DEVICES", Family::NodeDevice),
    ("NODE_LIST_DEVICES", Family::NodeDevice),
    ("NODE_", Family::Hypervisor),
    ("NWFILTER", Family::Nwfilter),
    ("STORAGE_", Family::Storage),
    ("SECRET", Family::Secret),
    ("NETWORK", Family::Network),
    ("INTERFACE", Family::Interface),
];

/// The family of a procedure, by its name without `REMOTE_PROC_`.
pub fn family(program: &str, name: &str) -> Family {
    if program == "admin" {
        return Family::Admin;
    }
    let registration = REGISTRATIONS.iter().any(|ending| name.ends_with(ending));
    if SESSION.contains(&name) || name.starts_with("AUTH_") || registration {
        return Family::Session;
    }
    if HYPERVISOR.contains(&name) {
        return Family::Hypervisor;
    }
    WORDS.iter().find(|(word, _)| name.contains(word)).map_or(Family::Hypervisor, |(_, family)| *family)
}

/// Whether libvirtd serves a program: lock and log belong to daemons of their own, keepalive to the connection.
pub fn served(program: &str) -> bool {
    !["net", "keepalive", "lock", "log"].contains(&program)
}

/// Error domains (`VIR_FROM_…`) of the library's files, by what a procedure's name holds; the first that fits decides.
const ERROR_DOMAINS: &[(&str, i32)] = &[
    ("DOMAIN_SNAPSHOT_", 35),
    ("REVERT_TO_SNAPSHOT", 35),
    ("DOMAIN_CHECKPOINT_", 69),
    ("NODE_DEVICE", 22),
    ("NODE_NUM_OF_DEVICES", 22),
    ("NODE_LIST_DEVICES", 22),
    ("NWFILTER", 33),
    ("STORAGE_", 18),
    ("SECRET", 30),
];

/// The domain of errors that the public function itself raises: refusals and missing support.
pub fn error_domain(program: &str, name: &str) -> i32 {
    const VIR_FROM_DOMAIN: i32 = 20;
    if program != "remote" {
        return 0;
    }
    let by_name = ERROR_DOMAINS.iter().find(|(word, _)| name.contains(word)).map(|(_, domain)| *domain);
    by_name.unwrap_or_else(|| match family(program, name) {
        Family::Network => 19,
        Family::Interface => 26,
        _ => VIR_FROM_DOMAIN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_who_serves() {
        for (name, expected) in [
            ("CONNECT_OPEN", Family::Session),
            ("CONNECT_DOMAIN_EVENT_REGISTER_ANY", Family::Session),
            ("AUTH_SASL_INIT", Family::Session),
            ("CONNECT_GET_ALL_DOMAIN_STATS", Family::Hypervisor),
            ("CONNECT_NUM_OF_DOMAINS", Family::Hypervisor),
            ("NODE_GET_INFO", Family::Hypervisor),
            ("NODE_DEVICE_RESET", Family::Hypervisor),
            ("NODE_DEVICE_GET_PARENT", Family::NodeDevice),
            ("DOMAIN_INTERFACE_STATS", Family::Hypervisor),
            ("CONNECT_LIST_ALL_INTERFACES", Family::Interface),
            ("NETWORK_PORT_GET_XML_DESC", Family::Network),
            ("STORAGE_VOL_DOWNLOAD", Family::Storage),
            ("CONNECT_LIST_ALL_NWFILTER_BINDINGS", Family::Nwfilter),
            ("SECRET_GET_VALUE", Family::Secret),
        ] {
            assert_eq!(family("remote", name), expected, "{name}");
        }
        assert_eq!(family("admin", "CONNECT_OPEN"), Family::Admin);
    }

    #[test]
    fn errors_come_from_the_file_of_the_public_function() {
        for (name, domain) in [
            ("DOMAIN_SUSPEND", 20),
            ("DOMAIN_SNAPSHOT_DELETE", 35),
            ("NETWORK_CREATE", 19),
            ("SECRET_UNDEFINE", 30),
        ] {
            assert_eq!(error_domain("remote", name), domain, "{name}");
        }
    }
}
