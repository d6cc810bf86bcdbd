//! How long a guest's definition takes: `cargo bench -p virtwire-conf`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use virtwire_conf::{Domain, FormatOptions, ParseOptions, QemuHost};

fn main() {
    let short = include_str!("guest.xml");
    let host = Arc::new(QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true));
    let (plain, qemu) = (ParseOptions::default(), ParseOptions::qemu(host));
    let options = FormatOptions::from_flags(3);
    let stored = Domain::parse(short, &qemu).expect("a good definition").to_xml(&options);
    println!("{} lines, {} bytes", stored.lines().count(), stored.len());
    let domain = Domain::parse(&stored, &plain).expect("its own output");
    time("parse", || drop(black_box(Domain::parse(black_box(&stored), &plain))));
    time("format", || drop(black_box(black_box(&domain).to_xml(&options))));
    time("define as written", || drop(black_box(Domain::parse(black_box(short), &qemu))));
    time("define as stored", || drop(black_box(Domain::parse(black_box(&stored), &qemu))));
    time("define as stored and format", || {
        drop(black_box(Domain::parse(black_box(&stored), &qemu).map(|domain| domain.to_xml(&options))));
    });
}

/// The median of many rounds.
fn time(what: &str, mut round: impl FnMut()) {
    let mut times: Vec<_> = (0..3000)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{what}: {:?}", times[times.len() / 2]);
}
