//! What a client writes: any bytes, in pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtwire_fuzz::{converse, daemon_of, opening, run};
use virtwired::Program;

fuzz_target!(|data: &[u8]| {
    let [how, bytes @ ..] = data else { return };
    let mut all = if how & 1 == 0 { Vec::new() } else { opening(Program::Remote) };
    all.extend_from_slice(bytes);
    let piece = if how >> 1 == 0 { all.len() } else { usize::from(how >> 1) };
    run(async { converse(daemon_of(Program::Remote), &all, piece, None).await });
});
