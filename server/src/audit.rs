//! Audit records: which guests were started and stopped, for the kernel's audit system and the log, in libvirt's form.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use uuid::Uuid;
use virtwire_driver_api::{CallCx, Driver, Event, EventSink};
use virtwire_protocol::remote;

use crate::config::Settings;

/// The type of a record about a guest (`AUDIT_VIRT_CONTROL`).
const VIRT_CONTROL: u16 = 2500;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// Bytes before a netlink message's payload.
const HEAD: usize = 16;

/// Why guests start and stop, by the detail of the event (`VIR_DOMAIN_EVENT_STARTED_…`, `…_STOPPED_…`).
const OPERATIONS: [(i32, &str, &[&str]); 2] = [
    (2, "start", &["booted", "migrated", "restored", "from-snapshot", "wakeup"]),
    (5, "stop", &["shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from-snapshot"]),
];

/// Where records go.
pub(crate) struct Audit {
    kernel: Option<OwnedFd>,
    log: bool,
    program: PathBuf,
    serial: AtomicU32,
}

/// A text in a record: quoted, or in hexadecimal where quotes could not hold it.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.0) {
            Ok(text) if self.0.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"') => {
                write!(f, "\"{text}\"")
            }
            _ => self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}")),
        }
    }
}

impl Audit {
    /// As the settings say; `None` where there is nothing to do. An error where there must be records
    /// (`audit_level = 2`) and the host takes none.
    pub(crate) fn new(settings: &Settings) -> io::Result<Option<Self>> {
        let kernel = match (settings.audit_level, open()) {
            (0, _) => None,
            (1, kernel) => kernel.ok(),
            (_, Ok(kernel)) => Some(kernel),
            (_, Err(error)) => {
                let text = format!("audit_level is 2, and the host does not audit: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
        };
        let log = settings.audit_logging;
        if kernel.is_none() && !log {
            return Ok(None);
        }
        let program = std::env::current_exe().unwrap_or_default();
        Ok(Some(Self { kernel, log, program, serial: AtomicU32::new(1) }))
    }

    fn record(&self, text: &str) {
        if self.log {
            tracing::info!("success=yes {text}");
        }
        let Some(kernel) = &self.kernel else { return };
        let program = Text(self.program.as_os_str().as_encoded_bytes());
        let text = format!("{text} exe={program} hostname=? addr=? terminal=? res=success");
        let message = netlink_message(self.serial.fetch_add(1, Ordering::Relaxed), &text);
        let to = SocketAddrNetlink::new(0, 0);
        if let Err(error) = rustix::net::sendto(kernel, &message, SendFlags::empty(), &to) {
            tracing::warn!(%error, "an audit record is lost");
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(netlink::AUDIT);
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?)
}

/// A message to the kernel's audit system: header (length, type, flags, serial, port), text, and a NUL.
fn netlink_message(serial: u32, text: &str) -> Vec<u8> {
    let length = HEAD + text.len() + 1;
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(VIRT_CONTROL.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(serial.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(text.as_bytes());
    message.push(0);
    message
}

/// The record of a guest's start or stop.
fn text(driver: &str, msg: &remote::DomainEventLifecycleMsg) -> Option<String> {
    let (_, operation, reasons) = OPERATIONS.iter().find(|(event, ..)| *event == msg.event)?;
    let reason =
        usize::try_from(msg.detail).ok().and_then(|detail| reasons.get(detail)).unwrap_or(&"unknown");
    let (name, uuid) = (Text(msg.dom.name.as_bytes()), Uuid::from_bytes(msg.dom.uuid));
    Some(format!("virt={driver} op={operation} reason={reason} vm={name} uuid={uuid}"))
}

/// The listener of one driver.
pub(crate) struct Watch {
    audit: Arc<Audit>,
    driver: &'static str,
}

impl EventSink for Watch {
    fn deliver(&self, event: &Event) {
        if let Event::Remote(remote::Event::DomainLifecycle(event)) = event
            && let Some(text) = text(self.driver, &event.msg)
        {
            self.audit.record(&text);
        }
    }
}

/// Listens to all drivers that serve clients who name no URI, for as long as the result is held.
pub(crate) async fn watch(audit: &Arc<Audit>, drivers: &[Arc<dyn Driver>]) -> Vec<Arc<dyn EventSink>> {
    let mut watches = Vec::new();
    for driver in drivers {
        let Some(uri) = driver.default_uri() else { continue };
        match driver.open(&CallCx { read_only: true, ..CallCx::default() }, &uri).await {
            Ok(connection) => {
                let watch = Watch { audit: Arc::clone(audit), driver: driver.name() };
                let sink: Arc<dyn EventSink> = Arc::new(watch);
                connection.events.subscribe(&sink);
                watches.push(sink);
            }
            Err(error) => tracing::warn!(driver = driver.name(), error = error.message, "no audit records"),
        }
    }
    watches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_in_libvirts_form() {
        let msg = |name: &str, event, detail| remote::DomainEventLifecycleMsg {
            dom: remote::NonnullDomain { name: name.into(), uuid: [0xab; 16], id: 1 },
            event,
            detail,
        };
        let uuid = "abababab-abab-abab-abab-abababababab";
        for (msg, expected) in [
            (msg("a", 2, 0), Some(format!("virt=qemu op=start reason=booted vm=\"a\" uuid={uuid}"))),
            // As libvirtd has it for a guest of this name.
            (
                msg("lit\"tle", 5, 1),
                Some(format!("virt=qemu op=stop reason=destroyed vm=6C697422746C65 uuid={uuid}")),
            ),
            (msg("a b", 5, 99), Some(format!("virt=qemu op=stop reason=unknown vm=612062 uuid={uuid}"))),
            (msg("a", 3, 0), None),
        ] {
            assert_eq!(text("qemu", &msg), expected);
        }
    }

    #[test]
    fn a_message_says_its_own_length() {
        let message = netlink_message(7, "virt=qemu");
        assert_eq!(message.len(), 26);
        assert_eq!(message[..4], 26u32.to_ne_bytes());
        assert_eq!(message[4..8], [VIRT_CONTROL.to_ne_bytes(), REQUEST.to_ne_bytes()].concat());
        assert_eq!(&message[16..], b"virt=qemu\0");
    }

    #[test]
    fn nothing_is_done_where_nothing_is_wanted() {
        let settings = Settings { audit_level: 0, ..Settings::default() };
        assert!(Audit::new(&settings).unwrap().is_none());
        let settings = Settings { audit_level: 0, audit_logging: true, ..Settings::default() };
        assert!(Audit::new(&settings).unwrap().is_some_and(|audit| audit.kernel.is_none()));
    }
}
