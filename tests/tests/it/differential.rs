//! The same operations by two clients on two daemons: whatever differs is in `deviations.txt`, with its reason.

use std::fs;

use virtwire_tests::clients::URI;
use virtwire_tests::daemon::Daemon;
use virtwire_tests::diff::{self, corpus, deviations, script};
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::repo;

#[test]
fn both_daemons_answer_both_clients_alike() {
    if peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Python]) {
        agree(diff::TEST, 800);
    }
}

#[test]
fn both_daemons_answer_both_clients_alike_about_guests_of_the_machine() {
    if peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Python, Peer::Qemu]) {
        agree(diff::QEMU, 400);
    }
}

/// Plays a script on both daemons, whose answers must differ as its deviations say and at `least` be equal so often.
fn agree(script: diff::Script, least: usize) {
    let text = fs::read_to_string(repo::file(script.operations)).expect("the operations are there");
    let sessions = script::parse(&text).expect("the operations are understood");
    let known = deviations::read(script.operations).expect("each deviation has its reason");
    let (real, own) = (Daemon::libvirtd(), Daemon::private_virtwired());
    let differences = diff::run([&real.uri(script.uri), &own.uri(script.uri)], &sessions).expect("both play");
    let total = differences.total();
    assert!(total.equal > least, "only {} answers are equal:\n{differences}", total.equal);
    for deviation in &known {
        let seen = differences.found.keys().any(|what| what.starts_with(&deviation.what));
        assert!(seen, "{} is no deviation any more: take it out of the file\n{differences}", deviation.what);
    }
    let known: Vec<_> = known.iter().map(|deviation| deviation.what.as_str()).collect();
    let unknown = differences.without(&known);
    assert!(unknown.found.is_empty(), "\n{unknown}");
}

/// Documents of a recording beside the repository, asked of both daemons anew.
#[test]
fn both_daemons_read_the_documents_of_the_corpus_alike() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Python]) {
        return;
    }
    let Some(folder) = repo::shared("corpus") else {
        return virtwire_skip::without_data("no corpus beside the repository");
    };
    let sessions = corpus::sessions(&folder, 8).expect("the corpus can be read");
    let (real, own) = (Daemon::libvirtd(), Daemon::private_virtwired());
    let differences = diff::run([&real.uri(URI), &own.uri(URI)], &sessions).expect("both play");
    let total = differences.total();
    let all = total.equal + total.different;
    assert!(total.equal * 100 >= all * LEAST_EQUAL, "{differences}");
    assert!(all > 1000, "only {all} answers");
}

/// Per cent of the corpus' answers that are the same on both daemons; it only grows.
const LEAST_EQUAL: usize = 91;
