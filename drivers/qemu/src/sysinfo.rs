//! What the host's firmware says of the host: read by `dmidecode`, told in libvirt's words.

use std::sync::Arc;

use virtwire_conf::domain::os::{Smbios, SmbiosMode, Sysinfo, SysinfoBlock, SysinfoEntry, SysinfoType};
use virtwire_conf::table::Element;
use virtwire_conf::xml::Writer;
use virtwire_conf::{Domain, FormatOptions};
use virtwire_protocol::remote::{ConnectGetSysinfoArgs, ConnectGetSysinfoRet};

use crate::argv::refused;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::process::helper;

/// The structures that are asked for: firmware, system, boards, chassis, processors, strings, memory.
const ARGUMENTS: [&str; 3] = ["-q", "-t", "0,1,2,3,4,11,17"];

/// What `dmidecode` calls the strings of the maker's own.
const STRINGS: &str = "OEM Strings";

/// Where memory would be.
const NO_MODULE: &str = "No Module Installed";

/// What is told of one kind of structure.
struct Section {
    /// What `dmidecode` calls it.
    title: &'static str,
    /// libvirt's element for it.
    element: &'static str,
    /// Names of entries, and what `dmidecode` calls them.
    entries: &'static [(&'static str, &'static str)],
}

/// In libvirt's order.
const SECTIONS: &[Section] = &[
    Section {
        title: "BIOS Information",
        element: "bios",
        entries: &[
            ("vendor", "Vendor"),
            ("version", "Version"),
            ("date", "Release Date"),
            ("release", "BIOS Revision"),
        ],
    },
    Section {
        title: "System Information",
        element: "system",
        entries: &[
            ("manufacturer", "Manufacturer"),
            ("product", "Product Name"),
            ("version", "Version"),
            ("serial", "Serial Number"),
            ("uuid", "UUID"),
            ("sku", "SKU Number"),
            ("family", "Family"),
        ],
    },
    Section {
        title: "Base Board Information",
        element: "baseBoard",
        entries: &[
            ("manufacturer", "Manufacturer"),
            ("product", "Product Name"),
            ("version", "Version"),
            ("serial", "Serial Number"),
            ("asset", "Asset Tag"),
            ("location", "Location In Chassis"),
        ],
    },
    Section {
        title: "Chassis Information",
        element: "chassis",
        entries: &[
            ("manufacturer", "Manufacturer"),
            ("version", "Version"),
            ("serial", "Serial Number"),
            ("asset", "Asset Tag"),
            ("sku", "SKU Number"),
        ],
    },
    Section {
        title: "Processor Information",
        element: "processor",
        entries: &[
            ("socket_destination", "Socket Designation"),
            ("type", "Type"),
            ("family", "Family"),
            ("manufacturer", "Manufacturer"),
            ("signature", "Signature"),
            ("version", "Version"),
            ("external_clock", "External Clock"),
            ("max_speed", "Max Speed"),
            ("status", "Status"),
            ("serial_number", "Serial Number"),
            ("part_number", "Part Number"),
        ],
    },
    Section {
        title: "Memory Device",
        element: "memory_device",
        entries: &[
            ("size", "Size"),
            ("form_factor", "Form Factor"),
            ("locator", "Locator"),
            ("bank_locator", "Bank Locator"),
            ("type", "Type"),
            ("type_detail", "Type Detail"),
            ("speed", "Speed"),
            ("manufacturer", "Manufacturer"),
            ("serial_number", "Serial Number"),
            ("part_number", "Part Number"),
        ],
    },
    Section { title: STRINGS, element: "oemStrings", entries: &[] },
];

/// Blocks with libvirt's elements for them, in its order.
#[derive(Debug)]
pub(crate) struct HostSysinfo(Vec<(&'static str, SysinfoBlock)>);

impl HostSysinfo {
    /// Asks `dmidecode`.
    async fn read() -> Option<Self> {
        let output = helper("dmidecode").args(ARGUMENTS).kill_on_drop(true).output().await.ok()?;
        let found = Self::parse(&String::from_utf8_lossy(&output.stdout));
        (output.status.success() && !found.0.is_empty()).then_some(found)
    }

    fn parse(text: &str) -> Self {
        let mut blocks = Vec::new();
        let mut read: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
        for line in text.lines() {
            match line.strip_prefix('\t') {
                None if !line.is_empty() => read.push((line.trim_end(), Vec::new())),
                // What stands deeper belongs to the line before it.
                Some(own) if !own.starts_with('\t') => {
                    if let (Some((_, lines)), Some((name, value))) = (read.last_mut(), own.split_once(':')) {
                        lines.push((name, value.trim()));
                    }
                }
                _ => {}
            }
        }
        for section in SECTIONS {
            for (_, lines) in read.iter().filter(|(title, _)| *title == section.title) {
                let entry = section.block(lines);
                if !entry.is_empty() && !lines.contains(&("Size", NO_MODULE)) {
                    blocks.push((section.element, SysinfoBlock { entry }));
                }
            }
        }
        Self(blocks)
    }

    fn of<'a>(&'a self, element: &'a str) -> impl Iterator<Item = SysinfoBlock> + 'a {
        self.0.iter().filter(move |(name, _)| *name == element).map(|(_, block)| block.clone())
    }

    /// As much of it as a guest can be told.
    fn for_guest(&self) -> Sysinfo {
        Sysinfo {
            type_: SysinfoType::Smbios,
            bios: self.of("bios").next(),
            // The host's number is no guest's.
            system: self.of("system").next().map(|mut system| {
                system.entry.retain(|entry| entry.name.as_deref() != Some("uuid"));
                system
            }),
            base_board: self.of("baseBoard").collect(),
            chassis: self.of("chassis").next(),
            oem_strings: self.of("oemStrings").next(),
            entry: Vec::new(),
        }
    }

    fn to_xml(&self) -> String {
        let options = FormatOptions::default();
        let mut out = Writer::new(&options);
        out.open("sysinfo");
        out.attribute("type", SysinfoType::Smbios.as_str());
        for (element, block) in &self.0 {
            out.open(element);
            block.write(&mut out);
            out.close(element);
        }
        out.close("sysinfo");
        out.finish()
    }
}

impl Section {
    fn block(&self, lines: &[(&str, &str)]) -> Vec<SysinfoEntry> {
        let entry = |name: Option<&str>, value: &str| SysinfoEntry {
            name: name.map(str::to_owned),
            value: Some(value.to_owned()),
            ..SysinfoEntry::default()
        };
        if self.title == STRINGS {
            return lines.iter().map(|(_, value)| entry(None, value)).collect();
        }
        let value = |called: &str| {
            let found = lines.iter().find(|(name, _)| *name == called);
            found.map(|(_, value)| *value).filter(|value| !value.is_empty())
        };
        self.entries.iter().filter_map(|(name, called)| Some(entry(Some(name), value(called)?))).collect()
    }
}

/// What is known of the host; read once.
async fn of_host(driver: &Qemu) -> Result<Arc<HostSysinfo>> {
    let known = driver.shared.sysinfo.get_or_init(async || HostSysinfo::read().await.map(Arc::new)).await;
    known.clone().ok_or_else(|| QEMU.config_unsupported("Host SMBIOS information is not available"))
}

pub(crate) async fn get(driver: &Qemu, args: ConnectGetSysinfoArgs) -> Result<ConnectGetSysinfoRet> {
    check_flags(args.flags, 0, "qemuConnectGetSysinfo")?;
    Ok(ConnectGetSysinfoRet { sysinfo: of_host(driver).await?.to_xml().into() })
}

/// Tells a guest what the host is told, where that is asked for.
///
/// # Errors
/// The host is told nothing, or more than a guest can be.
pub(crate) async fn tell(driver: &Qemu, domain: &mut Domain) -> Result<()> {
    if domain.os.smbios.as_ref().is_none_or(|smbios| smbios.mode != SmbiosMode::Host) {
        return Ok(());
    }
    domain.sysinfo.retain(|info| info.type_ != SysinfoType::Smbios);
    domain.sysinfo.push(of_host(driver).await?.for_guest());
    domain.os.smbios = Some(Smbios { mode: SmbiosMode::Sysinfo });
    refused::told(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "BIOS Information\n\tVendor: Maker\n\tRelease Date: 01/02/2003\n\tCharacteristics:\n\t\tPCI: yes\n\tBIOS Revision: 1.2\n\n\
        System Information\n\tManufacturer: A & B\n\tUUID: 11111111-2222-3333-4444-555555555555\n\n\
        Memory Device\n\tSize: No Module Installed\n\tLocator: DIMM 1\n\n\
        Memory Device\n\tSize: 8 GB\n\tLocator: DIMM 2  \n\tSpeed: \n\n\
        Unknown Thing\n\tVendor: nobody\n\n\
        OEM Strings\n\tString 1: one\n\tString 2: two: and more\n";

    #[test]
    fn what_dmidecode_says_is_told_in_libvirts_words() {
        let xml = HostSysinfo::parse(TEXT).to_xml();
        let expected = "<sysinfo type='smbios'>\n  <bios>\n    <entry name='vendor'>Maker</entry>\n    \
            <entry name='date'>01/02/2003</entry>\n    <entry name='release'>1.2</entry>\n  </bios>\n  <system>\n    \
            <entry name='manufacturer'>A &amp; B</entry>\n    \
            <entry name='uuid'>11111111-2222-3333-4444-555555555555</entry>\n  </system>\n  <memory_device>\n    \
            <entry name='size'>8 GB</entry>\n    <entry name='locator'>DIMM 2</entry>\n  </memory_device>\n  \
            <oemStrings>\n    <entry>one</entry>\n    <entry>two: and more</entry>\n  </oemStrings>\n</sysinfo>\n";
        assert_eq!(xml, expected);
    }

    #[test]
    fn a_guest_has_a_number_of_its_own() {
        let told = HostSysinfo::parse(TEXT).for_guest();
        let names: Vec<_> = told
            .system
            .iter()
            .flat_map(|system| &system.entry)
            .filter_map(|entry| entry.name.as_deref())
            .collect();
        assert_eq!(names, ["manufacturer"]);
        assert_eq!(told.oem_strings.map(|strings| strings.entry.len()), Some(2));
    }

    #[test]
    fn of_a_host_that_says_nothing_nothing_is_told() {
        assert!(HostSysinfo::parse("# No SMBIOS nor DMI entry point found, sorry.\n").0.is_empty());
    }
}
