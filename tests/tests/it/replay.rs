//! Conversations recorded with libvirtd, played to virtwired: what comes back otherwise is in `deviations.txt`
//! with its reason.

use std::os::unix::fs::FileExt;

use virtwire_tests::daemon::Daemon;
use virtwire_tests::diff::deviations::{self, Deviation};
use virtwire_tests::guest;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::replay::case::Case;
use virtwire_tests::replay::{CAPTURES, MACHINE, Replayed, Sockets, replay};
use virtwire_tests::repo;

fn play(capture: &str, daemon: &Daemon) -> Replayed {
    let case = Case::read(&repo::file(&format!("captures/{capture}.json"))).expect("a capture is a case");
    let folder = daemon.socket();
    let sockets = Sockets::below(folder.parent().expect("a socket is in a folder"));
    replay(&case, &sockets).unwrap_or_else(|error| panic!("{capture}: {error}"))
}

/// What differs and is not known, and which of the known was seen.
fn unknown<'a>(capture: &str, replayed: &Replayed, known: &'a [Deviation]) -> (String, Vec<&'a Deviation>) {
    let (mut text, mut seen) = (String::new(), Vec::new());
    for different in &replayed.different {
        let what = format!("{capture} {}", different.procedure);
        match known.iter().find(|deviation| what.starts_with(&deviation.what)) {
            Some(deviation) => seen.push(deviation),
            None => {
                text += &format!(
                    "{what}: {}\n  - {}\n  + {}\n",
                    different.what, different.recorded, different.came
                )
            }
        }
    }
    (text, seen)
}

/// Plays recordings, each on the daemon that it is given: what differs and is not known, or is known and differs no more,
/// fails.
fn agree<'a>(captures: &[&str], daemon: impl Fn() -> &'a Daemon, least: usize) {
    let known = deviations::read(deviations::CAPTURES).expect("each deviation has its reason");
    let (mut text, mut seen, mut equal) = (String::new(), Vec::new(), 0);
    for capture in captures {
        let replayed = play(capture, daemon());
        equal += replayed.equal;
        let (more, known) = unknown(capture, &replayed, &known);
        text += &more;
        seen.extend(known);
    }
    assert!(text.is_empty(), "\n{text}");
    let ours =
        |known: &&Deviation| captures.iter().any(|capture| known.what.split(' ').next() == Some(capture));
    let gone: Vec<_> = known.iter().filter(ours).filter(|deviation| !seen.contains(deviation)).collect();
    assert!(gone.is_empty(), "no deviations any more, take them out of the file: {gone:?}");
    assert!(equal > least, "only {equal} answers");
}

#[test]
fn virtwired_answers_as_libvirtd_did() {
    for capture in CAPTURES {
        // A daemon of its own: recordings begin with nothing made.
        let daemon = Daemon::virtwired();
        agree(&[capture], || &daemon, 0);
    }
}

/// The disk that guests of recordings have.
fn with_disk(daemon: Daemon) -> Daemon {
    let folder = daemon.folder().join("lib/vw");
    std::fs::create_dir(&folder).expect("the folder is new");
    let disk = std::fs::File::create(folder.join("vw-disk.img")).expect("the disk is new");
    let written = disk.write_all_at(&guest::boot_sector(), 0).and_then(|()| disk.set_len(4 << 20));
    written.expect("the disk is written");
    daemon
}

#[test]
fn virtwired_answers_as_libvirtd_did_about_storage_and_guests() {
    if peers::here(&[Peer::Root, Peer::Qemu]) {
        let daemon = with_disk(Daemon::private_virtwired());
        agree(MACHINE, || &daemon, 200);
    }
}

/// A replay is judged by what the real daemon answers, twice the same.
#[test]
fn libvirtd_answers_as_it_did() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd]) {
        return;
    }
    for capture in ["vw-test-errors", "vw-test-snapshots", "vw-test-storage", "vw-events-callback"] {
        let replayed = play(capture, &Daemon::libvirtd());
        let (text, _) = unknown(capture, &replayed, &[]);
        assert!(text.is_empty() && replayed.equal > 40, "{} equal\n{text}", replayed.equal);
    }
}

/// The same about streams and descriptors, one recording after the other.
#[test]
fn libvirtd_answers_as_it_did_about_storage_and_guests() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Qemu]) {
        return;
    }
    // QEMU's number for a descriptor is chance.
    let chance = Deviation {
        what: "vw-descriptors DOMAIN_MONITOR_COMMAND_WITH_FILES".to_owned(),
        reason: String::new(),
    };
    let daemon = with_disk(Daemon::libvirtd());
    let mut text = String::new();
    for capture in MACHINE {
        text += &unknown(capture, &play(capture, &daemon), std::slice::from_ref(&chance)).0;
    }
    assert!(text.is_empty(), "\n{text}");
}
