//! What the host's administrator says of guests in `qemu.conf`: where screens are seen, who is let in, certificates, limits.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::hugepages::{self, Mount};
use crate::settings::Settings;

/// The first port of VNC; displays count from it.
pub(crate) const FIRST_DISPLAY: u16 = 5900;
/// The first port of VNC for browsers.
const FIRST_WEBSOCKET: u16 = 5700;

/// Where certificates are unless a kind of users has its own.
const CERTIFICATES: &str = "/etc/pki/qemu";

/// All of it.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) vnc: Screens,
    pub(crate) spice: Screens,
    /// Ports of VNC and SPICE.
    pub(crate) displays: RangeInclusive<u16>,
    /// Ports of VNC for browsers.
    pub(crate) websockets: RangeInclusive<u16>,
    /// Of character devices over TCP.
    pub(crate) chardev: Tls,
    /// Of disks over NBD.
    pub(crate) nbd: Tls,
    pub(crate) limits: Limits,
    /// Whether a guest's memory is in core dumps of its QEMU, where the definition says nothing.
    pub(crate) dumps_memory: bool,
    /// Whether QEMU is kept from system calls that it does not need.
    pub(crate) sandbox: bool,
    /// Whether what QEMU says has the time before it.
    pub(crate) timestamps: bool,
    /// Whether QEMU is called `qemu:NAME` in lists of processes.
    pub(crate) process_name: bool,
    /// Whether QEMU gets files open that it writes what guests say to.
    pub(crate) opens_files: bool,
    /// Whether programs that share folders say much.
    pub(crate) virtiofsd_debug: bool,
    /// What QEMU makes of what is about to be dropped, where the definition says nothing.
    pub(crate) deprecation: Option<String>,
    /// Where the files are that back the memory of guests, unless that is the driver's own place.
    pub(crate) memory: Option<PathBuf>,
    /// Where the host has huge pages, unless that is to be found out.
    pub(crate) hugepages: Option<Vec<Mount>>,
    /// Where the memory of guests is put that gave up, unless that is the driver's own place.
    pub(crate) dumps: Option<PathBuf>,
    /// Whether the host is to keep nothing of that in its own memory.
    pub(crate) dumps_past_cache: bool,
    /// How long is waited between guests that start with the daemon.
    pub(crate) start_delay: Duration,
}

/// Screens of a kind.
#[derive(Debug, Default)]
pub(crate) struct Screens {
    /// Where they listen that do not say it.
    pub(crate) listen: Option<String>,
    /// Whether those are seen through a socket instead.
    pub(crate) in_socket: bool,
    pub(crate) tls: Tls,
    /// The password of those that have none.
    pub(crate) password: Option<String>,
    /// Whether SASL asks who comes.
    pub(crate) sasl: bool,
    /// Where SASL's settings are.
    pub(crate) sasl_dir: Option<String>,
}

/// Encryption of a kind of connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    /// Whether those are encrypted that do not say it.
    pub(crate) enabled: bool,
    /// Where its certificates are.
    pub(crate) dir: String,
    /// Whether who connects has to show a certificate.
    pub(crate) verify: bool,
    /// The secret with the password of the server's key.
    pub(crate) secret: Option<Uuid>,
}

/// What a QEMU may have at most; `None` for what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Processes of its user.
    pub(crate) processes: Option<u64>,
    /// Open files.
    pub(crate) files: Option<u64>,
    /// Bytes of a core dump; the largest number is for as many as there are.
    pub(crate) core: Option<u64>,
}

impl Policy {
    /// As `qemu.conf` says, with libvirt's values for what it does not.
    ///
    /// # Errors
    /// It says something that is none of that.
    pub(crate) fn of(settings: &Settings) -> io::Result<Self> {
        warn(settings);
        if let Some(manager) = settings.text("lock_manager")?.filter(|manager| manager != "nop") {
            let expected = format!("\"nop\", since there is no lock manager '{manager}' here");
            return Err(settings.wrong("lock_manager", &expected));
        }
        let flag = |key: &str, usual: bool| Ok::<_, io::Error>(settings.flag(key)?.unwrap_or(usual));
        Ok(Self {
            vnc: Screens::of(settings, "vnc")?,
            spice: Screens::of(settings, "spice")?,
            displays: ports(settings, "remote_display_port", FIRST_DISPLAY)?,
            websockets: ports(settings, "remote_websocket_port", FIRST_WEBSOCKET)?,
            chardev: Tls::of(settings, "chardev", true)?,
            nbd: Tls::of(settings, "nbd", true)?,
            limits: Limits::of(settings)?,
            dumps_memory: flag("dump_guest_core", false)?,
            sandbox: flag("seccomp_sandbox", true)?,
            timestamps: flag("log_timestamp", true)?,
            process_name: flag("set_process_name", false)?,
            opens_files: opens_files(settings)?,
            virtiofsd_debug: flag("virtiofsd_debug", false)?,
            deprecation: settings.text("deprecation_behavior")?.filter(|behavior| behavior != "none"),
            memory: settings.text("memory_backing_dir")?.map(PathBuf::from),
            hugepages: hugepages::named(settings)?,
            dumps: settings.text("auto_dump_path")?.map(PathBuf::from),
            dumps_past_cache: flag("auto_dump_bypass_cache", false)?,
            start_delay: Duration::from_millis(settings.number("auto_start_delay")?.unwrap_or_default()),
        })
    }
}

/// Whether files are opened for QEMU (`stdio_handler`), which would open them itself otherwise.
pub(crate) fn opens_files(settings: &Settings) -> io::Result<bool> {
    Ok(settings.text("stdio_handler")?.as_deref() != Some("file"))
}

/// Settings of libvirt's that change nothing here.
const WITHOUT_EFFECT: &[&str] = &[
    "auto_save_bypass_cache",
    "auto_shutdown_poweroff",
    "auto_shutdown_restore",
    "auto_shutdown_try_save",
    "auto_shutdown_try_shutdown",
    "auto_shutdown_wait",
    "auto_start_bypass_cache",
    "backup_tls_x509_cert_dir",
    "backup_tls_x509_secret_uuid",
    "backup_tls_x509_verify",
    "bridge_helper",
    "capability_filters",
    "dbus_daemon",
    "gluster_debug_level",
    "keepalive_count",
    "keepalive_interval",
    "mac_filter",
    "max_queued",
    "max_threads_per_process",
    "nographics_allow_host_audio",
    "nvram",
    "pr_helper",
    "qemu_rdp",
    "rdp_listen",
    "rdp_password",
    "rdp_tls_x509_cert_dir",
    "rdp_username",
    "relaxed_acs_check",
    "sched_core",
    "security_default_confined",
    "security_driver",
    "security_require_confined",
    "shared_filesystems",
    "slirp_helper",
    "storage_use_nbdkit",
    "vnc_allow_host_audio",
    "vxhs_tls",
    "vxhs_tls_x509_cert_dir",
    "vxhs_tls_x509_secret_uuid",
];

/// Tells of settings that somebody may rely on in vain.
fn warn(settings: &Settings) {
    for (key, line) in settings.keys().filter(|(key, _)| WITHOUT_EFFECT.contains(key)) {
        tracing::warn!(key, line, "the setting has no effect");
    }
}

impl Screens {
    fn of(settings: &Settings, kind: &str) -> io::Result<Self> {
        let key = |what: &str| format!("{kind}_{what}");
        Ok(Self {
            listen: settings.text(&key("listen"))?,
            in_socket: settings.flag(&key("auto_unix_socket"))?.unwrap_or(false),
            tls: Tls::of(settings, kind, false)?,
            password: settings.any_text(&key("password"))?,
            sasl: settings.flag(&key("sasl"))?.unwrap_or(false),
            sasl_dir: settings.text(&key("sasl_dir"))?,
        })
    }
}

impl Tls {
    /// Of a kind of users: what it does not say holds as for all.
    ///
    /// # Errors
    /// It says something that is none of that, or names a directory that is not there.
    pub(crate) fn of(settings: &Settings, kind: &str, verify: bool) -> io::Result<Self> {
        let all = directory(settings, "default_tls_x509_cert_dir")?;
        let own = format!("/etc/pki/libvirt-{kind}");
        let dir = match directory(settings, &format!("{kind}_tls_x509_cert_dir"))? {
            Some(dir) => dir,
            None if Path::new(&own).exists() => own,
            None => all.unwrap_or_else(|| CERTIFICATES.to_owned()),
        };
        let either = |what: &str| [format!("{kind}_tls_x509_{what}"), format!("default_tls_x509_{what}")];
        let mut said = None;
        for key in either("verify") {
            said = said.or(settings.flag(&key)?);
        }
        let mut secret = None;
        for key in either("secret_uuid") {
            let text = settings.text(&key)?;
            let read = text.map(|text| Uuid::parse_str(&text).map_err(|_| settings.wrong(&key, "a UUID")));
            secret = secret.or(read.transpose()?);
        }
        let enabled = settings.flag(&format!("{kind}_tls"))?.unwrap_or(false);
        Ok(Self { enabled, dir, verify: said.unwrap_or(verify), secret })
    }
}

/// A directory of certificates, which has to be there.
fn directory(settings: &Settings, key: &str) -> io::Result<Option<String>> {
    let dir = settings.text(key)?;
    match dir.as_deref() {
        Some(path) if !Path::new(path).exists() => {
            Err(io::Error::other(format!("{key} directory '{path}' does not exist")))
        }
        _ => Ok(dir),
    }
}

/// A range of ports; none is below the first that there can be.
fn ports(settings: &Settings, kind: &str, first: u16) -> io::Result<RangeInclusive<u16>> {
    let [low, high] = ["min", "max"].map(|end| format!("{kind}_{end}"));
    let min = settings.port(&low)?.unwrap_or(first);
    let max = settings.port(&high)?.unwrap_or(u16::MAX);
    match (min < first, min > max) {
        (true, _) => Err(settings.wrong(&low, &format!("{first} or more"))),
        (_, true) => Err(settings.wrong(&low, "less than or equal to its maximum")),
        _ => Ok(min..=max),
    }
}

impl Limits {
    fn of(settings: &Settings) -> io::Result<Self> {
        let number = |key: &str| Ok::<_, io::Error>(settings.number(key)?.filter(|limit| *limit > 0));
        let core = match settings.any_text("max_core") {
            Ok(None) => None,
            Ok(Some(text)) if text == "unlimited" => Some(u64::MAX),
            Ok(Some(_)) => return Err(settings.wrong("max_core", "a number or \"unlimited\"")),
            Err(_) => settings.number("max_core")?,
        };
        Ok(Self { processes: number("max_processes")?, files: number("max_files")?, core })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::given;

    #[test]
    fn what_is_not_said_is_as_in_libvirt() {
        let usual = Policy::of(&Settings::default()).unwrap();
        assert_eq!((usual.displays, usual.websockets), (5900..=65535, 5700..=65535));
        assert!(!usual.vnc.tls.verify && usual.chardev.verify && usual.nbd.verify);
        assert!(usual.sandbox && usual.timestamps && !usual.dumps_memory);
        assert_eq!(usual.limits, Limits::default());
    }

    #[test]
    fn what_holds_for_all_holds_for_who_says_nothing() {
        let policy = Policy::of(&given(
            "default_tls_x509_cert_dir = \"/\"\ndefault_tls_x509_verify = 1\nvnc_tls = 1\n\
             chardev_tls_x509_cert_dir = \"/usr\"\nchardev_tls_x509_verify = 0\nmax_core = 7\nmax_processes = 0\n\
             default_tls_x509_secret_uuid = \"00000000-0000-0000-0000-000000000007\"\nvnc_password = \"\"\n",
        ));
        let policy = policy.unwrap();
        assert!(policy.vnc.tls.enabled && policy.vnc.tls.verify && !policy.chardev.verify);
        assert_eq!((policy.vnc.tls.dir.as_str(), policy.chardev.dir.as_str()), ("/", "/usr"));
        assert_eq!(policy.nbd.secret, Some(Uuid::from_u128(7)));
        assert_eq!(policy.limits, Limits { core: Some(7), ..Limits::default() });
        assert_eq!(policy.vnc.password.as_deref(), Some(""), "one that nobody can say");
    }

    #[test]
    fn what_cannot_be_is_told_with_its_line() {
        for (text, said) in [
            (
                "vnc_tls_x509_cert_dir = \"/nosuch\"",
                "vnc_tls_x509_cert_dir directory '/nosuch' does not exist",
            ),
            ("remote_display_port_min = 5899", "x.conf:1: 'remote_display_port_min' must be 5900 or more"),
            (
                "remote_display_port_max = 5899",
                "x.conf:0: 'remote_display_port_min' must be less than or equal to its maximum",
            ),
            ("max_core = \"much\"", "x.conf:1: 'max_core' must be a number or \"unlimited\""),
            (
                "lock_manager = \"lockd\"",
                "x.conf:1: 'lock_manager' must be \"nop\", since there is no lock manager 'lockd' here",
            ),
            ("nbd_tls_x509_secret_uuid = \"x\"", "x.conf:1: 'nbd_tls_x509_secret_uuid' must be a UUID"),
        ] {
            assert_eq!(Policy::of(&given(text)).unwrap_err().to_string(), said);
        }
    }
}
