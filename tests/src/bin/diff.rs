//! Plays operations on two daemons and shows where their answers differ, the most frequent difference first:
//! `diff URI_A URI_B FILE|FOLDER [--json FILE] [--every N]`. A file has operations, see `virtwire_tests::diff::script`;
//! a folder has XML documents by category, of which every Nth is taken.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use virtwire_tests::diff::{self, Session, corpus, script};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("diff: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut arguments = std::env::args().skip(1);
    let (mut places, mut json, mut every) = (Vec::new(), None, 1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = arguments.next().map(PathBuf::from),
            "--every" => {
                every = arguments.next().and_then(|n| n.parse().ok()).ok_or("--every needs a number")?
            }
            _ => places.push(argument),
        }
    }
    let [left, right, input] = &places[..] else {
        return Err("usage: diff URI_A URI_B FILE|FOLDER [--json FILE] [--every N]".to_owned());
    };
    let differences = diff::run([left, right], &sessions(Path::new(input), every)?)?;
    print!("{differences}");
    for (what, count) in &differences.not_made {
        println!("{count:4} × not made: {what}");
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&differences).map_err(|e| e.to_string())?;
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(differences.found.is_empty())
}

fn sessions(input: &Path, every: usize) -> Result<Vec<Session>, String> {
    let named = |error: String| format!("{}: {error}", input.display());
    if input.is_dir() {
        return corpus::sessions(input, every).map_err(|e| named(e.to_string()));
    }
    let text = std::fs::read_to_string(input).map_err(|e| named(e.to_string()))?;
    script::parse(&text).map_err(named)
}
