//! What administrators, certificates and users say: the first byte chooses a configuration file, access rules, a line of
//! the users file, a certificate whose subject is wanted, or a URI.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtwire_client::Target;
use virtwired::access::Rules;
use virtwired::auth::Verifier;
use virtwired::config::{self, Settings};

fuzz_target!(|data: &[u8]| {
    let [which, bytes @ ..] = data else { return };
    let text = String::from_utf8_lossy(bytes);
    match which % 5 {
        0 => {
            let _ = config::parse(&text).map(|assignments| Settings::from_assignments(&assignments).is_ok());
        }
        1 => drop(Rules::parse(&text)),
        2 => drop(text.parse::<Verifier>()),
        3 => drop(virtwired::subject(bytes)),
        _ => drop(Target::parse(&text)),
    }
});
