//! The figures of virtual processors, and what KVM counts.

use virtwire_conf::Domain;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{QueryCpusFast, QueryStats, QueryStatsSchemas};
use virtwire_qmp::replies::{CpuInfo, Statistic, Statistics, StatisticsSchema};

use super::time::{Waited, thread_time, waited};
use crate::guest::Live;

/// How many there are and can be.
pub(super) fn counts(params: &mut Vec<TypedParam>, domain: &Domain) {
    let vcpu = domain.vcpu.as_ref();
    let maximum = vcpu.map_or(1, |vcpu| vcpu.count);
    params.push(TypedParam::new("vcpu.current", vcpu.and_then(|vcpu| vcpu.current).unwrap_or(maximum)));
    params.push(TypedParam::new("vcpu.maximum", maximum));
}

/// The figures of each that the guest has.
pub(super) async fn each(params: &mut Vec<TypedParam>, live: &Live, counted: &Counted) {
    let mut vcpus = live.monitor.execute(&QueryCpusFast {}).await.unwrap_or_default();
    vcpus.sort_by_key(|vcpu| vcpu.cpu_index);
    let pid = live.process.pid();
    for CpuInfo { cpu_index, qom_path, thread_id, .. } in &vcpus {
        let mut say = |name: &str, value: TypedParamValue| {
            params.push(TypedParam::new(format!("vcpu.{cpu_index}.{name}"), value));
        };
        // VIR_VCPU_RUNNING
        say("state", 1.into());
        if let Some((time, _)) = thread_time(pid, *thread_id) {
            say("time", time.into());
        }
        let Waited { wait, delay } = waited(pid, *thread_id);
        say("wait", wait.into());
        say("delay", delay.into());
        params.extend(counted.told(&format!("vcpu.{cpu_index}"), Some(qom_path)));
    }
}

/// What the kernel counts of a guest, and what kind each figure is of.
#[derive(Default)]
pub(super) struct Counted {
    figures: Vec<Statistics>,
    kinds: Vec<StatisticsSchema>,
}

impl Counted {
    /// Asks for what is counted of `vcpu` or `vm`; where nobody counts, there is nothing.
    pub(super) async fn ask(live: &Live, target: &str) -> Self {
        let (query, schemas) = (QueryStats { target: target.to_owned() }, QueryStatsSchemas {});
        let asked = tokio::try_join!(live.monitor.execute(&query), live.monitor.execute(&schemas));
        let (figures, mut kinds) = asked.unwrap_or_default();
        kinds.retain(|schema| schema.target == target);
        Self { figures, kinds }
    }

    /// The figures of one object, or of the only one there is, by names that begin with `of`.
    pub(super) fn told(&self, of: &str, object: Option<&str>) -> impl Iterator<Item = TypedParam> {
        let own = self.figures.iter().filter(move |told| told.qom_path.as_deref() == object);
        own.flat_map(|told| &told.stats).filter_map(move |figure| self.named(of, figure))
    }

    /// A figure by the name that says what it is. Histograms have no place in typed parameters.
    fn named(&self, of: &str, figure: &Statistic) -> Option<TypedParam> {
        let kind =
            self.kinds.iter().flat_map(|schema| &schema.stats).find(|kind| kind.name == figure.name)?;
        let word = match kind.r#type.as_str() {
            "cumulative" => "sum",
            "instant" => "cur",
            "peak" => "max",
            _ => return None,
        };
        let name = format!("{of}.{}.{word}", figure.name);
        match figure.value.as_bool() {
            Some(is) => Some(TypedParam::new(name, is)),
            None => Some(TypedParam::new(name, figure.value.as_u64()?)),
        }
    }

    /// Nanoseconds for which the kernel has waited for the processors of a guest, with and without success, before it let
    /// others have the host's.
    pub(super) fn polled(&self) -> [u64; 2] {
        ["halt_poll_success_ns", "halt_poll_fail_ns"].map(|name| {
            let figures =
                self.figures.iter().flat_map(|told| &told.stats).filter(|figure| figure.name == name);
            figures.filter_map(|figure| figure.value.as_u64()).sum()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_named_by_what_they_are_and_histograms_are_not_told() {
        let kinds = json!([{ "target": "vcpu", "stats": [
            { "name": "exits", "type": "cumulative" }, { "name": "blocking", "type": "instant" },
            { "name": "most", "type": "peak" }, { "name": "times", "type": "log2-histogram" },
            { "name": "halt_poll_success_ns", "type": "cumulative" }] }]);
        let figures = json!([
            { "qom-path": "/a", "stats": [{ "name": "exits", "value": 7 }, { "name": "blocking", "value": true },
                { "name": "times", "value": [1] }, { "name": "unknown", "value": 1 }] },
            { "qom-path": "/b", "stats": [{ "name": "most", "value": 9 },
                { "name": "halt_poll_success_ns", "value": 5 }] }]);
        let counted = Counted {
            figures: serde_json::from_value(figures).unwrap(),
            kinds: serde_json::from_value(kinds).unwrap(),
        };
        let told = |object| counted.told("vcpu.0", Some(object)).collect::<Vec<_>>();
        let expected =
            [TypedParam::new("vcpu.0.exits.sum", 7_u64), TypedParam::new("vcpu.0.blocking.cur", true)];
        assert_eq!(told("/a"), expected);
        assert_eq!(told("/b")[0], TypedParam::new("vcpu.0.most.max", 9_u64));
        assert_eq!(counted.polled(), [5, 0]);
    }
}
