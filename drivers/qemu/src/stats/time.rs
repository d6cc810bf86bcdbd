//! Time that guests have had, as the kernel counts it.

use std::fs;

use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::{Result, check_flags};
use crate::guest::Live;

/// Time that a process has used, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    pub(crate) user: u64,
    pub(crate) system: u64,
}

impl CpuTime {
    pub(crate) fn total(self) -> u64 {
        self.user + self.system
    }
}

/// Nanoseconds of a tick of `/proc/PID/stat` (`USER_HZ` is 100).
const TICK: u64 = 10_000_000;

/// Time that a process has used.
pub(crate) fn cpu_time(pid: u32) -> Option<CpuTime> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(CpuTime { user: field(&text, 14)? * TICK, system: field(&text, 15)? * TICK })
}

/// Time that one thread has used, in nanoseconds, and the processor it ran on last.
pub(crate) fn thread_time(pid: u32, thread: u32) -> Option<(u64, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    Some(((field(&text, 14)? + field(&text, 15)?) * TICK, field(&text, 39)? as i32))
}

/// A field of `/proc/PID/stat`, counted from 1 as proc(5) does; the second may hold anything.
fn field(text: &str, number: usize) -> Option<u64> {
    text.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

impl Live {
    /// Time that the guest has used: by its control group where it has one, which counts finer.
    pub(super) fn cpu_time(&self) -> Option<CpuTime> {
        let by_group = self.group.cpu_time().map(|[user, system]| CpuTime { user, system });
        by_group.or_else(|| cpu_time(self.process.pid()))
    }
}

/// Time that a thread has waited for a processor, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waited {
    /// While it wanted to run, where the kernel counts that (`kernel.sched_schedstats`).
    pub(super) wait: u64,
    /// In the queue of a processor.
    pub(super) delay: u64,
}

/// Time that one thread has waited, by `/proc/PID/task/TID/sched` and `schedstat`.
pub(super) fn waited(pid: u32, thread: u32) -> Waited {
    let read = |name| fs::read_to_string(format!("/proc/{pid}/task/{thread}/{name}")).unwrap_or_default();
    Waited { wait: wait_sum(&read("sched")), delay: run_delay(&read("schedstat")) }
}

/// `wait_sum`, in milliseconds with nanoseconds behind the point; older kernels say where it belongs before its name.
fn wait_sum(sched: &str) -> u64 {
    let mut lines = sched.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| name.trim().rsplit('.').next() == Some("wait_sum"));
    let Some((whole, part)) = found.and_then(|(_, value)| value.trim().split_once('.')) else { return 0 };
    let (whole, part): (u64, u64) = (whole.parse().unwrap_or_default(), part.parse().unwrap_or_default());
    whole.saturating_mul(1_000_000).saturating_add(part)
}

/// The second number of `schedstat`.
fn run_delay(schedstat: &str) -> u64 {
    schedstat.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Processors of the host for which times are told apart, and for which a client asks; the sum of all is number -1.
pub(crate) async fn cpu(driver: &Qemu, args: DomainGetCpuStatsArgs) -> Result<DomainGetCpuStatsRet> {
    /// `VIR_TYPED_PARAM_STRING_OKAY`
    const STRINGS: u32 = 4;
    check_flags(args.flags, STRINGS, "qemuDomainGetCPUStats")?;
    let live = driver.guest(&args.dom)?.live()?;
    let count = |nparams: usize| Ok(DomainGetCpuStatsRet { params: Vec::new(), nparams: nparams as i32 });
    if args.start_cpu != -1 {
        return match (args.ncpus, args.nparams) {
            (0, _) => count(driver.shared.host.cpus().len()),
            (_, 0) => count(2),
            // Who counts by processors is the kernel's older interface.
            _ => Err(ErrorDomain::CGROUP.operation_unsupported(
                "operation 'getCpuacctPercpuUsage' not supported for backend 'cgroup V2'",
            )),
        };
    }
    let time = live.cpu_time().unwrap_or_default();
    let all = [("cpu_time", time.total()), ("user_time", time.user), ("system_time", time.system)];
    if args.nparams == 0 {
        return count(all.len());
    }
    let params = all.map(|(name, value)| TypedParam::new(name, value));
    let params: Vec<_> = params.into_iter().take(args.nparams as usize).collect();
    Ok(DomainGetCpuStatsRet { nparams: params.len() as i32, params })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_waiting() {
        let old =
            "se.exec_start : 1.5\nse.statistics.wait_sum                       :            12.000345\n";
        let new =
            "wait_max   :   9.000000\nwait_sum                                     :             3.000007\n";
        assert_eq!(wait_sum(old), 12_000_345);
        assert_eq!(wait_sum(new), 3_000_007);
        assert_eq!(wait_sum("nr_switches : 47\n"), 0);
        assert_eq!(run_delay("10573361 102535293 47\n"), 102_535_293);
        assert_eq!(run_delay(""), 0);
    }
}
