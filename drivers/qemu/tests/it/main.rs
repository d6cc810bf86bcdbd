//! Real guests under a real QEMU. Where it is not installed, each test says that it was skipped.

mod changes;
mod host;
mod lives;
mod probing;

use std::path::PathBuf;

use virtwire_driver_qemu::probe::find_program;

/// The program, or `None` with a line that says which test did not run.
pub(crate) fn qemu(test: &str) -> Option<PathBuf> {
    let program = find_program("x86_64");
    if program.is_none() {
        println!("skipped: {test} (no qemu-system-x86_64)");
    }
    program
}
