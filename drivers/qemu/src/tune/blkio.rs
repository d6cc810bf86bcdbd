//! Shares and limits of requests to block devices (`virDomainSetBlkioParameters`).

use virtwire_conf::Domain;
use virtwire_conf::blkio::DEVICE_LIMITS;
use virtwire_conf::domain::tune::Blkiotune;
use virtwire_driver_api::params::{Kind, STRING_OKAY, number, text, validate};
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;

use super::{KNOWN, meant_live, sized};
use crate::affect::{Affected, edit_live, store};
use crate::cgroup::Controller;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::info::one_definition;

const WEIGHT: &str = "weight";

fn not_controlled() -> VirtError {
    QEMU.operation_invalid("blkio cgroup isn't mounted")
}

pub(crate) async fn get(
    driver: &Qemu,
    args: DomainGetBlkioParametersArgs,
) -> Result<DomainGetBlkioParametersRet> {
    check_flags(args.flags, KNOWN | STRING_OKAY, "qemuDomainGetBlkioParameters")?;
    let guest = driver.guest(&args.dom)?;
    let domain = one_definition(&guest.lock(), args.flags)?;
    let tune = domain.blkiotune.clone().unwrap_or_default();
    let weight = match meant_live(&guest, args.flags) {
        Some(live) if !live.group.has(Controller::Blkio) => return Err(not_controlled()),
        Some(live) => live.group.blkio_weight()?,
        None => tune.weight,
    };
    let mut all = vec![TypedParam::new(WEIGHT, weight.unwrap_or(0))];
    all.extend(DEVICE_LIMITS.iter().map(|limit| TypedParam::new(limit.name, limit.list(&tune))));
    let (params, nparams) = sized(all, args.nparams);
    Ok(DomainGetBlkioParametersRet { params, nparams })
}

fn change(tune: &mut Blkiotune, params: &[TypedParam]) -> Result<()> {
    if let Some(weight) = number(params, WEIGHT) {
        tune.weight = Some(weight as u32).filter(|weight| *weight > 0);
    }
    for limit in &DEVICE_LIMITS {
        if let Some(list) = text(params, limit.name) {
            limit.apply(tune, &list)?;
        }
    }
    Ok(())
}

fn changed(domain: &Domain, params: &[TypedParam]) -> Result<Blkiotune> {
    let mut tune = domain.blkiotune.clone().unwrap_or_default();
    change(&mut tune, params).map(|()| tune)
}

pub(crate) async fn set(driver: &Qemu, args: DomainSetBlkioParametersArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "qemuDomainSetBlkioParameters")?;
    let known = DEVICE_LIMITS.iter().map(|limit| (limit.name, Kind::String)).chain([(WEIGHT, Kind::Uint)]);
    validate(&args.params, &known.collect::<Vec<_>>())?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    if live.as_ref().is_some_and(|live| !live.group.has(Controller::Blkio)) {
        return Err(not_controlled());
    }
    let of_stored = stored.as_ref().map(|stored| changed(stored, &args.params)).transpose()?;
    if let Some(live) = live {
        let now = live.domain.blkiotune.clone().unwrap_or_default();
        let then = changed(&live.domain, &args.params)?;
        if let Some(weight) = number(&args.params, WEIGHT) {
            live.group.set_blkio_weight(weight as u32)?;
        }
        for device in then.device.iter().filter(|device| !now.device.contains(device)) {
            live.group.limit_device(device)?;
        }
        edit_live(driver, &guest, |domain| domain.blkiotune = Some(then));
    }
    store(driver, &guest, stored, |domain| {
        domain.blkiotune = of_stored.or(domain.blkiotune.take());
        Ok(())
    })
}
