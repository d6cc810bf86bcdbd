//! Calls through the traits, as a session makes them, and the events they lead to.

use std::sync::{Arc, Mutex};

use virtwire_driver_api::{CallCx, Connection, Driver, Event, EventSink};
use virtwire_protocol::remote::{Event as Remote, *};
use virtwire_protocol::{ErrorCode, VirtError};

use crate::TestDriver;

/// Remembers lifecycle events of guests: event, detail, id.
#[derive(Default)]
struct Notes(Mutex<Vec<(i32, i32, i32)>>);

impl EventSink for Notes {
    fn deliver(&self, event: &Event) {
        if let Event::Remote(Remote::DomainLifecycle(event)) = event {
            self.0.lock().unwrap().push((event.msg.event, event.msg.detail, event.msg.dom.id));
        }
    }
}

impl Notes {
    fn take(&self) -> Vec<(i32, i32, i32)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

const GUEST: &str = "<domain type='test'><name>d</name><uuid>11111111-2222-3333-4444-000000000001</uuid>\
    <memory>1000</memory><os><type>hvm</type></os></domain>";

/// Every answer is ready at once: one poll must do.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the test hypervisor waits"),
    }
}

fn open(driver: &TestDriver) -> (Connection, Arc<Notes>) {
    let connection = now(driver.open(&CallCx::default(), "test:///default")).unwrap();
    let notes = Arc::new(Notes::default());
    let sink: Arc<dyn EventSink> = notes.clone();
    connection.events.subscribe(&sink);
    (connection, notes)
}

fn define(connection: &Connection, xml: &str) -> Result<NonnullDomain, VirtError> {
    let args = DomainDefineXmlArgs { xml: xml.into() };
    now(connection.hypervisor.domain_define_xml(&CallCx::default(), args)).map(|ret| ret.dom)
}

/// Calls a procedure that takes a domain and at most flags.
macro_rules! call {
    ($connection:expr, $procedure:ident, $args:ident, $dom:expr $(, $field:ident: $value:expr)*) => {
        now($connection.hypervisor.$procedure(
            &CallCx::default(),
            $args { dom: $dom.clone() $(, $field: $value)* },
        ))
    };
}

fn status(connection: &Connection, dom: &NonnullDomain) -> (i32, i32) {
    let ret = call!(connection, domain_get_state, DomainGetStateArgs, dom, flags: 0).unwrap();
    (ret.state, ret.reason)
}

#[test]
fn each_step_has_its_state_and_event() {
    let (c, notes) = open(&TestDriver::new());
    let dom = define(&c, GUEST).unwrap();
    assert_eq!((status(&c, &dom), notes.take()), ((5, 0), vec![(0, 0, -1)]));
    define(&c, GUEST).unwrap();
    assert_eq!(notes.take(), [(0, 1, -1)]);

    call!(c, domain_create, DomainCreateArgs, dom).unwrap();
    assert_eq!((status(&c, &dom), notes.take()), ((1, 1), vec![(2, 0, 2)]));
    call!(c, domain_suspend, DomainSuspendArgs, dom).unwrap();
    assert_eq!((status(&c, &dom), notes.take()), ((3, 1), vec![(3, 0, 2)]));
    call!(c, domain_resume, DomainResumeArgs, dom).unwrap();
    assert_eq!((status(&c, &dom), notes.take()), ((1, 5), vec![(4, 0, 2)]));
    call!(c, domain_reboot, DomainRebootArgs, dom, flags: 0).unwrap();
    assert_eq!((status(&c, &dom), notes.take()), ((1, 1), vec![]));
    call!(c, domain_shutdown, DomainShutdownArgs, dom).unwrap();
    assert_eq!((status(&c, &dom), notes.take()), ((5, 1), vec![(5, 0, -1)]));

    call!(c, domain_create, DomainCreateArgs, dom).unwrap();
    call!(c, domain_managed_save, DomainManagedSaveArgs, dom, flags: 0).unwrap();
    assert_eq!((status(&c, &dom), notes.take()), ((5, 5), vec![(2, 0, 3), (5, 4, -1)]));
    let refused = call!(c, domain_undefine, DomainUndefineArgs, dom).unwrap_err();
    assert_eq!(refused.code, ErrorCode::OPERATION_INVALID);
    call!(c, domain_undefine_flags, DomainUndefineFlagsArgs, dom, flags: 1).unwrap();
    assert_eq!(notes.take(), [(1, 0, -1)]);
    let gone = call!(c, domain_create, DomainCreateArgs, dom).unwrap_err();
    assert_eq!(
        gone.message,
        "Domain not found: no domain with matching uuid '11111111-2222-3333-4444-000000000001' (d)"
    );
}

#[test]
fn steps_that_cannot_be_taken_are_refused() {
    let (c, notes) = open(&TestDriver::new());
    let dom = define(&c, GUEST).unwrap();
    notes.take();
    for (result, text) in [
        (call!(c, domain_suspend, DomainSuspendArgs, dom), "internal error: domain 'd' not running"),
        (call!(c, domain_resume, DomainResumeArgs, dom), "internal error: domain 'd' not paused"),
        (call!(c, domain_shutdown, DomainShutdownArgs, dom), "internal error: domain 'd' not running"),
        (
            call!(c, domain_destroy, DomainDestroyArgs, dom),
            "Requested operation is not valid: domain is not running",
        ),
        (
            call!(c, domain_reboot, DomainRebootArgs, dom, flags: 1 << 9),
            "unsupported flags (0x200) in function testDomainReboot",
        ),
    ] {
        assert_eq!(result.unwrap_err().message, text);
    }
    assert_eq!(notes.take(), []);
}

#[test]
fn reverting_stops_and_starts() {
    let (c, notes) = open(&TestDriver::new());
    let dom = define(&c, GUEST).unwrap();
    call!(c, domain_create, DomainCreateArgs, dom).unwrap();
    let xml_desc = "<domainsnapshot><name>s</name></domainsnapshot>".into();
    let snap = call!(
        c,
        domain_snapshot_create_xml,
        DomainSnapshotCreateXmlArgs,
        dom,
        xml_desc: xml_desc,
        flags: 0
    );
    let snap = snap.unwrap().snap;
    notes.take();
    let revert = |flags| {
        let args = DomainRevertToSnapshotArgs { snap: snap.clone(), flags };
        now(c.hypervisor.domain_revert_to_snapshot(&CallCx::default(), args)).unwrap();
        (status(&c, &dom), notes.take())
    };
    assert_eq!(revert(0), ((1, 4), vec![(5, 6, -1), (2, 3, 3)]));
    assert_eq!(revert(2), ((3, 7), vec![(5, 6, -1), (2, 3, 4), (3, 5, 4)]));
}

#[test]
fn connections_share_the_default_host_until_the_last_one_goes() {
    let driver = TestDriver::new();
    let ((a, _), (b, notes)) = (open(&driver), open(&driver));
    let dom = define(&a, GUEST).unwrap();
    assert_eq!(notes.take(), [(0, 0, -1)]);
    drop(a);
    call!(b, domain_create, DomainCreateArgs, dom).unwrap();
    drop(b);
    let (fresh, _) = open(&driver);
    assert!(call!(fresh, domain_create, DomainCreateArgs, dom).is_err());
}

#[test]
fn filters_of_lists() {
    let (c, _) = open(&TestDriver::new());
    let dom = define(&c, GUEST).unwrap();
    call!(c, domain_set_autostart, DomainSetAutostartArgs, dom, autostart: 1).unwrap();
    let names = |flags| {
        let args = ConnectListAllDomainsArgs { need_results: 1, flags };
        let found = now(c.hypervisor.connect_list_all_domains(&CallCx::default(), args)).unwrap();
        assert_eq!(found.ret as usize, found.domains.len());
        found.domains.iter().map(|dom| dom.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    for (flags, expected) in [
        (0, "test d"),
        (1, "test"),
        (2, "d"),
        (4, "test d"),
        (8, ""),
        (16, "test"),
        (64, "d"),
        (16 | 64, "test d"),
        (128, ""),
        (1 << 9, "test d"),
        (1 << 10, "d"),
        (1 << 11, "test"),
        (1 << 12, ""),
        (2 | 1 << 11, ""),
    ] {
        assert_eq!(names(flags), expected, "{flags:#x}");
    }
    let args = ConnectListAllDomainsArgs { need_results: 0, flags: 0 };
    let counted = now(c.hypervisor.connect_list_all_domains(&CallCx::default(), args)).unwrap();
    assert_eq!((counted.ret, counted.domains.len()), (2, 0));
}

#[test]
fn text_is_kept_until_the_definition_changes() {
    let (c, _) = open(&TestDriver::new());
    let dom = define(&c, GUEST).unwrap();
    let text = || {
        let ret = call!(c, domain_get_xml_desc, DomainGetXmlDescArgs, dom, flags: 2);
        ret.unwrap().xml.to_string()
    };
    assert!(text().contains("<memory unit='KiB'>1000</memory>"));
    call!(c, domain_set_max_memory, DomainSetMaxMemoryArgs, dom, memory: 2000).unwrap();
    assert!(text().contains("<memory unit='KiB'>2000</memory>"));
}
