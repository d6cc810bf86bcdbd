//! What is taken from the heap, where that was promised.

use std::alloc::System;
use std::process::Command;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use virtwire_protocol::codec;
use virtwire_protocol::remote::ConnectGetAllDomainStatsRetRef;
use virtwire_tests::own::figures;
use virtwire_tests::process;

/// Counts, and hands on to the usual one.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Set in the process that runs nothing but the measurement.
const ALONE: &str = "VIRTWIRE_TEST_ALONE";

/// Figures of guests, decoded in place: the lists are on the heap, and no figure is. Other tests of this process take
/// memory meanwhile, so it is measured in one of its own.
#[test]
fn figures_in_place_take_a_list_per_guest() {
    if std::env::var_os(ALONE).is_some() {
        return measure();
    }
    let program = std::env::current_exe().expect("a path of this program");
    let mut alone = Command::new(program);
    alone.args(["--exact", "memory::figures_in_place_take_a_list_per_guest", "--nocapture"]);
    let done = process::run(alone.env(ALONE, "1"));
    assert!(done.status.success() && done.text.contains("1 passed"), "{}", done.text);
}

fn measure() {
    let (guests, most) = (2000, 40);
    let taken = |params| {
        let bytes = figures(guests, params);
        let before = HEAP.stats();
        let got = codec::decode::<ConnectGetAllDomainStatsRetRef<'_>>(&bytes).expect("it decodes");
        let after = HEAP.stats();
        assert_eq!(got.ret_stats.len(), guests as usize);
        after.allocations + after.reallocations - before.allocations - before.reallocations
    };
    let (few, many) = (taken(most / 4), taken(most));
    assert!(
        few <= guests as usize + 64 && many <= guests as usize + 64,
        "{few} and {many} for {guests} guests"
    );
}
