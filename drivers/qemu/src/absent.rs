//! What a guest of this driver does not have yet, said in libvirt's words: an agent, jobs.

use virtwire_conf::Domain;
use virtwire_conf::domain::chardev::Channel;
use virtwire_conf::domain::device::DeviceInfo;
use virtwire_protocol::VirtError;
use virtwire_protocol::qemu::{DomainAgentCommandArgs, DomainAgentCommandRet};
use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::guest::Guest;

/// Functions that the guest agent would serve, and why it does not.
macro_rules! agent {
    ($why:ident: $($name:ident($args:ty) $(-> $ret:ty)?;)*) => {
        $(pub(crate) async fn $name(driver: &Qemu, args: $args) -> Result<or_unit!($($ret)?)> {
            Err($why(&*driver.guest(&args.dom)?))
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

/// Why the agent of a guest cannot be asked: nobody in a paused one would answer.
fn no_agent_of(guest: &Guest) -> VirtError {
    match guest.live() {
        Ok(_) if !guest.lock().state.runs() => QEMU.operation_invalid("domain is not running"),
        Ok(live) => no_agent(&live.domain),
        Err(error) => error,
    }
}

/// The same where the driver itself says that a guest is off.
fn no_agent_by_driver(guest: &Guest) -> VirtError {
    let off = |_| QEMU.operation_invalid("domain is not running");
    guest.live().map_or_else(off, |_| no_agent_of(guest))
}

/// Why the agent of a running guest cannot be asked.
pub(crate) fn no_agent(domain: &Domain) -> VirtError {
    if has_agent(domain) {
        QEMU.agent_unresponsive("QEMU guest agent is not connected")
    } else {
        QEMU.argument_unsupported("QEMU guest agent is not configured")
    }
}

/// The ports of a guest that its agent would have open.
pub(crate) fn agent_ports(domain: &Domain) -> impl Iterator<Item = &DeviceInfo> {
    let named = |channel: &&Channel| {
        channel.target.as_ref().is_some_and(|target| target.name.as_deref() == Some(AGENT_PORT))
    };
    domain.devices.channels.iter().filter(named).map(|channel| &channel.info)
}

/// Whether a guest could have an agent.
pub(crate) fn has_agent(domain: &Domain) -> bool {
    agent_ports(domain).next().is_some()
}

/// The name of the agent's port.
const AGENT_PORT: &str = "org.qemu.guest_agent.0";

agent! { no_agent_of:
    time(DomainGetTimeArgs) -> DomainGetTimeRet;
    set_time(DomainSetTimeArgs);
    hostname(DomainGetHostnameArgs) -> DomainGetHostnameRet;
    fsinfo(DomainGetFsinfoArgs) -> DomainGetFsinfoRet;
    fsfreeze(DomainFsfreezeArgs) -> DomainFsfreezeRet;
    fsthaw(DomainFsthawArgs) -> DomainFsthawRet;
    guest_vcpus(DomainGetGuestVcpusArgs) -> DomainGetGuestVcpusRet;
    set_user_password(DomainSetUserPasswordArgs);
    pm_suspend(DomainPmSuspendForDurationArgs);
    ssh_keys(DomainAuthorizedSshKeysGetArgs) -> DomainAuthorizedSshKeysGetRet;
}

agent! { no_agent_by_driver:
    fstrim(DomainFstrimArgs);
    guest_info(DomainGetGuestInfoArgs) -> DomainGetGuestInfoRet;
}

pub(crate) async fn interface_addresses(
    driver: &Qemu,
    args: DomainInterfaceAddressesArgs,
) -> Result<DomainInterfaceAddressesRet> {
    /// `VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT`
    const AGENT: u32 = 1;
    let guest = driver.guest(&args.dom)?;
    guest.live()?;
    if args.source == AGENT {
        return Err(no_agent_of(&guest));
    }
    Ok(DomainInterfaceAddressesRet::default())
}

pub(crate) async fn agent_command(
    driver: &Qemu,
    args: DomainAgentCommandArgs,
) -> Result<DomainAgentCommandRet> {
    Err(no_agent(&driver.guest(&args.dom)?.live()?.domain))
}

pub(crate) async fn sev_info(_: &Qemu, _: NodeGetSevInfoArgs) -> Result<NodeGetSevInfoRet> {
    Err(QEMU.operation_unsupported("QEMU does not support SEV guest"))
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
    disk_errors(DomainGetDiskErrorsArgs) -> DomainGetDiskErrorsRet;
    launch_security(DomainGetLaunchSecurityInfoArgs) -> DomainGetLaunchSecurityInfoRet;
}

pub(crate) async fn abort_job(driver: &Qemu, args: DomainAbortJobArgs) -> Result<()> {
    driver.guest(&args.dom)?.live()?;
    Err(QEMU.operation_invalid("no job is active on the domain"))
}

pub(crate) async fn sysinfo(_: &Qemu, _: ConnectGetSysinfoArgs) -> Result<ConnectGetSysinfoRet> {
    Err(QEMU.config_unsupported("Host SMBIOS information is not available"))
}
