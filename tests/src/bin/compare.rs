//! Compares the answers of two daemons: `compare URI_A URI_B FILE`, see `virtwire_tests::compare`.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use virtwire_tests::compare::compare;
use virtwire_tests::daemon::virsh;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [left, right, file] = &arguments[..] else {
        eprintln!("usage: compare URI_A URI_B FILE");
        return ExitCode::from(2);
    };
    let answers = match compare(virsh, [left, right], Path::new(file)) {
        Ok(answers) => answers,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::from(2);
        }
    };
    for answer in answers.iter().filter(|answer| !answer.is_as_expected()) {
        print!("{answer}");
    }
    let equal = answers.iter().filter(|answer| answer.is_as_expected()).count();
    println!("{equal} of {} commands answered as expected", answers.len());
    if equal == answers.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
