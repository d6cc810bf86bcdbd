//! The matrix of stock clients: what each shows of virtwired is what it shows of libvirtd. A case per client, so that
//! a run says by name which clients took part.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use virtwire_tests::clients::{self, Client, URI};
use virtwire_tests::compare::{Answer, Shell, compare};
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::peers::{self, Peer, old_virsh};
use virtwire_tests::{process, repo};

/// A client's own program, on both.
fn shows_the_same(client: &Client) {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, client.peer]) {
        return;
    }
    let answers = [client.shows(&Daemon::libvirtd()), client.shows(&Daemon::private_virtwired())];
    let answer = Answer { command: format!("{:?}", client.peer), differs: None, answers };
    assert!(answer.is_equal(), "{answer}");
}

/// Sessions of commands, on both.
fn answers_the_same(shell: Shell, file: &str, uri: fn(&Daemon) -> String) {
    let (real, own) = (Daemon::libvirtd(), Daemon::private_virtwired());
    let file = repo::file(file);
    let answers = compare(shell, [&uri(&real), &uri(&own)], &file).expect("the sessions can be read");
    all_as_expected(&file, &answers);
}

/// Fails with everything that differs and should not, or the other way round.
#[track_caller]
pub(crate) fn all_as_expected(file: &Path, answers: &[Answer]) {
    let wrong: Vec<_> = answers.iter().filter(|answer| !answer.is_as_expected()).collect();
    let shown: String = wrong.iter().map(ToString::to_string).collect();
    assert!(!answers.is_empty(), "{}: no commands", file.display());
    assert!(wrong.is_empty(), "{} of {} are not as expected:\n{shown}", wrong.len(), answers.len());
}

#[test]
fn virsh_11_3() {
    if peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh]) {
        answers_the_same(virsh, "compare/test_driver.txt", |daemon| daemon.uri(URI));
    }
}

#[test]
fn virsh_9_0() {
    if peers::here(&[Peer::Root, Peer::Libvirtd, Peer::OldVirsh]) {
        answers_the_same(old_virsh, "compare/test_driver.txt", |daemon| daemon.uri(URI));
    }
}

fn admin(uri: &str) -> Command {
    let mut command = Command::new("virt-admin");
    command.args(["-c", uri]).env("LC_ALL", "C").env("XDG_CACHE_HOME", std::env::temp_dir());
    command
}

fn admin_uri(daemon: &Daemon) -> String {
    format!("libvirtd:///system?socket={}", daemon.socket_named("libvirt-admin-sock").display())
}

#[test]
fn virt_admin() {
    if peers::here(&[Peer::Root, Peer::Libvirtd, Peer::VirtAdmin]) {
        answers_the_same(admin, "compare/admin.txt", admin_uri);
    }
}

/// Commands of virt-admin with which a session ends, or whose lines have no order.
const BY_THEMSELVES: [&str; 4] = ["exit", "quit", "server-list", "daemon-shutdown"];

#[test]
fn every_command_of_virt_admin_is_compared() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::VirtAdmin]) {
        return;
    }
    let (mut real, mut own) = (Daemon::libvirtd(), Daemon::private_virtwired());
    let help = process::run(admin(&admin_uri(&own)).arg("help")).text;
    let names = help.lines().filter_map(|line| line.strip_prefix("    ")?.split_whitespace().next());
    let names: BTreeSet<_> = names.collect();
    let sessions = std::fs::read_to_string(repo::file("compare/admin.txt")).expect("it is there");
    // Some have two names.
    let words = sessions.lines().filter_map(|line| line.split_whitespace().next());
    let compared = words.map(|word| word.replacen("srv-", "server-", 1));
    let compared: BTreeSet<_> = compared.chain(BY_THEMSELVES.map(str::to_owned)).collect();
    let missing: Vec<_> = names.iter().filter(|name| !compared.contains(**name)).collect();
    assert!(names.len() > 20 && missing.is_empty(), "{missing:?} of {} are not compared", names.len());
    let run = |daemon: &Daemon, command: &str| process::run(admin(&admin_uri(daemon)).arg(command));
    for command in ["exit", "quit", "server-list"] {
        let says = |daemon: &Daemon| {
            let done = run(daemon, command);
            // The numbers of servers go by their order.
            let lines = done.text.lines().map(|line| line.trim_start_matches([' ', '0', '1']));
            let lines: BTreeSet<_> = lines.collect();
            (done.status.code(), lines.into_iter().collect::<Vec<_>>().join("\n"))
        };
        assert_eq!(says(&real), says(&own), "{command}");
    }
    // libvirtd ends without an answer.
    run(&real, "daemon-shutdown");
    let answer = run(&own, "daemon-shutdown");
    assert!(answer.status.success() && answer.text.trim().is_empty(), "{answer:?}");
    for daemon in [&mut real, &mut own] {
        daemon.wait_for_end();
    }
}

#[test]
fn python3_libvirt() {
    shows_the_same(&clients::PYTHON_LIBVIRT);
}

#[test]
fn sys_virt() {
    shows_the_same(&clients::SYS_VIRT);
}

#[test]
fn libvirt_glib() {
    shows_the_same(&clients::LIBVIRT_GLIB);
}

#[test]
fn virt_install_virt_xml_virt_clone() {
    shows_the_same(&clients::VIRTINST);
}

#[test]
fn virt_top() {
    shows_the_same(&clients::VIRT_TOP);
}

#[test]
fn go_libvirt() {
    shows_the_same(&clients::GO_LIBVIRT);
}
