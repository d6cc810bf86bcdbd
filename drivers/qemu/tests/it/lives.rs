//! Guests start, speak, pause, reboot, power off, crash, and outlive the daemon.

use rustix::process::{Pid, Signal, kill_process};
use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::*;

use crate::host::{GREETING, Host};
use crate::qemu;

const RUNNING: (i32, i32) = (1, 1);
const STARTED: [(i32, i32); 2] = [(4, 0), (2, 0)];

#[tokio::test]
async fn a_guest_boots_speaks_and_powers_off() {
    if qemu().is_none() {
        return;
    }
    let (mut host, cx) = (Host::new().await, CallCx::default());
    let dom = host.define("speaks", &host.talking()).await;
    host.driver.domain_create(&cx, DomainCreateArgs { dom: dom.clone() }).await.unwrap();
    assert_eq!(host.lives().await, [(0, 0), STARTED[0], STARTED[1]]);
    assert_eq!(host.state(&dom).await, RUNNING);

    let mut console = host.console(&dom).await;
    console.wake().await;
    console.say("abc").await;
    console.hear("abc").await;

    host.driver.domain_suspend(&cx, DomainSuspendArgs { dom: dom.clone() }).await.unwrap();
    assert_eq!((host.lives().await, host.state(&dom).await), ([(3, 0)], (3, 1)));
    host.driver.domain_resume(&cx, DomainResumeArgs { dom: dom.clone() }).await.unwrap();
    assert_eq!((host.lives().await, host.state(&dom).await), ([(4, 0)], (1, 5)));

    console.say("r").await;
    assert_eq!(host.lives().await, [(-1, 0)], "the guest has reset itself");
    console.hear(GREETING).await;
    console.say("q").await;
    let lives: [(i32, i32); 2] = host.lives().await;
    // Firmware resets the machine once more on its way; what counts comes after.
    let last = if lives[0] == (-1, 0) { [lives[1], host.lives::<1>().await[0]] } else { lives };
    assert_eq!(last, [(6, 1), (5, 0)], "powered off by the guest, then gone");
    assert_eq!(host.state(&dom).await, (5, 1));
}

#[tokio::test]
async fn a_destroyed_guest_is_gone_and_its_definition_is_not() {
    if qemu().is_none() {
        return;
    }
    let (mut host, cx) = (Host::new().await, CallCx::default());
    let dom = host.define("victim", "").await;
    host.driver.domain_create(&cx, DomainCreateArgs { dom: dom.clone() }).await.unwrap();
    let twice = host.driver.domain_create(&cx, DomainCreateArgs { dom: dom.clone() }).await.unwrap_err();
    assert_eq!(twice.message, "Requested operation is not valid: domain is already running");
    host.driver.domain_destroy(&cx, DomainDestroyArgs { dom: dom.clone() }).await.unwrap();
    assert_eq!(host.lives().await, [(0, 0), STARTED[0], STARTED[1], (6, 2), (5, 1)]);
    assert_eq!(host.state(&dom).await, (5, 2));
    let again = host.driver.domain_destroy(&cx, DomainDestroyArgs { dom }).await.unwrap_err();
    assert_eq!((again.code.0, again.domain.0), (55, 20));
}

#[tokio::test]
async fn a_transient_guest_leaves_nothing() {
    if qemu().is_none() {
        return;
    }
    let (mut host, cx) = (Host::new().await, CallCx::default());
    let args = DomainCreateXmlArgs { xml_desc: host.xml("passing", "").into(), flags: 1 };
    let dom = host.driver.domain_create_xml(&cx, args).await.unwrap().dom;
    assert_eq!((host.lives().await, host.state(&dom).await), ([(2, 0), (3, 0)], (3, 1)));
    host.driver.domain_destroy(&cx, DomainDestroyArgs { dom: dom.clone() }).await.unwrap();
    let gone = host.driver.domain_get_state(&cx, DomainGetStateArgs { dom, flags: 0 }).await.unwrap_err();
    assert_eq!(gone.code.0, 42);
    assert!(
        std::fs::read_dir(host.dir.join("etc/libvirt/qemu")).unwrap().flatten().all(|e| e.path().is_dir())
    );
}

#[tokio::test]
async fn a_killed_qemu_is_a_crashed_guest() {
    if qemu().is_none() {
        return;
    }
    let (mut host, cx) = (Host::new().await, CallCx::default());
    let dom = host.define("crashes", "").await;
    host.driver.domain_create(&cx, DomainCreateArgs { dom: dom.clone() }).await.unwrap();
    kill_process(pid(&host.dir, "crashes"), Signal::KILL).unwrap();
    assert_eq!(host.lives().await, [(0, 0), STARTED[0], STARTED[1], (5, 5)]);
    assert_eq!(host.state(&dom).await, (5, 3));
}

/// Each daemon is a runtime of its own: when it ends, everything of it is gone at once.
pub(crate) fn daemon() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A guest that a daemon has started and left, and where everything is.
fn left_behind(name: &str) -> (NonnullDomain, std::path::PathBuf) {
    daemon().block_on(async {
        let (host, cx) = (Host::new().await, CallCx::default());
        let dom = host.define(name, &host.talking()).await;
        host.driver.domain_create(&cx, DomainCreateArgs { dom: dom.clone() }).await.unwrap();
        host.console(&dom).await.wake().await;
        (dom, host.leave())
    })
}

#[test]
fn a_guest_outlives_the_daemon() {
    if qemu().is_none() {
        return;
    }
    let (dom, dir) = left_behind("survives");
    daemon().block_on(async {
        let mut host = Host::at(dir).await;
        assert_eq!(host.state(&dom).await, RUNNING);
        let mut console = host.console(&dom).await;
        console.say("x").await;
        console.hear("x").await;
        console.say("q").await;
        assert_eq!(host.lives().await, [(6, 1), (5, 0)]);
    });
}

#[test]
fn a_guest_that_hangs_does_not_hold_up_the_next_daemon() {
    if qemu().is_none() {
        return;
    }
    let (dom, dir) = left_behind("hangs");
    let pid = pid(&dir, "hangs");
    kill_process(pid, Signal::STOP).unwrap();
    daemon().block_on(async {
        let began = std::time::Instant::now();
        let host = Host::at(dir).await;
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
        // It is what it was, and nobody takes it for one that is off.
        assert_eq!(host.state(&dom).await, RUNNING);
        // Whoever would start it a second time waits until it can be told that it runs.
        let (cx, args) = (CallCx::default(), DomainCreateArgs { dom: dom.clone() });
        let mut again = std::pin::pin!(host.driver.domain_create(&cx, args));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), &mut again).await.is_err());
        kill_process(pid, Signal::CONT).unwrap();
        let error = again.await.unwrap_err();
        assert_eq!(error.message, "Requested operation is not valid: domain is already running");
        host.driver.domain_destroy(&CallCx::default(), DomainDestroyArgs { dom }).await.unwrap();
    });
}

/// The process of a running guest.
fn pid(dir: &std::path::Path, name: &str) -> Pid {
    let text = std::fs::read_to_string(dir.join(format!("run/libvirt/qemu/{name}.pid"))).unwrap();
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn why_qemu_would_not_start_is_said_in_its_own_words() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    let dom = host.define("fails", &host.talking().replace("'raw'", "'qcow2'")).await;
    let error = host.driver.domain_create(&cx, DomainCreateArgs { dom: dom.clone() }).await.unwrap_err();
    assert!(error.message.contains("(vm='fails')") && error.message.contains("qcow2"), "{error}");
    assert_eq!(host.state(&dom).await, (5, 6));
}
