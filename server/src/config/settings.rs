//! Every setting of libvirtd.conf and virtqemud.conf: its key, type, default and meaning, in one table.

use std::fmt::Write;
use std::io;

use uuid::Uuid;

use super::setting::{Auth, Mode, Setting};
use super::{Access, Program};
use super::{Assignment, Value};
use crate::access::DRIVERS;
use crate::auth::MECHANISMS;

/// A source of the host's UUID that is not its firmware.
const MACHINE_ID: &str = "machine-id";

/// What is said of a mechanism that is not there.
const MECHANISMS_KNOWN: &str = if cfg!(feature = "gssapi") {
    "sasl_mechanisms: only SCRAM-SHA-256, PLAIN, EXTERNAL and GSSAPI are known"
} else {
    "sasl_mechanisms: only SCRAM-SHA-256, PLAIN and EXTERNAL are known; this daemon was built without GSSAPI"
};

/// One row of the table.
pub struct Key {
    /// The word before `=`.
    pub name: &'static str,
    /// What must stand behind it.
    pub expected: &'static str,
    /// What it means.
    pub doc: &'static str,
    set: fn(&mut Settings, &Value) -> Result<(), Option<String>>,
    show: fn(&Settings) -> Option<String>,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)*) => {
        /// What a configuration file sets.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $type,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// The table.
        pub static KEYS: &[Key] = &[$(Key {
            name: stringify!($name),
            expected: <$type as Setting>::EXPECTED,
            doc: concat!($($doc, "\n"),+),
            set: |settings, value| Setting::from_value(value).map(|value| settings.$name = value),
            show: |settings| settings.$name.show(),
        }),*];
    };
}

settings! {
    /// Listen for TLS connections. Takes effect with `--listen` only.
    listen_tls: bool = true;
    /// Listen for plain TCP connections. Takes effect with `--listen` only.
    listen_tcp: bool = false;
    /// The port of TLS connections.
    tls_port: String = "16514".into();
    /// The port of TCP connections.
    tcp_port: String = "16509".into();
    /// The address of TLS and TCP; all addresses where it is not given.
    listen_addr: Option<String> = None;
    /// The group that owns the unix sockets.
    unix_sock_group: Option<String> = None;
    /// The mode of the read-only socket.
    unix_sock_ro_perms: Mode = Mode(0o777);
    /// The mode of the read-write socket; 0777 by default where polkit stands before it, else 0700.
    unix_sock_rw_perms: Option<Mode> = None;
    /// The mode of the administration socket.
    unix_sock_admin_perms: Mode = Mode(0o700);
    /// The directory of the unix sockets.
    unix_sock_dir: Option<String> = None;
    /// Authentication on the read-only socket: none, polkit or sasl.
    auth_unix_ro: Auth = Auth::None;
    /// Authentication on the read-write socket: none, polkit or sasl.
    auth_unix_rw: Auth = Auth::None;
    /// Authentication on plain TCP: none, which lets everybody in, or sasl, which lets in whom GSSAPI knows, since no
    /// other mechanism encrypts.
    auth_tcp: Auth = Auth::Sasl;
    /// Authentication on TLS, behind the client's certificate: none or sasl.
    auth_tls: Auth = Auth::None;
    /// The least strength of SASL's encryption on plain TCP; below 112 is refused. GSSAPI is known to have 112 bits, so
    /// more lets nobody in.
    tcp_min_ssf: u32 = 112;
    /// Who decides on single calls: none by default, "rules" for the rule file.
    access_drivers: Vec<String> = Vec::new();
    /// The rule file of the access driver "rules".
    access_rules_file: String = "/etc/libvirt/access-rules.toml".into();
    /// The daemon's private key.
    key_file: String = "/etc/pki/libvirt/private/serverkey.pem".into();
    /// The daemon's certificate.
    cert_file: String = "/etc/pki/libvirt/servercert.pem".into();
    /// Certificates of the authorities that clients' certificates may come from.
    ca_file: String = "/etc/pki/CA/cacert.pem".into();
    /// Certificates that have been revoked.
    crl_file: Option<String> = None;
    /// Do not look at the daemon's own certificate before it is used.
    tls_no_sanity_certificate: bool = false;
    /// Take any client, with or without a certificate. Only meaningful where SASL follows.
    tls_no_verify_certificate: bool = false;
    /// Distinguished names of clients, with `*` and `?`; all where it is not given, nobody where it is empty.
    tls_allowed_dn_list: Option<Vec<String>> = None;
    /// Which TLS versions and ciphers: NORMAL, SECURE128, SECURE192 or SECURE256, perhaps with -VERS-TLS1.2.
    tls_priority: Option<String> = None;
    /// SASL mechanisms: SCRAM-SHA-256; PLAIN, over TLS only; EXTERNAL, which takes the name from the certificate, or
    /// from the user of a unix socket; GSSAPI, which is Kerberos, where the daemon was built with it.
    sasl_mechanisms: Vec<String> = vec!["SCRAM-SHA-256".into()];
    /// The users that SASL knows, as virtwired-passwd writes them.
    sasl_users_file: String = "/etc/libvirt/sasl-users".into();
    /// SASL users, with `*` and `?`; all where it is not given, nobody where it is empty.
    sasl_allowed_username_list: Option<Vec<String>> = None;
    /// Clients at a time, over all sockets.
    max_clients: u32 = 5000;
    /// Connections that may wait to be accepted.
    max_queued_clients: u32 = 1000;
    /// Clients that have not authenticated; over it the oldest of them is dropped. 0 is no limit.
    max_anonymous_clients: u32 = 20;
    /// Seconds a client may take to authenticate. 0 is no limit.
    auth_timeout: u32 = 60;
    /// Workers at least. Shown to virt-admin; calls are not bound to workers here.
    min_workers: u32 = 5;
    /// Workers at most. Shown to virt-admin; calls are not bound to workers here.
    max_workers: u32 = 20;
    /// Workers for calls that never wait. Shown to virt-admin; calls are not bound to workers here.
    prio_workers: u32 = 5;
    /// Obsolete, not used.
    max_requests: u32 = 20;
    /// Calls of one client that may wait at a time; over it nothing more is read from the client.
    max_client_requests: u32 = 5;
    /// Bytes that the arguments of a call may have, a document among them; with more it is refused. libvirt's protocol ends
    /// at 32 MiB, and at 4 MiB for a document.
    max_call_arguments: u32 = 32 << 20;
    /// Calls with more than 64 KiB of arguments that are worked on at a time, each by a thread of its own, so that nobody
    /// waits while a large document is read; 0 is half of the processors.
    max_large_calls: u32 = 0;
    /// Event registrations of one client.
    max_client_registrations: u32 = 1024;
    /// Bytes of events that may pile up for a client before it is disconnected.
    max_client_event_backlog: u32 = 16 << 20;
    /// Microseconds that the next call of a client is looked for before the daemon sleeps, where the client's calls come
    /// one right behind another; of one client at a time. 0 never looks: calls take longer, and less processor time.
    busy_poll: u32 = 100;
    /// Bytes of replies that may wait for a client to take them before nothing more is read from it.
    max_client_backlog: u32 = 1 << 20;
    /// Bytes that uploads and consoles of a client may hold for a driver to take before nothing more is read from it.
    max_client_stream_backlog: u32 = 1 << 20;
    /// Bytes of the largest message of a client that has not authenticated, 1024 to 65536.
    max_anonymous_message: u32 = 64 << 10;
    /// `min_workers` of the administration.
    admin_min_workers: u32 = 5;
    /// `max_workers` of the administration.
    admin_max_workers: u32 = 20;
    /// `max_clients` of the administration.
    admin_max_clients: u32 = 5000;
    /// `max_queued_clients` of the administration.
    admin_max_queued_clients: u32 = 20;
    /// `max_client_requests` of the administration.
    admin_max_client_requests: u32 = 5;
    /// Messages that are logged: 1 debug, 2 information, 3 warnings, 4 errors.
    log_level: u32 = 0;
    /// Levels of single sources: "1:qemu 3:server".
    log_filters: Option<String> = None;
    /// Where messages go: "3:stderr", "2:file:PATH", "3:syslog:NAME", "3:journald".
    log_outputs: Option<String> = None;
    /// Where Prometheus finds metrics, with `GET /metrics`: an address like 127.0.0.1:9177, or the path of a unix socket.
    /// Everybody who can connect may read them.
    metrics_address: Option<String> = None;
    /// Seconds that a QEMU may take to answer before a call gives up on it.
    qemu_answer_limit: u32 = 60;
    /// Whether the daemon may dump core, with all the secrets that it has in memory.
    core_dumps: bool = false;
    /// Refuse system calls that neither daemon nor guests need. Programs that QEMU starts gain no rights by setuid.
    seccomp: bool = false;
    /// Let daemon and guests write to libvirt's own directories, devices, and `landlock_writable` only.
    landlock: bool = false;
    /// Directories of disk images and of whatever else daemon and guests are to write.
    landlock_writable: Vec<String> = Vec::new();
    /// Records of guests' starts and stops for the host's audit system: 0 never, 1 where the host audits, 2 always,
    /// and the daemon does not start where it does not.
    audit_level: u32 = 1;
    /// Whether audit records go to the log as well.
    audit_logging: bool = false;
    /// The host's UUID, in the place of the firmware's.
    host_uuid: Option<String> = None;
    /// Where the host's UUID comes from: smbios or machine-id.
    host_uuid_source: Option<String> = None;
    /// Connect to the daemon of another host where a client asks for a migration between peers (`virsh migrate --p2p`),
    /// as this daemon's user and by no command of the client's.
    migrate_peer_to_peer: bool = true;
    /// Seconds of silence after which a client is pinged; -1 never.
    keepalive_interval: i32 = 5;
    /// Unanswered pings after which a client is disconnected.
    keepalive_count: u32 = 5;
    /// Obsolete, not used.
    keepalive_required: bool = false;
    /// `keepalive_interval` of the administration.
    admin_keepalive_interval: i32 = 5;
    /// `keepalive_count` of the administration.
    admin_keepalive_count: u32 = 5;
    /// Obsolete, not used.
    admin_keepalive_required: bool = false;
    /// Seconds that Open vSwitch may take to answer.
    /// Understood, without effect yet.
    ovs_timeout: u32 = 5;
}

/// What a file said that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line it is on.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

impl Settings {
    /// The settings that assignments make of the defaults, and warnings of keys that nobody knows. A key that is
    /// set twice has the later value.
    pub fn from_assignments(assignments: &[Assignment]) -> Result<(Self, Vec<Problem>), Problem> {
        let (mut settings, mut warnings) = (Self::default(), Vec::new());
        for Assignment { line, key, value } in assignments {
            let problem = |what| Problem { line: *line, what };
            let Some(row) = KEYS.iter().find(|row| row.name == key) else {
                warnings.push(problem(format!("unknown setting '{key}' has no effect")));
                continue;
            };
            (row.set)(&mut settings, value).map_err(|reason| {
                problem(match reason {
                    Some(reason) => format!("{key}: {reason}"),
                    None => format!("expected {} for '{key}' parameter", row.expected),
                })
            })?;
        }
        let line_of = |key: &str| assignments.iter().rfind(|a| a.key == key).map_or(0, |a| a.line);
        match settings.contradiction() {
            Some((key, what)) => Err(Problem { line: line_of(key), what: what.to_owned() }),
            None => {
                let encrypts = settings.sasl_mechanisms.iter().any(|name| name == "GSSAPI");
                if settings.listen_tcp && settings.auth_tcp == Auth::Sasl && !encrypts {
                    let what = "listen_tcp: no SASL mechanism here encrypts, so clients on plain TCP will be refused";
                    warnings.push(Problem { line: line_of("listen_tcp"), what: what.into() });
                }
                Ok((settings, warnings))
            }
        }
    }

    /// How clients of a unix socket authenticate. The administration's is root's alone.
    pub(crate) fn auth_unix(&self, program: Program, access: Access) -> Auth {
        match (program, access) {
            (Program::Admin, _) => Auth::None,
            (Program::Remote, Access::ReadWrite) => self.auth_unix_rw,
            (Program::Remote, Access::ReadOnly) => self.auth_unix_ro,
        }
    }

    /// The host's UUID, where it is not to be the firmware's.
    ///
    /// # Errors
    /// The host has no id of its own.
    pub fn host_uuid(&self) -> io::Result<Option<Uuid>> {
        if let Some(given) = self.host_uuid.as_deref().and_then(|text| Uuid::parse_str(text).ok()) {
            return Ok(Some(given));
        }
        if self.host_uuid_source.as_deref() != Some(MACHINE_ID) {
            return Ok(None);
        }
        let text = std::fs::read_to_string("/etc/machine-id")?;
        Uuid::parse_str(text.trim()).map(Some).map_err(io::Error::other)
    }

    /// Values that are each possible and do not go together, or that promise what cannot be kept.
    fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        const UNKNOWN_DRIVER: &str = "access_drivers: only 'none', 'polkit' and 'rules' are known";
        let clients = "The overall maximum number of clients must not be less than the number of clients waiting for authentication";
        let order = "minWorkers cannot be larger than maxWorkers";
        [
            (self.max_clients < self.max_anonymous_clients, "max_clients", clients),
            (self.max_workers == 0, "max_workers", "'max_workers' must be greater than 0"),
            (self.min_workers > self.max_workers, "min_workers", order),
            (self.admin_min_workers > self.admin_max_workers, "admin_min_workers", order),
            (
                self.max_client_requests == 0,
                "max_client_requests",
                "'max_client_requests' must be greater than 0",
            ),
            (
                self.max_client_backlog == 0,
                "max_client_backlog",
                "'max_client_backlog' must be greater than 0",
            ),
            (
                !(1024..=64 << 10).contains(&self.max_anonymous_message),
                "max_anonymous_message",
                "max_anonymous_message: must be in range 1024:65536",
            ),
            (
                !(64 << 10..=32 << 20).contains(&self.max_call_arguments),
                "max_call_arguments",
                "max_call_arguments: must be in range 65536:33554432",
            ),
            (self.tcp_min_ssf < 112, "tcp_min_ssf", "minimum SSF levels lower than 112 are not supported"),
            (self.log_level > 4, "log_level", "log_level: the levels are 1, 2, 3 and 4"),
            (self.auth_tcp == Auth::Polkit, "auth_tcp", "auth_tcp: polkit knows local users only"),
            (self.auth_tls == Auth::Polkit, "auth_tls", "auth_tls: polkit knows local users only"),
            (
                self.sasl_mechanisms.iter().any(|name| MECHANISMS.iter().all(|row| row.0 != name)),
                "sasl_mechanisms",
                MECHANISMS_KNOWN,
            ),
            (
                self.host_uuid.as_deref().is_some_and(|text| Uuid::parse_str(text).is_err()),
                "host_uuid",
                "host_uuid: this is no UUID",
            ),
            (
                self.host_uuid_source.as_deref().is_some_and(|word| word != "smbios" && word != MACHINE_ID),
                "host_uuid_source",
                "host_uuid_source: only 'smbios' and 'machine-id' are known",
            ),
            (
                self.access_drivers.iter().any(|name| !DRIVERS.contains(&name.as_str())),
                "access_drivers",
                UNKNOWN_DRIVER,
            ),
        ]
        .into_iter()
        .find_map(|(wrong, key, what)| wrong.then_some((key, what)))
    }

    /// A file with every setting, its meaning and its default; all of it comments.
    pub fn annotated() -> String {
        let defaults = Self::default();
        let mut text = String::from(
            "# Settings of virtwired. Each is shown with its default; remove the # before one to change it.\n",
        );
        for key in KEYS {
            text.push('\n');
            for line in key.doc.lines() {
                let _ = writeln!(text, "#{line}");
            }
            let value = (key.show)(&defaults).unwrap_or_else(|| format!("<{}>", key.expected));
            let _ = writeln!(text, "#{} = {value}", key.name);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn read(text: &str) -> Result<(Settings, Vec<Problem>), Problem> {
        Settings::from_assignments(&parse(text).unwrap())
    }

    #[test]
    fn an_unknown_key_is_a_warning_with_its_line() {
        let (settings, warnings) = read("max_clients = 77\nbogus_key = 1\nMAX_CLIENTS = 5\n").unwrap();
        assert_eq!(settings, Settings { max_clients: 77, ..Settings::default() });
        let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "2: unknown setting 'bogus_key' has no effect",
                "3: unknown setting 'MAX_CLIENTS' has no effect"
            ]
        );
    }

    #[test]
    fn what_lets_nobody_in_is_a_warning() {
        let warnings = read("\nlisten_tcp = 1").unwrap().1;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].to_string().starts_with("2: listen_tcp: no SASL mechanism here encrypts"));
        assert_eq!(read("listen_tcp = 1\nauth_tcp = \"none\"").unwrap().1, []);
    }

    #[test]
    fn a_bad_value_is_refused_with_line_and_reason() {
        for (text, problem) in [
            ("max_clients = \"x\"", "1: expected an unsigned integer for 'max_clients' parameter"),
            ("\nmax_clients = -1", "2: expected an unsigned integer for 'max_clients' parameter"),
            ("max_clients = 4294967296", "1: max_clients: must be in range 0:4294967295"),
            ("listen_tcp = \"1\"", "1: expected a bool for 'listen_tcp' parameter"),
            ("listen_tcp = 2", "1: expected a bool for 'listen_tcp' parameter"),
            ("tls_port = 16514", "1: expected a string for 'tls_port' parameter"),
            ("tls_allowed_dn_list = 5", "1: expected a string list for 'tls_allowed_dn_list' parameter"),
            ("tls_allowed_dn_list = [ 5 ]", "1: expected a string list for 'tls_allowed_dn_list' parameter"),
            ("auth_unix_rw = \"foo\"", "1: auth_unix_rw: unsupported auth foo"),
            ("auth_tls = \"polkit\"", "1: auth_tls: polkit knows local users only"),
            ("sasl_mechanisms = [ \"DIGEST-MD5\" ]", &format!("1: {MECHANISMS_KNOWN}")),
            ("unix_sock_rw_perms = \"9x\"", "1: unix_sock_rw_perms: Failed to parse mode '9x'"),
            ("max_client_backlog = 0", "1: 'max_client_backlog' must be greater than 0"),
            ("max_anonymous_message = 1023", "1: max_anonymous_message: must be in range 1024:65536"),
            ("max_anonymous_message = 65537", "1: max_anonymous_message: must be in range 1024:65536"),
            ("max_workers = 0", "1: 'max_workers' must be greater than 0"),
            ("tcp_min_ssf = 50", "1: minimum SSF levels lower than 112 are not supported"),
            (
                "max_anonymous_clients = 10\nmax_clients = 5",
                "2: The overall maximum number of clients must not be less than the number of clients waiting for \
                 authentication",
            ),
            (
                "access_drivers = [ \"foo\" ]",
                "1: access_drivers: only 'none', 'polkit' and 'rules' are known",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), problem, "{text}");
        }
    }

    #[test]
    fn values_of_each_type() {
        let text = "unix_sock_rw_perms = \"0770\"\nauth_tcp = \"none\"\nkeepalive_interval = -1\n\
                    tls_allowed_dn_list = []\nsasl_allowed_username_list = [\"a\", \"b*\"]\nlisten_tcp = 1\n";
        let (settings, warnings) = read(text).unwrap();
        assert_eq!(warnings, []);
        let expected = Settings {
            unix_sock_rw_perms: Some(Mode(0o770)),
            auth_tcp: Auth::None,
            keepalive_interval: -1,
            tls_allowed_dn_list: Some(vec![]),
            sasl_allowed_username_list: Some(vec!["a".into(), "b*".into()]),
            listen_tcp: true,
            ..Settings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn the_annotated_file_says_the_defaults() {
        let text = Settings::annotated();
        let enabled: String = text
            .lines()
            .filter(|line| line.starts_with('#') && !line.starts_with("# ") && !line.contains('<'))
            .map(|line| format!("{}\n", &line[1..]))
            .collect();
        let assignments = parse(&enabled).unwrap();
        let defaults = Settings::default();
        let with_default = KEYS.iter().filter(|key| (key.show)(&defaults).is_some());
        assert_eq!(assignments.len(), with_default.count());
        assert_eq!(Settings::from_assignments(&assignments), Ok((Settings::default(), vec![])));
    }
}
