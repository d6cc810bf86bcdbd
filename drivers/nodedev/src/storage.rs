//! Disks and what else holds blocks.

use virtwire_conf::nodedev::{Capability, Removable, StorageCapability};

use crate::sysfs::Facts;

/// Sizes in sysfs count these, whatever the device's own blocks are.
const SECTOR: u64 = 512;

/// What a file's name says of a device that udev does not know the kind of.
const BY_NAME: [(&str, &str); 5] =
    [("/dev/sr", "cdrom"), ("/dev/vd", "disk"), ("/dev/dasd", "dasd"), ("/dev/nvme", "disk"), ("/dev/mmcblk", "sd")];

pub(crate) fn capability(facts: &Facts<'_>) -> Option<StorageCapability> {
    let block = facts.file()?;
    let text = |name: &str| facts.attribute(name).map(|text| text.trim().to_owned());
    let property = |key: &str| facts.property(key).map(str::to_owned);
    let drive_type = drive_type(facts, block)?;
    let has_media = property("ID_CDROM_MEDIA").is_some();
    let removable = facts.number::<u32>("removable") == Some(1);
    let size = facts.number::<u64>("size").map(|sectors| sectors * SECTOR);
    let logical_block_size = facts.number::<u64>("queue/logical_block_size");
    let num_blocks = size.zip(logical_block_size).map(|(size, block)| size / block.max(1));
    let mut found = StorageCapability {
        block: Some(block.to_owned()),
        bus: property("ID_BUS"),
        drive_type: Some(drive_type.to_owned()),
        model: text("device/model"),
        vendor: text("device/vendor"),
        serial: property("ID_SERIAL"),
        ..StorageCapability::default()
    };
    if removable {
        let media = drive_type == "cdrom" && !has_media;
        found.capabilities.push(Capability::Removable(Removable {
            media_available: Some(u32::from(!media)),
            media_size: if media { Some(0) } else { size },
            media_label: property("ID_FS_LABEL"),
            logical_block_size,
            num_blocks: if media { Some(0) } else { num_blocks },
        }));
    } else {
        (found.size, found.logical_block_size, found.num_blocks) = (size, logical_block_size, num_blocks);
    }
    Some(found)
}

/// `disk`, `cdrom`, …; what nobody knows the kind of is left out.
fn drive_type<'f>(facts: &'f Facts<'_>, file: &str) -> Option<&'f str> {
    match facts.property("ID_TYPE") {
        Some("generic") | None => {}
        known => return known,
    }
    let flag = |key: &str| facts.property(key) == Some("1");
    if flag("ID_CDROM") {
        return Some("cdrom");
    }
    if flag("ID_DRIVE_FLOPPY") {
        return Some("floppy");
    }
    BY_NAME.iter().find(|(prefix, _)| file.starts_with(prefix)).map(|(_, kind)| *kind)
}
