//! What is taken from the heap, where that was promised.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use virtwire_protocol::codec;
use virtwire_protocol::remote::ConnectGetAllDomainStatsRetRef;
use virtwire_tests::own::figures;

/// Counts, and hands on to the usual one.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Figures of guests, decoded in place: the lists are on the heap, and no figure is.
#[test]
fn figures_in_place_take_a_list_per_guest() {
    let (guests, most) = (2000, 40);
    // Other tests allocate meanwhile: what is taken in their absence is the least of some runs.
    let taken = |params| {
        let bytes = figures(guests, params);
        let once = || {
            let before = HEAP.stats();
            let got = codec::decode::<ConnectGetAllDomainStatsRetRef<'_>>(&bytes).expect("it decodes");
            let after = HEAP.stats();
            assert_eq!(got.ret_stats.len(), guests as usize);
            after.allocations + after.reallocations - before.allocations - before.reallocations
        };
        (0..50).map(|_| once()).min().unwrap_or_default()
    };
    let (few, many) = (taken(most / 4), taken(most));
    assert!(
        few <= guests as usize + 64 && many <= guests as usize + 64,
        "{few} and {many} for {guests} guests"
    );
}
