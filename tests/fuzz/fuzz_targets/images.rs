//! The head of a disk image, which a guest may have written.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use virtwire_conf::image;

fuzz_target!(|data: &[u8]| drop(image::read(data, Path::new("/var/lib/libvirt/images"))));
