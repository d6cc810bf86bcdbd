//! Measures virtwired beside the real libvirtd, and our own client beside what else there is, and prints tables:
//! `bench [ROUNDS [SECONDS [WHAT]]]`, all that is measured or what has a text in its name.

use std::env;
use std::process::ExitCode;

use virtwire_tests::bench::{self, Row};
use virtwire_tests::own;
use virtwire_tests::peers::{self, Peer};

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("pong") {
        own::pong();
        return ExitCode::SUCCESS;
    }
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Gcc]) {
        return ExitCode::FAILURE;
    }
    let mut arguments = env::args().skip(1);
    let rounds = arguments.next().map_or(Ok(5), |text| text.parse());
    let seconds = arguments.next().unwrap_or_else(|| "1".to_owned());
    let only = arguments.next().unwrap_or_default();
    let (Ok(rounds), Ok(time)) = (rounds, seconds.parse()) else {
        eprintln!("usage: bench [ROUNDS [SECONDS [WHAT]]]");
        return ExitCode::from(2);
    };
    println!("Median of {rounds} rounds (least–most); the ratio is virtwired's by libvirtd's.\n");
    print("libvirtd", "virtwired", &bench::run(rounds, &seconds, &only));
    println!(
        "\nOur own client, with virtwired where a daemon takes part; beside it what stands after the semicolon.\n"
    );
    print("beside", "own", &own::run(rounds, time, &only));
    ExitCode::SUCCESS
}

fn print(beside: &str, own: &str, rows: &[Row]) {
    println!("| | {beside} | {own} | ratio | floor |\n|---|---|---|---|---|");
    for row in rows {
        println!("{}", row.markdown());
    }
}
