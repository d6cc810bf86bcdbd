//! What is known of each procedure, as a summary and in files: `report [--run] [--json FILE] [--html FILE]`. With
//! `--run`, the conformance suite judges libvirtd and virtwired first, and its outcomes are part of the files.

use std::process::ExitCode;
use std::{env, fs};

use virtwire_conformance::report::Report;
use virtwire_conformance::{Target, daemon_cases};
use virtwire_tests::clients::URI;
use virtwire_tests::daemon::Daemon;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::report::{self, markdown, page};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut rows = report::rows()?;
    let (mut json, mut html) = (None, None);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--run" => {
                report::take_outcomes(&mut rows, "virtwired", &judged(&Daemon::virtwired(), false));
                if peers::here(&[Peer::Root, Peer::Libvirtd]) {
                    report::take_outcomes(&mut rows, "libvirtd", &judged(&Daemon::libvirtd(), true));
                }
            }
            "--json" => json = arguments.next(),
            "--html" => html = arguments.next(),
            _ => return Err("usage: report [--run] [--json FILE] [--html FILE]".to_owned()),
        }
    }
    print!("{}", markdown::summary(&rows, true));
    let write = |path: &str, text: String| fs::write(path, text).map_err(|e| format!("{path}: {e}"));
    if let Some(path) = json {
        write(&path, serde_json::to_string_pretty(&rows).map_err(|e| e.to_string())?)?;
    }
    html.map_or(Ok(()), |path| write(&path, page::html(&rows)))
}

fn judged(daemon: &Daemon, spared: bool) -> Report {
    let target = Target {
        socket: daemon.socket(),
        socket_ro: Some(daemon.socket_named("libvirt-sock-ro")),
        socket_admin: Some(daemon.socket_named("libvirt-admin-sock")),
        uri: URI.to_owned(),
        spared,
    };
    let mut report = Report::default();
    for case in daemon_cases() {
        let outcome = case.outcome(&target);
        report.add(&case, outcome);
    }
    report
}
