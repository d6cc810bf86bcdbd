//! Whether a definition is, to the guest, the same as another one: what it sees must not change under it.

use virtwire_conf::Domain;
use virtwire_conf::domain::GuestMemory;
use virtwire_conf::domain::device::{Address, DeviceInfo};
use virtwire_protocol::error::ErrorDomain;

use crate::disks::target;
use crate::error::Result;

/// Compares what a guest sees of two definitions.
///
/// # Errors
/// `VIR_ERR_CONFIG_UNSUPPORTED` for the first difference.
pub(super) fn check(source: &Domain, target: &Domain) -> Result<()> {
    numbers(source, target)?;
    devices(source, target)
}

fn differs(what: &str, target: &str, source: &str) -> Result<()> {
    let text = format_args!("Target {what} {target} does not match source {source}");
    Err(ErrorDomain::DOMAIN.config_unsupported(text))
}

/// The guest, its machine, memory and processors.
fn numbers(source: &Domain, target: &Domain) -> Result<()> {
    let words = |domain: &Domain| {
        let os = domain.os.type_.as_ref();
        [
            ("domain virt type", domain.type_.as_str().to_owned()),
            ("domain uuid", domain.uuid.unwrap_or_default().hyphenated().to_string()),
            ("domain max memory", domain.memory.as_ref().map_or(0, GuestMemory::kib).to_string()),
            ("domain vCPU max", domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count).to_string()),
            ("domain architecture", os.and_then(|os| os.arch.clone()).unwrap_or_default()),
            ("domain machine type", os.and_then(|os| os.machine.clone()).unwrap_or_default()),
        ]
    };
    for ((what, old), (_, new)) in words(source).into_iter().zip(words(target)) {
        if old != new {
            return differs(what, &new, &old);
        }
    }
    if source.name != target.name {
        return differs("domain name", &format!("'{}'", target.name), &format!("'{}'", source.name));
    }
    Ok(())
}

/// Which devices there are, and where.
fn devices(source: &Domain, target_: &Domain) -> Result<()> {
    let (old, new) = (&source.devices, &target_.devices);
    macro_rules! compare {
        ($($list:ident $what:literal;)*) => {$(
            let (olds, news) = (old.$list.len(), new.$list.len());
            if olds != news {
                let what = concat!("domain ", $what, " count");
                return differs(what, &news.to_string(), &olds.to_string());
            }
        )*};
    }
    compare! {
        disks "disk"; controllers "controller"; filesystems "filesystem"; interfaces "net card"; inputs "input";
        sounds "sound card"; videos "video card"; hostdevs "host device"; smartcards "smartcard";
        serials "serial port"; parallels "parallel port"; channels "channel"; consoles "console"; hubs "hub";
        redirdevs "USB redirdev"; rngs "RNG device"; memories "memory device"; shmems "shared memory device";
        tpms "TPM device"; watchdogs "watchdog device"; panics "panic device"; cryptos "crypto device";
    }
    for (old, new) in old.disks.iter().zip(&new.disks) {
        if target(old) != target(new) {
            return differs("disk", target(new), target(old));
        }
    }
    macro_rules! places {
        ($($list:ident)*) => {$(
            for (old, new) in old.$list.iter().zip(&new.$list) {
                place(&old.info, &new.info)?;
            }
        )*};
    }
    places! {
        disks controllers filesystems interfaces inputs sounds videos hostdevs smartcards serials parallels channels
        consoles hubs redirdevs rngs memories shmems watchdogs panics cryptos memballoon vsock nvram
    }
    Ok(())
}

/// Where a device is.
fn place(old: &DeviceInfo, new: &DeviceInfo) -> Result<()> {
    match (&old.address, &new.address) {
        (Some(Address::Pci(old)), Some(Address::Pci(new))) if old.shown() != new.shown() => {
            differs("device PCI address", &new.shown(), &old.shown())
        }
        (Some(Address::Pci(_)), Some(Address::Pci(_))) => Ok(()),
        (Some(old), Some(new)) if old != new => {
            let text = "Target device address does not match source";
            Err(ErrorDomain::DOMAIN.config_unsupported(text))
        }
        _ => Ok(()),
    }
}
