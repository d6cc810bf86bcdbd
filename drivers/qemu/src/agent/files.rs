//! The guest's file systems.

use serde::Deserialize;
use serde_json::{Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::device::{Address, PciAddress};
use virtwire_conf::domain::misc::ControllerType;
use virtwire_protocol::remote::*;

use super::{ask, bounded, check, check_by_driver};
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::Guest;

/// A file system as the agent tells of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FileSystem {
    pub(super) name: String,
    pub(super) mountpoint: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) total_bytes: Option<u64>,
    pub(super) used_bytes: Option<u64>,
    #[serde(default)]
    pub(super) disk: Vec<Place>,
}

/// Where in the guest a disk is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Place {
    pub(super) serial: Option<String>,
    pub(super) dev: Option<String>,
    #[serde(default)]
    pub(super) bus_type: String,
    #[serde(default)]
    bus: i64,
    #[serde(default)]
    target: i64,
    #[serde(default)]
    unit: i64,
    pci_controller: Option<Pci>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Pci {
    domain: i64,
    bus: i64,
    slot: i64,
    function: i64,
}

impl Pci {
    fn is(&self, address: &PciAddress) -> bool {
        let parts = [
            (self.domain, address.domain.map(|hex| hex.0)),
            (self.bus, address.bus.map(|hex| hex.0)),
            (self.slot, address.slot.map(|hex| hex.0)),
            (self.function, address.function.map(|hex| hex.0)),
        ];
        parts.into_iter().all(|(said, known)| u64::try_from(said).ok() == Some(known.unwrap_or_default()))
    }
}

impl Place {
    /// The host's name of the disk, if there is one at this place.
    pub(super) fn alias<'d>(&self, domain: &'d Domain) -> Option<&'d str> {
        let pci = self.pci_controller.as_ref()?;
        let controller = |index: u32| {
            domain.devices.controllers.iter().any(|controller| {
                controller.index.and_then(|own| u32::try_from(own).ok()) == Some(index)
                    && controller.type_ != ControllerType::Pci
                    && matches!(&controller.info.address, Some(Address::Pci(at)) if pci.is(at))
            })
        };
        let here = |address: &Address| match address {
            Address::Pci(at) => pci.is(at),
            Address::Drive(at) => {
                let parts = [(self.bus, at.bus), (self.target, at.target), (self.unit, at.unit)];
                parts.into_iter().all(|(said, known)| said == i64::from(known)) && controller(at.controller)
            }
            _ => false,
        };
        let mut disks = domain.devices.disks.iter();
        disks.find(|disk| disk.info.address.as_ref().is_some_and(here)).map(target)
    }
}

/// The file systems, the last mounted first.
pub(super) async fn list(guest: &Guest, procedure: &'static str) -> Result<Vec<FileSystem>> {
    let mut all: Vec<FileSystem> = ask(guest, procedure, "guest-get-fsinfo", Value::Null).await?;
    all.reverse();
    Ok(all)
}

pub(crate) async fn fsinfo(driver: &Qemu, args: DomainGetFsinfoArgs) -> Result<DomainGetFsinfoRet> {
    check_flags(args.flags, 0, "qemuDomainGetFSInfo")?;
    let guest = driver.guest(&args.dom)?;
    let all = list(&guest, "DomainGetFSInfo").await?;
    let all = bounded(all, REMOTE_DOMAIN_FSINFO_MAX, "mountpoints")?;
    let domain = guest.live()?.domain;
    let info = all.into_iter().map(|it| {
        let disks = bounded(it.disk, REMOTE_DOMAIN_FSINFO_DISKS_MAX, "disks of a mountpoint")?;
        Ok(DomainFsinfo {
            mountpoint: it.mountpoint.as_str().into(),
            name: it.name.as_str().into(),
            fstype: it.kind.as_str().into(),
            dev_aliases: disks.iter().filter_map(|disk| Some(disk.alias(&domain)?.into())).collect(),
        })
    });
    let info = info.collect::<Result<Vec<_>>>()?;
    let ret = info.len() as u32;
    Ok(DomainGetFsinfoRet { info, ret })
}

/// Has everything that waits to be written be written, and nothing more; how many file systems that concerns.
///
/// # Errors
/// What the agent says.
pub(crate) async fn freeze_all(guest: &Guest, procedure: &'static str) -> Result<i32> {
    ask(guest, procedure, "guest-fsfreeze-freeze", Value::Null).await
}

/// Lets the guest write again.
///
/// # Errors
/// What the agent says.
pub(crate) async fn thaw_all(guest: &Guest, procedure: &'static str) -> Result<i32> {
    ask(guest, procedure, "guest-fsfreeze-thaw", Value::Null).await
}

pub(crate) async fn fsfreeze(driver: &Qemu, args: DomainFsfreezeArgs) -> Result<DomainFsfreezeRet> {
    check_flags(args.flags, 0, "qemuDomainFSFreeze")?;
    let guest = driver.guest(&args.dom)?;
    let procedure = "DomainFSFreeze";
    if args.mountpoints.is_empty() {
        return Ok(DomainFsfreezeRet { filesystems: freeze_all(&guest, procedure).await? });
    }
    let places: Vec<_> = args.mountpoints.iter().map(|place| place.to_string()).collect();
    let some = json!({"mountpoints": places});
    let filesystems = ask(&guest, procedure, "guest-fsfreeze-freeze-list", some).await?;
    Ok(DomainFsfreezeRet { filesystems })
}

pub(crate) async fn fsthaw(driver: &Qemu, args: DomainFsthawArgs) -> Result<DomainFsthawRet> {
    check_flags(args.flags, 0, "qemuDomainFSThaw")?;
    let guest = driver.guest(&args.dom)?;
    if !args.mountpoints.is_empty() {
        return Err(QEMU.argument_unsupported("specifying mountpoints is not supported"));
    }
    check(&guest)?;
    Ok(DomainFsthawRet { filesystems: thaw_all(&guest, "DomainFSThaw").await? })
}

pub(crate) async fn fstrim(driver: &Qemu, args: DomainFstrimArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainFSTrim")?;
    let guest = driver.guest(&args.dom)?;
    if args.mount_point.is_some() {
        return Err(QEMU.argument_unsupported("Specifying mount point is not supported for now"));
    }
    check_by_driver(&guest)?;
    let minimum = json!({"minimum": args.minimum});
    ask::<Value>(&guest, "DomainFSTrim", "guest-fstrim", minimum).await.map(drop)
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;

    use super::*;

    const GUEST: &str = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>\
        <disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/>\
        <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/></disk>\
        <disk type='file'><source file='/b'/><target dev='sdb' bus='scsi'/>\
        <address type='drive' controller='1' bus='0' target='0' unit='3'/></disk>\
        <controller type='scsi' index='1' model='virtio-scsi'>\
        <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/></controller></devices></domain>";

    #[test]
    fn disks_are_found_by_their_places() {
        let domain = Domain::parse(GUEST, &ParseOptions::default()).unwrap();
        let alias = |slot: i64, unit: i64| {
            let pci_controller = Some(Pci { slot, ..Pci::default() });
            Place { unit, pci_controller, ..Place::default() }.alias(&domain)
        };
        assert_eq!((alias(2, 0), alias(5, 3)), (Some("vda"), Some("sdb")));
        assert_eq!((alias(5, 2), alias(7, 0), alias(-1, 0)), (None, None, None));
    }
}
