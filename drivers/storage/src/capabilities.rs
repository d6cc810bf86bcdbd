//! `<storagepoolCapabilities>`: which kinds of pools there are, and what may be in them.

use std::fmt::Write as _;

use virtwire_conf::storage::{FILE_SYSTEMS, NETWORK_FILE_SYSTEMS, PARTITION_TABLES, VOLUME_GROUPS};
use virtwire_driver_api::check_flags;
use virtwire_protocol::remote::*;

use crate::{Pools, Result, STORAGE};

/// Formats of volumes that are files.
const FILES: &[&str] = &[
    "none", "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow", "qcow",
    "qcow2", "qed", "vmdk",
];
const PARTITIONS: &[&str] =
    &["none", "linux", "fat16", "fat32", "linux-swap", "linux-lvm", "linux-raid", "extended"];

/// A default and the choices.
type Formats = Option<(&'static str, &'static [&'static str])>;

/// Kinds of pools: what they may be made of, and what may be in them.
const KINDS: &[(&str, Formats, Formats)] = &[
    ("dir", None, Some(("raw", FILES))),
    ("fs", Some(("auto", FILE_SYSTEMS)), Some(("raw", FILES))),
    ("netfs", Some(("auto", NETWORK_FILE_SYSTEMS)), Some(("raw", FILES))),
    ("logical", Some(("lvm2", VOLUME_GROUPS)), None),
    ("disk", Some(("unknown", PARTITION_TABLES)), Some(("none", PARTITIONS))),
    ("iscsi", None, None),
    ("iscsi-direct", None, None),
    ("scsi", None, None),
    ("mpath", None, None),
    ("rbd", None, Some(("raw", &[]))),
    ("sheepdog", None, None),
    ("gluster", None, Some(("raw", FILES))),
    ("zfs", None, None),
    ("vstorage", None, Some(("raw", FILES))),
];

/// The kinds that this driver serves.
const SERVED: &[&str] = &["dir", "fs", "netfs"];

pub(crate) async fn pools(
    _: &Pools,
    args: ConnectGetStoragePoolCapabilitiesArgs,
) -> Result<ConnectGetStoragePoolCapabilitiesRet> {
    check_flags(STORAGE, args.flags, 0, "storageConnectGetStoragePoolCapabilities")?;
    let mut out = "<storagepoolCapabilities>\n".to_owned();
    for (kind, source, target) in KINDS {
        let supported = if SERVED.contains(kind) { "yes" } else { "no" };
        let _ = writeln!(out, "  <pool type='{kind}' supported='{supported}'>");
        options(&mut out, "poolOptions", "sourceFormatType", *source);
        options(&mut out, "volOptions", "targetFormatType", *target);
        out += "  </pool>\n";
    }
    out += "</storagepoolCapabilities>\n";
    Ok(ConnectGetStoragePoolCapabilitiesRet { capabilities: out.into() })
}

/// The capabilities of a connection to storage alone: the kinds of pools.
pub fn host() -> String {
    let mut out = "<capabilities>\n\n  <pool>\n    <enum name='type'>\n".to_owned();
    for kind in SERVED {
        let _ = writeln!(out, "      <value>{kind}</value>");
    }
    out + "    </enum>\n  </pool>\n\n</capabilities>\n"
}

fn options(out: &mut String, element: &str, name: &str, formats: Formats) {
    let Some((default, values)) = formats else { return };
    let _ =
        writeln!(out, "    <{element}>\n      <defaultFormat type='{default}'/>\n      <enum name='{name}'>");
    for value in values {
        let _ = writeln!(out, "        <value>{value}</value>");
    }
    let _ = writeln!(out, "      </enum>\n    </{element}>");
}
