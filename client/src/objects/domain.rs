//! Guests.

use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;
use virtwire_protocol::remote::{
    self, DomainGetBlockIoTuneArgs, DomainGetInterfaceParametersArgs, DomainGetMemoryParametersArgs,
    DomainGetSchedulerParametersFlagsArgs, DomainGetSchedulerTypeArgs, DomainOpenChannelArgs,
    DomainOpenConsoleArgs, DomainScreenshotArgs, NonnullDomain,
};

use super::events::DomainEvents;
use super::table::{counted, object, text};
use super::*;
use crate::{Error, Stream};

object! {
    /// A guest. It is its name and UUID: the guest itself may have changed, or be gone.
    Domain(NonnullDomain)
}

/// How a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainInfo {
    /// Whether it runs.
    pub state: DomainState,
    /// The most memory that it may have, in KiB.
    pub max_memory_kib: u64,
    /// The memory that it has, in KiB.
    pub memory_kib: u64,
    /// CPUs.
    pub vcpus: u16,
    /// The time that its CPUs have run.
    pub cpu_time: Duration,
}

/// An address of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpAddress {
    /// The guest's interface.
    pub interface: String,
    /// Its hardware address, where it is known.
    pub mac: Option<String>,
    /// The address.
    pub address: IpAddr,
    /// The length of the network's prefix, in bits.
    pub prefix: u32,
}

impl Domain {
    pub(super) fn handle(&self) -> NonnullDomain {
        self.raw.clone()
    }

    /// Its name.
    pub fn name(&self) -> String {
        text(&self.raw.name)
    }

    /// Its UUID.
    pub fn uuid(&self) -> Uuid {
        Uuid::from_bytes(self.raw.uuid)
    }

    /// The id that it had when it was looked up; only running guests have one.
    pub fn id(&self) -> Option<u32> {
        u32::try_from(self.raw.id).ok()
    }

    /// How it is.
    pub async fn info(&self) -> Result<DomainInfo, Error> {
        let ret = self.connection.domain_get_info(&remote::DomainGetInfoArgs { dom: self.handle() }).await?;
        Ok(DomainInfo {
            state: i32::from(ret.state).into(),
            max_memory_kib: ret.max_mem,
            memory_kib: ret.memory,
            vcpus: ret.nr_virt_cpu,
            cpu_time: Duration::from_nanos(ret.cpu_time),
        })
    }

    /// Its addresses: what the network has given (`source` 0), the guest agent says (1) or the host has seen (2).
    pub async fn addresses(&self, source: u32) -> Result<Vec<IpAddress>, Error> {
        let args = remote::DomainInterfaceAddressesArgs { dom: self.handle(), source, flags: 0 };
        let mut found = Vec::new();
        for interface in self.connection.domain_interface_addresses(&args).await?.ifaces {
            for address in &interface.addrs {
                // What is no address is left out.
                if let Ok(parsed) = text(&address.addr).parse() {
                    found.push(IpAddress {
                        interface: text(&interface.name),
                        mac: interface.hwaddr.as_ref().map(text),
                        address: parsed,
                        prefix: address.prefix,
                    });
                }
            }
        }
        Ok(found)
    }

    /// A console: bytes both ways. `device` is its alias, `None` takes the first.
    pub async fn console(&self, device: Option<&str>, flags: DomainConsoleFlags) -> Result<Stream, Error> {
        let dev_name = device.map(Into::into);
        let args = DomainOpenConsoleArgs { dom: self.handle(), dev_name, flags: flags.bits() };
        self.connection.domain_open_console(&args).await
    }

    /// A channel: bytes both ways. `name` is its alias or its target's name, `None` takes the first.
    pub async fn channel(&self, name: Option<&str>, flags: u32) -> Result<Stream, Error> {
        let args = DomainOpenChannelArgs { dom: self.handle(), name: name.map(Into::into), flags };
        self.connection.domain_open_channel(&args).await
    }

    /// What its screen shows: the picture's MIME type, and the picture.
    pub async fn screenshot(&self, screen: u32) -> Result<(String, Stream), Error> {
        let args = DomainScreenshotArgs { dom: self.handle(), screen, flags: 0 };
        let (ret, stream) = self.connection.domain_screenshot(&args).await?;
        Ok((ret.mime.as_ref().map(text).unwrap_or_default(), stream))
    }

    /// How the scheduler treats it.
    pub async fn scheduler_parameters(&self, flags: DomainImpact) -> Result<SchedulerParameters, Error> {
        let count =
            self.connection.domain_get_scheduler_type(&DomainGetSchedulerTypeArgs { dom: self.handle() });
        let (dom, nparams) = (self.handle(), count.await?.nparams);
        // Some drivers have the form without flags only.
        let params = if flags.is_empty() {
            let args = remote::DomainGetSchedulerParametersArgs { dom, nparams };
            self.connection.domain_get_scheduler_parameters(&args).await?.params
        } else {
            let args = DomainGetSchedulerParametersFlagsArgs { dom, nparams, flags: flags.bits() };
            self.connection.domain_get_scheduler_parameters_flags(&args).await?.params
        };
        Ok(SchedulerParameters::read(&params))
    }

    /// The limits of its memory.
    pub async fn memory_parameters(&self, flags: DomainImpact) -> Result<MemoryParameters, Error> {
        let ask = async |nparams| {
            let args = DomainGetMemoryParametersArgs { dom: self.handle(), nparams, flags: flags.bits() };
            let ret = self.connection.domain_get_memory_parameters(&args).await?;
            Ok((MemoryParameters::read(&ret.params), ret.nparams))
        };
        counted(ask).await
    }

    /// The limits of a disk; `None` asks for those of all disks together, where there are any.
    pub async fn block_io_tune(&self, disk: Option<&str>, flags: DomainImpact) -> Result<BlockIoTune, Error> {
        let ask = async |nparams| {
            let disk = disk.map(Into::into);
            let args = DomainGetBlockIoTuneArgs { dom: self.handle(), disk, nparams, flags: flags.bits() };
            let ret = self.connection.domain_get_block_io_tune(&args).await?;
            Ok((BlockIoTune::read(&ret.params), ret.nparams))
        };
        counted(ask).await
    }

    /// The bandwidth of an interface.
    pub async fn interface_parameters(
        &self,
        device: &str,
        flags: DomainImpact,
    ) -> Result<InterfaceParameters, Error> {
        let ask = async |nparams| {
            let (device, flags) = (device.into(), flags.bits());
            let args = DomainGetInterfaceParametersArgs { dom: self.handle(), device, nparams, flags };
            let ret = self.connection.domain_get_interface_parameters(&args).await?;
            Ok((InterfaceParameters::read(&ret.params), ret.nparams))
        };
        counted(ask).await
    }

    /// How the scheduler is to treat it; what is `None` stays as it is.
    pub async fn set_scheduler_parameters(
        &self,
        parameters: &SchedulerParameters,
        flags: DomainImpact,
    ) -> Result<(), Error> {
        let (dom, params, flags) = (self.handle(), parameters.write(), flags.bits());
        if flags == 0 {
            let args = remote::DomainSetSchedulerParametersArgs { dom, params };
            return self.connection.domain_set_scheduler_parameters(&args).await;
        }
        let args = remote::DomainSetSchedulerParametersFlagsArgs { dom, params, flags };
        self.connection.domain_set_scheduler_parameters_flags(&args).await
    }

    /// New limits of its memory; what is `None` stays as it is.
    pub async fn set_memory_parameters(
        &self,
        parameters: &MemoryParameters,
        flags: DomainImpact,
    ) -> Result<(), Error> {
        let (dom, params, flags) = (self.handle(), parameters.write(), flags.bits());
        self.connection
            .domain_set_memory_parameters(&remote::DomainSetMemoryParametersArgs { dom, params, flags })
            .await
    }

    /// New limits of a disk; what is `None` stays as it is.
    pub async fn set_block_io_tune(
        &self,
        disk: &str,
        tune: &BlockIoTune,
        flags: DomainImpact,
    ) -> Result<(), Error> {
        let (dom, params, flags) = (self.handle(), tune.write(), flags.bits());
        let args = remote::DomainSetBlockIoTuneArgs { dom, disk: disk.into(), params, flags };
        self.connection.domain_set_block_io_tune(&args).await
    }

    /// What a running job, such as a migration, has done; or the last one, with flag 1.
    pub async fn job_stats(&self, flags: u32) -> Result<JobStats, Error> {
        let args = remote::DomainGetJobStatsArgs { dom: self.handle(), flags };
        Ok(JobStats::read(&self.connection.domain_get_job_stats(&args).await?.params))
    }

    /// What happens to its life, from now on.
    pub async fn lifecycle_events(&self) -> Result<DomainEvents, Error> {
        DomainEvents::register(&self.connection, Some(&self.raw)).await
    }
}

methods! { Domain [dom = handle] {
    /// Starts it.
    fn start(flags: DomainCreateFlags) = domain_create_with_flags DomainCreateWithFlagsArgs |_, _| ();
    /// Asks it to shut down; the guest may take its time, or not do it at all.
    fn shutdown(flags: DomainShutdownFlags) = domain_shutdown_flags DomainShutdownFlagsArgs;
    /// Asks it to boot again.
    fn reboot(flags: DomainShutdownFlags) = domain_reboot DomainRebootArgs;
    /// Resets it, as its reset button does.
    fn reset(flags: u32) = domain_reset DomainResetArgs;
    /// Ends it, as pulling the plug does.
    fn destroy(flags: DomainDestroyFlags) = domain_destroy_flags DomainDestroyFlagsArgs;
    /// Pauses it.
    fn suspend() = domain_suspend DomainSuspendArgs;
    /// Lets it go on.
    fn resume() = domain_resume DomainResumeArgs;
    /// Removes its definition.
    fn undefine(flags: DomainUndefineFlags) = domain_undefine_flags DomainUndefineFlagsArgs;
    /// Its definition.
    fn xml(flags: DomainXmlFlags) -> String = domain_get_xml_desc DomainGetXmlDescArgs |_, ret| text(&ret.xml);
    /// Its state, and the reason: `virDomain…Reason`.
    fn state(flags: u32) -> (DomainState, i32) =
        domain_get_state DomainGetStateArgs |_, ret| (ret.state.into(), ret.reason);
    /// Whether it runs.
    fn is_active() -> bool = domain_is_active DomainIsActiveArgs |_, ret| ret.active != 0;
    /// Whether it is defined.
    fn is_persistent() -> bool = domain_is_persistent DomainIsPersistentArgs |_, ret| ret.persistent != 0;
    /// Whether it starts with the host.
    fn autostart() -> bool = domain_get_autostart DomainGetAutostartArgs |_, ret| ret.autostart != 0;
    /// Whether it is to start with the host.
    fn set_autostart(autostart: bool) = domain_set_autostart DomainSetAutostartArgs;
    /// The kind of its operating system, `hvm`.
    fn os_type() -> String = domain_get_os_type DomainGetOsTypeArgs |_, ret| text(&ret.r#type);
    /// What it calls itself.
    fn hostname(flags: u32) -> String = domain_get_hostname DomainGetHostnameArgs |_, ret| text(&ret.hostname);
    /// Gives it another name.
    fn rename(new_name: Option<&str>, flags: u32) = domain_rename DomainRenameArgs |_, _| ();
    /// Its memory, in KiB.
    fn set_memory(memory: u64, flags: DomainMemoryFlags) = domain_set_memory_flags DomainSetMemoryFlagsArgs;
    /// The count of its CPUs.
    fn vcpus(flags: DomainVcpuFlags) -> i32 = domain_get_vcpus_flags DomainGetVcpusFlagsArgs |_, ret| ret.num;
    /// The count of its CPUs.
    fn set_vcpus(nvcpus: u32, flags: DomainVcpuFlags) = domain_set_vcpus_flags DomainSetVcpusFlagsArgs;
    /// Attaches a device.
    fn attach_device(xml: &str, flags: DomainImpact) = domain_attach_device_flags DomainAttachDeviceFlagsArgs;
    /// Detaches a device.
    fn detach_device(xml: &str, flags: DomainImpact) = domain_detach_device_flags DomainDetachDeviceFlagsArgs;
    /// Changes a device.
    fn update_device(xml: &str, flags: DomainImpact) = domain_update_device_flags DomainUpdateDeviceFlagsArgs;
    /// Saves its state to a file of the daemon's host, and ends it.
    fn save(to: &str) = domain_save DomainSaveArgs;
    /// Saves its state where its next start finds it, and ends it.
    fn managed_save(flags: DomainSaveFlags) = domain_managed_save DomainManagedSaveArgs;
    /// Whether its next start finds a saved state.
    fn has_managed_save(flags: u32) -> bool =
        domain_has_managed_save_image DomainHasManagedSaveImageArgs |_, ret| ret.result != 0;
    /// Forgets the state that its next start would find.
    fn remove_managed_save(flags: u32) = domain_managed_save_remove DomainManagedSaveRemoveArgs;
    /// Writes its memory to a file of the daemon's host.
    fn core_dump(to: &str, flags: DomainDumpFlags) = domain_core_dump DomainCoreDumpArgs;
    /// Gives up the job that runs on it.
    fn abort_job() = domain_abort_job DomainAbortJobArgs;
    /// Makes a disk larger or smaller: KiB, or bytes with flag 1.
    fn resize_disk(disk: &str, size: u64, flags: u32) = domain_block_resize DomainBlockResizeArgs;
    /// Its title (`type` 1), description (0) or the element of a namespace (2).
    fn metadata(r#type: i32, uri: Option<&str>, flags: DomainImpact) -> String =
        domain_get_metadata DomainGetMetadataArgs |_, ret| text(&ret.metadata);
    /// Sets title, description or the element of a namespace; `None` removes it.
    fn set_metadata(
        r#type: i32,
        metadata: Option<&str>,
        key: Option<&str>,
        uri: Option<&str>,
        flags: DomainImpact
    ) = domain_set_metadata DomainSetMetadataArgs;
    /// Takes a snapshot.
    fn create_snapshot(xml_desc: &str, flags: SnapshotCreateFlags) -> Snapshot =
        domain_snapshot_create_xml DomainSnapshotCreateXmlArgs |c, ret| object(c, ret.snap);
    /// The snapshot of this name.
    fn snapshot_by_name(name: &str, flags: u32) -> Snapshot =
        domain_snapshot_lookup_by_name DomainSnapshotLookupByNameArgs |c, ret| object(c, ret.snap);
    /// The snapshot that its state has grown from.
    fn current_snapshot(flags: u32) -> Snapshot =
        domain_snapshot_current DomainSnapshotCurrentArgs |c, ret| object(c, ret.snap);
    /// Makes a checkpoint: from then on changes of its disks are noted.
    fn create_checkpoint(xml_desc: &str, flags: CheckpointCreateFlags) -> Checkpoint =
        domain_checkpoint_create_xml DomainCheckpointCreateXmlArgs |c, ret| object(c, ret.checkpoint);
    /// The checkpoint of this name.
    fn checkpoint_by_name(name: &str, flags: u32) -> Checkpoint =
        domain_checkpoint_lookup_by_name DomainCheckpointLookupByNameArgs |c, ret| object(c, ret.checkpoint);
} }

lists! { Domain [dom = handle] {
    /// Its snapshots.
    fn snapshots(SnapshotListFlags) -> Snapshot =
        domain_list_all_snapshots DomainListAllSnapshotsArgs snapshots;
    /// Its checkpoints; flags are `VIR_DOMAIN_CHECKPOINT_LIST_…`.
    fn checkpoints(u32) -> Checkpoint = domain_list_all_checkpoints DomainListAllCheckpointsArgs checkpoints;
} }
