//! Measures virtwired beside the real libvirtd and prints a table: `bench [ROUNDS [SECONDS]]`.

use std::env;
use std::process::ExitCode;

use virtwire_tests::bench;
use virtwire_tests::peers::{self, Peer};

fn main() -> ExitCode {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Gcc]) {
        return ExitCode::FAILURE;
    }
    let mut arguments = env::args().skip(1);
    let rounds = arguments.next().map_or(Ok(5), |text| text.parse());
    let seconds = arguments.next().unwrap_or_else(|| "1".to_owned());
    let Ok(rounds) = rounds else {
        eprintln!("usage: bench [ROUNDS [SECONDS]]");
        return ExitCode::from(2);
    };
    println!("Median of {rounds} rounds (least–most); the ratio is virtwired's by libvirtd's.\n");
    println!("| | libvirtd | virtwired | ratio | floor |\n|---|---|---|---|---|");
    for row in bench::run(rounds, &seconds) {
        println!("{}", row.markdown());
    }
    ExitCode::SUCCESS
}
