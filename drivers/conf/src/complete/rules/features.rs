//! What the hypervisor shows of itself.

use virtwire_protocol::ErrorDomain;

use super::{Around, Result};
use crate::OnOff;
use crate::complete::board;
use crate::domain::features::{Features, Hyperv};
use crate::domain::{Domain, VirtType};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;
const XML: ErrorDomain = ErrorDomain::XML;

/// Windows tries at least so often before it says that it waits.
const LEAST_RETRIES: u32 = 4095;
/// Characters of a vendor's name.
const VENDOR: usize = 12;
/// Pages that KVM notes before QEMU must look.
const RING: std::ops::RangeInclusive<u32> = 1024..=65536;

/// What shows as it is read.
pub(super) fn read(domain: &Domain) -> Result {
    let Some(features) = &domain.features else { return Ok(()) };
    features.hyperv.iter().try_for_each(hyperv)?;
    let hidden = features.smm.as_ref().and_then(|smm| smm.tseg.as_ref());
    crate::table::unit(hidden.and_then(|size| size.unit.as_deref()), 1)?;
    let ring = features.kvm.as_ref().and_then(|kvm| kvm.dirty_ring.as_ref());
    let ring = ring.filter(|ring| ring.state == OnOff::On);
    let size = ring.map(|ring| ring.size);
    let fits = |size: u32| size.is_power_of_two() && RING.contains(&size);
    refuse! {
        size == Some(None) => XML.xml_error("Missing required attribute 'size' in element 'dirty-ring'");
        size.flatten().is_some_and(|size| !fits(size)) => DOMAIN.xml_error(
            "dirty ring must be power of 2 and ranges [{}, {}]", RING.start(), RING.end());
    }
    Ok(())
}

fn hyperv(hyperv: &Hyperv) -> Result {
    let spinlocks = hyperv.spinlocks.as_ref().filter(|spinlocks| spinlocks.state == OnOff::On);
    let retries = spinlocks.map(|spinlocks| spinlocks.retries);
    let vendor = hyperv.vendor_id.as_ref().filter(|vendor| vendor.state == OnOff::On);
    let name = vendor.map(|vendor| vendor.value.as_deref());
    refuse! {
        retries == Some(None) => XML.xml_error("Missing required attribute 'retries' in element 'spinlocks'");
        retries.flatten().is_some_and(|retries| retries < LEAST_RETRIES) => DOMAIN.xml_error(
            "HyperV spinlock retry count must be at least {LEAST_RETRIES}");
        name == Some(None) => DOMAIN.xml_error("missing 'value' attribute for HyperV feature 'vendor_id'");
        name.flatten().is_some_and(|name| name.len() > VENDOR) => DOMAIN.xml_error(
            "HyperV vendor_id value must not be more than {VENDOR} characters.");
        name.flatten().is_some_and(|name| name.contains(',')) =>
            DOMAIN.xml_error("HyperV vendor_id value is invalid");
    }
    Ok(())
}

/// What QEMU could not do.
pub(super) fn check_qemu(around: &Around<'_>) -> Result {
    let Some(features) = &around.domain.features else { return Ok(()) };
    let port = features.vmport.as_ref().and_then(|port| port.state);
    let ps2 = board::has_ps2(around.domain);
    refuse! {
        !ps2 && features.vmport.is_some() => QEMU.config_unsupported("vmport is not available with this QEMU binary");
        !ps2 && features.ps2.is_some() =>
            QEMU.config_unsupported("ps2 feature is not available with this QEMU binary");
        port == Some(OnOff::On) && features.ps2.as_ref().is_some_and(|ps2| ps2.state == OnOff::Off) =>
            QEMU.config_unsupported("vmport feature requires the ps2 feature not to be disabled");
        features.tcg.as_ref().is_some_and(|tcg| tcg.tb_cache.is_some()) && around.domain.type_ != VirtType::Qemu =>
            QEMU.config_unsupported(
                "TCG features are incompatible with domain type '{}'", around.domain.type_);
        features.smm.as_ref().is_some_and(|smm| smm.tseg.is_some()) && !around.is_q35() =>
            QEMU.config_unsupported("SMM TSEG is only supported with q35 machine type");
        uneven(features) => QEMU.config_unsupported("SMM TSEG size must be divisible by 1 MiB");
    }
    Ok(())
}

/// Whether the memory that only SMM sees is not counted in whole MiB.
fn uneven(features: &Features) -> bool {
    const MIB: u64 = 1 << 20;
    let Some(size) = features.smm.as_ref().and_then(|smm| smm.tseg.as_ref()) else { return false };
    let number = size.value.as_deref().and_then(|value| value.trim().parse::<u64>().ok());
    let unit = crate::table::unit(size.unit.as_deref(), MIB).ok();
    number.zip(unit).is_some_and(|(number, unit)| !number.saturating_mul(unit).is_multiple_of(MIB))
}
