//! What a client has registered for, and the frames that it gets for an event.

use virtwire_driver_api::Event;
use virtwire_protocol::events::Subject;
use virtwire_protocol::frame;
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::procedures::Program;
use virtwire_protocol::{qemu, remote};

/// Events carry this serial.
const EVENT_SERIAL: u32 = 1;

/// The object that a registration is limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Domain(remote::NonnullDomain),
    Network(remote::NonnullNetwork),
    StoragePool(remote::NonnullStoragePool),
    NodeDevice(remote::NonnullNodeDevice),
    Secret(remote::NonnullSecret),
}

impl Filter {
    fn subject(&self) -> Subject<'_> {
        match self {
            Self::Domain(domain) => Subject::Domain(domain),
            Self::Network(network) => Subject::Network(network),
            Self::StoragePool(pool) => Subject::StoragePool(pool),
            Self::NodeDevice(device) => Subject::NodeDevice(device),
            Self::Secret(secret) => Subject::Secret(secret),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.subject().is(&other.subject())
    }
}

/// One registration.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// The class of the event, or `qemu` for monitor events.
    pub(crate) class: &'static str,
    /// The event id within its class.
    pub(crate) event: i32,
    /// The id under which it is delivered; `None` for clients of the old style.
    pub(crate) callback: Option<i32>,
    /// The only object whose events are wanted.
    pub(crate) filter: Option<Filter>,
    /// For monitor events: the only event that is wanted.
    pub(crate) monitor: Option<MonitorFilter>,
}

/// Which monitor events are wanted.
#[derive(Clone, Debug)]
pub(crate) struct MonitorFilter {
    /// The event's name; with `prefix` the beginning of it.
    pub(crate) name: String,
    pub(crate) prefix: bool,
    pub(crate) ignore_case: bool,
}

impl MonitorFilter {
    fn admits(&self, event: &str) -> bool {
        let (mut name, mut event) = (self.name.clone(), event.to_owned());
        if self.ignore_case {
            name.make_ascii_lowercase();
            event.make_ascii_lowercase();
        }
        if self.prefix { event.starts_with(&name) } else { event == name }
    }
}

impl Registration {
    /// Whether both would be told the same.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let filters = match (&self.filter, &other.filter) {
            (None, None) => true,
            (Some(a), Some(b)) => a.is(b),
            _ => false,
        };
        filters
            && (self.class, self.event, self.callback.is_some())
                == (other.class, other.event, other.callback.is_some())
    }

    fn admits(&self, subject: &Subject<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.subject().is(subject))
    }
}

/// The frames that a client with these registrations gets for an event. The payload is encoded once; each frame
/// differs only in its callback id.
pub(crate) fn frames(registrations: &[Registration], event: &Event) -> Vec<Vec<u8>> {
    match event {
        Event::Remote(event) => remote_frames(registrations, event),
        Event::Qemu(event) => qemu_frames(registrations, event),
        Event::Audit(_) => Vec::new(),
    }
}

/// What an event is about: the kind of object as access rules call it, and the object.
pub(crate) fn object(event: &Event) -> (&'static str, Subject<'_>) {
    let subject = match event {
        Event::Remote(event) => event.subject(),
        Event::Qemu(event) => event.subject(),
        Event::Audit(record) => Subject::Domain(&record.guest),
    };
    let kind = match &subject {
        Subject::Domain(_) => "domain",
        Subject::Network(_) => "network",
        Subject::StoragePool(_) => "storage_pool",
        Subject::NodeDevice(_) => "node_device",
        Subject::Secret(_) => "secret",
        Subject::None => "connect",
    };
    (kind, subject)
}

fn remote_frames(registrations: &[Registration], event: &remote::Event) -> Vec<Vec<u8>> {
    let (kind, subject) = (event.kind(), event.subject());
    let wanted =
        registrations.iter().filter(|r| (r.class, r.event) == (kind.class, kind.id) && r.admits(&subject));
    let mut payload = None;
    wanted
        .filter_map(|registration| match registration.callback {
            Some(id) => {
                let payload = payload.get_or_insert_with(|| {
                    let mut payload = Vec::new();
                    event.encode(&mut payload).map(|()| payload).unwrap_or_default()
                });
                message(&remote::PROGRAM, kind.procedure.0, &with_id(payload, id)?)
            }
            None => {
                let (procedure, payload) = event.legacy()?;
                message(&remote::PROGRAM, procedure.0, &payload.ok()?)
            }
        })
        .collect()
}

fn qemu_frames(registrations: &[Registration], event: &qemu::Event) -> Vec<Vec<u8>> {
    let qemu::Event::DomainMonitor(msg) = event;
    let name = msg.event.to_str_lossy();
    let subject = event.subject();
    let wanted = registrations.iter().filter(|r| {
        r.class == MONITOR
            && r.admits(&subject)
            && r.monitor.as_ref().is_none_or(|filter| filter.admits(&name))
    });
    let mut payload = Vec::new();
    if event.encode(&mut payload).is_err() {
        return Vec::new();
    }
    wanted
        .filter_map(|r| message(&qemu::PROGRAM, event.kind().procedure.0, &with_id(&payload, r.callback?)?))
        .collect()
}

/// The class of QEMU's monitor events.
pub(crate) const MONITOR: &str = "qemu monitor";

/// The callback id is the first word of every message that has one.
fn with_id(payload: &[u8], id: i32) -> Option<Vec<u8>> {
    let mut payload = payload.to_vec();
    *payload.first_chunk_mut()? = id.to_be_bytes();
    Some(payload)
}

/// A message frame.
pub(crate) fn message(program: &Program, procedure: i32, payload: &[u8]) -> Option<Vec<u8>> {
    let header = MessageHeader {
        prog: program.number,
        vers: program.version,
        proc: procedure,
        r#type: MessageType::MESSAGE,
        serial: EVENT_SERIAL,
        status: MessageStatus::OK,
    };
    frame::encode_bytes(&header, payload).ok()
}
