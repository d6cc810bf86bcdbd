//! What a network lends of the host: functions of its network cards.

use std::path::Path;

use virtwire_conf::Network as Definition;
use virtwire_conf::domain::device::Address;

use crate::{NETWORK, Result};

/// Where the kernel shows PCI devices.
pub(crate) const DEVICES: &str = "/sys/bus/pci/devices";

/// Whether each function that a network names is a virtual one: only these are lent.
///
/// # Errors
/// One is not, or is not there.
pub(crate) fn check(definition: &Definition, devices: &Path) -> Result<()> {
    let functions = definition.forward.iter().flat_map(|forward| &forward.address);
    for address in functions {
        let Address::Pci(address) = address else { continue };
        let path = devices.join(address.shown());
        if !path.join("physfn").exists() {
            return Err(NETWORK.config_unsupported(format_args!(
                "device '{}' in network '{}' is not an SR-IOV Virtual Function",
                path.display(),
                definition.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;

    use super::*;

    #[test]
    fn only_virtual_functions_are_lent() {
        let scratch = virtwire_store::Scratch::new();
        std::fs::create_dir_all(scratch.path().join("0000:03:10.1/physfn")).unwrap();
        std::fs::create_dir_all(scratch.path().join("0000:03:00.0")).unwrap();
        let checked = |slot: u8, function: u8| {
            let xml = format!(
                "<network><name>a</name><forward mode='hostdev'><address type='pci' domain='0' bus='3' slot='{slot}' \
                 function='{function}'/></forward></network>"
            );
            check(&Definition::parse(&xml, &ParseOptions::default()).unwrap(), scratch.path())
        };
        checked(16, 1).unwrap();
        for physical in [0, 1] {
            let error = checked(0, physical).unwrap_err().message;
            assert!(
                error.ends_with(&format!(
                    "03:00.{physical}' in network 'a' is not an SR-IOV Virtual Function"
                ))
            );
        }
    }
}
