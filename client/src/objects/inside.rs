//! A running guest: its devices' figures, jobs on its disks, its screen, and what its agent does inside.

use std::os::fd::OwnedFd;
use std::time::Duration;

use virtwire_protocol::qemu::{DomainAgentCommandArgs, DomainMonitorCommandArgs};
use virtwire_protocol::remote::*;

use super::table::{counted, object, text};
use super::{
    BlkioParameters, BlockCommitFlags, BlockCopyFlags, BlockJobAbortFlags, BlockJobKind, Connect, Domain,
    DomainCreateFlags, DomainImpact, InterfaceParameters, NumaParameters, OpenGraphicsFlags,
};
use crate::Error;

/// How large a disk is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockInfo {
    /// What the guest sees.
    pub capacity: u64,
    /// What of it has been written.
    pub allocation: u64,
    /// What it takes on the host.
    pub physical: u64,
}

/// What a disk has done; -1 where that is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounters {
    /// Reads.
    pub reads: i64,
    /// Bytes that were read.
    pub read_bytes: i64,
    /// Writes.
    pub writes: i64,
    /// Bytes that were written.
    pub written_bytes: i64,
    /// Errors.
    pub errors: i64,
}

/// What an interface has done; -1 where that is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "r is received, t is transmitted")]
pub struct InterfaceCounters {
    pub rx_bytes: i64,
    pub rx_packets: i64,
    pub rx_errors: i64,
    pub rx_dropped: i64,
    pub tx_bytes: i64,
    pub tx_packets: i64,
    pub tx_errors: i64,
    pub tx_dropped: i64,
}

/// What is known of a guest's memory; what its balloon does not tell is `None`. Sizes are KiB, `last_update` is seconds
/// since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as `VIR_DOMAIN_MEMORY_STAT_…`")]
pub struct MemoryFigures {
    pub swap_in: Option<u64>,
    pub swap_out: Option<u64>,
    pub major_fault: Option<u64>,
    pub minor_fault: Option<u64>,
    pub unused: Option<u64>,
    pub available: Option<u64>,
    pub actual_balloon: Option<u64>,
    pub rss: Option<u64>,
    pub usable: Option<u64>,
    pub last_update: Option<u64>,
    pub disk_caches: Option<u64>,
    pub hugetlb_pgalloc: Option<u64>,
    pub hugetlb_pgfail: Option<u64>,
}

impl MemoryFigures {
    fn new(stats: Vec<DomainMemoryStat>) -> Self {
        let mut this = Self::default();
        for DomainMemoryStat { tag, val } in stats {
            let field = match tag {
                0 => &mut this.swap_in,
                1 => &mut this.swap_out,
                2 => &mut this.major_fault,
                3 => &mut this.minor_fault,
                4 => &mut this.unused,
                5 => &mut this.available,
                6 => &mut this.actual_balloon,
                7 => &mut this.rss,
                8 => &mut this.usable,
                9 => &mut this.last_update,
                10 => &mut this.disk_caches,
                11 => &mut this.hugetlb_pgalloc,
                12 => &mut this.hugetlb_pgfail,
                // What later versions of libvirt have.
                _ => continue,
            };
            *field = Some(val);
        }
        this
    }
}

/// A job on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockJob {
    /// What it does.
    pub kind: BlockJobKind,
    /// What it may take, in MiB per second; 0 is no limit.
    pub bandwidth: u64,
    /// How far it is.
    pub done: u64,
    /// Where it ends. A copy that has come to its end goes on to keep both alike.
    pub total: u64,
}

impl Domain {
    /// The limits of what its disks may use, together and each.
    pub async fn blkio_parameters(&self, flags: DomainImpact) -> Result<BlkioParameters, Error> {
        let ask = async |nparams| {
            let args = DomainGetBlkioParametersArgs { dom: self.handle(), nparams, flags: flags.bits() };
            let ret = self.connection().domain_get_blkio_parameters(&args).await?;
            Ok((BlkioParameters::read(&ret.params), ret.nparams))
        };
        counted(ask).await
    }

    /// New limits of what its disks may use; what is `None` stays as it is.
    pub async fn set_blkio_parameters(
        &self,
        parameters: &BlkioParameters,
        flags: DomainImpact,
    ) -> Result<(), Error> {
        let (dom, params, flags) = (self.handle(), parameters.write(), flags.bits());
        self.connection()
            .domain_set_blkio_parameters(&DomainSetBlkioParametersArgs { dom, params, flags })
            .await
    }

    /// Where its memory comes from.
    pub async fn numa_parameters(&self, flags: DomainImpact) -> Result<NumaParameters, Error> {
        let ask = async |nparams| {
            let args = DomainGetNumaParametersArgs { dom: self.handle(), nparams, flags: flags.bits() };
            let ret = self.connection().domain_get_numa_parameters(&args).await?;
            Ok((NumaParameters::read(&ret.params), ret.nparams))
        };
        counted(ask).await
    }

    /// Where its memory is to come from; what is `None` stays as it is.
    pub async fn set_numa_parameters(
        &self,
        parameters: &NumaParameters,
        flags: DomainImpact,
    ) -> Result<(), Error> {
        let (dom, params, flags) = (self.handle(), parameters.write(), flags.bits());
        self.connection()
            .domain_set_numa_parameters(&DomainSetNumaParametersArgs { dom, params, flags })
            .await
    }

    /// A new bandwidth of an interface; what is `None` stays as it is.
    pub async fn set_interface_parameters(
        &self,
        device: &str,
        parameters: &InterfaceParameters,
        flags: DomainImpact,
    ) -> Result<(), Error> {
        let (dom, params, flags) = (self.handle(), parameters.write(), flags.bits());
        let args = DomainSetInterfaceParametersArgs { dom, device: device.into(), params, flags };
        self.connection().domain_set_interface_parameters(&args).await
    }

    /// The job on a disk, if there is one.
    pub async fn block_job(&self, disk: &str) -> Result<Option<BlockJob>, Error> {
        let args = DomainGetBlockJobInfoArgs { dom: self.handle(), path: disk.into(), flags: 0 };
        let ret = self.connection().domain_get_block_job_info(&args).await?;
        let job =
            BlockJob { kind: ret.r#type.into(), bandwidth: ret.bandwidth, done: ret.cur, total: ret.end };
        Ok((ret.found != 0).then_some(job))
    }

    /// Hands a connected socket to the server of its screen: whoever has the other end sees it.
    pub async fn open_graphics(
        &self,
        index: u32,
        socket: OwnedFd,
        flags: OpenGraphicsFlags,
    ) -> Result<(), Error> {
        let args = DomainOpenGraphicsArgs { dom: self.handle(), idx: index, flags: flags.bits() };
        self.connection().domain_open_graphics(&args, vec![socket]).await
    }

    /// A socket that is connected to the server of its screen.
    pub async fn graphics(&self, index: u32, flags: OpenGraphicsFlags) -> Result<OwnedFd, Error> {
        let args = DomainOpenGraphicsFdArgs { dom: self.handle(), idx: index, flags: flags.bits() };
        let given = self.connection().domain_open_graphics_fd(&args).await?;
        given.into_iter().next().ok_or(Error::Unsupported("a reply with the descriptor that it announces"))
    }

    /// Starts it with open files, which its first process has as descriptors.
    pub async fn start_with_files(&self, files: Vec<OwnedFd>, flags: DomainCreateFlags) -> Result<(), Error> {
        let args = DomainCreateWithFilesArgs { dom: self.handle(), flags: flags.bits() };
        self.connection().domain_create_with_files(&args, files).await.map(drop)
    }

    /// Asks the agent inside, JSON for JSON. `timeout` is seconds; -2 waits for ever, -1 as long as the daemon does, 0 not
    /// at all.
    pub async fn agent_command(&self, command: &str, timeout: i32) -> Result<String, Error> {
        let args = DomainAgentCommandArgs { dom: self.handle(), cmd: command.into(), timeout, flags: 0 };
        let ret = self.connection().qemu_domain_agent_command(&args).await?;
        Ok(ret.result.as_ref().map(text).unwrap_or_default())
    }

    /// Asks QEMU, JSON for JSON; text for text with flag 1. libvirt does not support a guest that was changed by it.
    pub async fn monitor_command(&self, command: &str, flags: u32) -> Result<String, Error> {
        let args = DomainMonitorCommandArgs { dom: self.handle(), cmd: command.into(), flags };
        Ok(text(&self.connection().qemu_domain_monitor_command(&args).await?.result))
    }

    /// The time inside, since 1970.
    pub async fn time(&self) -> Result<Duration, Error> {
        let args = DomainGetTimeArgs { dom: self.handle(), flags: 0 };
        let ret = self.connection().domain_get_time(&args).await?;
        Ok(Duration::new(ret.seconds.try_into().unwrap_or(0), ret.nseconds))
    }

    /// Sets the time inside, since 1970.
    pub async fn set_time(&self, time: Duration) -> Result<(), Error> {
        let seconds = time.as_secs().try_into().unwrap_or(i64::MAX);
        let args = DomainSetTimeArgs { dom: self.handle(), seconds, nseconds: time.subsec_nanos(), flags: 0 };
        self.connection().domain_set_time(&args).await
    }
}

impl Connect {
    /// Starts a guest that is gone when it ends, with open files, which its first process has as descriptors.
    pub async fn create_domain_with_files(
        &self,
        xml: &str,
        files: Vec<OwnedFd>,
        flags: DomainCreateFlags,
    ) -> Result<Domain, Error> {
        let args = DomainCreateXmlWithFilesArgs { xml_desc: xml.into(), flags: flags.bits() };
        let ret = self.connection().domain_create_xml_with_files(&args, files).await?;
        Ok(object(self.connection(), ret.dom))
    }
}

/// As many figures of memory as there may ever be.
const MEMORY_STATS_MAX: u32 = 1024;

impl Domain {
    /// What is known of its memory.
    pub async fn memory_stats(&self) -> Result<MemoryFigures, Error> {
        let args = DomainMemoryStatsArgs { dom: self.handle(), max_stats: MEMORY_STATS_MAX, flags: 0 };
        Ok(MemoryFigures::new(self.connection().domain_memory_stats(&args).await?.stats))
    }
}

methods! { Domain [dom = handle] {
    /// What a disk has done; an empty name is all of them.
    fn block_stats(path: &str) -> BlockCounters = domain_block_stats DomainBlockStatsArgs |_, ret| BlockCounters {
        reads: ret.rd_req,
        read_bytes: ret.rd_bytes,
        writes: ret.wr_req,
        written_bytes: ret.wr_bytes,
        errors: ret.errs,
    };
    /// How large a disk is.
    fn block_info(path: &str, flags: u32) -> BlockInfo = domain_get_block_info DomainGetBlockInfoArgs |_, ret| BlockInfo {
        capacity: ret.capacity,
        allocation: ret.allocation,
        physical: ret.physical,
    };
    /// What an interface has done.
    fn interface_stats(device: &str) -> InterfaceCounters =
        domain_interface_stats DomainInterfaceStatsArgs |_, ret| InterfaceCounters {
            rx_bytes: ret.rx_bytes,
            rx_packets: ret.rx_packets,
            rx_errors: ret.rx_errs,
            rx_dropped: ret.rx_drop,
            tx_bytes: ret.tx_bytes,
            tx_packets: ret.tx_packets,
            tx_errors: ret.tx_errs,
            tx_dropped: ret.tx_drop,
        };
    /// The most memory that it may have, in KiB.
    fn max_memory() -> u64 = domain_get_max_memory DomainGetMaxMemoryArgs |_, ret| ret.memory;
    /// The most CPUs that it may have.
    fn max_vcpus() -> i32 = domain_get_max_vcpus DomainGetMaxVcpusArgs |_, ret| ret.num;
    /// Seconds between two questions to its balloon; 0 asks no more.
    fn set_memory_stats_period(period: i32, flags: DomainImpact) =
        domain_set_memory_stats_period DomainSetMemoryStatsPeriodArgs;
    /// Runs one of its CPUs on some of the host's only: a bit for each.
    fn pin_vcpu(vcpu: u32, cpumap: &[u8], flags: DomainImpact) = domain_pin_vcpu_flags DomainPinVcpuFlagsArgs;
    /// Runs its emulator on some of the host's CPUs only.
    fn pin_emulator(cpumap: &[u8], flags: DomainImpact) = domain_pin_emulator DomainPinEmulatorArgs;
    /// Whether its definition has changed since it started.
    fn is_updated() -> bool = domain_is_updated DomainIsUpdatedArgs |_, ret| ret.updated != 0;
    /// Presses keys together, for so many milliseconds; `codeset` is `VIR_KEYCODE_SET_…`.
    fn send_key(codeset: u32, holdtime: u32, keycodes: &[u32], flags: u32) = domain_send_key DomainSendKeyArgs;
    /// Raises an interrupt that cannot be masked.
    fn inject_nmi(flags: u32) = domain_inject_nmi DomainInjectNmiArgs;
    /// Suspends it from inside: to memory (`target` 0), to disk (1) or to both (2).
    fn pm_suspend(target: u32, duration: u64, flags: u32) =
        domain_pm_suspend_for_duration DomainPmSuspendForDurationArgs;
    /// Wakes it up.
    fn pm_wakeup(flags: u32) = domain_pm_wakeup DomainPmWakeupArgs;
    /// Freezes file systems inside, all if none is named; how many it were.
    fn fs_freeze(mountpoints: &[&str], flags: u32) -> i32 = domain_fsfreeze DomainFsfreezeArgs |_, ret| ret.filesystems;
    /// Lets file systems inside go on; how many it were.
    fn fs_thaw(mountpoints: &[&str], flags: u32) -> i32 = domain_fsthaw DomainFsthawArgs |_, ret| ret.filesystems;
    /// Gives back what file systems inside do not use.
    fn fs_trim(mount_point: Option<&str>, minimum: u64, flags: u32) = domain_fstrim DomainFstrimArgs;
    /// Sets the password of a user inside.
    fn set_user_password(user: Option<&str>, password: Option<&str>, flags: u32) =
        domain_set_user_password DomainSetUserPasswordArgs;
    /// What speaks against it, for its owner to know.
    fn messages(flags: u32) -> Vec<String> =
        domain_get_messages DomainGetMessagesArgs |_, ret| ret.msgs.iter().map(text).collect();
    /// What a migration may use of the network, in MiB per second.
    fn migrate_max_speed(flags: u32) -> u64 =
        domain_migrate_get_max_speed DomainMigrateGetMaxSpeedArgs |_, ret| ret.bandwidth;
    /// What a migration may use of the network, in MiB per second.
    fn set_migrate_max_speed(bandwidth: u64, flags: u32) =
        domain_migrate_set_max_speed DomainMigrateSetMaxSpeedArgs;
    /// How long it may stand still at the end of a migration, in milliseconds.
    fn set_migrate_max_downtime(downtime: u64, flags: u32) =
        domain_migrate_set_max_downtime DomainMigrateSetMaxDowntimeArgs;
    /// Brings the content of the images behind a disk into it, with so many MiB per second.
    fn block_pull(path: &str, bandwidth: u64, flags: u32) = domain_block_pull DomainBlockPullArgs;
    /// Brings the content of images into those behind them.
    fn block_commit(disk: &str, base: Option<&str>, top: Option<&str>, bandwidth: u64, flags: BlockCommitFlags) =
        domain_block_commit DomainBlockCommitArgs;
    /// Copies a disk to another, described as one of a definition.
    fn block_copy(path: &str, destxml: &str, params: Vec<TypedParam>, flags: BlockCopyFlags) =
        domain_block_copy DomainBlockCopyArgs;
    /// Ends the job on a disk: gives it up, or goes over to the copy.
    fn abort_block_job(path: &str, flags: BlockJobAbortFlags) = domain_block_job_abort DomainBlockJobAbortArgs;
} }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_memory_have_names() {
        let stat = |tag, val| DomainMemoryStat { tag, val };
        let figures = MemoryFigures::new(vec![stat(6, 8192), stat(7, 4096), stat(99, 1)]);
        let expected = MemoryFigures { actual_balloon: Some(8192), rss: Some(4096), ..Default::default() };
        assert_eq!(figures, expected);
    }
}
