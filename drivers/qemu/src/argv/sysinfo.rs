//! What the firmware tells the guest about its machine.

use virtwire_conf::Domain;
use virtwire_conf::domain::os::{SmbiosMode, Sysinfo, SysinfoBlock, SysinfoType};

use crate::command::{CommandLine, Options};

/// Names of entries and QEMU's words for them, in the order in which they are told.
type Words = &'static [(&'static str, &'static str)];

const BIOS: Words = &[("vendor", "vendor"), ("version", "version"), ("date", "date"), ("release", "release")];
const SYSTEM: Words = &[
    ("manufacturer", "manufacturer"),
    ("product", "product"),
    ("version", "version"),
    ("serial", "serial"),
    ("uuid", "uuid"),
    ("sku", "sku"),
    ("family", "family"),
];
const BASE_BOARD: Words = &[
    ("manufacturer", "manufacturer"),
    ("product", "product"),
    ("version", "version"),
    ("serial", "serial"),
    ("asset", "asset"),
    ("location", "location"),
];
const CHASSIS: Words = &[
    ("manufacturer", "manufacturer"),
    ("version", "version"),
    ("serial", "serial"),
    ("asset", "asset"),
    ("sku", "sku"),
];

/// `-smbios` and `-fw_cfg`.
pub(super) fn sysinfo(line: &mut CommandLine, domain: &Domain) {
    let shown = domain.os.smbios.as_ref().map(|smbios| smbios.mode) == Some(SmbiosMode::Sysinfo);
    let of_kind = |kind| domain.sysinfo.iter().filter(move |info| info.type_ == kind);
    if shown {
        of_kind(SysinfoType::Smbios).for_each(|info| smbios(line, info));
    }
    for entry in of_kind(SysinfoType::Fwcfg).flat_map(|info| &info.entry) {
        let name = entry.name.as_deref().unwrap_or_default();
        // The value is the last part, and commas are its own.
        let value = match &entry.file {
            Some(file) => format!("file={file}"),
            None => format!("string={}", entry.value.as_deref().unwrap_or_default()),
        };
        line.option("-fw_cfg", format!("name={name},{value}"));
    }
}

fn smbios(line: &mut CommandLine, info: &Sysinfo) {
    let blocks = [(0, info.bios.as_ref(), BIOS), (1, info.system.as_ref(), SYSTEM)].into_iter();
    let boards = info.base_board.iter().map(|board| (2, Some(board), BASE_BOARD));
    let blocks = blocks.chain(boards).chain([(3, info.chassis.as_ref(), CHASSIS)]);
    for (kind, block, words) in blocks {
        if let Some(block) = block.filter(|block| !block.entry.is_empty()) {
            line.option("-smbios", told(kind, block, words));
        }
    }
    if let Some(strings) = info.oem_strings.as_ref().filter(|strings| !strings.entry.is_empty()) {
        let values = strings.entry.iter().filter_map(|entry| entry.value.as_ref());
        let options = Options::new("").with("type", 11);
        line.option("-smbios", values.fold(options, |options, value| options.with("value", value)));
    }
}

fn told(kind: u8, block: &SysinfoBlock, words: Words) -> Options {
    words.iter().fold(Options::new("").with("type", kind), |options, (name, word)| {
        let entry = block.entry.iter().find(|entry| entry.name.as_deref() == Some(name));
        let value = entry.and_then(|entry| entry.value.as_deref());
        // Who made a board or a chassis is said even where it is nobody.
        let maker = matches!(kind, 2 | 3) && *word == "manufacturer";
        options.with_if(word, value.or(maker.then_some("")))
    })
}
