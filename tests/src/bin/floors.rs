//! Measures what many clients, hostile clients and TLS cost, and says whether virtwired's floors hold: `floors [ROUNDS
//! [SECONDS]]`, 3 and 2 if not said.

use std::cell::Cell;
use std::env;
use std::process::ExitCode;

use virtwire_tests::floors;
use virtwire_tests::peers::{self, Peer};

fn main() -> ExitCode {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Gcc]) {
        return ExitCode::FAILURE;
    }
    let mut arguments = env::args().skip(1);
    let rounds = arguments.next().map_or(Ok(3), |text| text.parse());
    let seconds = arguments.next().unwrap_or_else(|| "2".to_owned());
    let Ok(rounds) = rounds else {
        eprintln!("usage: floors [ROUNDS [SECONDS]]");
        return ExitCode::from(2);
    };
    let all = Cell::new(true);
    println!("| floor | measured | holds |\n|---|---|---|");
    floors::run(rounds, &seconds, |floor| {
        println!("| {} | {} | {} |", floor.what, floor.figures, if floor.holds { "yes" } else { "**no**" });
        all.set(all.get() && floor.holds);
    });
    if all.get() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
