//! `<domainsnapshot>` and `<domaincheckpoint>`.

use crate::domain::Domain;
use crate::domain::disk::{BackingFormat, DiskDriver, DiskSource, StorageType};
use crate::table::{Element, Result};
use crate::xml::{Node, Writer};
use crate::{YesNo, element, keywords};

keywords! {
    /// What a guest was doing when the snapshot was taken.
    pub enum SnapshotState {
        Nostate = "nostate", Running = "running", Blocked = "blocked", Paused = "paused", Shutdown = "shutdown",
        Shutoff = "shutoff", Crashed = "crashed", Pmsuspended = "pmsuspended", DiskSnapshot = "disk-snapshot",
    }
    /// Where a part of a snapshot is.
    pub enum SnapshotLocation { No = "no", Internal = "internal", External = "external", Manual = "manual", _ = "default" }
    /// How a checkpoint follows a disk.
    pub enum CheckpointType { No = "no", Bitmap = "bitmap", _ = "default" }
}

element! {
    /// `<domainsnapshot>`.
    pub struct Snapshot {
        leaf name: Option<String>;
        leaf description: Option<String>;
        leaf state: Option<SnapshotState>
            => DOMAIN_SNAPSHOT.config_unsupported "Invalid state '{}' in domain snapshot XML";
        child parent: Option<Parent>;
        leaf creation_time "creationTime": Option<i64>;
        child memory: Option<SnapshotMemory>;
        child disks: Option<SnapshotDisks>;
        child revert_disks "revertDisks": Option<SnapshotDisks>;
        child domain: Option<Box<Domain>>;
        child inactive_domain "inactiveDomain": Option<Box<Domain>>;
        child cookie: Option<Cookie>;
        leaf active: Option<u32>;
    }

    /// `<parent>`.
    pub struct Parent {
        leaf name: String;
    }

    /// `<memory>` of a snapshot.
    pub struct SnapshotMemory {
        attr snapshot: Option<SnapshotLocation>;
        attr file: Option<String>;
    }

    /// `<disks>` of a snapshot.
    pub struct SnapshotDisks {
        child disk: Vec<SnapshotDisk>;
    }

    /// `<disk>` of a snapshot.
    pub struct SnapshotDisk {
        attr name: String => DOMAIN_SNAPSHOT.internal_error "{}",
            DOMAIN_SNAPSHOT.internal_error "missing name from disk snapshot element";
        attr snapshot: Option<SnapshotLocation>;
        attr snapshot_delete_in_progress "snapshotDeleteInProgress": Option<YesNo>;
        attr type_ "type": Option<StorageType>;
        child driver: Option<DiskDriver>;
        child source: Option<DiskSource>;
        child format: Option<BackingFormat>;
    }

    /// `<domaincheckpoint>`.
    pub struct Checkpoint {
        leaf name: Option<String>;
        leaf description: Option<String>;
        child parent: Option<Parent>;
        leaf creation_time "creationTime": Option<i64>;
        child disks: Option<CheckpointDisks>;
        child domain: Option<Box<Domain>>;
    }

    /// `<disks>` of a checkpoint.
    pub struct CheckpointDisks {
        child disk: Vec<CheckpointDisk>;
    }

    /// `<disk>` of a checkpoint.
    pub struct CheckpointDisk {
        attr name: String => DOMAIN_CHECKPOINT.internal_error "{}",
            DOMAIN_CHECKPOINT.xml_error "missing name from disk checkpoint element";
        attr checkpoint: Option<CheckpointType>;
        attr bitmap: Option<String>;
        attr size: Option<u64>;
    }
}

/// `<cookie>` and what is in it: whatever the hypervisor driver wants to remember.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cookie {
    /// Attributes.
    pub attributes: Vec<(String, String)>,
    /// Child elements by name.
    pub children: Vec<(String, Cookie)>,
    /// Text, where there are no children.
    pub text: String,
}

impl Element for Cookie {
    fn read(node: Node<'_>) -> Result<Self> {
        let attributes = node.attributes().iter().map(|a| (a.name.to_owned(), a.value.clone().into_owned()));
        let mut cookie = Self { attributes: attributes.collect(), ..Self::default() };
        for child in node.children() {
            cookie.children.push((child.name().to_owned(), Self::read(child)?));
        }
        if cookie.children.is_empty() {
            cookie.text = node.text().trim().to_owned();
        }
        Ok(cookie)
    }

    fn write(&self, out: &mut Writer<'_>) {
        for (name, value) in &self.attributes {
            out.attribute(name, value);
        }
        if !self.text.is_empty() {
            out.text(&self.text);
        }
        for (name, child) in &self.children {
            out.open(name);
            child.write(out);
            out.close(name);
        }
    }
}
