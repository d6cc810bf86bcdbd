//! Every type of the wire, typed parameters and arguments of all programs among them: two bytes choose the type, the rest
//! is decoded. What decodes is encoded again, and is then the same each time.
#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use virtwire_protocol::sample::{self, Row};

thread_local! {
    static TYPES: LazyCell<Vec<Row>> = LazyCell::new(sample::all);
}

fuzz_target!(|data: &[u8]| {
    let [high, low, bytes @ ..] = data else { return };
    TYPES.with(|types| {
        let row = &types[usize::from(u16::from_be_bytes([*high, *low])) % types.len()];
        if let Ok(again) = (row.recode)(bytes) {
            assert_eq!((row.recode)(&again).as_ref(), Ok(&again), "{}", row.name);
        }
    });
});
