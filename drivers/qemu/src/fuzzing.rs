//! Readers of what others wrote, for the fuzz targets: each takes any bytes, whatever comes of them.

use crate::{migration, save, status};

/// The cookie of another host, as it comes in and as it goes on from here.
pub fn cookie(bytes: &[u8]) {
    migration::fuzzing::cookie(bytes);
}

/// Where a guest goes: the URI of a migration.
pub fn goal(text: &str) {
    migration::fuzzing::goal(text);
}

/// The head of a file that a guest's memory was saved to, and that anybody may have changed since.
pub fn saved(path: &str) {
    drop(save::Image::read(path));
}

/// What the daemon before this one wrote about a guest that runs.
pub fn status(text: &str) {
    drop(status::read(text));
}
