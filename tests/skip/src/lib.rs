//! How a test says that it did not run. The test runner shows what a test prints only if it fails, so this writes past it.

use std::fmt::Display;
use std::io::{self, Write};
use std::{env, thread};

/// A program is not installed, or the rights to use it are missing.
///
/// # Panics
/// If `VIRTWIRE_NO_SKIP` is set, as it should be where everything has been installed.
#[track_caller]
pub fn without_program(why: impl Display) {
    assert!(env::var_os("VIRTWIRE_NO_SKIP").is_none(), "would be skipped: {why}");
    without_data(why);
}

/// Recorded answers that do not belong to the project are not there.
pub fn without_data(why: impl Display) {
    let thread = thread::current();
    let _ = writeln!(io::stdout(), "skipped: {} ({why})", thread.name().unwrap_or("a test"));
}
