//! What a client writes: any bytes, in pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtwire_fuzz::{converse, daemon, opening, run};

fuzz_target!(|data: &[u8]| {
    let [how, bytes @ ..] = data else { return };
    let mut all = if how & 1 == 0 { Vec::new() } else { opening() };
    all.extend_from_slice(bytes);
    let piece = if how >> 1 == 0 { all.len() } else { usize::from(how >> 1) };
    run(async { converse(daemon(), &all, piece, None).await });
});
