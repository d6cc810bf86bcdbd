//! virtwired and libvirtd under the same load from the same C client, in turns, so that what else this machine does
//! falls on both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::daemon::Daemon;
use crate::folder::Folder;
use crate::process;
use crate::repo;

/// A figure of both daemons over several rounds.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is measured, with its unit.
    pub what: &'static str,
    /// What virtwired should reach, in words.
    pub floor: &'static str,
    /// libvirtd's figure of each round.
    pub libvirtd: Vec<f64>,
    /// virtwired's figure of each round.
    pub virtwired: Vec<f64>,
}

impl Row {
    pub(crate) fn new(what: &'static str, floor: &'static str) -> Self {
        Self { what, floor, libvirtd: Vec::new(), virtwired: Vec::new() }
    }

    /// The median over the rounds of virtwired's figure by libvirtd's of the same round.
    pub fn ratio(&self) -> f64 {
        let ratios: Vec<_> =
            self.virtwired.iter().zip(&self.libvirtd).map(|(own, real)| own / real).collect();
        median(&ratios)
    }

    /// A row of a Markdown table.
    pub fn markdown(&self) -> String {
        let cell = |figures: &[f64]| {
            let (least, most) = figures.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
            format!("{} ({}–{})", short(median(figures)), short(least), short(most))
        };
        let (real, own) = (cell(&self.libvirtd), cell(&self.virtwired));
        format!("| {} | {real} | {own} | {:.2} | {} |", self.what, self.ratio(), self.floor)
    }
}

fn short(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

/// The value in the middle; 0 if there is none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Compiles `benches/load.c`.
///
/// # Panics
/// If the compiler doesn't take it.
pub fn load_generator(folder: &Folder) -> PathBuf {
    let program = folder.join("load");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&program);
    let done = process::run(gcc.arg(repo::file("benches/load.c")).arg("-lvirt"));
    assert!(done.status.success(), "{}", done.text);
    program
}

/// What one load measured.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Calls per second.
    pub rate: f64,
    /// Median latency in microseconds.
    pub latency: f64,
    /// The 99th percentile, in microseconds.
    pub p99: f64,
}

/// Runs one load on a daemon's unix socket.
///
/// # Panics
/// If the load fails.
#[track_caller]
pub fn load(program: &Path, daemon: &Daemon, call: &str, arguments: [&str; 3]) -> Load {
    load_with(&mut Command::new(program), &daemon.uri("test:///default"), call, arguments)
}

/// Runs one load at a URI, by the command that begins the generator.
///
/// # Panics
/// If the load fails.
#[track_caller]
pub fn load_with(generator: &mut Command, uri: &str, call: &str, arguments: [&str; 3]) -> Load {
    let done = process::run(generator.arg(uri).arg(call).args(arguments));
    let figures: Vec<f64> = done.text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [rate, latency, p99] = figures[..] else { panic!("load {call}: {}", done.text) };
    Load { rate, latency, p99 }
}

/// Measures everything, in `rounds` turns of so many seconds per load.
///
/// # Panics
/// If a daemon or a load fails.
pub fn run(rounds: usize, seconds: &str) -> Vec<Row> {
    let folder = Folder::new();
    let generator = load_generator(&folder);
    let mut latency = Row::new("1 connection, GetLibVersion: median latency, µs", "≤ 0.7");
    let mut busy = Row::new("32 connections, GetLibVersion: calls/s", "≥ 2");
    let mut list = Row::new("ListAllDomains, 1,000 domains: median latency, µs", "≤ 0.3");
    let mut resident = Row::new("idle, resident memory, MiB", "≤ 16 MiB");
    let mut start = Row::new("start to first answer, ms", "≤ 100 ms");
    type Figures = fn(&mut Row) -> &mut Vec<f64>;
    let sides: [(fn() -> Daemon, Figures); 2] =
        [(Daemon::libvirtd, |row| &mut row.libvirtd), (Daemon::virtwired, |row| &mut row.virtwired)];
    crate::daemon::virtwired();
    for _ in 0..rounds {
        for (daemon, figures) in sides {
            let begin = Instant::now();
            let daemon = daemon();
            let socket = daemon.socket();
            first_answer(&socket);
            figures(&mut start).push(begin.elapsed().as_secs_f64() * 1e3);
            figures(&mut resident).push(daemon.resident() as f64 / 1024.0);
            figures(&mut latency).push(load(&generator, &daemon, "lib-version", ["1", seconds, "0"]).latency);
            figures(&mut busy).push(load(&generator, &daemon, "lib-version", ["32", seconds, "0"]).rate);
            figures(&mut list)
                .push(load(&generator, &daemon, "list-all-domains", ["1", seconds, "1000"]).latency);
        }
    }
    vec![latency, busy, list, resident, start]
}

/// Asks a daemon which ways of authentication it has, the first question of every client.
fn first_answer(socket: &Path) {
    let target = virtwire_conformance::Target {
        socket: socket.to_owned(),
        socket_ro: None,
        socket_admin: None,
        uri: "test:///default".to_owned(),
    };
    target.open().unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
}
