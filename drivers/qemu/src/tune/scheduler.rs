//! Shares and limits of the processors' time (`virDomainSetSchedulerParameters`).

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_conf::domain::tune::Cputune;
use virtwire_driver_api::params::{Kind, STRING_OKAY, llong, number, validate};
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;

use super::{KNOWN, meant_live, sized};
use crate::affect::{Affected, edit_live, store, tell};
use crate::cgroup::{Bandwidth, Controller, Group};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::Live;
use crate::info::one_definition;
use crate::{iothreads, vcpus};

const SHARES: &str = "cpu_shares";

/// A part of a guest whose time is limited.
pub(super) struct Limited {
    pub(super) name: &'static str,
    period: fn(&mut Cputune) -> &mut Option<u64>,
    quota: fn(&mut Cputune) -> &mut Option<i64>,
    /// The names of its groups; nothing for the whole guest's.
    groups: fn(&Domain) -> Option<Vec<String>>,
}

pub(super) const LIMITED: [Limited; 4] = [
    Limited {
        name: "vcpu",
        period: |tune| &mut tune.period,
        quota: |tune| &mut tune.quota,
        groups: |domain| Some(vcpus::running(domain).map(|id| format!("vcpu{id}")).collect()),
    },
    Limited {
        name: "emulator",
        period: |tune| &mut tune.emulator_period,
        quota: |tune| &mut tune.emulator_quota,
        groups: |_| Some(vec!["emulator".to_owned()]),
    },
    Limited {
        name: "global",
        period: |tune| &mut tune.global_period,
        quota: |tune| &mut tune.global_quota,
        groups: |_| None,
    },
    Limited {
        name: "iothread",
        period: |tune| &mut tune.iothread_period,
        quota: |tune| &mut tune.iothread_quota,
        groups: |domain| Some(iothreads::numbers(domain).iter().map(|id| format!("iothread{id}")).collect()),
    },
];

/// How many parameters the scheduler has.
pub(crate) const PARAMETERS: i32 = 1 + 2 * LIMITED.len() as i32;

impl Limited {
    fn period_name(&self) -> String {
        format!("{}_period", self.name)
    }

    fn quota_name(&self) -> String {
        format!("{}_quota", self.name)
    }

    /// What a definition says.
    pub(super) fn of(&self, tune: &Cputune) -> (Option<u64>, Option<i64>) {
        let mut tune = tune.clone();
        (*(self.period)(&mut tune), *(self.quota)(&mut tune))
    }

    fn groups_of(&self, live: &Live) -> Vec<Arc<Group>> {
        match (self.groups)(&live.domain) {
            None => vec![Arc::clone(&live.group)],
            Some(names) => names.iter().map(|name| live.group.part(name)).collect(),
        }
    }

    /// What is in force.
    fn in_force(&self, live: &Live) -> Result<Bandwidth> {
        self.groups_of(live).first().map_or(Ok(Bandwidth::USUAL), |group| group.bandwidth())
    }

    fn params(&self, period: u64, quota: i64) -> [TypedParam; 2] {
        [TypedParam::new(self.period_name(), period), TypedParam::new(self.quota_name(), quota)]
    }
}

fn not_controlled() -> VirtError {
    QEMU.operation_invalid("cgroup CPU controller is not mounted")
}

fn of_run(live: &Live) -> Result<Vec<TypedParam>> {
    let shares = live.group.shares()?.ok_or_else(not_controlled)?;
    let mut all = vec![TypedParam::new(SHARES, shares)];
    for limited in &LIMITED {
        let Bandwidth { period, quota } = limited.in_force(live)?;
        all.extend(limited.params(period, quota));
    }
    Ok(all)
}

fn of_definition(domain: &Domain) -> Vec<TypedParam> {
    let tune = domain.cputune.clone().unwrap_or_default();
    let mut all = vec![TypedParam::new(SHARES, tune.shares.unwrap_or_default())];
    for limited in &LIMITED {
        let (period, quota) = limited.of(&tune);
        all.extend(limited.params(period.unwrap_or_default(), quota.unwrap_or_default()));
    }
    all
}

pub(crate) async fn get(
    driver: &Qemu,
    args: DomainGetSchedulerParametersArgs,
) -> Result<DomainGetSchedulerParametersRet> {
    let DomainGetSchedulerParametersArgs { dom, nparams } = args;
    let args = DomainGetSchedulerParametersFlagsArgs { dom, nparams, flags: 0 };
    let params = get_flags(driver, args).await?.params;
    Ok(DomainGetSchedulerParametersRet { params })
}

pub(crate) async fn get_flags(
    driver: &Qemu,
    args: DomainGetSchedulerParametersFlagsArgs,
) -> Result<DomainGetSchedulerParametersFlagsRet> {
    check_flags(args.flags, KNOWN | STRING_OKAY, "qemuDomainGetSchedulerParametersFlags")?;
    let guest = driver.guest(&args.dom)?;
    let domain = one_definition(&guest.lock(), args.flags)?;
    let all = match meant_live(&guest, args.flags) {
        Some(live) => of_run(&live)?,
        None => of_definition(&domain),
    };
    Ok(DomainGetSchedulerParametersFlagsRet { params: sized(all, args.nparams).0 })
}

/// What clients may ask for.
fn check(params: &[TypedParam]) -> Result<()> {
    let mut known = vec![(SHARES.to_owned(), Kind::Ullong)];
    for limited in &LIMITED {
        known.extend([(limited.period_name(), Kind::Ullong), (limited.quota_name(), Kind::Llong)]);
    }
    validate(params, &known.iter().map(|(name, kind)| (name.as_str(), *kind)).collect::<Vec<_>>())?;
    let beyond = |name: &str, least: u64, most: u64| {
        Err(QEMU.invalid_arg(format_args!("value of '{name}' is out of range [{least}, {most}]")))
    };
    const PERIODS: [u64; 2] = [1_000, 1_000_000];
    const QUOTAS: [u64; 2] = [1_000, 17_592_186_044_415];
    for limited in &LIMITED {
        let [least, most] = PERIODS;
        let period = number(params, &limited.period_name()).filter(|period| *period > 0);
        if period.is_some_and(|period| !(least..=most).contains(&period)) {
            return beyond(&limited.period_name(), least, most);
        }
        let [least, most] = QUOTAS;
        // Any number below zero is no limit.
        let quota = llong(params, &limited.quota_name()).and_then(|quota| u64::try_from(quota).ok());
        if quota.is_some_and(|quota| quota > 0 && !(least..=most).contains(&quota)) {
            return beyond(&limited.quota_name(), least, most);
        }
    }
    Ok(())
}

/// Writes down what a client asks for; zeros ask for nothing.
fn put(tune: &mut Cputune, params: &[TypedParam]) {
    if let Some(shares) = number(params, SHARES) {
        tune.shares = Some(shares);
    }
    for limited in &LIMITED {
        if let Some(period) = number(params, &limited.period_name()).filter(|period| *period > 0) {
            *(limited.period)(tune) = Some(period);
        }
        if let Some(quota) = llong(params, &limited.quota_name()).filter(|quota| *quota != 0) {
            *(limited.quota)(tune) = Some(quota);
        }
    }
}

/// Changes what is in force; what has been done is told.
fn apply(driver: &Qemu, guest: &crate::guest::Guest, live: &Live, params: &[TypedParam]) -> Result<()> {
    let mut done = Vec::new();
    let mut result = Ok(());
    let mut tune = Cputune::default();
    for param in params {
        let one = std::slice::from_ref(param);
        let mut asked = Cputune::default();
        put(&mut asked, one);
        let shares = asked.shares.map_or(Ok(()), |shares| live.group.set_shares(shares));
        result = shares.and_then(|()| {
            LIMITED.iter().try_for_each(|limited| {
                let (period, quota) = limited.of(&asked);
                if (period, quota) == (None, None) {
                    return Ok(());
                }
                limited.groups_of(live).iter().try_for_each(|group| group.set_bandwidth(period, quota))
            })
        });
        if result.is_err() {
            break;
        }
        if asked != Cputune::default() {
            put(&mut tune, one);
            done.push(TypedParam {
                field: format!("cputune.{}", param.field).into(),
                value: param.value.clone(),
            });
        }
    }
    if !done.is_empty() {
        edit_live(driver, guest, |domain| {
            let kept = domain.cputune.get_or_insert_default();
            kept.shares = tune.shares.or(kept.shares);
            for limited in &LIMITED {
                let (period, quota) = limited.of(&tune);
                *(limited.period)(kept) = period.or(*(limited.period)(kept));
                *(limited.quota)(kept) = quota.or(*(limited.quota)(kept));
            }
        });
        tell(driver, guest, done);
    }
    result
}

pub(crate) async fn set(driver: &Qemu, args: DomainSetSchedulerParametersArgs) -> Result<()> {
    let DomainSetSchedulerParametersArgs { dom, params } = args;
    set_flags(driver, DomainSetSchedulerParametersFlagsArgs { dom, params, flags: 0 }).await
}

pub(crate) async fn set_flags(driver: &Qemu, args: DomainSetSchedulerParametersFlagsArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "qemuDomainSetSchedulerParametersFlags")?;
    check(&args.params)?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    if live.as_ref().is_some_and(|live| !live.group.has(Controller::Cpu)) {
        return Err(not_controlled());
    }
    if let Some(live) = live {
        let weights = driver.shared.cgroups.weights();
        if let Some(shares) = number(&args.params, SHARES).filter(|shares| !weights.contains(shares)) {
            let (least, most) = weights.into_inner();
            let text = format_args!("shares '{shares}' must be in range [{least}, {most}]");
            return Err(QEMU.invalid_arg(text));
        }
        apply(driver, &guest, &live, &args.params)?;
    }
    store(driver, &guest, stored, |domain| {
        put(domain.cputune.get_or_insert_default(), &args.params);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused() {
        let said =
            |name: &str, value: u64| check(&[TypedParam::new(name, value)]).map_err(|error| error.message);
        assert_eq!(said("vcpu_period", 0), Ok(()));
        assert_eq!(
            said("emulator_period", 999),
            Err("invalid argument: value of 'emulator_period' is out of range [1000, 1000000]".to_owned())
        );
        let quota = |value: i64| check(&[TypedParam::new("global_quota", value)]);
        assert!(quota(-7).is_ok() && quota(0).is_ok() && quota(1000).is_ok());
        assert!(quota(999).is_err() && quota(i64::MAX).is_err());
    }

    #[test]
    fn a_definition_tells_what_it_was_given() {
        let mut domain = Domain::default();
        let params = [TypedParam::new("cpu_shares", 7_u64), TypedParam::new("iothread_quota", -5_i64)];
        put(domain.cputune.get_or_insert_default(), &params);
        let all = of_definition(&domain);
        assert_eq!(all.len() as i32, PARAMETERS);
        assert_eq!(all[0], params[0]);
        assert_eq!(all[8], params[1]);
        assert_eq!(all[1], TypedParam::new("vcpu_period", 0_u64));
    }
}
