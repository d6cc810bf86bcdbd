//! Shared folders.

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::complete::check;
use crate::domain::disk::{AccessMode, Filesystem, FilesystemDriverType, FilesystemType};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// What shows of a shared folder as it is read.
pub(super) fn read(shared: &Filesystem) -> Result {
    let modes = [("fmode", &shared.fmode), ("dmode", &shared.dmode)];
    let octal = |mode: &Option<String>| mode.as_deref().is_none_or(|m| u32::from_str_radix(m, 8).is_ok());
    let wrong = modes.into_iter().find(|(_, mode)| !octal(mode));
    refuse! {
        wrong.is_some() => XML.xml_error(
            "Invalid value for attribute '{}' in element 'filesystem': '{}'. Expected non-negative integer value",
            wrong.map(|(name, _)| name).unwrap_or_default(),
            wrong.and_then(|(_, mode)| mode.as_deref()).unwrap_or_default());
    }
    check::filesystem(shared)
}

/// A shared folder has a name in the guest.
pub(super) fn check(around: &Around<'_>, shared: &Filesystem) -> Result {
    fn target(shared: &Filesystem) -> &str {
        shared.target.as_ref().and_then(|target| target.dir.as_deref()).unwrap_or_default()
    }
    let all = around.domain.devices.filesystems.iter();
    let twice = is_virtiofs(shared)
        && all.filter(|other| is_virtiofs(other) && target(other) == target(shared)).count() > 1;
    refuse! {
        target(shared).is_empty() => DOMAIN.no_target("{}", check::shown(shared).unwrap_or_default());
        shared.info.boot.is_some() && !is_virtiofs(shared) =>
            DOMAIN.config_unsupported("boot order is only supported for virtiofs");
        twice => DOMAIN.config_unsupported("filesystem target '{}' specified twice", target(shared));
    }
    Ok(())
}

fn is_virtiofs(shared: &Filesystem) -> bool {
    shared.driver.as_ref().and_then(|driver| driver.type_) == Some(FilesystemDriverType::Virtiofs)
}

/// What QEMU could not do with a shared folder.
pub(super) fn check_qemu(around: &Around<'_>, shared: &Filesystem) -> Result {
    use FilesystemDriverType::{Handle, Mtp, Path, Virtiofs};
    let driver = shared.driver.as_ref();
    let kind = driver.and_then(|driver| driver.type_);
    let virtiofs = is_virtiofs(shared);
    let modes = shared.fmode.is_some() || shared.dmode.is_some();
    refuse! {
        shared.space_hard_limit.is_some() || shared.space_soft_limit.is_some() =>
            QEMU.config_unsupported("filesystem usage limits are not supported with QEMU");
        shared.type_ != FilesystemType::Mount => QEMU.config_unsupported("only supports mount filesystem type");
        kind.is_some_and(|kind| !matches!(kind, Path | Handle | Mtp | Virtiofs)) =>
            QEMU.config_unsupported("Filesystem driver type not supported");
        kind == Some(Mtp) && shared.accessmode.is_some_and(|mode| mode != AccessMode::Passthrough) =>
            QEMU.config_unsupported("mtp only supports passthrough accessmode");
        virtiofs && driver.is_some_and(|driver| driver.format.is_some()) =>
            QEMU.config_unsupported("virtiofs does not support format");
        virtiofs && driver.is_some_and(|driver| driver.wrpolicy.is_some()) =>
            QEMU.config_unsupported("virtiofs does not support wrpolicy");
        virtiofs && shared.model.is_some() => QEMU.config_unsupported("virtiofs does not support model");
        virtiofs && shared.multidevs.is_some() => QEMU.config_unsupported("virtiofs does not support multidevs");
        virtiofs && shared.accessmode.is_some_and(|mode| mode != AccessMode::Passthrough) =>
            QEMU.config_unsupported("virtiofs only supports passthrough accessmode");
        !virtiofs && modes && shared.accessmode.is_some_and(|mode| mode != AccessMode::Mapped) =>
            QEMU.config_unsupported("fmode and dmode must be used with accessmode=mapped");
        virtiofs && !around.shares_memory() => QEMU.config_unsupported("'virtiofs' requires shared memory");
    }
    Ok(())
}
