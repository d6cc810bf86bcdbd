//! Limits of memory (`virDomainSetMemoryParameters`).

use virtwire_conf::domain::tune::Memtune;
use virtwire_conf::table::KiB;
use virtwire_driver_api::params::{Kind, STRING_OKAY, number, validate};
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;

use super::{KNOWN, meant_live, sized};
use crate::affect::{Affected, edit_live, store};
use crate::cgroup::{Controller, Memory, UNLIMITED};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::info::one_definition;

const HARD_LIMIT: &str = "hard_limit";
const SOFT_LIMIT: &str = "soft_limit";
const SWAP_HARD_LIMIT: &str = "swap_hard_limit";

fn not_controlled() -> VirtError {
    QEMU.operation_invalid("cgroup memory controller is not mounted")
}

/// What a definition says.
pub(super) fn limits(tune: Option<&Memtune>) -> Memory {
    let limit = |limit: Option<KiB>| limit.map_or(UNLIMITED, |limit| limit.0);
    tune.map_or(Memory::USUAL, |tune| Memory {
        hard: limit(tune.hard_limit),
        soft: limit(tune.soft_limit),
        swap_hard: limit(tune.swap_hard_limit),
    })
}

pub(crate) async fn get(
    driver: &Qemu,
    args: DomainGetMemoryParametersArgs,
) -> Result<DomainGetMemoryParametersRet> {
    check_flags(args.flags, KNOWN | STRING_OKAY, "qemuDomainGetMemoryParameters")?;
    let guest = driver.guest(&args.dom)?;
    let domain = one_definition(&guest.lock(), args.flags)?;
    let limits = match meant_live(&guest, args.flags) {
        Some(live) if !live.group.has(Controller::Memory) => return Err(not_controlled()),
        Some(live) => live.group.memory()?,
        None => limits(domain.memtune.as_ref()),
    };
    let all = vec![
        TypedParam::new(HARD_LIMIT, limits.hard),
        TypedParam::new(SOFT_LIMIT, limits.soft),
        TypedParam::new(SWAP_HARD_LIMIT, limits.swap_hard),
    ];
    let (params, nparams) = sized(all, args.nparams);
    Ok(DomainGetMemoryParametersRet { params, nparams })
}

/// Limits, some of them changed.
fn changed(limits: Memory, params: &[TypedParam]) -> Result<Memory> {
    let new = |name, old| number(params, name).map_or(old, |value| value.min(UNLIMITED));
    let changed = Memory {
        hard: new(HARD_LIMIT, limits.hard),
        soft: new(SOFT_LIMIT, limits.soft),
        swap_hard: new(SWAP_HARD_LIMIT, limits.swap_hard),
    };
    let asked = [HARD_LIMIT, SWAP_HARD_LIMIT].iter().any(|name| number(params, name).is_some());
    if asked && changed.hard > changed.swap_hard {
        return Err(QEMU
            .invalid_arg("memory hard_limit tunable value must be lower than or equal to swap_hard_limit"));
    }
    Ok(changed)
}

/// Writes limits down; no limit is not said.
fn put(tune: &mut Option<Memtune>, limits: Memory) {
    let tune = tune.get_or_insert_default();
    let said = |limit: u64| (limit < UNLIMITED).then_some(KiB(limit));
    tune.hard_limit = said(limits.hard);
    tune.soft_limit = said(limits.soft);
    tune.swap_hard_limit = said(limits.swap_hard);
}

pub(crate) async fn set(driver: &Qemu, args: DomainSetMemoryParametersArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "qemuDomainSetMemoryParameters")?;
    let known = [HARD_LIMIT, SOFT_LIMIT, SWAP_HARD_LIMIT].map(|name| (name, Kind::Ullong));
    validate(&args.params, &known)?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    if live.as_ref().is_some_and(|live| !live.group.has(Controller::Memory)) {
        return Err(not_controlled());
    }
    let of_stored = stored.as_ref().map(|stored| changed(limits(stored.memtune.as_ref()), &args.params));
    let of_stored = of_stored.transpose()?;
    if let Some(live) = live {
        let then = changed(limits(live.domain.memtune.as_ref()), &args.params)?;
        live.group.set_memory(live.group.memory()?, then)?;
        edit_live(driver, &guest, |domain| put(&mut domain.memtune, then));
    }
    store(driver, &guest, stored, |domain| {
        of_stored.into_iter().for_each(|limits| put(&mut domain.memtune, limits));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_alone_is_never_above_memory_with_swap() {
        let ask = |name: &str, value: u64| vec![TypedParam::new(name, value)];
        let some = Memory { hard: 10, soft: 5, swap_hard: 20 };
        assert_eq!(changed(some, &ask(HARD_LIMIT, 20)), Ok(Memory { hard: 20, ..some }));
        assert!(changed(some, &ask(HARD_LIMIT, 21)).is_err());
        assert!(changed(some, &ask(SWAP_HARD_LIMIT, 9)).is_err());
        assert_eq!(changed(some, &ask(SOFT_LIMIT, u64::MAX)), Ok(Memory { soft: UNLIMITED, ..some }));
        let mut tune = None;
        put(&mut tune, Memory { hard: UNLIMITED, ..some });
        assert_eq!(limits(tune.as_ref()), Memory { hard: UNLIMITED, ..some });
    }
}
