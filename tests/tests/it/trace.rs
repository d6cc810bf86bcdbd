//! What virtwired tells of itself: a call from the client to QEMU and back, with the events that followed.

use std::time::Duration;

use virtwire_client::{Connect, DomainCreateFlags, DomainDefineFlags, DomainDestroyFlags, Lifecycle};
use virtwire_tests::daemon::Daemon;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process;
use virtwire_trace::story::{Answer, Happening};
use virtwire_trace::{Attachment, Entry, Side, Step, Story, What};

const GUEST: &str = "<domain type='qemu'><name>traced</name><memory unit='MiB'>32</memory>
    <os><type arch='x86_64'>hvm</type></os>
    <devices><graphics type='vnc' port='-1' passwd='hunter2'/></devices></domain>";

/// What is told until a call of this procedure has been answered.
async fn until(from: &mut Attachment, story: &mut Story, procedure: &str) -> Vec<Entry> {
    let mut told = Vec::new();
    let whole = async {
        while let Some(seen) = from.next().await.expect("records can be read") {
            let new = story.observe(seen);
            let answered = |entry: &Entry| matches!(&entry.what, Happening::Call { procedure: done, .. } if done == procedure);
            let done = new.iter().any(answered);
            told.extend(new);
            if done {
                return;
            }
        }
        panic!("the daemon has ended the trace");
    };
    tokio::time::timeout(Duration::from_secs(60), whole).await.expect("the call is told of");
    told
}

fn command(step: &Step) -> &str {
    step.detail.get("command").and_then(|name| name.as_str()).unwrap_or_default()
}

/// The steps of the last call: kind, and the command of a monitor.
fn steps(told: &[Entry]) -> Vec<(&str, &str)> {
    let call = told.iter().rev().find_map(|entry| match &entry.what {
        Happening::Call { steps, answer, .. } => Some((steps, answer)),
        _ => None,
    });
    let Some((steps, answer)) = call else { panic!("{told:?}") };
    assert!(matches!(answer, Answer::Result { .. }), "{answer:?}");
    steps.iter().map(|step| (step.step.as_str(), command(step))).collect()
}

#[tokio::test]
async fn a_call_is_told_from_its_client_to_qemu_and_back() {
    if !peers::here(&[Peer::Root, Peer::Qemu, Peer::VirtAdmin]) {
        return;
    }
    let daemon = Daemon::virtwired();
    let connect = Connect::open(&daemon.uri("qemu:///system")).await.expect("the daemon answers");
    let mut events = connect.lifecycle_events().await.expect("events can be had");
    let admin = daemon.socket_named("libvirt-admin-sock");
    let mut trace = Attachment::open(&admin).await.expect("the daemon tells");
    let mut story = Story::default();

    let domain = connect.define_domain(GUEST, DomainDefineFlags::empty()).await.expect("it is defined");
    let told = until(&mut trace, &mut story, "DOMAIN_DEFINE_XML_FLAGS").await;
    // Who was there before the trace is told of as well.
    let me = i32::try_from(std::process::id()).ok();
    assert!(matches!(&told[0].what, Happening::Connected(client) if client.pid == me), "{told:?}");
    let defined = told.iter().find_map(|entry| match &entry.what {
        Happening::Event { cause: Some(cause), .. } => Some(cause.clone()),
        _ => None,
    });
    let defined = defined.expect("the event is told before the answer");
    assert!(defined.certain && defined.procedure == "DOMAIN_DEFINE_XML_FLAGS", "{defined:?}");

    domain.start(DomainCreateFlags::empty()).await.expect("it starts");
    let told = until(&mut trace, &mut story, "DOMAIN_CREATE_WITH_FLAGS").await;
    let taken = steps(&told);
    assert_eq!(taken[..2], [("access", ""), ("driver", "")]);
    for command in ["qmp_capabilities", "set_password", "cont"] {
        assert!(taken.contains(&("qmp", command)), "{command}: {taken:?}");
    }
    let text = serde_json::to_string(&told).expect("it is JSON");
    assert!(text.contains("(hidden)") && !text.contains("hunter2"), "{text}");

    domain.suspend().await.expect("it is paused");
    let told = until(&mut trace, &mut story, "DOMAIN_SUSPEND").await;
    assert_eq!(steps(&told), [("access", ""), ("driver", ""), ("qmp", "stop")]);
    // What QEMU says by itself belongs to no call, but to a guest.
    let said = told.iter().find_map(|entry| match &entry.what {
        Happening::Step(step) if step.detail.get("event").is_some_and(|event| event == "STOP") => Some(step),
        _ => None,
    });
    let said = said.expect("QEMU says that the guest has stopped");
    assert_eq!((said.step.as_str(), &said.detail["guest"]), ("qmp-event", &"traced".into()));
    while events.next().await.expect("events go on").what != Lifecycle::Suspended {}

    // Stock tools notice nothing.
    let uri = format!("libvirtd+unix:///system?socket={}", admin.display());
    let list =
        process::run(std::process::Command::new("virt-admin").args(["-c", &uri, "client-list", "admin"]));
    assert!(
        list.status.success() && list.text.lines().filter(|line| line.contains("unix")).count() == 2,
        "{}",
        list.text
    );

    // The daemon goes on when nobody listens any more.
    drop(trace);
    domain.resume().await.expect("it goes on");
    domain.destroy(DomainDestroyFlags::empty()).await.expect("it ends");
}

#[tokio::test]
async fn who_does_not_read_its_trace_is_told_how_much_it_has_lost() {
    const CALLS: usize = 60;
    const ROOM_KIB: u64 = 8 << 10;
    let long = "long ".repeat(100_000);
    let guest = format!(
        "<domain type='test'><name>told</name><uuid>5a1f8a52-3f6c-4f3b-9c0e-0b1b6b7a9d11</uuid>
         <description>{long}</description><memory>1024</memory><os><type>hvm</type></os></domain>"
    );
    let daemon = Daemon::virtwired();
    let connect = Connect::open(&daemon.uri("test:///default")).await.expect("the daemon answers");
    connect.define_domain(&guest, DomainDefineFlags::empty()).await.expect("it is defined");
    let before = daemon.peak();
    let mut trace = Attachment::open(&daemon.socket_named("libvirt-admin-sock")).await.expect("it tells");
    for _ in 0..CALLS {
        connect.define_domain(&guest, DomainDefineFlags::empty()).await.expect("nobody waits for a listener");
    }
    let grown = daemon.peak() - before;
    let told = CALLS as u64 * (guest.len() as u64 >> 10);
    assert!(grown < 3 * ROOM_KIB && told > 3 * ROOM_KIB, "{grown} KiB more for a story of {told} KiB");

    let mut defined = 0;
    let lost = loop {
        match trace.next().await.expect("records can be read").expect("the trace goes on").what {
            What::Lost { records } => break records,
            What::Frame { from: Side::Client, frame, .. } => {
                defined += usize::from(frame.procedure == "DOMAIN_DEFINE_XML_FLAGS");
            }
            _ => {}
        }
        // What was lost is told before the next thing that there is room for.
        connect.hostname().await.expect("it has a name");
    };
    assert!(defined > 0 && defined < CALLS && lost as usize >= CALLS - defined, "{defined}, {lost} lost");
}

#[tokio::test]
async fn libvirtd_says_that_it_tells_nothing() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd]) {
        return;
    }
    let daemon = Daemon::libvirtd();
    let error = Attachment::open(&daemon.socket_named("libvirt-admin-sock")).await.expect_err("it cannot");
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
}
