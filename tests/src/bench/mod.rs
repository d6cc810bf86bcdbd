//! virtwired and libvirtd under the same load from the same C client, in turns, so that what else this machine does
//! falls on both.

mod measures;

use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Measures, in `rounds` turns, whatever has `only` in its name; loads run for so many seconds each.
///
/// # Panics
/// If a daemon or a load fails.
pub fn run(rounds: usize, seconds: &str, only: &str) -> Vec<Row> {
    let folder = Folder::new();
    let tools = Tools { generator: load_generator(&folder), seconds: seconds.to_owned() };
    crate::daemon::virtwired();
    let wanted = measures::ALL.iter().filter(|measure| measure.what.contains(only));
    let mut rows: Vec<(&Measure, Row)> =
        wanted.map(|measure| (measure, Row::new(measure.what, measure.floor))).collect();
    for _ in 0..rounds {
        for (measure, row) in &mut rows {
            // One daemon after the other, so that neither has the machine's worse half of the round.
            row.libvirtd.push((measure.how)(&tools, &Daemon::again(true)));
            row.virtwired.push((measure.how)(&tools, &Daemon::again(false)));
        }
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

/// What measures need.
pub struct Tools {
    /// The compiled load generator.
    pub generator: PathBuf,
    /// How long a load runs.
    pub seconds: String,
}

/// Something to measure.
pub struct Measure {
    /// What, with its unit.
    pub what: &'static str,
    /// What virtwired should reach, in words.
    pub floor: &'static str,
    /// How, on a daemon that has just started.
    pub how: fn(&Tools, &Daemon) -> f64,
}
