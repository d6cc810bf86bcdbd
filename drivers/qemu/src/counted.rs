//! What the kernel counts of a running guest and of each of its virtual processors.

use std::fs;

use virtwire_protocol::remote::TypedParam;
use virtwire_qmp::commands::{QueryCpusFast, QueryStats, QueryStatsSchemas};
use virtwire_qmp::replies::{CpuInfo, Statistic, Statistics, StatisticsSchema};

use crate::guest::Live;
use crate::stats::thread_time;

/// `VIR_VCPU_RUNNING`
const RUNNING: i32 = 1;

/// The processors of a guest: their state and times in nanoseconds, and what the kernel counts of them.
pub(crate) async fn of_vcpus(live: &Live) -> Vec<TypedParam> {
    let Ok(vcpus) = live.monitor.execute(&QueryCpusFast {}).await else { return Vec::new() };
    let (counters, kinds) = asked(live, "vcpu").await;
    let pid = live.process.pid();
    let mut params = Vec::new();
    for CpuInfo { cpu_index, qom_path, thread_id } in &vcpus {
        let mut put = |param: TypedParam| params.push(param);
        put(TypedParam::new(format!("vcpu.{cpu_index}.state"), RUNNING));
        if let Some((time, _)) = thread_time(pid, *thread_id) {
            put(TypedParam::new(format!("vcpu.{cpu_index}.time"), time));
        }
        let thread = format!("/proc/{pid}/task/{thread_id}");
        if let Some(wait) = waited(&fs::read_to_string(format!("{thread}/sched")).unwrap_or_default()) {
            put(TypedParam::new(format!("vcpu.{cpu_index}.wait"), wait));
        }
        if let Some(delay) = delayed(&fs::read_to_string(format!("{thread}/schedstat")).unwrap_or_default()) {
            put(TypedParam::new(format!("vcpu.{cpu_index}.delay"), delay));
        }
        let own = counters.iter().filter(|told| told.qom_path.as_ref() == Some(qom_path));
        let counters = own.flat_map(|told| &told.stats);
        params.extend(counters.filter_map(|told| counter(&format!("vcpu.{cpu_index}"), told, &kinds)));
    }
    params
}

/// Nanoseconds for which the kernel has waited for a guest's processors with and without success before it let others
/// have the host's.
pub(crate) async fn polled(live: &Live) -> (u64, u64) {
    let (counters, _) = asked(live, "vcpu").await;
    let sum = |name: &str| {
        let told = counters.iter().flat_map(|told| &told.stats).filter(|told| told.name == name);
        told.filter_map(|told| told.value.as_u64()).sum()
    };
    (sum("halt_poll_success_ns"), sum("halt_poll_fail_ns"))
}

/// What the kernel counts of a guest as a whole.
pub(crate) async fn of_vm(live: &Live) -> Vec<TypedParam> {
    let (counters, kinds) = asked(live, "vm").await;
    let counters = counters.iter().flat_map(|told| &told.stats);
    counters.filter_map(|told| counter("vm", told, &kinds)).collect()
}

/// The counters of a target, and what they are; nothing where nobody counts.
async fn asked(live: &Live, target: &str) -> (Vec<Statistics>, Vec<StatisticsSchema>) {
    let query = QueryStats { target: target.to_owned() };
    let schemas = QueryStatsSchemas {};
    let asked = tokio::try_join!(live.monitor.execute(&query), live.monitor.execute(&schemas));
    let (counters, mut kinds) = asked.unwrap_or_default();
    kinds.retain(|schema| schema.target == target);
    (counters, kinds)
}

/// A counter by the name that says what it is; histograms are not told.
fn counter(of: &str, told: &Statistic, kinds: &[StatisticsSchema]) -> Option<TypedParam> {
    let kind = kinds.iter().flat_map(|schema| &schema.stats).find(|kind| kind.name == told.name)?;
    let word = match kind.r#type.as_str() {
        "cumulative" => "sum",
        "instant" => "cur",
        "peak" => "max",
        _ => return None,
    };
    let name = format!("{of}.{}.{word}", told.name);
    match told.value.as_bool() {
        Some(is) => Some(TypedParam::new(name, is)),
        None => Some(TypedParam::new(name, told.value.as_u64()?)),
    }
}

/// How long a thread has waited for something other than a processor, from `/proc/PID/task/TID/sched`.
fn waited(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| {
        let name = line.split(':').next().unwrap_or_default().trim();
        matches!(name, "wait_sum" | "se.statistics.wait_sum")
    })?;
    let milliseconds: f64 = line.rsplit(':').next()?.trim().parse().ok()?;
    Some((milliseconds * 1e6) as u64)
}

/// How long a thread has waited for a processor, from `/proc/PID/task/TID/schedstat`.
fn delayed(text: &str) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_kernel_tells_of_threads_is_read() {
        let sched = "qemu (7, #threads: 2)\n---\nwait_sum        :     1.500000\nwait_count   :  3\n";
        assert_eq!(waited(sched), Some(1_500_000));
        assert_eq!(waited("se.exec_start : 1.0\n"), None);
        assert_eq!((delayed("10 20 3\n"), delayed("")), (Some(20), None));
    }

    #[test]
    fn counters_are_named_by_what_they_are_and_histograms_are_not_told() {
        let kinds: Vec<StatisticsSchema> = serde_json::from_value(json!([{ "target": "vcpu", "stats": [
            { "name": "exits", "type": "cumulative" }, { "name": "blocking", "type": "instant" },
            { "name": "h", "type": "log2-histogram" }] }]))
        .unwrap();
        let one = |name: &str, value| counter("vcpu.0", &Statistic { name: name.to_owned(), value }, &kinds);
        assert_eq!(one("exits", json!(7)), Some(TypedParam::new("vcpu.0.exits.sum", 7_u64)));
        assert_eq!(one("blocking", json!(true)), Some(TypedParam::new("vcpu.0.blocking.cur", true)));
        assert_eq!((one("h", json!([1])), one("new", json!(1))), (None, None));
    }
}
