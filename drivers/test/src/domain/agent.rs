//! What needs somebody inside the guest: clock, keys, signals, file systems.

use virtwire_protocol::remote as wire;

use super::guest::Guest;
use super::state::State;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;

/// Every guest has these file systems: where they are mounted, and the partition.
const FILE_SYSTEMS: [(&str, u32); 2] = [("/", 1), ("/boot", 2)];

pub(crate) fn hostname(
    host: &mut Host,
    args: wire::DomainGetHostnameArgs,
) -> Result<wire::DomainGetHostnameRet> {
    check_flags(args.flags, 0, "testDomainGetHostname")?;
    let guest = host.guest(&args.dom)?;
    guest.check_running()?;
    Ok(wire::DomainGetHostnameRet { hostname: format!("{}host", args.dom.name).into() })
}

pub(crate) fn time(host: &mut Host, args: wire::DomainGetTimeArgs) -> Result<wire::DomainGetTimeRet> {
    check_flags(args.flags, 0, "testDomainGetTime")?;
    let guest = host.guest(&args.dom)?;
    if guest.status.state != State::RUNNING {
        return Err(TEST.operation_invalid("domain is not running"));
    }
    let (seconds, nseconds) = guest.time;
    Ok(wire::DomainGetTimeRet { seconds, nseconds })
}

pub(crate) fn set_time(host: &mut Host, args: wire::DomainSetTimeArgs) -> Result<()> {
    const SYNC: u32 = 1;
    check_flags(args.flags, SYNC, "testDomainSetTime")?;
    let guest = host.guest_mut(&args.dom)?;
    guest.check_running()?;
    guest.time = (args.seconds, args.nseconds);
    Ok(())
}

/// The disk that holds the file systems.
fn root_disk(guest: &Guest) -> Option<String> {
    let disk = guest.definition().domain().devices.disks.first()?;
    disk.target.as_ref()?.dev.clone()
}

pub(crate) fn fs_info(host: &mut Host, args: wire::DomainGetFsinfoArgs) -> Result<wire::DomainGetFsinfoRet> {
    check_flags(args.flags, 0, "testDomainGetFSInfo")?;
    let guest = host.guest(&args.dom)?;
    guest.check_running()?;
    let info: Vec<_> = root_disk(guest)
        .into_iter()
        .flat_map(|disk| {
            FILE_SYSTEMS.map(|(mountpoint, number)| wire::DomainFsinfo {
                mountpoint: mountpoint.into(),
                name: format!("{disk}{number}").into(),
                fstype: "ext4".into(),
                dev_aliases: vec![disk.as_str().into()],
            })
        })
        .collect();
    let ret = info.len() as u32;
    Ok(wire::DomainGetFsinfoRet { info, ret })
}

/// Which file systems are mounted there; no name means all.
fn mounted(names: &[virtwire_protocol::XdrString]) -> Result<[bool; 2]> {
    if names.is_empty() {
        return Ok([true; 2]);
    }
    if let Some(name) = names.iter().find(|name| !FILE_SYSTEMS.iter().any(|(mounted, _)| **name == *mounted))
    {
        return Err(TEST.operation_invalid(format_args!("mount point not found: {name}")));
    }
    Ok(FILE_SYSTEMS.map(|(mounted, _)| names.iter().any(|name| *name == mounted)))
}

/// Freezes or thaws; tells how many changed.
fn set_frozen(
    host: &mut Host,
    dom: &wire::NonnullDomain,
    names: &[virtwire_protocol::XdrString],
    to: bool,
) -> Result<i32> {
    let guest = host.guest_mut(dom)?;
    guest.check_running()?;
    let wanted = mounted(names)?;
    let mut changed = 0;
    for (frozen, wanted) in guest.frozen.iter_mut().zip(wanted) {
        if wanted && *frozen != to {
            *frozen = to;
            changed += 1;
        }
    }
    Ok(changed)
}

pub(crate) fn freeze(host: &mut Host, args: wire::DomainFsfreezeArgs) -> Result<wire::DomainFsfreezeRet> {
    check_flags(args.flags, 0, "testDomainFSFreeze")?;
    Ok(wire::DomainFsfreezeRet { filesystems: set_frozen(host, &args.dom, &args.mountpoints, true)? })
}

pub(crate) fn thaw(host: &mut Host, args: wire::DomainFsthawArgs) -> Result<wire::DomainFsthawRet> {
    check_flags(args.flags, 0, "testDomainFSThaw")?;
    Ok(wire::DomainFsthawRet { filesystems: set_frozen(host, &args.dom, &args.mountpoints, false)? })
}

pub(crate) fn trim(host: &mut Host, args: wire::DomainFstrimArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainFSTrim")?;
    host.guest(&args.dom)?.check_running()?;
    mounted(args.mount_point.as_slice()).map(drop)
}

/// `virKeycodeSet`
const CODESETS: [&str; 10] =
    ["linux", "xt", "atset1", "atset2", "atset3", "os_x", "xt_kbd", "usb", "win32", "qnum"];
/// The highest key that Linux knows.
const KEY_MAX: u32 = 0x2ff;

pub(crate) fn send_key(host: &mut Host, args: wire::DomainSendKeyArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainSendKey")?;
    host.guest(&args.dom)?.check_running()?;
    match (args.keycodes.iter().find(|code| **code > KEY_MAX), CODESETS.get(args.codeset as usize)) {
        (Some(code), Some(set)) => {
            Err(TEST.internal_error(format_args!("invalid keycode {code} of {set} codeset")))
        }
        _ => Ok(()),
    }
}

/// `VIR_DOMAIN_PROCESS_SIGNAL_LAST`
const SIGNALS: u32 = 65;

pub(crate) fn send_process_signal(host: &mut Host, args: wire::DomainSendProcessSignalArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainSendProcessSignal")?;
    host.guest(&args.dom)?;
    if args.pid_value != 1 {
        return Err(TEST.invalid_arg("only sending a signal to pid 1 is supported"));
    }
    if args.signum >= SIGNALS {
        return Err(TEST.invalid_arg(format_args!("signum value {} is out of range", args.signum as i32)));
    }
    Ok(())
}

pub(crate) fn inject_nmi(host: &mut Host, args: wire::DomainInjectNmiArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainInjectNMI")?;
    host.guest(&args.dom)?.check_running()
}

pub(crate) fn set_user_password(host: &mut Host, args: wire::DomainSetUserPasswordArgs) -> Result<()> {
    const ENCRYPTED: u32 = 1;
    check_flags(args.flags, ENCRYPTED, "testDomainSetUserPassword")?;
    host.guest(&args.dom)?.check_running()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points() {
        assert_eq!(mounted(&[]), Ok([true, true]));
        assert_eq!(mounted(&["/boot".into()]), Ok([false, true]));
        let error = mounted(&["/".into(), "/nosuch".into()]).unwrap_err();
        assert_eq!(error.message, "Requested operation is not valid: mount point not found: /nosuch");
    }
}
