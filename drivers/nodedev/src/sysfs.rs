//! A device as the kernel (sysfs) and udev (its database) describe it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::names::PciNames;

/// Where the host describes itself.
#[derive(Debug)]
pub struct Places {
    /// `/sys`
    pub sys: PathBuf,
    /// `/run/udev/data`; it need not be there.
    pub udev: PathBuf,
    /// The names of PCI devices.
    pub(crate) names: PciNames,
}

impl Places {
    /// Other places than the usual ones.
    pub fn new(sys: PathBuf, udev: PathBuf, pci_ids: PathBuf) -> Self {
        // Devices are known by where they really are.
        let sys = fs::canonicalize(&sys).unwrap_or(sys);
        Self { sys, udev, names: PciNames::new(pci_ids) }
    }

    /// The places of every device, each before those that are within it.
    pub(crate) fn devices(&self) -> Vec<PathBuf> {
        let buses = entries(&self.sys.join("bus")).into_iter().map(|bus| bus.join("devices"));
        let sets = buses.chain(entries(&self.sys.join("class")));
        let mut found: Vec<_> =
            sets.flat_map(|set| entries(&set)).filter_map(|link| fs::canonicalize(link).ok()).collect();
        found.retain(|path| path.starts_with(self.sys.join("devices")));
        found.sort();
        found.dedup();
        found
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::new("/sys".into(), "/run/udev/data".into(), "/usr/share/misc/pci.ids".into())
    }
}

/// What is in a directory, in order; nothing is in one that cannot be read.
pub(crate) fn entries(dir: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<_> = read.collect();
    found.sort();
    found
}

/// A file's text without the line's end; `None` if it cannot be read.
pub(crate) fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

/// The last part of where a link leads.
pub(crate) fn link_name(path: &Path) -> Option<String> {
    file_name(&fs::read_link(path).ok()?)
}

pub(crate) fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// One device.
#[derive(Debug)]
pub(crate) struct Facts<'p> {
    pub(crate) places: &'p Places,
    pub(crate) path: PathBuf,
    properties: HashMap<String, String>,
    /// Other names of its file, below `/dev`.
    pub(crate) links: Vec<String>,
}

impl<'p> Facts<'p> {
    /// The device at `path`, if there is one.
    pub(crate) fn read(places: &'p Places, path: &Path) -> Option<Self> {
        let uevent = text(&path.join("uevent"))?;
        let mut properties: HashMap<_, _> = uevent.lines().filter_map(pair).collect();
        if let Some(name) = properties.get_mut("DEVNAME").filter(|name| !name.starts_with('/')) {
            name.insert_str(0, "/dev/");
        }
        let mut facts = Self { places, path: path.to_owned(), properties, links: Vec::new() };
        for line in facts.record().unwrap_or_default().lines() {
            match line.split_once(':') {
                Some(("E", rest)) => facts.properties.extend(pair(rest)),
                Some(("S", link)) => facts.links.push(format!("/dev/{link}")),
                _ => {}
            }
        }
        facts.links.sort();
        Some(facts)
    }

    /// What udev has noted down.
    fn record(&self) -> Option<String> {
        let subsystem = self.subsystem()?;
        let id = match (self.property("MAJOR"), self.property("MINOR"), self.property("IFINDEX")) {
            (Some(major), Some(minor), _) => {
                format!("{}{major}:{minor}", if subsystem == "block" { 'b' } else { 'c' })
            }
            (_, _, Some(index)) => format!("n{index}"),
            _ => format!("+{subsystem}:{}", file_name(&self.path)?),
        };
        text(&self.places.udev.join(id))
    }

    /// Its name below its parent.
    pub(crate) fn name(&self) -> String {
        file_name(&self.path).unwrap_or_default().replace('!', "/")
    }

    /// Where it is, as everybody calls it.
    pub(crate) fn shown_path(&self) -> String {
        let within = self.path.strip_prefix(&self.places.sys).unwrap_or(&self.path);
        format!("/sys/{}", within.display())
    }

    pub(crate) fn subsystem(&self) -> Option<String> {
        link_name(&self.path.join("subsystem"))
    }

    pub(crate) fn driver(&self) -> Option<String> {
        file_name(&fs::canonicalize(self.path.join("driver")).ok()?)
    }

    /// What the kernel's event or udev's database has under a key.
    pub(crate) fn property(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(String::as_str)
    }

    /// A file of the device.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        text(&self.path.join(name))
    }

    /// A number from a file of the device, in decimal.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.attribute(name)?.trim().parse().ok()
    }

    /// Its own file.
    pub(crate) fn file(&self) -> Option<&str> {
        self.property("DEVNAME")
    }
}

/// `KEY=VALUE`
pub(crate) fn pair(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once('=')?;
    Some((key.to_owned(), value.to_owned()))
}
