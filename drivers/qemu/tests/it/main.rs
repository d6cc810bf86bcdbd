//! Real guests under a real QEMU. Where it is not installed, each test says that it was skipped.

mod backups;
mod blockjobs;
mod chains;
mod changes;
mod descriptors;
mod host;
mod lives;
mod migrations;
mod moments;
mod native;
mod probing;
mod runs;
mod settings;

use std::path::PathBuf;

use virtwire_driver_qemu::probe::find_program;

/// The program, or `None` and then the test says that it was skipped.
pub(crate) fn qemu() -> Option<PathBuf> {
    let program = find_program("x86_64");
    if program.is_none() {
        virtwire_skip::without_program("no qemu-system-x86_64");
    }
    program
}
