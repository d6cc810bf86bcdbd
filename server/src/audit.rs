//! Audit records: which guests were started and stopped, whether it went well, and what of the host's they were given,
//! for the kernel's audit system and the log, in libvirt's form.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use uuid::Uuid;
use virtwire_driver_api::{Amount, AuditFact, AuditRecord, CallCx, Driver, Event, EventSink, Resource};

use crate::config::Settings;

/// The type of a record about a guest (`AUDIT_VIRT_CONTROL`).
const VIRT_CONTROL: u16 = 2500;
/// The type of a record about what a guest has (`AUDIT_VIRT_RESOURCE`).
const VIRT_RESOURCE: u16 = 2501;
/// The type of a record about a guest's labels (`AUDIT_VIRT_MACHINE_ID`).
const VIRT_MACHINE_ID: u16 = 2502;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// Bytes before a netlink message's payload.
const HEAD: usize = 16;

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

    fn record(&self, kind: u16, success: bool, text: &str) {
        if self.log && success {
            tracing::info!("success=yes {text}");
        } else if self.log {
            tracing::warn!("success=no {text}");
        }
        let Some(kernel) = &self.kernel else { return };
        let program = Text(self.program.as_os_str().as_encoded_bytes());
        let text = format!(
            "{text} exe={program} hostname=? addr=? terminal=? res={}",
            if success { "success" } else { "failed" }
        );
        let message = netlink_message(kind, self.serial.fetch_add(1, Ordering::Relaxed), &text);
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
fn netlink_message(kind: u16, serial: u32, text: &str) -> Vec<u8> {
    let length = HEAD + text.len() + 1;
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(serial.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(text.as_bytes());
    message.push(0);
    message
}

/// The type and text of a record.
fn text(driver: &str, record: &AuditRecord) -> (u16, String) {
    let guest = &record.guest;
    let guest = format!("vm={} uuid={}", Text(guest.name.as_bytes()), Uuid::from_bytes(guest.uuid));
    match &record.fact {
        AuditFact::Operation { name, reason, pid } => {
            (VIRT_CONTROL, format!("virt={driver} op={name} reason={reason} {guest} vm-pid={pid}"))
        }
        AuditFact::Label { model, process, image } => {
            (VIRT_MACHINE_ID, format!("virt={driver} {guest} vm-ctx={process} img-ctx={image} model={model}"))
        }
        AuditFact::Resource(Resource { kind, reason, old, new }) => {
            let [old, new] = [old, new].map(amount);
            let text = format!(
                "virt={driver} resrc={kind} reason={reason} {guest} old-{kind}={old} new-{kind}={new}"
            );
            (VIRT_RESOURCE, text)
        }
    }
}

fn amount(amount: &Amount) -> String {
    match amount {
        Amount::Number(number) => number.to_string(),
        Amount::Name(name) => Text(name.as_deref().unwrap_or("?").as_bytes()).to_string(),
    }
}

/// The listener of one driver.
pub(crate) struct Watch {
    audit: Arc<Audit>,
    driver: &'static str,
}

impl EventSink for Watch {
    fn deliver(&self, event: &Event) {
        if let Event::Audit(record) = event {
            let (kind, text) = text(self.driver, record);
            self.audit.record(kind, record.success, &text);
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
    use virtwire_protocol::remote::NonnullDomain;

    use super::*;

    #[test]
    fn records_are_in_libvirts_form() {
        let record = |name: &str, fact| {
            let guest = NonnullDomain { name: name.into(), uuid: [0xab; 16], id: 1 };
            text("qemu", &AuditRecord { guest, success: true, fact })
        };
        let start = AuditFact::Operation { name: "start", reason: "booted", pid: 7 };
        let disk = |new: &str| {
            let (old, new) = (Amount::Name(None), Amount::Name(Some(new.into())));
            AuditFact::Resource(Resource { kind: "disk", reason: "start", old, new })
        };
        let label = |label: &str| {
            let (process, image) = (label.to_owned(), label.to_owned());
            AuditFact::Label { model: "dac".into(), process, image }
        };
        let (old, new) = (Amount::Number(1), Amount::Number(2));
        let vcpu = AuditFact::Resource(Resource { kind: "vcpu", reason: "update", old, new });
        let uuid = "abababab-abab-abab-abab-abababababab";
        for (record, kind, expected) in [
            (
                record("a", start.clone()),
                2500,
                format!("op=start reason=booted vm=\"a\" uuid={uuid} vm-pid=7"),
            ),
            (
                record("a", label("+1:+2")),
                2502,
                format!("vm=\"a\" uuid={uuid} vm-ctx=+1:+2 img-ctx=+1:+2 model=dac"),
            ),
            // As libvirtd has it for a guest of this name.
            (
                record("lit\"tle", start),
                2500,
                format!("op=start reason=booted vm=6C697422746C65 uuid={uuid} vm-pid=7"),
            ),
            (
                record("a", disk("/d.img")),
                2501,
                format!("resrc=disk reason=start vm=\"a\" uuid={uuid} old-disk=\"?\" new-disk=\"/d.img\""),
            ),
            (
                record("a", disk("/a b")),
                2501,
                format!("resrc=disk reason=start vm=\"a\" uuid={uuid} old-disk=\"?\" new-disk=2F612062"),
            ),
            (
                record("a", vcpu),
                2501,
                format!("resrc=vcpu reason=update vm=\"a\" uuid={uuid} old-vcpu=1 new-vcpu=2"),
            ),
        ] {
            assert_eq!(record, (kind, format!("virt=qemu {expected}")));
        }
    }

    #[test]
    fn a_message_says_its_own_length() {
        let message = netlink_message(VIRT_CONTROL, 7, "virt=qemu");
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
