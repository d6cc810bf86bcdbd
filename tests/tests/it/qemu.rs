//! The QEMU driver under stock virsh: it shows what libvirtd shows, and runs real guests.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use std::{fs, thread};

use virtwire_tests::compare::{Answer, canonical, compare};
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::guest;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::process::{self, PATIENCE, Program};
use virtwire_tests::repo;

use crate::clients::all_as_expected;

pub(crate) const SYSTEM: &str = "qemu:///system";
pub(crate) const SESSION: &str = "qemu:///session";
/// A user without rights: `nobody` on Debian.
const NOBODY: u32 = 65534;

/// Plays a file of sessions to both daemons.
fn both_answer_alike(sessions: &str, needs: &[Peer]) {
    if !peers::here(needs) {
        return;
    }
    // By the same means, so that both find the same files at the same paths.
    let (real, own) = (Daemon::libvirtd(), Daemon::private_virtwired());
    for daemon in [&real, &own] {
        for image in ["guest.img", "two.img"] {
            guest::write_image(&daemon.folder().join("lib/images").join(image))
                .expect("the image is written");
        }
    }
    let file = repo::file(sessions);
    let answers =
        compare(virsh, [&real.uri(SYSTEM), &own.uri(SYSTEM)], &file).expect("the sessions can be read");
    all_as_expected(&file, &answers);
}

#[test]
fn virsh_shows_the_qemu_driver_as_libvirtd_has_it() {
    let needs = [Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu, Peer::Kvm];
    both_answer_alike("compare/qemu_driver.txt", &needs);
}

#[test]
fn devices_come_change_and_go_as_with_libvirtd() {
    both_answer_alike("compare/qemu_plug.txt", &[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu]);
}

#[test]
fn virsh_shows_backups_as_libvirtd_has_them() {
    let needs = [Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu];
    both_answer_alike("compare/qemu_backup.txt", &needs);
}

/// What the kernel holds the guests of a daemon to: the files of their control groups.
fn limits(daemon: &Daemon) -> BTreeMap<String, String> {
    const FILES: [&str; 10] = [
        "cpu.shares",
        "cpu.weight",
        "cpu.cfs_period_us",
        "cpu.cfs_quota_us",
        "cpu.max",
        "cpuset.cpus",
        "cpuset.mems",
        "memory.soft_limit_in_bytes",
        "memory.high",
        "memory.max",
    ];
    fn collect(dir: &Path, name: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let own = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{name}/{own}");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                collect(&entry.path(), &path, found);
            } else if FILES.contains(&own.as_str()) {
                found.insert(path, fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }
    let mut found = BTreeMap::new();
    let groups = daemon.groups();
    // The kernel is the same for both daemons, so are the places in the order of its hierarchies.
    groups.iter().for_each(|group| collect(&group.join("machine"), "", &mut found));
    found
}

#[test]
fn guests_are_held_to_their_shares_as_libvirtd_holds_them() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu, Peer::Cgroups]) {
        return;
    }
    let (real, own) = (Daemon::libvirtd(), Daemon::again(false));
    let file = repo::file("compare/qemu_tune.txt");
    let answers =
        compare(virsh, [&real.uri(SYSTEM), &own.uri(SYSTEM)], &file).expect("the sessions can be read");
    all_as_expected(&file, &answers);

    let definition = repo::file("compare/qemu_tune.xml").display().to_string();
    let held = [&real, &own].map(|daemon| {
        daemon.virsh_ok(SYSTEM, &["create", &definition]);
        limits(daemon)
    });
    assert!(held[0].keys().any(|name| name.ends_with("/vcpu0/cpuset.cpus")), "{:?}", held[0]);
    let names =
        held.each_ref().map(|held| held.iter().map(|(name, value)| format!("{} {value}", after_id(name))));
    let [expected, found] = names.map(|names| names.collect::<Vec<_>>());
    assert_eq!(found, expected);

    // The next daemon knows the groups of a guest that it did not start.
    process::run(Command::new("kill").args(["-9", &own.daemon_pid().to_string()]));
    until("the next daemon finds the guest", || {
        let found = own.virsh(SYSTEM, &["domstate", "tuned"]);
        if found.status.success() { Ok(()) } else { Err(found.text) }
    });
    own.virsh_ok(SYSTEM, &["schedinfo", "tuned", "--live", "--set", "vcpu_quota=31000"]);
    let quota =
        |(name, value): (&String, &String)| name.contains("/vcpu0/cpu.") && value.starts_with("31000");
    assert!(limits(&own).iter().any(quota), "{:?}", limits(&own));
    for daemon in [&real, &own] {
        daemon.virsh_ok(SYSTEM, &["destroy", "tuned"]);
        until("its groups go with it", || {
            let left = limits(daemon).into_keys().find(|name| name.contains("-tuned"));
            left.map_or(Ok(()), Err)
        });
    }
}

/// Waits for what must come; what is not so yet, is told in the end.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl Fn() -> Result<(), String>) {
    let begin = Instant::now();
    while let Err(found) = is_so() {
        assert!(begin.elapsed() < PATIENCE, "not so: {what}, {found}");
    }
}

/// A group's name without the guest's number.
fn after_id(name: &str) -> &str {
    name.find("-tuned").map_or(name, |at| &name[at..])
}

/// Defines the test guest and starts it paused.
fn start_paused(daemon: &Daemon, uri: &str, name: &str) {
    let (image, definition) = (daemon.folder().join("guest.img"), daemon.folder().join("guest.xml"));
    guest::write_image(&image).expect("the image is written");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(&image, everybody).expect("the image may be written to");
    fs::write(&definition, guest::domain_xml(name, &image)).expect("the definition is written");
    daemon.virsh_ok(uri, &["define", &definition.to_string_lossy()]);
    daemon.virsh_ok(uri, &["start", name, "--paused"]);
}

/// `virsh console`, which needs a terminal: script(1) is one.
pub(crate) fn console(daemon: &Daemon, uri: &str, name: &str) -> Program {
    let line = format!("virsh -c '{}' console {name}", daemon.uri(uri));
    let mut console =
        Program::start(Command::new("script").args(["-qefc", &line, "/dev/null"]).env("LC_ALL", "C"));
    console.wait_for("Escape character is");
    console
}

/// A guest's life as a user sees it: what it says and answers on its console, paused, resumed, destroyed.
fn lives(daemon: &Daemon, uri: &str) {
    let name = "speaks";
    let state = || daemon.virsh_ok(uri, &["domstate", name, "--reason"]).trim().to_owned();
    start_paused(daemon, uri, name);
    assert_eq!(state(), "paused (user)");
    let mut console = console(daemon, uri, name);
    daemon.virsh_ok(uri, &["resume", name]);
    console.wait_for(guest::BANNER);
    console.type_text("abc");
    console.wait_for("ABC");
    daemon.virsh_ok(uri, &["suspend", name]);
    assert_eq!(state(), "paused (user)");
    daemon.virsh_ok(uri, &["resume", name]);
    assert_eq!(state(), "running (unpaused)");
    console.type_text("def");
    console.wait_for("DEF");
    daemon.virsh_ok(uri, &["destroy", name]);
    assert_eq!(state(), "shut off (destroyed)");
    // Its console has ended with it.
    console.finish();
    daemon.virsh_ok(uri, &["undefine", name]);
    assert!(!daemon.virsh_ok(uri, &["list", "--all", "--name"]).contains(name));
}

#[test]
fn a_guest_lives_on_the_system() {
    if peers::here(&[Peer::Root, Peer::Virsh, Peer::Qemu]) {
        lives(&Daemon::virtwired(), SYSTEM);
    }
}

#[test]
fn a_guest_lives_in_the_session_of_a_user() {
    if peers::here(&[Peer::Root, Peer::Virsh, Peer::Qemu]) {
        let daemon = Daemon::virtwired_of(NOBODY);
        lives(&daemon, SESSION);
        let refused = daemon.virsh(SYSTEM, &["list"]);
        assert!(
            refused.text.contains("unexpected qemu URI path '/system', try qemu:///session"),
            "{}",
            refused.text
        );
    }
}

/// What `virsh event` prints while a guest is started, paused, resumed, changed and destroyed.
fn events(daemon: &Daemon) -> String {
    guest::write_image(&daemon.folder().join("lib/images/guest.img")).expect("the image is written");
    let definition = repo::file("compare/qemu_guest.xml");
    daemon.virsh_ok(SYSTEM, &["define", &definition.to_string_lossy()]);
    let mut command = virsh(&daemon.uri(SYSTEM));
    command.args(["event", "--all", "--loop"]);
    let mut listener = Program::start(&mut command);
    // virsh says nothing once it listens, so the title is changed until it has seen that.
    let mut title = 0;
    while !listener.printed().contains("metadata-change") {
        title += 1;
        daemon.virsh_ok(SYSTEM, &["desc", "q1", "--title", &format!("title {title}")]);
        assert!(listener.is_running(), "virsh heard nothing: {}", listener.printed());
    }
    daemon.virsh_ok(SYSTEM, &["undefine", "q1"]);
    listener.wait_for("Undefined Removed");
    for words in [
        &["define", &definition.to_string_lossy()][..],
        &["start", "q1"],
        &["suspend", "q1"],
        &["resume", "q1"],
        &["desc", "q1", "--title", "last title"],
        &["setmem", "q1", "32M", "--config"],
        &["destroy", "q1"],
        &["start", "q1", "--paused"],
        &["destroy", "q1"],
        &["undefine", "q1"],
    ] {
        daemon.virsh_ok(SYSTEM, words);
    }
    // Firmware resets the machine once on its way, if it comes that far.
    let heard = listener.wait_for("Undefined Removed");
    let lines = heard.lines().filter(|line| !line.starts_with("event 'reboot'"));
    canonical(&lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn virsh_prints_the_events_that_libvirtd_raises() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu]) {
        return;
    }
    let answers = thread::scope(|scope| {
        let daemons = [Daemon::libvirtd as fn() -> Daemon, Daemon::private_virtwired];
        let heard = daemons.map(|daemon| scope.spawn(move || events(&daemon())));
        heard.map(|thread| thread.join().expect("the events are heard"))
    });
    let answer = Answer { command: "event --all --loop".to_owned(), differs: None, answers };
    assert!(answer.is_equal() && answer.answers[0].contains("Started Booted"), "{answer}");
}
