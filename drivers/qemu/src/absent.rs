//! What a guest of this driver does not have yet, said in libvirt's words: an agent, snapshots, checkpoints, jobs.

use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::{QEMU, Result};

/// Functions that the guest agent would serve: no guest has one configured.
macro_rules! agent {
    ($($name:ident($args:ty) $(-> $ret:ty)?;)*) => {
        $(pub(crate) async fn $name(driver: &Qemu, args: $args) -> Result<or_unit!($($ret)?)> {
            driver.guest(&args.dom)?.live()?;
            Err(no_agent())
        })*
    };
}

macro_rules! or_unit {
    () => {
        ()
    };
    ($ret:ty) => {
        $ret
    };
}

fn no_agent() -> VirtError {
    QEMU.argument_unsupported("QEMU guest agent is not configured")
}

agent! {
    time(DomainGetTimeArgs) -> DomainGetTimeRet;
    set_time(DomainSetTimeArgs);
    hostname(DomainGetHostnameArgs) -> DomainGetHostnameRet;
    fsinfo(DomainGetFsinfoArgs) -> DomainGetFsinfoRet;
    fsfreeze(DomainFsfreezeArgs) -> DomainFsfreezeRet;
    fsthaw(DomainFsthawArgs) -> DomainFsthawRet;
    fstrim(DomainFstrimArgs);
    guest_info(DomainGetGuestInfoArgs) -> DomainGetGuestInfoRet;
    guest_vcpus(DomainGetGuestVcpusArgs) -> DomainGetGuestVcpusRet;
    set_user_password(DomainSetUserPasswordArgs);
    pm_suspend(DomainPmSuspendForDurationArgs);
    ssh_keys(DomainAuthorizedSshKeysGetArgs) -> DomainAuthorizedSshKeysGetRet;
}

pub(crate) async fn interface_addresses(
    driver: &Qemu,
    args: DomainInterfaceAddressesArgs,
) -> Result<DomainInterfaceAddressesRet> {
    /// `VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT`
    const AGENT: u32 = 1;
    driver.guest(&args.dom)?.live()?;
    if args.source == AGENT { Err(no_agent()) } else { Ok(DomainInterfaceAddressesRet::default()) }
}

/// Lists that are empty as long as nothing can be put into them.
macro_rules! empty {
    ($($name:ident($args:ty) -> $ret:ty;)*) => {
        $(pub(crate) async fn $name(driver: &Qemu, args: $args) -> Result<$ret> {
            driver.guest(&args.dom)?;
            Ok(<$ret>::default())
        })*
    };
}

empty! {
    snapshot_num(DomainSnapshotNumArgs) -> DomainSnapshotNumRet;
    snapshot_names(DomainSnapshotListNamesArgs) -> DomainSnapshotListNamesRet;
    snapshots(DomainListAllSnapshotsArgs) -> DomainListAllSnapshotsRet;
    has_current_snapshot(DomainHasCurrentSnapshotArgs) -> DomainHasCurrentSnapshotRet;
    checkpoints(DomainListAllCheckpointsArgs) -> DomainListAllCheckpointsRet;
    disk_errors(DomainGetDiskErrorsArgs) -> DomainGetDiskErrorsRet;
    iothreads(DomainGetIothreadInfoArgs) -> DomainGetIothreadInfoRet;
}

pub(crate) async fn current_snapshot(
    driver: &Qemu,
    args: DomainSnapshotCurrentArgs,
) -> Result<DomainSnapshotCurrentRet> {
    driver.guest(&args.dom)?;
    Err(QEMU.no_domain_snapshot("the domain does not have a current snapshot"))
}

pub(crate) async fn abort_job(driver: &Qemu, args: DomainAbortJobArgs) -> Result<()> {
    driver.guest(&args.dom)?.live()?;
    Err(QEMU.operation_invalid("no job is active on the domain"))
}

pub(crate) async fn sysinfo(_: &Qemu, _: ConnectGetSysinfoArgs) -> Result<ConnectGetSysinfoRet> {
    Err(QEMU.config_unsupported("Host SMBIOS information is not available"))
}

pub(crate) async fn managed_save_remove(driver: &Qemu, args: DomainManagedSaveRemoveArgs) -> Result<()> {
    // There is never one to remove.
    driver.guest(&args.dom).map(drop)
}
