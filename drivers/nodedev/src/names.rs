//! The names of PCI vendors and devices, from the list that distributions install (`pci.ids`).

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A vendor's name and a device's.
pub(crate) type Names = (Option<String>, Option<String>);

/// The list; it is read when a device is asked for that was not asked for before.
#[derive(Debug)]
pub(crate) struct PciNames {
    file: PathBuf,
    known: Mutex<HashMap<(u16, u16), Names>>,
}

impl PciNames {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file, known: Mutex::default() }
    }

    /// The names that go with two numbers.
    pub(crate) fn of(&self, vendor: u16, device: u16) -> Names {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let find =
            || find(&String::from_utf8_lossy(&fs::read(&self.file).unwrap_or_default()), vendor, device);
        known.entry((vendor, device)).or_insert_with(find).clone()
    }
}

/// A line of a vendor begins with its number, those of its devices with one tab, those of variants with two.
fn find(list: &str, vendor: u16, device: u16) -> Names {
    let (vendor, device) = (format!("{vendor:04x}  "), format!("\t{device:04x}  "));
    let mut lines = list.lines();
    let vendor = lines.find_map(|line| line.strip_prefix(&vendor)).map(str::to_owned);
    let mut devices = lines.take_while(|line| line.starts_with(['\t', '#']) || line.is_empty());
    let device = devices.find_map(|line| line.strip_prefix(&device)).map(str::to_owned);
    (vendor, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_looked_for_below_its_vendor_alone() {
        let list = "# a list\n0001  One\n\t0002  Two of one\n\t\t0001 0003  Three\n0002  Two\n\t0003  Three of two\n";
        let names = |vendor, device| {
            let (vendor, device) = find(list, vendor, device);
            (vendor.unwrap_or_default(), device.unwrap_or_default())
        };
        assert_eq!(names(1, 2), ("One".into(), "Two of one".into()));
        assert_eq!(names(2, 2), ("Two".into(), String::new()));
        assert_eq!(names(1, 3), ("One".into(), String::new()));
        assert_eq!(names(3, 3), (String::new(), String::new()));
    }
}
