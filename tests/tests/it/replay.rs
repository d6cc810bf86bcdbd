//! Conversations recorded with libvirtd, played to virtwired: what comes back otherwise is in `captures/deviations.txt`
//! with its reason.

use virtwire_tests::daemon::Daemon;
use virtwire_tests::diff::deviations::{self, Deviation};
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::replay::case::Case;
use virtwire_tests::replay::{CAPTURES, Replayed, Sockets, replay};
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

#[test]
fn virtwired_answers_as_libvirtd_did() {
    let known = deviations::read("captures/deviations.txt").expect("each deviation has its reason");
    let (mut text, mut seen, mut equal) = (String::new(), Vec::new(), 0);
    for capture in CAPTURES {
        // A daemon of its own: recordings begin with nothing made.
        let replayed = play(capture, &Daemon::virtwired());
        equal += replayed.equal;
        let (more, known) = unknown(capture, &replayed, &known);
        text += &more;
        seen.extend(known);
    }
    assert!(text.is_empty(), "\n{text}");
    let gone: Vec<_> = known.iter().filter(|deviation| !seen.contains(deviation)).collect();
    assert!(gone.is_empty(), "no deviations any more, take them out of the file: {gone:?}");
    assert!(equal > 850, "only {equal} answers");
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
