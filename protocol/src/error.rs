//! libvirt's errors: code, domain, level and text.
//!
//! Numbers are those of `libvirt/virterror.h`; the texts are what the library shows for each code. Code, domain
//! and text meet in one constructor per code, a method of [`ErrorDomain`]:
//!
//! ```
//! use virtwire_protocol::error::{ErrorCode, ErrorDomain};
//!
//! let error = ErrorDomain::TEST.no_domain("no domain with matching name 'nobody'");
//! assert_eq!(error.code, ErrorCode::NO_DOMAIN);
//! assert_eq!(error.message, "Domain not found: no domain with matching name 'nobody'");
//! ```

use std::fmt;

use crate::XdrString;
use crate::net::MessageError;

/// The longest text that an error carries. A frame may hold strings of 4 MiB; names a client sent are cut long
/// before that, so that an error always fits its frame.
pub const TEXT_MAX: usize = 16 * 1024;

/// The `%1$s` that stands for the detail in a code's text.
const DETAIL: &str = "%1$s";

macro_rules! error_codes {
    ($($number:literal $name:ident $method:ident $bare:literal $template:literal;)*) => {
        /// `virErrorNumber`: what went wrong. Unknown numbers pass through.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct ErrorCode(pub i32);

        impl ErrorCode {
            /// No error (0).
            pub const OK: Self = Self(0);
            $(
                #[doc = concat!("`VIR_ERR_", stringify!($name), "` (", $number, "): ", $bare, ".")]
                pub const $name: Self = Self($number);
            )*

            /// The name without `VIR_ERR_`, if the number is known.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    0 => Some("OK"),
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// The text without and with a detail.
            const fn texts(self) -> (&'static str, &'static str) {
                match self.0 {
                    $($number => ($bare, $template),)*
                    _ => ("unknown error", DETAIL),
                }
            }
        }

        /// One constructor per code.
        impl ErrorDomain {
            $(
                #[doc = concat!("`VIR_ERR_", stringify!($name), "`: ", $template)]
                pub fn $method(self, detail: impl fmt::Display) -> VirtError {
                    VirtError::new(self, ErrorCode::$name, detail)
                }
            )*
        }
    };
}

macro_rules! error_domains {
    ($($number:literal $name:ident;)*) => {
        /// `virErrorDomain`: which part of libvirt the error comes from. Unknown numbers pass through.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct ErrorDomain(pub i32);

        impl ErrorDomain {
            $(
                #[doc = concat!("`VIR_FROM_", stringify!($name), "`")]
                pub const $name: Self = Self($number);
            )*

            /// The name without `VIR_FROM_`, if the number is known.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

error_codes! {
    1 INTERNAL_ERROR internal_error "internal error" "internal error: %1$s";
    2 NO_MEMORY no_memory "out of memory" "out of memory: %1$s";
    3 NO_SUPPORT no_support "this function is not supported by the connection driver" "this function is not supported by the connection driver: %1$s";
    4 UNKNOWN_HOST unknown_host "unknown host" "unknown host %1$s";
    5 NO_CONNECT no_connect "no connection driver available" "no connection driver available for %1$s";
    6 INVALID_CONN invalid_conn "invalid connection pointer in" "invalid connection pointer in %1$s";
    7 INVALID_DOMAIN invalid_domain "invalid domain pointer in" "invalid domain pointer in %1$s";
    8 INVALID_ARG invalid_arg "invalid argument" "invalid argument: %1$s";
    9 OPERATION_FAILED operation_failed "operation failed" "operation failed: %1$s";
    10 GET_FAILED get_failed "GET operation failed" "GET operation failed: %1$s";
    11 POST_FAILED post_failed "POST operation failed" "POST operation failed: %1$s";
    12 HTTP_ERROR http_error "got unknown HTTP error code" "got unknown HTTP error code %1$s";
    13 SEXPR_SERIAL sexpr_serial "failed to serialize S-Expr" "failed to serialize S-Expr: %1$s";
    14 NO_XEN no_xen "could not use Xen hypervisor entry" "could not use Xen hypervisor entry %1$s";
    15 XEN_CALL xen_call "failed Xen syscall" "failed Xen syscall %1$s";
    16 OS_TYPE os_type "unknown OS type" "unknown OS type %1$s";
    17 NO_KERNEL no_kernel "missing kernel information" "missing kernel information: %1$s";
    18 NO_ROOT no_root "missing root device information" "missing root device information in %1$s";
    19 NO_SOURCE no_source "missing source information for device" "missing source information for device %1$s";
    20 NO_TARGET no_target "missing target information for device" "missing target information for device %1$s";
    21 NO_NAME no_name "missing name information" "missing name information in %1$s";
    22 NO_OS no_os "missing operating system information" "missing operating system information for %1$s";
    23 NO_DEVICE no_device "missing devices information" "missing devices information for %1$s";
    24 NO_XENSTORE no_xenstore "could not connect to Xen Store" "could not connect to Xen Store %1$s";
    25 DRIVER_FULL driver_full "too many drivers registered" "too many drivers registered in %1$s";
    26 CALL_FAILED call_failed "library call failed" "library call failed: %1$s";
    27 XML_ERROR xml_error "XML description is invalid or not well formed" "XML error: %1$s";
    28 DOM_EXIST dom_exist "this domain exists already" "domain %1$s exists already";
    29 OPERATION_DENIED operation_denied "operation forbidden for read only access" "operation forbidden: %1$s";
    30 OPEN_FAILED open_failed "failed to open configuration file" "failed to open configuration file %1$s";
    31 READ_FAILED read_failed "failed to read configuration file" "failed to read configuration file %1$s";
    32 PARSE_FAILED parse_failed "failed to parse configuration file" "failed to parse configuration file %1$s";
    33 CONF_SYNTAX conf_syntax "configuration file syntax error" "configuration file syntax error: %1$s";
    34 WRITE_FAILED write_failed "failed to write configuration file" "failed to write configuration file: %1$s";
    35 XML_DETAIL xml_detail "parser error" "%s";
    36 INVALID_NETWORK invalid_network "invalid network pointer in" "invalid network pointer in %1$s";
    37 NETWORK_EXIST network_exist "this network exists already" "network %1$s exists already";
    38 SYSTEM_ERROR system_error "system call error" "%s";
    39 RPC rpc "RPC error" "%s";
    40 GNUTLS_ERROR gnutls_error "GNUTLS call error" "%s";
    41 WAR_NO_NETWORK war_no_network "Failed to find the network" "Failed to find the network: %1$s";
    42 NO_DOMAIN no_domain "Domain not found" "Domain not found: %1$s";
    43 NO_NETWORK no_network "Network not found" "Network not found: %1$s";
    44 INVALID_MAC invalid_mac "invalid MAC address" "invalid MAC address: %1$s";
    45 AUTH_FAILED auth_failed "authentication failed" "authentication failed: %1$s";
    46 INVALID_STORAGE_POOL invalid_storage_pool "invalid storage pool pointer in" "invalid storage pool pointer in %1$s";
    47 INVALID_STORAGE_VOL invalid_storage_vol "invalid storage volume pointer in" "invalid storage volume pointer in %1$s";
    48 WAR_NO_STORAGE war_no_storage "Failed to find a storage driver" "Failed to find a storage driver: %1$s";
    49 NO_STORAGE_POOL no_storage_pool "Storage pool not found" "Storage pool not found: %1$s";
    50 NO_STORAGE_VOL no_storage_vol "Storage volume not found" "Storage volume not found: %1$s";
    51 WAR_NO_NODE war_no_node "Failed to find a node driver" "Failed to find a node driver: %1$s";
    52 INVALID_NODE_DEVICE invalid_node_device "invalid node device pointer" "invalid node device pointer in %1$s";
    53 NO_NODE_DEVICE no_node_device "Node device not found" "Node device not found: %1$s";
    54 NO_SECURITY_MODEL no_security_model "Security model not found" "Security model not found: %1$s";
    55 OPERATION_INVALID operation_invalid "Requested operation is not valid" "Requested operation is not valid: %1$s";
    56 WAR_NO_INTERFACE war_no_interface "Failed to find the interface" "Failed to find the interface: %1$s";
    57 NO_INTERFACE no_interface "Interface not found" "Interface not found: %1$s";
    58 INVALID_INTERFACE invalid_interface "invalid interface pointer in" "invalid interface pointer in %1$s";
    59 MULTIPLE_INTERFACES multiple_interfaces "multiple matching interfaces found" "multiple matching interfaces found: %1$s";
    60 WAR_NO_NWFILTER war_no_nwfilter "Failed to start the nwfilter driver" "Failed to start the nwfilter driver: %1$s";
    61 INVALID_NWFILTER invalid_nwfilter "Invalid network filter" "Invalid network filter: %1$s";
    62 NO_NWFILTER no_nwfilter "Network filter not found" "Network filter not found: %1$s";
    63 BUILD_FIREWALL build_firewall "Error while building firewall" "Error while building firewall: %1$s";
    64 WAR_NO_SECRET war_no_secret "Failed to find a secret storage driver" "Failed to find a secret storage driver: %1$s";
    65 INVALID_SECRET invalid_secret "Invalid secret" "Invalid secret: %1$s";
    66 NO_SECRET no_secret "Secret not found" "Secret not found: %1$s";
    67 CONFIG_UNSUPPORTED config_unsupported "unsupported configuration" "unsupported configuration: %1$s";
    68 OPERATION_TIMEOUT operation_timeout "Timed out during operation" "Timed out during operation: %1$s";
    69 MIGRATE_PERSIST_FAILED migrate_persist_failed "Failed to make domain persistent after migration" "Failed to make domain persistent after migration: %1$s";
    70 HOOK_SCRIPT_FAILED hook_script_failed "Hook script execution failed" "Hook script execution failed: %1$s";
    71 INVALID_DOMAIN_SNAPSHOT invalid_domain_snapshot "Invalid domain snapshot" "Invalid domain snapshot: %1$s";
    72 NO_DOMAIN_SNAPSHOT no_domain_snapshot "Domain snapshot not found" "Domain snapshot not found: %1$s";
    73 INVALID_STREAM invalid_stream "invalid stream pointer" "invalid stream pointer in %1$s";
    74 ARGUMENT_UNSUPPORTED argument_unsupported "argument unsupported" "argument unsupported: %1$s";
    75 STORAGE_PROBE_FAILED storage_probe_failed "Storage pool probe failed" "Storage pool probe failed: %1$s";
    76 STORAGE_POOL_BUILT storage_pool_built "Storage pool already built" "Storage pool already built: %1$s";
    77 SNAPSHOT_REVERT_RISKY snapshot_revert_risky "revert requires force" "revert requires force: %1$s";
    78 OPERATION_ABORTED operation_aborted "operation aborted" "operation aborted: %1$s";
    79 AUTH_CANCELLED auth_cancelled "authentication cancelled" "authentication cancelled: %1$s";
    80 NO_DOMAIN_METADATA no_domain_metadata "metadata not found" "metadata not found: %1$s";
    81 MIGRATE_UNSAFE migrate_unsafe "Unsafe migration" "Unsafe migration: %1$s";
    82 OVERFLOW overflow "numerical overflow" "numerical overflow: %1$s";
    83 BLOCK_COPY_ACTIVE block_copy_active "block copy still active" "block copy still active: %1$s";
    84 OPERATION_UNSUPPORTED operation_unsupported "Operation not supported" "Operation not supported: %1$s";
    85 SSH ssh "SSH transport error" "SSH transport error: %1$s";
    86 AGENT_UNRESPONSIVE agent_unresponsive "Guest agent is not responding" "Guest agent is not responding: %1$s";
    87 RESOURCE_BUSY resource_busy "resource busy" "resource busy: %1$s";
    88 ACCESS_DENIED access_denied "access denied" "access denied: %1$s";
    89 DBUS_SERVICE dbus_service "error from service" "error from service: %1$s";
    90 STORAGE_VOL_EXIST storage_vol_exist "this storage volume exists already" "storage volume %1$s exists already";
    91 CPU_INCOMPATIBLE cpu_incompatible "the CPU is incompatible with host CPU" "the CPU is incompatible with host CPU: %1$s";
    92 XML_INVALID_SCHEMA xml_invalid_schema "XML document failed to validate against schema" "XML document failed to validate against schema: %1$s";
    93 MIGRATE_FINISH_OK migrate_finish_ok "migration successfully aborted" "migration successfully aborted: %1$s";
    94 AUTH_UNAVAILABLE auth_unavailable "authentication unavailable" "authentication unavailable: %1$s";
    95 NO_SERVER no_server "Server not found" "Server not found: %1$s";
    96 NO_CLIENT no_client "Client not found" "Client not found: %1$s";
    97 AGENT_UNSYNCED agent_unsynced "guest agent replied with wrong id to guest-sync command" "guest agent replied with wrong id to guest-sync command: %1$s";
    98 LIBSSH libssh "libssh transport error" "libssh transport error: %1$s";
    99 DEVICE_MISSING device_missing "device not found" "device not found: %1$s";
    100 INVALID_NWFILTER_BINDING invalid_nwfilter_binding "Invalid network filter binding" "Invalid network filter binding: %1$s";
    101 NO_NWFILTER_BINDING no_nwfilter_binding "Network filter binding not found" "Network filter binding not found: %1$s";
    102 INVALID_DOMAIN_CHECKPOINT invalid_domain_checkpoint "Invalid domain checkpoint" "Invalid domain checkpoint: %1$s";
    103 NO_DOMAIN_CHECKPOINT no_domain_checkpoint "Domain checkpoint not found" "Domain checkpoint not found: %1$s";
    104 NO_DOMAIN_BACKUP no_domain_backup "Domain backup job id not found" "Domain backup job id not found: %1$s";
    105 INVALID_NETWORK_PORT invalid_network_port "Invalid network port pointer" "Invalid network port pointer: %1$s";
    106 NETWORK_PORT_EXIST network_port_exist "this network port exists already" "network port %1$s exists already";
    107 NO_NETWORK_PORT no_network_port "network port not found" "network port not found: %1$s";
    108 NO_HOSTNAME no_hostname "no hostname found" "no hostname found: %1$s";
    109 CHECKPOINT_INCONSISTENT checkpoint_inconsistent "checkpoint inconsistent" "checkpoint inconsistent: %1$s";
    110 MULTIPLE_DOMAINS multiple_domains "multiple matching domains found" "multiple matching domains found: %1$s";
    111 NO_NETWORK_METADATA no_network_metadata "metadata not found" "metadata not found: %1$s";
    112 AGENT_COMMAND_TIMEOUT agent_command_timeout "guest agent command timed out" "guest agent command timed out: %1$s";
    113 AGENT_COMMAND_FAILED agent_command_failed "guest agent command failed" "guest agent command failed: %1$s";
}

error_domains! {
    0 NONE;
    1 XEN;
    2 XEND;
    3 XENSTORE;
    4 SEXPR;
    5 XML;
    6 DOM;
    7 RPC;
    8 PROXY;
    9 CONF;
    10 QEMU;
    11 NET;
    12 TEST;
    13 REMOTE;
    14 OPENVZ;
    15 XENXM;
    16 STATS_LINUX;
    17 LXC;
    18 STORAGE;
    19 NETWORK;
    20 DOMAIN;
    21 UML;
    22 NODEDEV;
    23 XEN_INOTIFY;
    24 SECURITY;
    25 VBOX;
    26 INTERFACE;
    27 ONE;
    28 ESX;
    29 PHYP;
    30 SECRET;
    31 CPU;
    32 XENAPI;
    33 NWFILTER;
    34 HOOK;
    35 DOMAIN_SNAPSHOT;
    36 AUDIT;
    37 SYSINFO;
    38 STREAMS;
    39 VMWARE;
    40 EVENT;
    41 LIBXL;
    42 LOCKING;
    43 HYPERV;
    44 CAPABILITIES;
    45 URI;
    46 AUTH;
    47 DBUS;
    48 PARALLELS;
    49 DEVICE;
    50 SSH;
    51 LOCKSPACE;
    52 INITCTL;
    53 IDENTITY;
    54 CGROUP;
    55 ACCESS;
    56 SYSTEMD;
    57 BHYVE;
    58 CRYPTO;
    59 FIREWALL;
    60 POLKIT;
    61 THREAD;
    62 ADMIN;
    63 LOGGING;
    64 XENXL;
    65 PERF;
    66 LIBSSH;
    67 RESCTRL;
    68 FIREWALLD;
    69 DOMAIN_CHECKPOINT;
    70 TPM;
    71 BPF;
    72 CH;
}

/// `virErrorLevel`: how serious it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorLevel(pub i32);

impl ErrorLevel {
    /// `VIR_ERR_NONE`
    pub const NONE: Self = Self(0);
    /// `VIR_ERR_WARNING`
    pub const WARNING: Self = Self(1);
    /// `VIR_ERR_ERROR`
    pub const ERROR: Self = Self(2);
}

/// What libvirt's error carries, `virError`; the drivers' currency.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtError {
    /// What went wrong.
    pub code: ErrorCode,
    /// Which part it comes from.
    pub domain: ErrorDomain,
    /// How serious it is.
    pub level: ErrorLevel,
    /// The whole text, as shown to people.
    pub message: String,
    /// The code's text with a `%1$s` in the place of the detail.
    pub str1: Option<String>,
    /// The detail.
    pub str2: Option<String>,
    /// More detail, rarely used.
    pub str3: Option<String>,
    /// `errno` of a system error, else -1.
    pub int1: i32,
    /// Extra number, -1 where unused.
    pub int2: i32,
}

impl VirtError {
    /// An error of `code` from `domain`. Prefer the constructors of [`ErrorDomain`], which say the code by name.
    pub fn new(domain: ErrorDomain, code: ErrorCode, detail: impl fmt::Display) -> Self {
        let (bare, template) = code.texts();
        let detail = cut(detail.to_string());
        let (message, str1, str2) = if detail.is_empty() {
            (bare.to_owned(), bare, None)
        } else {
            // A code whose whole text is the detail has a plain `%s` on the wire.
            let message =
                template.replacen(DETAIL, &detail, 1).replacen("%s", &detail, usize::from(template == "%s"));
            (message, template, Some(detail))
        };
        Self {
            code,
            domain,
            level: ErrorLevel::ERROR,
            message,
            str1: Some(str1.to_owned()),
            str2,
            str3: None,
            int1: -1,
            int2: -1,
        }
    }

    /// A system call's error: the text gets the meaning of `errno` appended, as libvirt does.
    pub fn system(domain: ErrorDomain, error: &std::io::Error, what: impl fmt::Display) -> Self {
        let errno = error.raw_os_error();
        let meaning = match errno {
            // `io::Error` shows "Permission denied (os error 13)"; libvirt shows only the first part.
            Some(_) => {
                let shown = error.to_string();
                shown.split(" (os error").next().unwrap_or_default().to_owned()
            }
            None => error.to_string(),
        };
        let mut virt = Self::new(domain, ErrorCode::SYSTEM_ERROR, format_args!("{what}: {meaning}"));
        virt.int1 = errno.unwrap_or(-1);
        virt
    }
}

/// Cuts a text to [`TEXT_MAX`] at a character boundary.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
    }
    text
}

/// What came over the wire. Its `dom` and `net`, which no daemon fills in, are left out; a number that was not set
/// stays as it is.
impl From<MessageError> for VirtError {
    fn from(error: MessageError) -> Self {
        let text = |text: Option<XdrString>| text.map(|text| text.to_str_lossy().into_owned());
        let code = ErrorCode(error.code);
        Self {
            code,
            domain: ErrorDomain(error.domain),
            level: ErrorLevel(error.level),
            message: text(error.message).unwrap_or_else(|| code.texts().0.to_owned()),
            str1: text(error.str1),
            str2: text(error.str2),
            str3: text(error.str3),
            int1: error.int1,
            int2: error.int2,
        }
    }
}

impl fmt::Display for VirtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for VirtError {}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}({})", self.0),
            None => write!(f, "ErrorCode({})", self.0),
        }
    }
}

impl fmt::Debug for ErrorDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}({})", self.0),
            None => write!(f, "ErrorDomain({})", self.0),
        }
    }
}
