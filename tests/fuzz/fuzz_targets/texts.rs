//! What administrators and certificates say: the first byte chooses a configuration file, access rules, a line of the
//! users file, or a certificate whose subject is wanted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtwired::access::Rules;
use virtwired::auth::Verifier;
use virtwired::config::{self, Settings};

fuzz_target!(|data: &[u8]| {
    let [which, bytes @ ..] = data else { return };
    let text = String::from_utf8_lossy(bytes);
    match which % 4 {
        0 => {
            let _ = config::parse(&text).map(|assignments| Settings::from_assignments(&assignments).is_ok());
        }
        1 => drop(Rules::parse(&text)),
        2 => drop(text.parse::<Verifier>()),
        _ => drop(virtwired::subject(bytes)),
    }
});
