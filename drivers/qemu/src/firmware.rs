//! The firmware that is installed, from its descriptor files (QEMU's `docs/interop/firmware.json`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use virtwire_conf::complete::{FirmwareImage, FirmwareMapping};
use virtwire_conf::domain::os::{Firmware, FirmwareFormat};
use virtwire_conf::table::Value;

/// Where descriptors are: the distribution's, then the administrator's, which take the place of those of the same name.
const DIRS: [&str; 2] = ["/usr/share/qemu/firmware", "/etc/qemu/firmware"];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", tag = "device")]
enum Mapping {
    #[serde(rename_all = "kebab-case")]
    Flash {
        #[serde(default)]
        mode: Mode,
        executable: File,
        nvram_template: Option<File>,
    },
    Memory {
        filename: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    #[default]
    Split,
    Combined,
    Stateless,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// All that can be read, in the order of their files' names. An empty file hides another of its name.
pub(crate) fn installed() -> Vec<FirmwareImage> {
    let files = DIRS.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let paths =
        files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    let by_name: BTreeMap<_, PathBuf> =
        paths.filter_map(|path| Some((path.file_name()?.to_owned(), path))).collect();
    by_name.values().filter_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Option<FirmwareImage> {
    image(&fs::read(path).ok()?)
}

fn image(text: &[u8]) -> Option<FirmwareImage> {
    let descriptor: Descriptor = serde_json::from_slice(text).ok()?;
    let format = |file: &File| FirmwareFormat::parse(&file.format).ok().flatten();
    let (path, kind, mapping) = match descriptor.mapping {
        Mapping::Flash { mode, executable, nvram_template } => {
            let mapping = match (mode, nvram_template) {
                (Mode::Split, Some(template)) => {
                    FirmwareMapping::Split { format: format(&template)?, template: template.filename }
                }
                (Mode::Split, None) => return None,
                (Mode::Combined, _) => FirmwareMapping::Combined,
                (Mode::Stateless, _) => FirmwareMapping::Stateless,
            };
            (executable.filename.clone(), format(&executable)?, mapping)
        }
        Mapping::Memory { filename } => (filename, FirmwareFormat::Raw, FirmwareMapping::Memory),
        Mapping::Other => return None,
    };
    let interface = |name: &String| match name.as_str() {
        "uefi" => Some(Firmware::Efi),
        "bios" => Some(Firmware::Bios),
        _ => None,
    };
    let targets = descriptor.targets.into_iter().map(|target| (target.architecture, target.machines));
    Some(FirmwareImage {
        interfaces: descriptor.interface_types.iter().filter_map(interface).collect(),
        path,
        format: kind,
        mapping,
        targets: targets.collect(),
        features: descriptor.features,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_read() {
        let text = br#"{"description": "UEFI", "interface-types": ["uefi"], "mapping": {"device": "flash",
            "executable": {"filename": "/code", "format": "raw"}, "nvram-template": {"filename": "/vars", "format": "qcow2"}},
            "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}], "features": ["secure-boot"], "tags": []}"#;
        let image = image(text).unwrap();
        assert_eq!((image.path.as_str(), image.interfaces.as_slice()), ("/code", &[Firmware::Efi][..]));
        let vars = FirmwareMapping::Split { template: "/vars".to_owned(), format: FirmwareFormat::Qcow2 };
        assert_eq!(image.mapping, vars);
        assert_eq!(image.targets, [("x86_64".to_owned(), vec!["pc-q35-*".to_owned()])]);
    }

    #[test]
    fn what_is_no_descriptor_is_nothing() {
        assert!(image(b"").is_none());
        assert!(image(br#"{"interface-types": ["uefi"], "mapping": {"device": "kernel"}}"#).is_none());
    }
}
