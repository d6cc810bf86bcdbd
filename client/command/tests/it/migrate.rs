//! A guest on its way between two real libvirtds: it arrives, and with Ctrl-C it stays.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::real::Libvirtd;
use crate::{run, says, virtwire};

/// Without disks, so that it runs wherever it comes to.
const GUEST: &str = "<domain type='qemu'><name>g</name><memory unit='MiB'>32</memory>
    <os><type arch='x86_64' machine='pc'>hvm</type></os></domain>";

fn guests(daemon: &Libvirtd, which: &str) -> String {
    says(&["call", "connect-list-all-domains", "need_results=1", which, "-c", &daemon.uri()])
}

#[test]
fn a_guest_goes_to_another_host_and_stays_with_ctrl_c() {
    let Some(here) = Libvirtd::start(1) else { return };
    let Some(there) = Libvirtd::start(2) else { return };
    let (from, to) = (here.uri(), there.uri());
    says(&["call", "domain-define-xml", &format!("xml={GUEST}"), "-c", &from]);
    says(&["start", "g", "-c", &from]);
    let via = format!("unix://{}", here.dir.join("migration").display());

    // A MiB per second: it is interrupted as soon as bytes are on their way.
    let slowly = ["migrate", "g", &to, "--via", &via, "--bandwidth", "1", "-c", &from];
    let mut command = virtwire();
    command.args(slowly).stdout(Stdio::piped()).stderr(Stdio::piped());
    let moving = command.spawn().unwrap();
    let began = Instant::now();
    while !guests(&there, "flags=0").contains("\"g\"") {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing arrives");
    }
    kill_process(Pid::from_child(&moving), Signal::INT).unwrap();
    let moved = moving.wait_with_output().unwrap();
    let said = String::from_utf8(moved.stderr).unwrap();
    assert_eq!(moved.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted: g stays where it was"), "{said}");
    assert!(moved.stdout.is_empty(), "{said}");
    assert!(guests(&here, "flags=1").contains("\"g\""), "it runs here");
    assert!(!guests(&there, "flags=0").contains("\"g\""), "nothing of it is left there");

    // The way is free for the next attempt.
    let text = says(&["migrate", "g", &to, "--via", &via, "--persist", "--undefine", "-c", &from]);
    assert_eq!(text, format!("g runs at {to}\n"));
    assert!(guests(&there, "flags=1").contains("\"g\""), "it runs there");
    assert!(!guests(&here, "flags=0").contains("\"g\""), "nothing of it is left here");
    let gone = run(&["migrate", "g", &to, "-c", &from]);
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
}
