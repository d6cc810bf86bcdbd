//! The matrix of stock clients: what each shows of virtwired is what it shows of libvirtd. A case per client, so that
//! a run says by name which clients took part.

use std::path::Path;
use std::process::Command;

use virtwire_tests::clients::{self, Client, URI};
use virtwire_tests::compare::{Answer, Shell, compare};
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::peers::{self, Peer, old_virsh};
use virtwire_tests::repo;

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

#[test]
fn virt_admin() {
    fn admin(uri: &str) -> Command {
        let mut command = Command::new("virt-admin");
        command.args(["-c", uri]).env("LC_ALL", "C").env("XDG_CACHE_HOME", std::env::temp_dir());
        command
    }
    if peers::here(&[Peer::Root, Peer::Libvirtd, Peer::VirtAdmin]) {
        answers_the_same(admin, "compare/admin.txt", |daemon| {
            format!("libvirtd:///system?socket={}", daemon.socket_named("libvirt-admin-sock").display())
        });
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
