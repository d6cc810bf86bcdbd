//! Firmware: flash memory with its images, or a ROM.

use serde_json::Value;
use virtwire_conf::domain::os::{FirmwareFormat, Loader, LoaderType};
use virtwire_conf::{Domain, YesNo};

use super::Json;
use crate::command::{CommandLine, Options};

/// One image in flash memory: its file, and the name of its uppermost node.
struct Flash<'a> {
    /// 0 is code, 1 variables.
    number: u8,
    path: &'a str,
    format: FirmwareFormat,
    read_only: bool,
    /// Raw variables are used as they are, without a node for their format.
    bare: bool,
}

impl<'a> Flash<'a> {
    /// The images of a guest.
    fn all(domain: &'a Domain) -> Vec<Self> {
        let Some(loader) = flash_loader(domain) else { return Vec::new() };
        let Some(path) = &loader.path else { return Vec::new() };
        let code = Flash {
            number: 0,
            path,
            format: loader.format.unwrap_or(FirmwareFormat::Raw),
            read_only: loader.readonly == Some(YesNo::Yes),
            bare: false,
        };
        let nvram = domain.os.nvram.as_ref();
        let file =
            nvram.and_then(|nvram| nvram.path.as_deref().or_else(|| nvram.source.as_ref()?.file.as_deref()));
        let variables = nvram.zip(file).map(|(nvram, path)| {
            let format = nvram.format.unwrap_or(FirmwareFormat::Raw);
            Flash { number: 1, path, format, read_only: false, bare: format == FirmwareFormat::Raw }
        });
        std::iter::once(code).chain(variables).collect()
    }

    fn node(&self) -> String {
        let layer = if self.bare { "storage" } else { "format" };
        format!("libvirt-pflash{}-{layer}", self.number)
    }

    fn add(&self, line: &mut CommandLine) {
        let storage = format!("libvirt-pflash{}-storage", self.number);
        let file = Json::begin("-blockdev", "driver", "file")
            .with("filename", self.path)
            .with("node-name", storage.as_str());
        if self.bare {
            file.with("read-only", false).add(line);
            return;
        }
        file.with("auto-read-only", true).with("discard", "unmap").add(line);
        Json::begin("-blockdev", "node-name", self.node())
            .with("read-only", self.read_only)
            .with("driver", self.format.as_str())
            .with("file", storage)
            .with_if("backing", (self.format == FirmwareFormat::Qcow2).then_some(Value::Null))
            .add(line);
    }
}

fn flash_loader(domain: &Domain) -> Option<&Loader> {
    domain.os.loader.as_ref().filter(|loader| loader.type_ == Some(LoaderType::Pflash))
}

/// The nodes of images in flash memory.
pub(super) fn flash(line: &mut CommandLine, domain: &Domain) {
    Flash::all(domain).iter().for_each(|flash| flash.add(line));
}

/// Where the machine finds them.
pub(super) fn machine_options(options: Options, domain: &Domain) -> Options {
    Flash::all(domain)
        .iter()
        .fold(options, |options, flash| options.with(&format!("pflash{}", flash.number), flash.node()))
}

/// A ROM; flash memory that only the firmware may write.
pub(super) fn loader(line: &mut CommandLine, domain: &Domain) {
    let Some(loader) = &domain.os.loader else { return };
    match loader.type_ {
        Some(LoaderType::Pflash) if loader.secure == Some(YesNo::Yes) => {
            let options = Options::new("").with("driver", "cfi.pflash01");
            line.option("-global", options.with("property", "secure").with("value", "on"));
        }
        Some(LoaderType::Rom) => {
            if let Some(path) = &loader.path {
                line.option("-bios", path);
            }
        }
        _ => {}
    }
}
