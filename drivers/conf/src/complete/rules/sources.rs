//! Who may ask for storage, and how it is encrypted.

use virtwire_protocol::ErrorDomain;

use super::Result;
use crate::domain::disk::{
    Disk, DiskSnapshot, DiskSource, Encryption, SecretReference, StorageAuth, StorageProtocol, StorageType,
};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const NONE: ErrorDomain = ErrorDomain::NONE;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const STORAGE: ErrorDomain = ErrorDomain::STORAGE;

/// What secrets are for.
const USAGES: [&str; 6] = ["none", "volume", "ceph", "iscsi", "tls", "vtpm"];

/// What shows as it is read.
pub(super) fn read(disk: &Disk) -> Result {
    let source = disk.source.as_ref();
    let protocol = source.and_then(|source| source.protocol).filter(|_| disk.type_ == StorageType::Network);
    source.filter(|source| source.speaks_http()).map_or(Ok(()), cookies)?;
    disk.auth
        .iter()
        .chain(source.and_then(|source| source.auth.as_ref()))
        .try_for_each(|it| auth(it, protocol))?;
    disk.encryption
        .iter()
        .chain(source.and_then(|source| source.encryption.as_ref()))
        .try_for_each(encryption)
}

/// What a server that is asked over HTTP is told of itself.
fn cookies(source: &DiskSource) -> Result {
    let mut names = std::collections::BTreeSet::new();
    for cookie in source.cookies.iter().flat_map(|cookies| &cookies.cookie) {
        let (name, value) = (cookie.name.as_str(), cookie.value.as_str());
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let outside = |c: char| !c.is_ascii_graphic() || "\",;\\".contains(c);
        let separates = |c: char| !c.is_ascii_graphic() || "()<>@,;:\\\"/[]?={}".contains(c);
        refuse! {
            value.is_empty() => DOMAIN.xml_error("missing value for cookie '{name}'");
            name.contains(separates) => STORAGE.xml_error("cookie name '{name}' contains invalid characters");
            quoted.unwrap_or(value).contains(outside) =>
                STORAGE.xml_error("value of cookie '{name}' contains invalid characters");
            !names.insert(name) => STORAGE.xml_error("duplicate cookie '{name}'");
        }
    }
    Ok(())
}

/// A secret is named in one way.
fn secret(secret: &SecretReference) -> Result {
    refuse! {
        secret.uuid.is_none() && secret.usage.is_none() => NONE.xml_error("missing secret uuid or usage attribute");
        secret.uuid.is_some() && secret.usage.is_some() => NONE.xml_error("either secret uuid or usage expected");
    }
    Ok(())
}

fn auth(auth: &StorageAuth, protocol: Option<StorageProtocol>) -> Result {
    let kind = auth.secret.as_ref().map(|secret| secret.type_.as_deref().unwrap_or("<null>"));
    let wanted = match protocol {
        Some(StorageProtocol::Rbd) => Some("ceph"),
        Some(StorageProtocol::Iscsi) => Some("iscsi"),
        _ => None,
    };
    refuse! {
        auth.username.as_deref().unwrap_or_default().is_empty() => STORAGE.xml_error("missing username for auth");
        auth.secret.is_none() => STORAGE.xml_error("Missing <secret> element in auth");
    }
    auth.secret.iter().try_for_each(secret)?;
    let kind = kind.unwrap_or_default();
    refuse! {
        !USAGES.contains(&kind) => DOMAIN.config_unsupported("unknown secret type '{kind}'");
        wanted.is_some_and(|wanted| wanted != kind) => DOMAIN.config_unsupported("invalid secret type '{kind}'");
    }
    Ok(())
}

fn encryption(encryption: &Encryption) -> Result {
    for reference in &encryption.secret {
        let kind = reference.type_.as_deref();
        refuse! {
            kind.is_none() => STORAGE.xml_error("unknown volume encryption secret type");
            kind != Some("passphrase") => STORAGE.config_unsupported(
                "unknown volume encryption secret type {}", kind.unwrap_or_default());
        }
        secret(reference)?;
    }
    Ok(())
}

/// Everything in this file that no driver could do.
pub(super) fn check(disk: &Disk) -> Result {
    use StorageProtocol::{Gluster, Nbd, Nfs, Tftp, Vxhs};
    let source = disk.source.as_ref();
    let protocol = source.and_then(|source| source.protocol).unwrap_or_default();
    let asked = disk.auth.is_some() || source.is_some_and(|source| source.auth.is_some());
    let nobody = matches!(protocol, Gluster | Nbd | Nfs | Tftp | Vxhs);
    refuse! {
        disk.type_ == StorageType::Network && asked && nobody => DOMAIN.config_unsupported(
            "authentication is not supported for protocol '{}'", protocol.as_str());
        disk.type_ == StorageType::Nvme && source.is_some_and(|source| source.namespace == Some(0)) =>
            DOMAIN.config_unsupported("NVMe namespace can't be zero");
    }
    if disk.type_ == StorageType::Vhostuser { vhostuser(disk) } else { Ok(()) }
}

/// Another process has the disk: most that is said of one is that one's to decide.
fn vhostuser(disk: &Disk) -> Result {
    let target = disk.target.clone().unwrap_or_default();
    let driver = disk.driver.clone().unwrap_or_default();
    let read_only = disk.readonly || disk.device == crate::domain::disk::DiskDevice::Cdrom;
    let said = [
        ("cache", driver.cache.is_some()),
        ("error_policy", driver.error_policy.is_some() || driver.rerror_policy.is_some()),
        ("io", driver.io.is_some()),
        ("ioeventfd", driver.ioeventfd.is_some()),
        ("copy_on_read", driver.copy_on_read.is_some()),
        ("discard", driver.discard.is_some()),
        ("iothread", driver.iothread.is_some()),
        ("detect_zeroes", driver.detect_zeroes.is_some()),
        ("readonly", read_only),
        ("shareable", disk.shareable),
        ("transient", disk.transient.is_some()),
        ("serial", disk.serial.is_some()),
        ("wwn", disk.wwn.is_some()),
        ("vendor", disk.vendor.is_some()),
        ("product", disk.product.is_some()),
        ("geometry", disk.geometry.is_some()),
        ("blockio", disk.blockio.is_some()),
        ("iotune", disk.iotune.is_some()),
        (
            "encryption",
            disk.encryption.is_some() || disk.source.iter().any(|source| source.encryption.is_some()),
        ),
        ("backingStore", disk.backing_store.is_some()),
    ];
    let first = said.into_iter().find(|(_, said)| *said).map(|(name, _)| name);
    refuse! {
        target.bus != Some(crate::domain::disk::DiskBus::Virtio) =>
            DOMAIN.config_unsupported("vhostuser disk supports only virtio bus");
        !matches!(disk.snapshot, None | Some(DiskSnapshot::No)) =>
            DOMAIN.config_unsupported("only snapshot=no is supported with vhostuser disk");
        first.is_some() => DOMAIN.config_unsupported(
            "{} is not supported with vhostuser disk", first.unwrap_or_default());
    }
    Ok(())
}

/// How QEMU can decrypt an image of `format`.
pub(super) fn check_qemu(disk: &Disk, format: &str) -> Result {
    let none = DiskSource::default();
    let source = disk.source.as_ref().unwrap_or(&none);
    let Some(encryption) = disk.encryption.as_ref().or(source.encryption.as_ref()) else { return Ok(()) };
    let rbd = disk.type_ == StorageType::Network && source.protocol == Some(StorageProtocol::Rbd);
    let librbd = encryption.engine.as_deref() == Some("librbd");
    let kind = encryption.format.as_str();
    refuse! {
        matches!(kind, "default" | "qcow") => QEMU.config_unsupported("old qcow/qcow2 encryption is not supported");
        librbd && !rbd => QEMU.config_unsupported("librbd encryption is supported only with RBD backed disks");
        !librbd && kind != "luks" => QEMU.config_unsupported(
            "'{kind}' is currently not supported by the qemu encryption engine");
        !librbd && encryption.secret.len() > 1 =>
            QEMU.config_unsupported("qemu encryption engine expects only a single secret");
        !librbd && !matches!(format, "raw" | "qcow2") => QEMU.config_unsupported(
            "encryption is supported only with 'raw' and 'qcow2' image format");
    }
    Ok(())
}
