//! Definitions that need little: checks of names and UUIDs.

use uuid::Uuid;
use virtwire_protocol::{ErrorDomain, VirtError};

use super::{Flavor, ParseOptions};
use crate::domain::VirtType;
use crate::interface::HostInterfaceType;
use crate::secret::SecretUsageType;
use crate::snapshot::CheckpointType;
use crate::storage::{PoolFormat, PoolTarget, PoolType, VolTarget, VolType, sanitize};
use crate::table::{Bytes, schema};
use crate::xml::namespace_of;
use crate::{Backup, Checkpoint, Domain, Interface, NodeDevice, Secret, Snapshot, StoragePool, StorageVol};

/// A guest that is described within something else is completed like one that is defined.
fn complete_guest(guest: &mut Option<Box<Domain>>, options: &ParseOptions) -> Result<(), VirtError> {
    match guest {
        Some(guest) if matches!(options.flavor, Flavor::Qemu(_)) => guest.complete(options),
        _ => Ok(()),
    }
}

impl Snapshot {
    pub(crate) fn complete(&mut self, options: &ParseOptions) -> Result<(), VirtError> {
        // What runs nowhere is no guest.
        self.domain.take_if(|domain| domain.type_ == VirtType::None);
        complete_guest(&mut self.domain, options)?;
        complete_guest(&mut self.inactive_domain, options)
    }
}

impl Checkpoint {
    pub(crate) fn complete(&mut self, options: &ParseOptions) -> Result<(), VirtError> {
        let path = self.name.as_deref().is_some_and(|name| name.contains('/') || name.starts_with('.'));
        let mut disks = self.disks.iter().flat_map(|disks| &disks.disk);
        let torn = disks.any(|disk| disk.checkpoint == Some(CheckpointType::No) && disk.bitmap.is_some());
        let none = self.disks.as_ref().is_some_and(|disks| disks.disk.is_empty());
        let bad = if path { Some("name") } else { (torn || none).then_some("disks") };
        if options.validate && bad.is_some() {
            return Err(schema::invalid("domaincheckpoint", "domaincheckpoint", bad));
        }
        complete_guest(&mut self.domain, options)
    }
}

impl Backup {
    /// What it is of depends on the guest, and is for its driver to find out.
    pub(crate) fn complete(&mut self, _: &ParseOptions) -> Result<(), VirtError> {
        Ok(())
    }
}

/// `/` in a name would lead out of the directory the definition is stored in.
pub(super) fn check_name(name: &str, domain: ErrorDomain) -> Result<(), VirtError> {
    if name.contains('/') {
        return Err(domain.xml_error(format_args!("name {name} cannot contain '/'")));
    }
    Ok(())
}

/// How large the test driver's pools are: 100 GiB.
const TEST_POOL_SIZE: u64 = 100 << 30;

impl StoragePool {
    pub(crate) fn complete(&mut self, options: &ParseOptions) -> Result<(), VirtError> {
        if matches!(options.flavor, Flavor::Plain) {
            return Ok(());
        }
        let domain = ErrorDomain::STORAGE;
        self.source.check(self.type_)?;
        if self.name.is_none() {
            self.name.clone_from(&self.source.name);
        }
        let name = self.name.as_deref().filter(|n| !n.is_empty());
        let name = name.ok_or_else(|| domain.xml_error("missing pool source name element"))?.to_owned();
        let name = name.as_str();
        check_name(name, domain)?;
        self.xmlns_fs = namespace_of("fs").filter(|_| self.mount_opts.is_some());
        self.xmlns_rbd = namespace_of("rbd").filter(|_| self.config_opts.is_some());
        self.uuid.get_or_insert_with(Uuid::new_v4);
        for size in [&mut self.capacity, &mut self.allocation, &mut self.available] {
            *size = Some(Bytes(0));
        }
        let needs_path = !matches!(
            self.type_,
            PoolType::Logical
                | PoolType::Rbd
                | PoolType::Sheepdog
                | PoolType::Gluster
                | PoolType::Zfs
                | PoolType::IscsiDirect
        );
        if matches!(options.flavor, Flavor::Test) {
            self.capacity = Some(Bytes(TEST_POOL_SIZE));
            self.available = Some(Bytes(TEST_POOL_SIZE));
        }
        if let Some(dir) = self.source.dir.as_mut().and_then(|dir| dir.path.as_mut()) {
            *dir = sanitize(dir);
        }
        if self.type_ == PoolType::Logical {
            let group = self.source.name.get_or_insert_with(|| name.to_owned()).clone();
            self.source.default_format("lvm2");
            self.target.get_or_insert_default().path = Some(format!("/dev/{group}"));
        }
        if matches!(self.type_, PoolType::Fs | PoolType::Netfs) {
            self.source.default_format("auto");
        }
        if let Some(adapter) = self.source.adapter.as_mut().filter(|adapter| adapter.name.is_some()) {
            adapter.type_.get_or_insert_with(|| "scsi_host".to_owned());
        }
        let by_host = matches!(self.type_, PoolType::Netfs | PoolType::Iscsi | PoolType::Gluster);
        if by_host && self.source.hosts.is_empty() {
            return Err(domain.xml_error("missing storage pool source host name"));
        }
        let dir = self.source.dir.as_ref().and_then(|dir| dir.path.as_deref()).unwrap_or_default();
        if self.type_ == PoolType::Netfs && dir.is_empty() {
            return Err(domain.xml_error("missing storage pool source path"));
        }
        if self.type_ == PoolType::Fs && self.source.devices.is_empty() {
            return Err(domain.xml_error("missing storage pool source device name"));
        }
        let target = self.target.get_or_insert_with(PoolTarget::default);
        match &mut target.path {
            Some(path) => *path = sanitize(path),
            None if needs_path => return Err(domain.xml_error("missing storage pool target path")),
            None => {}
        }
        if let Some(permissions) = &mut target.permissions {
            if permissions.mode.as_deref().is_some_and(|mode| u32::from_str_radix(mode, 8).is_err()) {
                return Err(domain.xml_error("malformed octal mode"));
            }
            permissions.owner = permissions.owner.filter(|owner| *owner != -1);
            permissions.group = permissions.group.filter(|group| *group != -1);
        }
        Ok(())
    }
}

/// Formats of volumes that are files.
const FILE_FORMATS: &[&str] = &[
    "none", "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow", "qcow",
    "qcow2", "qed", "vmdk", "luks",
];

impl StorageVol {
    pub(crate) fn complete(&mut self, options: &ParseOptions) -> Result<(), VirtError> {
        if matches!(options.flavor, Flavor::Plain) {
            return Ok(());
        }
        let domain = ErrorDomain::STORAGE;
        let name = self.name.as_deref().filter(|n| !n.is_empty());
        name.ok_or_else(|| domain.xml_error("missing volume name element"))?;
        if self.capacity.is_none() && self.backing_store.is_none() {
            return Err(domain.xml_error("missing capacity element"));
        }
        self.allocation = self.allocation.or(self.capacity);
        let target = self.target.get_or_insert_with(VolTarget::default);
        if target.features.is_some() {
            target.compat.get_or_insert_with(|| "1.1".to_owned());
        }
        let format = target.format.get_or_insert_with(|| PoolFormat { type_: "raw".to_owned() });
        if self.type_ == VolType::File && !FILE_FORMATS.contains(&format.type_.as_str()) {
            return Err(
                domain.config_unsupported(format_args!("unknown volume format type {}", format.type_))
            );
        }
        Ok(())
    }
}

impl Secret {
    pub(crate) fn complete(&mut self, options: &ParseOptions) -> Result<(), VirtError> {
        if !matches!(options.flavor, Flavor::Plain) {
            self.uuid.get_or_insert_with(Uuid::new_v4);
        }
        let missing = |text: &str| Err(ErrorDomain::SECRET.internal_error(text));
        match &self.usage {
            Some(usage) if usage.id().is_none() => match usage.type_ {
                SecretUsageType::Volume => missing("volume usage specified, but volume path is missing"),
                SecretUsageType::Ceph => missing("Ceph usage specified, but name is missing"),
                SecretUsageType::Iscsi => missing("iSCSI usage specified, but target is missing"),
                SecretUsageType::Tls => missing("TLS usage specified, but name is missing"),
                SecretUsageType::Vtpm => missing("vTPM usage specified, but name is missing"),
            },
            _ => Ok(()),
        }
    }
}

impl Interface {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "all definitions are completed alike")]
    pub(crate) fn complete(&mut self, _options: &ParseOptions) -> Result<(), VirtError> {
        let domain = ErrorDomain::INTERFACE;
        if self.name.is_none() {
            return Err(domain.xml_error("interface has no name"));
        }
        let there = match self.type_ {
            HostInterfaceType::Ethernet => true,
            HostInterfaceType::Bridge => self.bridge.is_some(),
            HostInterfaceType::Bond => self.bond.is_some(),
            HostInterfaceType::Vlan => self.vlan.is_some(),
        };
        if !there {
            let text = format_args!("{0} interface misses the {0} element", self.type_);
            return Err(domain.xml_error(text));
        }
        Ok(())
    }
}

impl NodeDevice {
    pub(crate) fn complete(&mut self, options: &ParseOptions) -> Result<(), VirtError> {
        if options.validate && self.name.is_none() {
            return Err(schema::invalid("nodedev", "device", None));
        }
        // Who asks for a device does not say what it is called.
        let asked = matches!(options.flavor, Flavor::Qemu(_));
        let name = self.name.as_deref().filter(|_| !asked).unwrap_or("new device");
        if self.capabilities.is_empty() {
            let text = format_args!("no device capabilities for '{name}'");
            return Err(ErrorDomain::NODEDEV.internal_error(text));
        }
        self.capabilities.iter().try_for_each(|capability| capability.check(name))
    }
}
