//! What one daemon leaves to another: the cookie and the goal of a migration, the head of a saved guest's file, the
//! status of a guest that runs. The first byte chooses.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use virtwire_driver_qemu::fuzzing;

fuzz_target!(|data: &[u8]| {
    let [which, bytes @ ..] = data else { return };
    match which % 4 {
        0 => fuzzing::cookie(bytes),
        1 => fuzzing::goal(&String::from_utf8_lossy(bytes)),
        2 => {
            let file = std::env::temp_dir().join(format!("virtwire-fuzz-{}", std::process::id()));
            if fs::write(&file, bytes).is_ok() {
                fuzzing::saved(&file.to_string_lossy());
            }
        }
        _ => fuzzing::status(&String::from_utf8_lossy(bytes)),
    }
});
