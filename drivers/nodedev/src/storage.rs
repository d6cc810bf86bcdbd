//! Disks and what else holds blocks.

use virtwire_conf::nodedev::{Capability, Removable, StorageCapability};

use crate::sysfs::Facts;

/// What a file's name says of a device that udev does not know the kind of.
const BY_NAME: [(&str, &str); 2] = [("/dev/vd", "disk"), ("/dev/nvme", "disk")];
/// What udev calls a kind, and what clients are told.
const KINDS: [(&str, &str); 4] = [("cd", "cdrom"), ("disk", "disk"), ("floppy", "floppy"), ("tape", "tape")];
/// What udev notes down of a device whose kind it does not know.
const FLAGS: [(&str, &str); 3] =
    [("ID_DRIVE_FLOPPY", "floppy"), ("ID_CDROM", "cdrom"), ("ID_DRIVE_FLASH_SD", "sd")];

pub(crate) fn capability(facts: &Facts<'_>) -> Option<StorageCapability> {
    let block = facts.file()?;
    let text = |name: &str| facts.attribute(name).map(|text| text.trim_end().to_owned());
    let property = |key: &str| facts.property(key).map(str::to_owned);
    let drive_type = drive_type(facts, block)?;
    let mut found = StorageCapability {
        block: Some(block.to_owned()),
        bus: property("ID_BUS"),
        drive_type: Some(drive_type.to_owned()),
        model: text("device/model"),
        vendor: text("device/vendor"),
        serial: property("ID_SERIAL"),
        ..StorageCapability::default()
    };
    let label = property("ID_FS_LABEL");
    // A drive may be without anything in it.
    let full = match drive_type {
        "cdrom" => facts.property("ID_CDROM_MEDIA") == Some("1"),
        "floppy" => label.is_some(),
        _ => true,
    };
    let drive = matches!(drive_type, "cdrom" | "floppy");
    let logical_block_size = facts.number::<u64>("queue/logical_block_size").filter(|_| full);
    // libvirt takes the kernel's sectors, which are of 512 bytes, for the device's own blocks, and clients know it so.
    let num_blocks = facts.number::<u64>("size").filter(|_| full);
    let size = num_blocks.zip(logical_block_size).map(|(blocks, size)| blocks.saturating_mul(size));
    let size = if full { size } else { Some(0) };
    if drive && facts.number::<u32>("removable") == Some(1) {
        found.capabilities.push(Capability::Removable(Removable {
            media_available: Some(full.into()),
            media_size: size,
            media_label: label.filter(|_| full),
            logical_block_size,
            num_blocks,
        }));
    } else {
        (found.size, found.logical_block_size, found.num_blocks) = (size, logical_block_size, num_blocks);
    }
    Some(found)
}

/// `disk`, `cdrom`, …; what nobody knows the kind of is left out.
fn drive_type(facts: &Facts<'_>, file: &str) -> Option<&'static str> {
    let known = facts.property("ID_TYPE").filter(|kind| *kind != "generic");
    if let Some(known) = known {
        return KINDS.iter().find(|(name, _)| *name == known).map(|(_, kind)| *kind);
    }
    let flag = FLAGS.iter().find(|(key, _)| facts.property(key) == Some("1"));
    flag.or_else(|| BY_NAME.iter().find(|(prefix, _)| file.starts_with(prefix))).map(|(_, kind)| *kind)
}
