//! Processors one by one: which are there from the start, which may come and go.

use std::collections::BTreeMap;

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::YesNo;
use crate::domain::Domain;
use crate::domain::tune::{VcpuState, Vcpus};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;
const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// More processors than this are not described one by one.
const MOST: u32 = 16384;

/// As many processors as are there from the start are there at all.
pub(super) fn count(domain: &Domain) -> Result<(), VirtError> {
    let Some(vcpu) = &domain.vcpu else { return Ok(()) };
    let set = vcpu.cpuset.as_ref();
    refuse! {
        vcpu.current.is_some_and(|current| current > vcpu.count) =>
            DOMAIN.config_unsupported("maximum vCPU count must not be less than current vCPU count");
        set.is_some_and(|set| set.iter().next().is_none()) => DOMAIN.config_unsupported(
            "Invalid value of 'cpuset': {}", set.map(ToString::to_string).unwrap_or_default());
    }
    Ok(())
}

/// Each processor that is named is one of the guest's.
pub(super) fn named(domain: &Domain) -> Result<(), VirtError> {
    let count = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    let unknown = domain.vcpus.iter().flat_map(|vcpus| &vcpus.vcpu).find(|vcpu| vcpu.id >= count);
    refuse! {
        unknown.is_some() => DOMAIN.xml_error(
            "vcpu id '{}' is out of range of maximum vcpu count", unknown.map_or(0, |vcpu| vcpu.id));
    }
    Ok(())
}

/// Where some are described, all are, and as many are there as are enabled.
pub(super) fn complete(domain: &mut Domain) {
    let (Some(vcpu), Some(vcpus)) = (&mut domain.vcpu, &mut domain.vcpus) else { return };
    if vcpus.vcpu.is_empty() || vcpu.count > MOST {
        return;
    }
    let said = std::mem::take(&mut vcpus.vcpu).into_iter().map(|vcpu| (vcpu.id, vcpu));
    let mut said: BTreeMap<u32, VcpuState> = said.collect();
    let state = |id: u32| {
        let mut state = said.remove(&id).unwrap_or(VcpuState { id, ..VcpuState::default() });
        let off = state.enabled == YesNo::No;
        state.hotpluggable.get_or_insert(if off { YesNo::Yes } else { YesNo::No });
        state
    };
    *vcpus = Vcpus { vcpu: (0..vcpu.count).map(state).collect() };
    let online = vcpus.vcpu.iter().filter(|vcpu| vcpu.enabled == YesNo::Yes).count();
    vcpu.current = u32::try_from(online).ok().filter(|online| *online < vcpu.count);
}

/// QEMU has the first from the start, and those that stay before those that may go.
pub(super) fn check_qemu(domain: &Domain) -> Result<(), VirtError> {
    let all = domain.vcpus.as_ref().map_or(&[][..], |vcpus| &vcpus.vcpu);
    refuse! {
        domain.vcpu.as_ref().is_some_and(|vcpu| vcpu.current == Some(0)) =>
            QEMU.config_unsupported("vcpu 0 can't be offline");
    }
    let Some(first) = all.first() else { return Ok(()) };
    let order = |vcpu: &VcpuState| vcpu.order.unwrap_or(0);
    let ordered = order(first) != 0;
    let mut online = all.iter().filter(|vcpu| vcpu.enabled == YesNo::Yes);
    refuse! {
        first.enabled == YesNo::No => QEMU.config_unsupported("vcpu 0 can't be offline");
        first.hotpluggable == Some(YesNo::Yes) => QEMU.config_unsupported("vcpu0 can't be hotpluggable");
        order(first) > 1 => QEMU.config_unsupported("vcpu0 must be enabled first");
        online.any(|vcpu| (order(vcpu) != 0) != ordered) =>
            QEMU.config_unsupported("all vcpus must have either set or unset order");
    }
    let (leaving, staying): (Vec<_>, Vec<_>) =
        all.iter().partition(|vcpu| vcpu.hotpluggable == Some(YesNo::Yes));
    let next = leaving.iter().filter(|vcpu| vcpu.enabled == YesNo::Yes).map(|vcpu| order(vcpu)).min();
    for pair in staying.windows(2).filter(|_| ordered) {
        let (before, behind) = (order(pair[0]), order(pair[1]));
        refuse! {
            before > behind =>
                QEMU.config_unsupported("online non-hotpluggable vcpus must be ordered in ascending order");
            next.is_some_and(|next| next < behind) => QEMU.config_unsupported(
                "online non-hotpluggable vcpus need to be ordered prior to hotpluggable vcpus");
        }
    }
    let lost = staying.iter().find(|vcpu| vcpu.enabled == YesNo::No);
    refuse! {
        lost.is_some() => DOMAIN.config_unsupported(
            "vcpu '{}' is both offline and not hotpluggable", lost.map_or(0, |vcpu| vcpu.id));
    }
    Ok(())
}
