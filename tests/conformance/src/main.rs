//! `virtwire-conformance`: judges daemons and clients of libvirt's protocol.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use virtwire_conformance::client::{AWKWARD, serve};
use virtwire_conformance::report::Report;
use virtwire_conformance::{Target, daemon_cases};

/// Decides for any libvirt daemon or client whether it speaks the protocol.
#[derive(Parser, Debug)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Judges a daemon by its sockets
    Daemon(DaemonOptions),
    /// Lists the cases: id, what each proves, where the rule comes from
    List,
    /// Serves clients in legal but awkward ways and judges what they send, one client per way
    Serve(ServeOptions),
}

#[derive(clap::Args, Debug)]
struct DaemonOptions {
    /// The read-write socket
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The read-only socket
    #[arg(long, value_name = "PATH")]
    socket_ro: Option<PathBuf>,
    /// The administration socket
    #[arg(long, value_name = "PATH")]
    socket_admin: Option<PathBuf>,
    /// The hypervisor to open
    #[arg(long, default_value = "test:///default")]
    uri: String,
    /// Leave out what not every daemon survives
    #[arg(long)]
    spare: bool,
    /// Only cases whose id contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct ServeOptions {
    /// Where clients are to connect
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Only this way; all, one client each, if not given
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Daemon(options) => judge_daemon(&options),
        Command::List => {
            for case in daemon_cases() {
                println!("{:60} {} ({})", case.id, case.proves, case.source);
            }
            Ok(true)
        }
        Command::Serve(options) => judge_clients(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("virtwire-conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

fn judge_daemon(options: &DaemonOptions) -> std::io::Result<bool> {
    let target = Target {
        socket: options.socket.clone(),
        socket_ro: options.socket_ro.clone(),
        socket_admin: options.socket_admin.clone(),
        uri: options.uri.clone(),
        spared: options.spare,
    };
    let mut report =
        Report { target: format!("{} at {}", target.uri, target.socket.display()), lines: Vec::new() };
    for case in daemon_cases().iter().filter(|case| case.id.contains(&options.only)) {
        report.add(case, case.outcome(&target));
    }
    print!("{}", report.text());
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report).unwrap_or_default())?;
    }
    if let Some(path) = &options.html {
        std::fs::write(path, report.html())?;
    }
    Ok(report.counts().1 == 0)
}

fn judge_clients(options: &ServeOptions) -> std::io::Result<bool> {
    let listener = UnixListener::bind(&options.socket)?;
    let mut fine = true;
    for way in AWKWARD.iter().filter(|way| options.only.as_deref().is_none_or(|only| only == way.name)) {
        println!("{}: {}; waiting for a client", way.name, way.tries);
        let (socket, _) = listener.accept()?;
        let verdict = serve(socket, way)?;
        fine &= verdict.is_fine();
        let word = if verdict.is_fine() { "passed" } else { "FAILED" };
        println!(
            "{word}: {} calls, {} of {} pings answered",
            verdict.calls, verdict.pongs.0, verdict.pongs.1
        );
        for fault in &verdict.faults {
            println!("        {fault}");
        }
    }
    std::fs::remove_file(&options.socket)?;
    Ok(fine)
}
