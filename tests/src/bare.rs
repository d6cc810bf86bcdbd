//! A QEMU without a daemon: what a guest's start takes at least.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::bench::median;
use crate::daemon::Daemon;
use crate::folder::Folder;
use crate::process;

/// Starts of which the median counts.
const STARTS: usize = 9;

/// A machine without disks, whose memory and processor KVM gives.
const GUEST: &str = "<domain type='kvm'><name>bare</name><memory unit='MiB'>64</memory>
    <os><type arch='x86_64' machine='q35'>hvm</type></os>
    <devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>";

/// What names it on the command line.
const NAME: &str = "guest=bare,debug-threads=on";

/// Milliseconds until a guest under KVM runs: a QEMU by itself with virtwired's command line, and by virtwired.
pub fn create() -> (f64, f64) {
    let daemon = Daemon::private_virtwired();
    let folder = Folder::new();
    let file = folder.join("guest.xml");
    fs::write(&file, GUEST).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut virsh = daemon.keep_open("qemu:///system");
    let mut line = Vec::new();
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begin = Instant::now();
        virsh.type_text(&format!("create {}\n", file.display()));
        virsh.wait_for("Domain 'bare' created");
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        line = command_line();
        virsh.type_text("destroy bare\n");
        virsh.wait_for("Domain 'bare' destroyed");
    }
    let socket = folder.join("monitor");
    let alone: Vec<_> = (0..STARTS).map(|_| start(&line, &socket)).collect();
    (median(&alone), median(&times))
}

/// The arguments of the running QEMU, but for what only its daemon can give: the monitor's socket and the key to secrets.
fn command_line() -> Vec<String> {
    let mut lines = process::command_lines().map(|(_, line)| line);
    let mut line = lines.find(|line| line.iter().any(|word| word == NAME)).expect("the guest runs");
    for of_the_daemon in ["id=charmonitor,", "\"id\":\"masterKey0\""] {
        let at = line.iter().position(|word| word.contains(of_the_daemon)).expect("the daemon says so");
        line.drain(at - 1..=at);
    }
    line
}

/// Milliseconds until this QEMU says that its guest runs.
fn start(line: &[String], socket: &Path) -> f64 {
    let listener = UnixListener::bind(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
    let begin = Instant::now();
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]).args(["-chardev", "socket,id=charmonitor,fd=0,server=on,wait=off"]);
    let listener = Stdio::from(OwnedFd::from(listener));
    let mut qemu = command.stdin(listener).stderr(Stdio::null()).spawn().expect("it starts once more");
    let mut monitor = UnixStream::connect(socket).expect("it listens");
    let mut answers = BufReader::new(monitor.try_clone().expect("a descriptor")).lines();
    for ask in ["qmp_capabilities", "cont", "query-status"] {
        monitor.write_all(format!("{{\"execute\":\"{ask}\"}}\n").as_bytes()).expect("it listens");
        let answered = answers.any(|line| line.expect("it answers").contains("\"return\""));
        assert!(answered, "{ask}: the monitor ends");
    }
    let time = begin.elapsed().as_secs_f64() * 1e3;
    let ended = qemu.kill().and_then(|()| qemu.wait()).and_then(|_| fs::remove_file(socket));
    ended.unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
    time
}
