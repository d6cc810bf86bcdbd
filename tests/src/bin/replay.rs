//! Plays the client's side of a recorded conversation to a daemon, and compares what comes back by meaning:
//! `replay FILE FOLDER`, the daemon's sockets being `FOLDER/libvirt-sock` and its siblings; `replay --record FILE`
//! prints the case instead, to be kept.

use std::path::Path;
use std::process::ExitCode;

use virtwire_tests::replay::{Sockets, case::Case, replay};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [flag, file] if flag == "--record" => Case::read(Path::new(file)).map(|case| {
            print!("{}", case.lines());
            true
        }),
        [file, folder] => run(Path::new(file), Path::new(folder)),
        _ => Err("usage: replay FILE FOLDER | replay --record FILE".to_owned()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(file: &Path, folder: &Path) -> Result<bool, String> {
    let case = Case::read(file)?;
    let replayed = replay(&case, &Sockets::below(folder)).map_err(|e| e.to_string())?;
    for difference in &replayed.different {
        let line = |text: &str| text.chars().take(300).collect::<String>();
        println!("{}: {}", difference.procedure, difference.what);
        println!("    - {}\n    + {}", line(&difference.recorded), line(&difference.came));
    }
    println!("{} equal, {} different", replayed.equal, replayed.different.len());
    Ok(replayed.different.is_empty())
}
