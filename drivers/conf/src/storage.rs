//! `<pool>` and `<volume>`.

use uuid::Uuid;

use crate::domain::disk::{Encryption, Initiator, SecretReference};
use crate::table::Bytes;
use crate::{YesNo, element, keywords};

keywords! {
    /// What a pool is made of.
    pub enum PoolType {
        Dir = "dir", Fs = "fs", Netfs = "netfs", Logical = "logical", Disk = "disk", Iscsi = "iscsi",
        IscsiDirect = "iscsi-direct", Scsi = "scsi", Mpath = "mpath", Rbd = "rbd", Sheepdog = "sheepdog",
        Gluster = "gluster", Zfs = "zfs", Vstorage = "vstorage",
    }
    /// What a volume is.
    pub enum VolType {
        File = "file", Block = "block", Dir = "dir", Network = "network", Netdir = "netdir", Ploop = "ploop",
    }
}

/// File systems on a device.
pub const FILE_SYSTEMS: &[&str] = &[
    "auto", "ext2", "ext3", "ext4", "ufs", "iso9660", "udf", "gfs", "gfs2", "vfat", "hfs+", "xfs", "ocfs2",
    "vmfs",
];
/// File systems of another host.
pub const NETWORK_FILE_SYSTEMS: &[&str] = &["auto", "nfs", "glusterfs", "cifs"];
/// What groups volumes.
pub const VOLUME_GROUPS: &[&str] = &["unknown", "lvm2"];
/// What divides a disk.
pub const PARTITION_TABLES: &[&str] = &["unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2"];

impl PoolType {
    /// The formats that the source of a pool may have, where there is a choice.
    pub const fn source_formats(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Fs => Some(FILE_SYSTEMS),
            Self::Netfs => Some(NETWORK_FILE_SYSTEMS),
            Self::Logical => Some(VOLUME_GROUPS),
            Self::Disk => Some(PARTITION_TABLES),
            _ => None,
        }
    }
}

element! {
    /// `<pool>`.
    pub struct StoragePool {
        attr type_ "type": PoolType;
        attr xmlns_fs "xmlns:fs": Option<String>;
        attr xmlns_rbd "xmlns:rbd": Option<String>;
        leaf name: Option<String>;
        leaf uuid: Option<Uuid> => STORAGE.xml_error "malformed uuid element";
        child features: Option<PoolFeatures>;
        child capacity: Option<Bytes>;
        child allocation: Option<Bytes>;
        child available: Option<Bytes>;
        pair source: PoolSource;
        child target: Option<PoolTarget>;
        child refresh: Option<PoolRefresh>;
        child mount_opts "fs:mount_opts": Option<MountOpts>;
        child config_opts "rbd:config_opts": Option<ConfigOpts>;
    }

    /// `<features>` of a pool.
    pub struct PoolFeatures {
        child cow: Option<PoolCow>;
    }

    /// `<cow>`: copying on write.
    pub struct PoolCow {
        attr state: YesNo;
    }

    /// `<source>` of a pool.
    pub struct PoolSource {
        child hosts "host": Vec<PoolHost>;
        child devices "device": Vec<PoolDevice>;
        child dir: Option<PoolDir>;
        child adapter: Option<PoolAdapter>;
        leaf name: Option<String>;
        child initiator: Option<Initiator>;
        child format: Option<SourceFormat>;
        child auth: Option<PoolAuth>;
        child protocol: Option<PoolProtocol>;
        child vendor: Option<PoolName>;
        child product: Option<PoolName>;
    }

    /// `<host>` of a pool.
    pub struct PoolHost {
        attr name: Option<String>;
        attr port: Option<i32>;
    }

    /// `<device>` of a pool.
    pub struct PoolDevice {
        attr path: Option<String>;
        attr part_separator: Option<YesNo>;
        child free_extent "freeExtent": Vec<Extent>;
    }

    /// A range of bytes.
    pub struct Extent {
        attr start: u64;
        attr end: u64;
    }

    /// `<dir>`.
    pub struct PoolDir {
        attr path: Option<String>;
    }

    /// `<adapter>`.
    pub struct PoolAdapter {
        attr type_ "type": Option<String>;
        attr parent: Option<String>;
        attr managed: Option<YesNo>;
        attr name: Option<String>;
        attr wwnn: Option<String>;
        attr wwpn: Option<String>;
        child parentaddr: Option<ParentAddress>;
    }

    /// `<parentaddr>`.
    pub struct ParentAddress {
        attr unique_id: Option<u32>;
        child address: Option<crate::domain::device::PciAddress>;
    }

    /// `<format>` of a pool's source.
    pub struct SourceFormat {
        attr type_ "type": Option<String>;
    }

    /// `<format>`.
    pub struct PoolFormat {
        attr type_ "type": String;
    }

    /// `<auth>`.
    pub struct PoolAuth {
        attr type_ "type": Option<String>;
        attr username: Option<String>;
        child secret: Option<SecretReference>;
    }

    /// `<protocol>`: which NFS.
    pub struct PoolProtocol {
        attr ver: Option<String>;
    }

    /// A name.
    pub struct PoolName {
        attr name: Option<String>;
    }

    /// `<target>` of a pool.
    pub struct PoolTarget {
        leaf path: Option<String>;
        child permissions: Option<Permissions>;
    }

    /// `<permissions>`: mode in octal.
    pub struct Permissions {
        leaf mode: Option<String>;
        leaf owner: Option<i64>;
        leaf group: Option<i64>;
        leaf label: Option<String>;
    }

    /// `<refresh>`.
    pub struct PoolRefresh {
        child volume: Option<RefreshVolume>;
    }

    /// `<volume>` of `<refresh>`.
    pub struct RefreshVolume {
        attr allocation: Option<String>;
    }

    /// `<fs:mount_opts>`.
    pub struct MountOpts {
        child option "fs:option": Vec<PoolOption>;
    }

    /// `<rbd:config_opts>`.
    pub struct ConfigOpts {
        child option "rbd:option": Vec<PoolOption>;
    }

    /// An option of mounting or of Ceph.
    pub struct PoolOption {
        attr name: String;
        attr value: Option<String>;
    }

    /// `<volume>`.
    pub struct StorageVol {
        attr_default type_ "type": VolType => STORAGE.config_unsupported "unknown volume type '{}'";
        leaf name: Option<String>;
        leaf key: Option<String>;
        child source: Option<VolSource>;
        child capacity: Option<Bytes> => STORAGE.xml_error "malformed capacity element";
        child allocation: Option<Bytes> => STORAGE.xml_error "malformed allocation element";
        child physical: Option<Bytes>;
        child target: Option<VolTarget>;
        child backing_store "backingStore": Option<VolTarget>;
    }

    /// `<source>` of a volume.
    pub struct VolSource {
        child device: Vec<VolDevice>;
    }

    /// `<device>` of a volume.
    pub struct VolDevice {
        attr path: Option<String>;
        child extent: Vec<Extent>;
    }

    /// `<target>` or `<backingStore>` of a volume.
    pub struct VolTarget {
        leaf path: Option<String>;
        child format: Option<PoolFormat>;
        child permissions: Option<Permissions>;
        child timestamps: Option<Timestamps>;
        child encryption: Option<Encryption>;
        leaf compat: Option<String>;
        flag nocow;
        child cluster_size "clusterSize": Option<ClusterSize>;
        kept features: Option<VolFeatures>;
    }

    /// `<timestamps>`: seconds since 1970.
    pub struct Timestamps {
        leaf atime: Option<String>;
        leaf mtime: Option<String>;
        leaf ctime: Option<String>;
        leaf btime: Option<String>;
    }

    /// `<features>` of qcow2.
    pub struct VolFeatures {
        flag lazy_refcounts;
        flag extended_l2;
    }
}

/// `<clusterSize>` in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClusterSize(pub u64);

impl crate::table::Element for ClusterSize {
    fn read(node: crate::xml::Node<'_>) -> crate::table::Result<Self> {
        Bytes::read(node).map(|bytes| Self(bytes.0))
    }

    fn write(&self, out: &mut crate::xml::Writer<'_>) {
        out.attribute("unit", "B");
        out.text(&self.0.to_string());
    }
}

/// A path without repeated and trailing slashes; two at its beginning are kept.
pub fn sanitize(path: &str) -> String {
    let head = if path.starts_with("//") && !path.starts_with("///") {
        "//"
    } else if path.starts_with('/') {
        "/"
    } else {
        ""
    };
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    format!("{head}{}", parts.join("/"))
}
