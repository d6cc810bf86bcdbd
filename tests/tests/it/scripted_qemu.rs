//! virtwired with an emulator that has QEMU's monitor and not its manners (`clients/scripted_qemu.py`): whatever it does,
//! the call ends in libvirt's error within its limit, and everybody else is served meanwhile.

use std::thread;
use std::time::Instant;

use virtwire_conformance::peer::{Peer, PeerError, Received, text};
use virtwire_protocol::qemu::{self, DomainMonitorCommandArgs, DomainMonitorCommandRet};
use virtwire_protocol::remote::*;
use virtwire_protocol::{ErrorCode, codec};
use virtwire_tests::daemon::Daemon;
use virtwire_tests::guest::write_emulator;
use virtwire_tests::peers::{self, Peer as Needs};
use virtwire_tests::process::{self, PATIENCE};

/// Seconds that an emulator may take to answer.
const CONFIGURATION: &str = "qemu_answer_limit = 3\n";
/// The most that the daemon may ever hold, in KiB; an emulator sends it a million.
const MOST_MEMORY: u64 = 128 << 10;
/// `VIR_DOMAIN_RUNNING`, `VIR_DOMAIN_SHUTOFF`
const RUNNING: u8 = 1;
const SHUTOFF: u8 = 5;

fn daemon() -> Option<Daemon> {
    let here = peers::here(&[Needs::Root, Needs::Python, Needs::Qemu]);
    here.then(|| {
        let daemon = Daemon::virtwired_with(CONFIGURATION);
        write_emulator(&daemon.folder().join("emulator"));
        daemon
    })
}

fn connect(daemon: &Daemon) -> Peer {
    let mut peer = Peer::connect(&daemon.socket()).expect("the daemon listens");
    peer.open("qemu:///system").expect("the driver opens");
    peer
}

/// Defines a guest whose emulator behaves like its name.
fn define(daemon: &Daemon, peer: &mut Peer, name: &str) -> NonnullDomain {
    let emulator = daemon.folder().join("emulator");
    let xml = format!(
        "<domain type='qemu'><name>{name}</name><memory>8192</memory><os><type>hvm</type></os><devices>\
         <emulator>{}</emulator></devices></domain>",
        emulator.display()
    );
    let defined: DomainDefineXmlRet =
        peer.ask(Procedure::DOMAIN_DEFINE_XML, &DomainDefineXmlArgs { xml: xml.into() }).expect("is defined");
    defined.dom
}

fn start(peer: &mut Peer, dom: &NonnullDomain) -> Result<Received, PeerError> {
    peer.call(Procedure::DOMAIN_CREATE, &DomainCreateArgs { dom: dom.clone() })
}

fn state(peer: &mut Peer, dom: &NonnullDomain) -> u8 {
    let info: DomainGetInfoRet =
        peer.ask(Procedure::DOMAIN_GET_INFO, &DomainGetInfoArgs { dom: dom.clone() }).expect("is known");
    info.state
}

/// Waits until the guest is off, as its death is noticed behind the answer that it caused.
fn wait_until_off(peer: &mut Peer, dom: &NonnullDomain) {
    while state(peer, dom) != SHUTOFF {
        thread::yield_now();
    }
}

/// Waits until the emulator has gone that was told to end.
#[track_caller]
fn wait_until_gone(daemon: &Daemon, name: &str) {
    let begin = Instant::now();
    while runs(daemon, name) {
        assert!(begin.elapsed() < PATIENCE, "{name} was left behind");
        thread::yield_now();
    }
}

/// Whether an emulator of this name runs.
fn runs(daemon: &Daemon, name: &str) -> bool {
    let program = daemon.folder().join("emulator").display().to_string();
    let words = [program, format!("guest={name},debug-threads=on")];
    process::command_lines().any(|(_, line)| words.iter().all(|word| line.contains(word)))
}

/// Asserts that the call was refused with this code, and a text that says so much.
#[track_caller]
fn refused(name: &str, reply: &Received, code: ErrorCode, says: &str) {
    let error = reply.error().expect("it decodes").unwrap_or_else(|| panic!("{name} was served"));
    assert_eq!(error.code, code.0, "{name}: {}", text(&error));
    assert!(text(&error).contains(says), "{name}: {}", text(&error));
}

/// Another client, from its first byte to its last.
fn another_client_is_served(daemon: &Daemon) {
    let mut peer = connect(daemon);
    let dom = define(daemon, &mut peer, "another");
    let args = ConnectListAllDomainsArgs { need_results: 1, flags: 0 };
    let list: ConnectListAllDomainsRet =
        peer.ask(Procedure::CONNECT_LIST_ALL_DOMAINS, &args).expect("the list comes");
    assert!(list.domains.iter().any(|dom| dom.name == "another"));
    peer.ask::<_, ()>(Procedure::DOMAIN_UNDEFINE, &DomainUndefineArgs { dom }).expect("is undefined");
}

/// Starts a guest and ends it.
fn runs_and_ends(name: &str) {
    let Some(daemon) = daemon() else { return };
    let mut peer = connect(&daemon);
    let dom = define(&daemon, &mut peer, name);
    start(&mut peer, &dom).and_then(|reply| reply.decode::<()>()).expect("it starts");
    assert_eq!(state(&mut peer, &dom), RUNNING);
    peer.ask::<_, ()>(Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom: dom.clone() }).expect("it ends");
    assert_eq!(state(&mut peer, &dom), SHUTOFF);
}

#[test]
fn an_emulator_with_manners_runs() {
    runs_and_ends("fine");
}

#[test]
fn a_slow_emulator_runs() {
    runs_and_ends("slow");
}

/// Starts a guest that ends in this error, while another client is served.
fn start_fails(name: &str, code: ErrorCode, says: &str) {
    let Some(daemon) = daemon() else { return };
    let mut peer = connect(&daemon);
    let dom = define(&daemon, &mut peer, name);
    let header = peer.header(&virtwire_protocol::remote::PROGRAM, Procedure::DOMAIN_CREATE.0);
    let payload = codec::encode(&DomainCreateArgs { dom: dom.clone() }).expect("it encodes");
    peer.send(&header, &payload).expect("it is sent");
    another_client_is_served(&daemon);
    refused(name, &peer.reply(&header).expect("an answer comes"), code, says);
    assert_eq!(state(&mut peer, &dom), SHUTOFF, "{name}");
    wait_until_gone(&daemon, name);
    assert!(daemon.peak() < MOST_MEMORY, "{} KiB", daemon.peak());
}

#[test]
fn an_emulator_that_dies_before_its_first_word_fails_the_start() {
    start_fails("dies", ErrorCode::OPERATION_FAILED, "no longer running");
}

#[test]
fn an_emulator_that_closes_its_monitor_fails_the_start() {
    start_fails("closes", ErrorCode::OPERATION_FAILED, "no longer running");
}

#[test]
fn a_gigabyte_without_a_newline_fails_the_start() {
    start_fails("endless", ErrorCode::INTERNAL_ERROR, "longer than");
}

#[test]
fn an_emulator_that_never_answers_fails_the_start() {
    start_fails("silent", ErrorCode::OPERATION_TIMEOUT, "has not answered 'qmp_capabilities'");
}

/// A guest that runs is suspended, which ends in this error and in its end.
fn suspend_fails(name: &str, code: ErrorCode, says: &str) {
    let Some(daemon) = daemon() else { return };
    let mut peer = connect(&daemon);
    let dom = define(&daemon, &mut peer, name);
    start(&mut peer, &dom).and_then(|reply| reply.decode::<()>()).expect("it starts");
    let suspend = DomainSuspendArgs { dom: dom.clone() };
    refused(name, &peer.call(Procedure::DOMAIN_SUSPEND, &suspend).expect("an answer comes"), code, says);
    wait_until_off(&mut peer, &dom);
    another_client_is_served(&daemon);
    assert!(daemon.peak() < MOST_MEMORY, "{} KiB", daemon.peak());
}

#[test]
fn a_guest_that_dies_within_a_command_is_off() {
    suspend_fails("dies-later", ErrorCode::OPERATION_FAILED, "no longer running");
}

#[test]
fn a_guest_that_closes_its_monitor_within_a_command_is_off() {
    suspend_fails("closes-later", ErrorCode::OPERATION_FAILED, "no longer running");
}

#[test]
fn a_guest_that_sends_a_gigabyte_without_a_newline_is_off() {
    suspend_fails("endless-later", ErrorCode::INTERNAL_ERROR, "longer than");
}

#[test]
fn a_guest_that_never_answers_is_given_up_and_can_be_destroyed() {
    let Some(daemon) = daemon() else { return };
    let (name, mut peer) = ("silent-later", connect(&daemon));
    let dom = define(&daemon, &mut peer, name);
    start(&mut peer, &dom).and_then(|reply| reply.decode::<()>()).expect("it starts");
    let header = peer.header(&virtwire_protocol::remote::PROGRAM, Procedure::DOMAIN_SUSPEND.0);
    let payload = codec::encode(&DomainSuspendArgs { dom: dom.clone() }).expect("it encodes");
    peer.send(&header, &payload).expect("it is sent");
    another_client_is_served(&daemon);
    let reply = peer.reply(&header).expect("an answer comes");
    refused(name, &reply, ErrorCode::OPERATION_TIMEOUT, "QEMU has not answered 'stop' within 3 s");
    assert_eq!(state(&mut peer, &dom), RUNNING);
    peer.ask::<_, ()>(Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom }).expect("it ends");
    wait_until_gone(&daemon, name);
}

#[test]
fn answers_out_of_order_reach_who_asked() {
    let Some(daemon) = daemon() else { return };
    let mut peer = connect(&daemon);
    let dom = define(&daemon, &mut peer, "out-of-order");
    start(&mut peer, &dom).and_then(|reply| reply.decode::<()>()).expect("it starts");
    let ask = |mut peer: Peer, command: &str| {
        let dom = dom.clone();
        let cmd = format!("{{\"execute\": \"{command}\"}}");
        let args = DomainMonitorCommandArgs { dom, cmd: cmd.into(), flags: 0 };
        let payload = codec::encode(&args).expect("it encodes");
        let procedure = qemu::Procedure::DOMAIN_MONITOR_COMMAND.0;
        let reply = peer.call_raw(&qemu::PROGRAM, procedure, &payload).expect("an answer comes");
        let answer: DomainMonitorCommandRet = reply.decode().expect("it is an answer");
        assert!(answer.result.to_str_lossy().contains(&format!("\"{command}\"")), "{command}: {answer:?}");
    };
    let other = connect(&daemon);
    thread::scope(|scope| {
        scope.spawn(|| ask(peer, "x-one"));
        scope.spawn(|| ask(other, "x-two"));
    });
    let mut peer = connect(&daemon);
    peer.ask::<_, ()>(Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom }).expect("it ends");
}

/// What comes to a guest that runs, with something behind it.
const RNG: &str = "<rng model='virtio'><backend model='builtin'/></rng>";
/// `VIR_DOMAIN_AFFECT_LIVE`
const LIVE: u32 = 1;

/// A guest of this name that runs; its daemon, a client of it, and the guest.
fn running(name: &str) -> Option<(Daemon, Peer, NonnullDomain)> {
    let daemon = daemon()?;
    let mut peer = connect(&daemon);
    let dom = define(&daemon, &mut peer, name);
    start(&mut peer, &dom).and_then(|reply| reply.decode::<()>()).expect("it starts");
    Some((daemon, peer, dom))
}

fn attach(peer: &mut Peer, dom: &NonnullDomain) -> Received {
    let args = DomainAttachDeviceFlagsArgs { dom: dom.clone(), xml: RNG.into(), flags: LIVE };
    peer.call(Procedure::DOMAIN_ATTACH_DEVICE_FLAGS, &args).expect("an answer comes")
}

fn has_rng(peer: &mut Peer, dom: &NonnullDomain) -> bool {
    let args = DomainGetXmlDescArgs { dom: dom.clone(), flags: 0 };
    let shown: DomainGetXmlDescRet = peer.ask(Procedure::DOMAIN_GET_XML_DESC, &args).expect("it is shown");
    shown.xml.to_str_lossy().contains("<rng")
}

#[test]
fn what_was_begun_for_a_device_that_is_refused_is_taken_back() {
    let Some((_daemon, mut peer, dom)) = running("refuses") else { return };
    let says = "unable to execute QEMU command 'device_add': there is no room";
    refused("refuses", &attach(&mut peer, &dom), ErrorCode::INTERNAL_ERROR, says);
    assert!(!has_rng(&mut peer, &dom));
    let cmd = "{\"execute\": \"x-objects\"}";
    let args = DomainMonitorCommandArgs { dom: dom.clone(), cmd: cmd.into(), flags: 0 };
    let payload = codec::encode(&args).expect("it encodes");
    let procedure = qemu::Procedure::DOMAIN_MONITOR_COMMAND.0;
    let reply = peer.call_raw(&qemu::PROGRAM, procedure, &payload).expect("an answer comes");
    let answer: DomainMonitorCommandRet = reply.decode().expect("it is an answer");
    assert!(answer.result.to_str_lossy().contains("[]"), "{answer:?}");
    peer.ask::<_, ()>(Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom }).expect("it ends");
}

#[test]
fn a_device_that_the_guest_keeps_stays() {
    let Some((_daemon, mut peer, dom)) = running("keeps") else { return };
    attach(&mut peer, &dom).decode::<()>().expect("it is there");
    let args = DomainDetachDeviceFlagsArgs { dom: dom.clone(), xml: RNG.into(), flags: LIVE };
    let reply = peer.call(Procedure::DOMAIN_DETACH_DEVICE_FLAGS, &args).expect("an answer comes");
    refused("keeps", &reply, ErrorCode::OPERATION_FAILED, "rejected by the guest");
    assert!(has_rng(&mut peer, &dom));
    peer.ask::<_, ()>(Procedure::DOMAIN_DESTROY, &DomainDestroyArgs { dom }).expect("it ends");
}
