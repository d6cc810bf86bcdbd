//! From which memory nodes of the host a guest has its memory (`virDomainSetNumaParameters`).

use virtwire_conf::Domain;
use virtwire_conf::domain::tune::{NumaMemory, NumaMode};
use virtwire_conf::table::Cpuset;
use virtwire_driver_api::params::{Kind, STRING_OKAY, int, text, validate};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::*;

use super::{KNOWN, sized};
use crate::affect::{Affected, edit_live, store};
use crate::argv::refused::check_nodes;
use crate::cgroup::Controller;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::info::one_definition;

const MODE: &str = "numa_mode";
const NODESET: &str = "numa_nodeset";

pub(crate) async fn get(
    driver: &Qemu,
    args: DomainGetNumaParametersArgs,
) -> Result<DomainGetNumaParametersRet> {
    check_flags(args.flags, KNOWN | STRING_OKAY, "qemuDomainGetNumaParameters")?;
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    let memory = memory_of(&domain).cloned().unwrap_or_default();
    let nodeset = memory.nodeset.map(|set| set.to_string()).unwrap_or_default();
    let all = vec![
        TypedParam::new(MODE, memory.mode.unwrap_or_default() as i32),
        TypedParam::new(NODESET, nodeset),
    ];
    let (params, nparams) = sized(all, args.nparams);
    Ok(DomainGetNumaParametersRet { params, nparams })
}

pub(super) fn memory_of(domain: &Domain) -> Option<&NumaMemory> {
    domain.numatune.as_ref()?.memory.as_ref()
}

/// What a client asks for.
struct Wanted {
    mode: Option<NumaMode>,
    nodeset: Option<Cpuset>,
}

impl Wanted {
    fn read(params: &[TypedParam]) -> Result<Self> {
        validate(params, &[(MODE, Kind::Int), (NODESET, Kind::String)])?;
        let mode = int(params, MODE).map(|mode| {
            let known = usize::try_from(mode).ok().and_then(|at| NumaMode::ALL.get(at).copied());
            known.ok_or_else(|| QEMU.invalid_arg(format_args!("unsupported numatune mode: '{mode}'")))
        });
        let nodeset = text(params, NODESET).map(|set| {
            let wrong = || ErrorDomain::NONE.invalid_arg(format_args!("Failed to parse bitmap '{set}'"));
            Cpuset::parse_text(&set).ok_or_else(wrong)
        });
        Ok(Self { mode: mode.transpose()?, nodeset: nodeset.transpose()? })
    }

    /// What a run can no longer change: QEMU has its memory already.
    fn check_live(&self, domain: &Domain) -> Result<()> {
        let Some(now) = memory_of(domain) else { return Ok(()) };
        let refused = |text| Err(QEMU.operation_invalid(text));
        let mode = now.mode.unwrap_or_default();
        if self.mode.is_some_and(|wanted| wanted != mode) {
            return refused("can't change numatune mode for running domain");
        }
        if self.mode == Some(NumaMode::Strict) {
            return match self.nodeset == now.nodeset {
                true => Ok(()),
                false => refused("can't change nodeset for strict mode for running domain"),
            };
        }
        if self.nodeset.is_some() && mode != NumaMode::Restrictive {
            return refused("change of nodeset for running domain requires restrictive numa mode");
        }
        Ok(())
    }

    fn put(&self, domain: &mut Domain) -> Result<()> {
        let memory = domain.numatune.get_or_insert_default().memory.get_or_insert_default();
        memory.mode = self.mode.or(memory.mode).or(Some(NumaMode::Strict));
        if let Some(set) = &self.nodeset {
            memory.nodeset = Some(set.clone());
        }
        if memory.nodeset.is_none() {
            return Err(ErrorDomain::DOMAIN.config_unsupported(
                "nodeset for NUMA memory tuning must be set if 'placement' is 'static'",
            ));
        }
        Ok(())
    }
}

pub(crate) async fn set(driver: &Qemu, args: DomainSetNumaParametersArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "qemuDomainSetNumaParameters")?;
    let wanted = Wanted::read(&args.params)?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    if let Some(live) = live {
        if !live.group.has(Controller::Cpuset) {
            return Err(QEMU.operation_invalid("cgroup cpuset controller is not mounted"));
        }
        wanted.check_live(&live.domain)?;
        let mut then = Domain::clone(&live.domain);
        wanted.put(&mut then)?;
        if let Some(nodes) = &wanted.nodeset {
            check_nodes(nodes.iter())?;
            live.group.set_all_nodes(nodes)?;
        }
        edit_live(driver, &guest, |domain| domain.numatune = then.numatune);
    }
    store(driver, &guest, stored, |domain| wanted.put(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(mode: Option<i32>, nodes: Option<&str>) -> Wanted {
        let mode = mode.map(|mode| TypedParam::new(MODE, mode));
        let nodes = nodes.map(|nodes| TypedParam::new(NODESET, nodes));
        Wanted::read(&mode.into_iter().chain(nodes).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_run_moves_only_where_nothing_is_promised() {
        let strict = NumaMode::Strict as i32;
        let mut domain = Domain::default();
        assert!(asked(None, Some("1")).check_live(&domain).is_ok());
        asked(Some(strict), Some("0")).put(&mut domain).unwrap();
        assert!(asked(Some(strict), Some("0")).check_live(&domain).is_ok());
        assert!(asked(Some(strict), Some("1")).check_live(&domain).is_err());
        assert!(asked(None, Some("0")).check_live(&domain).is_err());
        let restrictive = NumaMode::Restrictive as i32;
        assert!(asked(Some(restrictive), None).check_live(&domain).is_err());
        asked(Some(restrictive), None).put(&mut domain).unwrap();
        assert!(asked(None, Some("1")).check_live(&domain).is_ok());
    }
}
