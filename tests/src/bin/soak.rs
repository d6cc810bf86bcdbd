//! Holds a daemon under many connections for a while: `soak [SECONDS [CONNECTIONS]]`, an hour and 200 if not said. Each
//! connection opens the test hypervisor, makes calls that nobody would send and calls that everybody makes, leaves and
//! comes back. Prints calls and the daemon's memory; fails if a call has no answer, or if memory grows by more than a tenth
//! after the first tenth of the time.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use virtwire_conformance::peer::Peer;
use virtwire_tests::clients::URI;
use virtwire_tests::daemon::Daemon;
use virtwire_tests::noise::Noise;

/// Calls of one visit.
const VISIT: usize = 100;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (seconds, connections) = match (arguments.next(), arguments.next()) {
        (None, _) => (3600, 200),
        (Some(Ok(seconds)), None) => (seconds, 200),
        (Some(Ok(seconds)), Some(Ok(connections))) => (seconds, connections),
        _ => {
            eprintln!("usage: soak [SECONDS [CONNECTIONS]]");
            return ExitCode::from(2);
        }
    };
    let daemon = Daemon::virtwired();
    let (begin, time) = (Instant::now(), Duration::from_secs(seconds));
    let (calls, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let socket = daemon.socket();
    let early = thread::scope(|scope| {
        let (socket, calls, failed) = (socket.as_path(), &calls, &failed);
        for seed in 0..connections {
            scope.spawn(move || {
                let mut noise = Noise::new(seed);
                while begin.elapsed() < time && failed.load(Ordering::Relaxed) == 0 {
                    match visit(socket, &mut noise) {
                        Ok(made) => drop(calls.fetch_add(made, Ordering::Relaxed)),
                        Err(error) => {
                            eprintln!("connection {seed}: {error}");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        thread::park_timeout(time / 10);
        daemon.resident()
    });
    let late = daemon.resident();
    println!("{} calls on {connections} connections in {seconds} s", calls.load(Ordering::Relaxed));
    println!("resident memory: {early} KiB after a tenth, {late} KiB at the end");
    let fine = failed.load(Ordering::Relaxed) == 0 && 10 * late <= 11 * early;
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn visit(socket: &Path, noise: &mut Noise) -> Result<u64, String> {
    let mut peer = Peer::connect(socket).map_err(|e| e.to_string())?;
    peer.open(URI).map_err(|e| format!("open: {e}"))?;
    for _ in 0..VISIT {
        noise.call(&mut peer)?;
    }
    Ok(VISIT as u64)
}
