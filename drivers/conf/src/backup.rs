//! `<domainbackup>`.

use crate::domain::disk::{DiskDriver, DiskSource, StorageType};
use crate::{YesNo, element, keywords};

keywords! {
    /// Who carries a backup away.
    pub enum BackupMode { Push = "push", Pull = "pull" }
    /// How a client reaches what it is to carry away.
    pub enum BackupTransport { Tcp = "tcp", Unix = "unix", Fd = "fd" }
    /// How much of a disk is meant.
    pub enum BackupDiskMode { Full = "full", Incremental = "incremental" }
    /// How far the work on a disk is.
    pub enum BackupState {
        Running = "running", Complete = "complete", Failed = "failed", Cancelling = "cancelling",
        Cancelled = "cancelled",
    }
}

element! {
    /// `<domainbackup>`.
    pub struct Backup {
        attr mode: Option<BackupMode> => DOMAIN.xml_error "Unexpected value '{}' of attribute 'mode'";
        leaf incremental: Option<String>;
        child server: Option<BackupServer>;
        child disks: Option<BackupDisks>;
    }

    /// `<server>` of a backup.
    pub struct BackupServer {
        attr transport: Option<BackupTransport>;
        attr tls: Option<YesNo>;
        attr name: Option<String>;
        attr port: Option<u32>;
        attr socket: Option<String>;
        attr fdgroup: Option<String>;
    }

    /// `<disks>` of a backup.
    pub struct BackupDisks {
        child disk: Vec<BackupDisk>;
    }

    /// `<disk>` of a backup.
    pub struct BackupDisk {
        attr name: String => DOMAIN.xml_error "{}", DOMAIN.xml_error "missing name from disk backup element";
        attr backup: Option<YesNo>;
        attr state: Option<BackupState>;
        attr type_ "type": Option<StorageType>;
        attr backupmode: Option<BackupDiskMode>;
        attr incremental: Option<String>;
        attr exportname: Option<String>;
        attr exportbitmap: Option<String>;
        attr index: Option<u32>;
        child driver: Option<DiskDriver>;
        child target: Option<DiskSource>;
        child scratch: Option<DiskSource>;
    }
}

impl BackupDisk {
    /// Where the disk's content goes, or what it had while a client reads.
    pub fn store(&self) -> Option<&DiskSource> {
        self.target.as_ref().or(self.scratch.as_ref())
    }
}
