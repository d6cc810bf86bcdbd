//! Which function serves which procedure of the hypervisor family.

use std::os::fd::OwnedFd;

use virtwire_driver_api::{CallCx, HypervisorDriver, StreamEnd, ToClient, async_trait};
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;

use crate::connect;
use crate::domain::{
    agent, checkpoint, device, info, iothread, lifecycle, list, memory, metadata, save, snapshot, stats,
    throttle, tuning, vcpu,
};
use crate::driver::{TestConnection, serve};
use crate::error::check_flags;
use crate::screenshot;

serve! {
    HypervisorDriver {
        connect_get_type() -> ConnectGetTypeRet = connect::kind;
        connect_get_version() -> ConnectGetVersionRet = connect::version;
        connect_is_secure() -> ConnectIsSecureRet = connect::is_secure;
        connect_get_hostname() -> ConnectGetHostnameRet = connect::hostname;
        connect_get_sysinfo(ConnectGetSysinfoArgs) -> ConnectGetSysinfoRet = connect::sysinfo;
        connect_get_capabilities() -> ConnectGetCapabilitiesRet = connect::capabilities;
        connect_get_domain_capabilities(ConnectGetDomainCapabilitiesArgs) -> ConnectGetDomainCapabilitiesRet = connect::domain_capabilities_of;
        connect_get_cpu_model_names(ConnectGetCpuModelNamesArgs) -> ConnectGetCpuModelNamesRet = connect::cpu_models;
        connect_baseline_cpu(ConnectBaselineCpuArgs) -> ConnectBaselineCpuRet = connect::baseline_cpu;
        connect_get_max_vcpus(ConnectGetMaxVcpusArgs) -> ConnectGetMaxVcpusRet = info::max_vcpus_of_host;
        connect_get_all_domain_stats(ConnectGetAllDomainStatsArgs) -> ConnectGetAllDomainStatsRet = stats::all;
        node_get_info() -> NodeGetInfoRet = connect::node_info;
        node_get_cpu_stats(NodeGetCpuStatsArgs) -> NodeGetCpuStatsRet = connect::cpu_stats;
        node_get_cells_free_memory(NodeGetCellsFreeMemoryArgs) -> NodeGetCellsFreeMemoryRet = connect::cells_free_memory;
        node_get_free_memory() -> NodeGetFreeMemoryRet = connect::free_memory;
        node_get_free_pages(NodeGetFreePagesArgs) -> NodeGetFreePagesRet = connect::free_pages;
        node_get_cpu_map(NodeGetCpuMapArgs) -> NodeGetCpuMapRet = connect::cpu_map;
        node_get_security_model() -> NodeGetSecurityModelRet = connect::security_model;

        connect_list_all_domains(ConnectListAllDomainsArgs) -> ConnectListAllDomainsRet = list::all;
        connect_list_domains(ConnectListDomainsArgs) -> ConnectListDomainsRet = list::ids;
        connect_num_of_domains() -> ConnectNumOfDomainsRet = list::count_active;
        connect_list_defined_domains(ConnectListDefinedDomainsArgs) -> ConnectListDefinedDomainsRet = list::inactive;
        connect_num_of_defined_domains() -> ConnectNumOfDefinedDomainsRet = list::count_inactive;
        domain_lookup_by_id(DomainLookupByIdArgs) -> DomainLookupByIdRet = list::by_id;
        domain_lookup_by_name(DomainLookupByNameArgs) -> DomainLookupByNameRet = list::by_name;
        domain_lookup_by_uuid(DomainLookupByUuidArgs) -> DomainLookupByUuidRet = list::by_uuid;

        domain_define_xml(DomainDefineXmlArgs) -> DomainDefineXmlRet = lifecycle::define;
        domain_define_xml_flags(DomainDefineXmlFlagsArgs) -> DomainDefineXmlFlagsRet = lifecycle::define_flags;
        domain_create_xml(DomainCreateXmlArgs) -> DomainCreateXmlRet = lifecycle::create_xml;
        domain_create(DomainCreateArgs) = lifecycle::create;
        domain_create_with_flags(DomainCreateWithFlagsArgs) -> DomainCreateWithFlagsRet = lifecycle::create_with_flags;
        domain_suspend(DomainSuspendArgs) = lifecycle::suspend;
        domain_resume(DomainResumeArgs) = lifecycle::resume;
        domain_shutdown(DomainShutdownArgs) = lifecycle::shutdown;
        domain_shutdown_flags(DomainShutdownFlagsArgs) = lifecycle::shutdown_flags;
        domain_reboot(DomainRebootArgs) = lifecycle::reboot;
        domain_reset(DomainResetArgs) = lifecycle::reset;
        domain_destroy(DomainDestroyArgs) = lifecycle::destroy;
        domain_destroy_flags(DomainDestroyFlagsArgs) = lifecycle::destroy_flags;
        domain_undefine(DomainUndefineArgs) = lifecycle::undefine;
        domain_undefine_flags(DomainUndefineFlagsArgs) = lifecycle::undefine_flags;
        domain_rename(DomainRenameArgs) -> DomainRenameRet = lifecycle::rename;

        domain_get_info(DomainGetInfoArgs) -> DomainGetInfoRet = info::info;
        domain_get_state(DomainGetStateArgs) -> DomainGetStateRet = info::state;
        domain_get_control_info(DomainGetControlInfoArgs) -> DomainGetControlInfoRet = info::control_info;
        domain_get_xml_desc(DomainGetXmlDescArgs) -> DomainGetXmlDescRet = info::xml_desc;
        domain_get_autostart(DomainGetAutostartArgs) -> DomainGetAutostartRet = info::autostart;
        domain_set_autostart(DomainSetAutostartArgs) = info::set_autostart;
        domain_get_os_type(DomainGetOsTypeArgs) -> DomainGetOsTypeRet = info::os_type;
        domain_is_active(DomainIsActiveArgs) -> DomainIsActiveRet = info::is_active;
        domain_is_persistent(DomainIsPersistentArgs) -> DomainIsPersistentRet = info::is_persistent;
        domain_is_updated(DomainIsUpdatedArgs) -> DomainIsUpdatedRet = info::is_updated;
        domain_get_security_label(DomainGetSecurityLabelArgs) -> DomainGetSecurityLabelRet = info::security_label;
        domain_set_lifecycle_action(DomainSetLifecycleActionArgs) = info::set_lifecycle_action;
        domain_get_messages(DomainGetMessagesArgs) -> DomainGetMessagesRet = info::messages;
        domain_get_launch_security_info(DomainGetLaunchSecurityInfoArgs) -> DomainGetLaunchSecurityInfoRet = info::launch_security_info;
        domain_get_metadata(DomainGetMetadataArgs) -> DomainGetMetadataRet = metadata::get;
        domain_set_metadata(DomainSetMetadataArgs) = metadata::set;

        domain_get_max_memory(DomainGetMaxMemoryArgs) -> DomainGetMaxMemoryRet = memory::max;
        domain_set_memory(DomainSetMemoryArgs) = memory::set;
        domain_set_max_memory(DomainSetMaxMemoryArgs) = memory::set_max;
        domain_set_memory_flags(DomainSetMemoryFlagsArgs) = memory::set_flags;
        domain_memory_stats(DomainMemoryStatsArgs) -> DomainMemoryStatsRet = memory::stats;
        domain_set_memory_stats_period(DomainSetMemoryStatsPeriodArgs) = memory::set_stats_period;
        domain_memory_peek(DomainMemoryPeekArgs) -> DomainMemoryPeekRet = memory::peek;

        domain_get_max_vcpus(DomainGetMaxVcpusArgs) -> DomainGetMaxVcpusRet = vcpu::max;
        domain_set_vcpus(DomainSetVcpusArgs) = vcpu::set;
        domain_set_vcpus_flags(DomainSetVcpusFlagsArgs) = vcpu::set_flags;
        domain_get_vcpus_flags(DomainGetVcpusFlagsArgs) -> DomainGetVcpusFlagsRet = vcpu::get_flags;
        domain_get_vcpus(DomainGetVcpusArgs) -> DomainGetVcpusRet = vcpu::get;
        domain_pin_vcpu(DomainPinVcpuArgs) = vcpu::pin_vcpu;
        domain_pin_vcpu_flags(DomainPinVcpuFlagsArgs) = vcpu::pin_vcpu_flags;
        domain_get_vcpu_pin_info(DomainGetVcpuPinInfoArgs) -> DomainGetVcpuPinInfoRet = vcpu::pin_info;
        domain_pin_emulator(DomainPinEmulatorArgs) = vcpu::pin_emulator;
        domain_get_emulator_pin_info(DomainGetEmulatorPinInfoArgs) -> DomainGetEmulatorPinInfoRet = vcpu::emulator_pin_info;
        domain_get_iothread_info(DomainGetIothreadInfoArgs) -> DomainGetIothreadInfoRet = iothread::info;
        domain_pin_iothread(DomainPinIothreadArgs) = iothread::pin;
        domain_add_iothread(DomainAddIothreadArgs) = iothread::add;
        domain_del_iothread(DomainDelIothreadArgs) = iothread::delete;
        domain_set_iothread_params(DomainSetIothreadParamsArgs) = iothread::set_params;

        domain_get_scheduler_type(DomainGetSchedulerTypeArgs) -> DomainGetSchedulerTypeRet = tuning::scheduler_type;
        domain_get_scheduler_parameters(DomainGetSchedulerParametersArgs) -> DomainGetSchedulerParametersRet = tuning::scheduler;
        domain_get_scheduler_parameters_flags(DomainGetSchedulerParametersFlagsArgs) -> DomainGetSchedulerParametersFlagsRet = tuning::scheduler_flags;
        domain_set_scheduler_parameters(DomainSetSchedulerParametersArgs) = tuning::set_scheduler;
        domain_set_scheduler_parameters_flags(DomainSetSchedulerParametersFlagsArgs) = tuning::set_scheduler_flags;
        domain_get_memory_parameters(DomainGetMemoryParametersArgs) -> DomainGetMemoryParametersRet = tuning::memory;
        domain_set_memory_parameters(DomainSetMemoryParametersArgs) = tuning::set_memory;
        domain_get_blkio_parameters(DomainGetBlkioParametersArgs) -> DomainGetBlkioParametersRet = tuning::blkio;
        domain_set_blkio_parameters(DomainSetBlkioParametersArgs) = tuning::set_blkio;
        domain_get_numa_parameters(DomainGetNumaParametersArgs) -> DomainGetNumaParametersRet = tuning::numa;
        domain_set_numa_parameters(DomainSetNumaParametersArgs) = tuning::set_numa;
        domain_get_perf_events(DomainGetPerfEventsArgs) -> DomainGetPerfEventsRet = tuning::perf;
        domain_set_perf_events(DomainSetPerfEventsArgs) = tuning::set_perf;
        domain_get_block_io_tune(DomainGetBlockIoTuneArgs) -> DomainGetBlockIoTuneRet = throttle::block_io;
        domain_set_block_io_tune(DomainSetBlockIoTuneArgs) = throttle::set_block_io;
        domain_get_interface_parameters(DomainGetInterfaceParametersArgs) -> DomainGetInterfaceParametersRet = throttle::interface_params;
        domain_set_interface_parameters(DomainSetInterfaceParametersArgs) = throttle::set_interface_params;

        domain_block_stats(DomainBlockStatsArgs) -> DomainBlockStatsRet = stats::block;
        domain_interface_stats(DomainInterfaceStatsArgs) -> DomainInterfaceStatsRet = stats::network;
        domain_get_block_info(DomainGetBlockInfoArgs) -> DomainGetBlockInfoRet = stats::block_info;
        domain_get_disk_errors(DomainGetDiskErrorsArgs) -> DomainGetDiskErrorsRet = stats::disk_errors;
        domain_get_cpu_stats(DomainGetCpuStatsArgs) -> DomainGetCpuStatsRet = stats::cpu;
        domain_interface_addresses(DomainInterfaceAddressesArgs) -> DomainInterfaceAddressesRet = stats::addresses;

        domain_attach_device(DomainAttachDeviceArgs) = device::attach;
        domain_attach_device_flags(DomainAttachDeviceFlagsArgs) = device::attach_flags;
        domain_update_device_flags(DomainUpdateDeviceFlagsArgs) = device::update_flags;
        domain_detach_device_alias(DomainDetachDeviceAliasArgs) = device::detach_alias;

        domain_get_hostname(DomainGetHostnameArgs) -> DomainGetHostnameRet = agent::hostname;
        domain_get_time(DomainGetTimeArgs) -> DomainGetTimeRet = agent::time;
        domain_set_time(DomainSetTimeArgs) = agent::set_time;
        domain_get_fsinfo(DomainGetFsinfoArgs) -> DomainGetFsinfoRet = agent::fs_info;
        domain_fsfreeze(DomainFsfreezeArgs) -> DomainFsfreezeRet = agent::freeze;
        domain_fsthaw(DomainFsthawArgs) -> DomainFsthawRet = agent::thaw;
        domain_fstrim(DomainFstrimArgs) = agent::trim;
        domain_send_key(DomainSendKeyArgs) = agent::send_key;
        domain_send_process_signal(DomainSendProcessSignalArgs) = agent::send_process_signal;
        domain_inject_nmi(DomainInjectNmiArgs) = agent::inject_nmi;
        domain_set_user_password(DomainSetUserPasswordArgs) = agent::set_user_password;

        domain_save(DomainSaveArgs) = save::save;
        domain_save_flags(DomainSaveFlagsArgs) = save::save_flags;
        domain_restore(DomainRestoreArgs) = save::restore;
        domain_restore_flags(DomainRestoreFlagsArgs) = save::restore_flags;
        domain_save_image_get_xml_desc(DomainSaveImageGetXmlDescArgs) -> DomainSaveImageGetXmlDescRet = save::image_xml_desc;
        domain_save_image_define_xml(DomainSaveImageDefineXmlArgs) = save::image_define_xml;
        domain_managed_save(DomainManagedSaveArgs) = save::managed_save;
        domain_has_managed_save_image(DomainHasManagedSaveImageArgs) -> DomainHasManagedSaveImageRet = save::has_managed_save;
        domain_managed_save_remove(DomainManagedSaveRemoveArgs) = save::remove_managed_save;
        domain_core_dump(DomainCoreDumpArgs) = save::core_dump;
        domain_core_dump_with_format(DomainCoreDumpWithFormatArgs) = save::core_dump_with_format;

        domain_snapshot_create_xml(DomainSnapshotCreateXmlArgs) -> DomainSnapshotCreateXmlRet = snapshot::create_xml;
        domain_snapshot_get_xml_desc(DomainSnapshotGetXmlDescArgs) -> DomainSnapshotGetXmlDescRet = snapshot::get_xml_desc;
        domain_snapshot_num(DomainSnapshotNumArgs) -> DomainSnapshotNumRet = snapshot::num;
        domain_snapshot_list_names(DomainSnapshotListNamesArgs) -> DomainSnapshotListNamesRet = snapshot::list_names;
        domain_list_all_snapshots(DomainListAllSnapshotsArgs) -> DomainListAllSnapshotsRet = snapshot::list_all;
        domain_snapshot_num_children(DomainSnapshotNumChildrenArgs) -> DomainSnapshotNumChildrenRet = snapshot::num_children;
        domain_snapshot_list_children_names(DomainSnapshotListChildrenNamesArgs) -> DomainSnapshotListChildrenNamesRet = snapshot::list_children_names;
        domain_snapshot_list_all_children(DomainSnapshotListAllChildrenArgs) -> DomainSnapshotListAllChildrenRet = snapshot::list_all_children;
        domain_snapshot_lookup_by_name(DomainSnapshotLookupByNameArgs) -> DomainSnapshotLookupByNameRet = snapshot::lookup_by_name;
        domain_has_current_snapshot(DomainHasCurrentSnapshotArgs) -> DomainHasCurrentSnapshotRet = snapshot::has_current;
        domain_snapshot_current(DomainSnapshotCurrentArgs) -> DomainSnapshotCurrentRet = snapshot::current;
        domain_snapshot_get_parent(DomainSnapshotGetParentArgs) -> DomainSnapshotGetParentRet = snapshot::parent;
        domain_snapshot_is_current(DomainSnapshotIsCurrentArgs) -> DomainSnapshotIsCurrentRet = snapshot::is_current;
        domain_snapshot_has_metadata(DomainSnapshotHasMetadataArgs) -> DomainSnapshotHasMetadataRet = snapshot::has_metadata;
        domain_snapshot_delete(DomainSnapshotDeleteArgs) = snapshot::delete;
        domain_revert_to_snapshot(DomainRevertToSnapshotArgs) = snapshot::revert;

        domain_checkpoint_create_xml(DomainCheckpointCreateXmlArgs) -> DomainCheckpointCreateXmlRet = checkpoint::create_xml;
        domain_checkpoint_get_xml_desc(DomainCheckpointGetXmlDescArgs) -> DomainCheckpointGetXmlDescRet = checkpoint::get_xml_desc;
        domain_list_all_checkpoints(DomainListAllCheckpointsArgs) -> DomainListAllCheckpointsRet = checkpoint::list_all;
        domain_checkpoint_list_all_children(DomainCheckpointListAllChildrenArgs) -> DomainCheckpointListAllChildrenRet = checkpoint::list_all_children;
        domain_checkpoint_lookup_by_name(DomainCheckpointLookupByNameArgs) -> DomainCheckpointLookupByNameRet = checkpoint::lookup_by_name;
        domain_checkpoint_get_parent(DomainCheckpointGetParentArgs) -> DomainCheckpointGetParentRet = checkpoint::parent;
        domain_checkpoint_delete(DomainCheckpointDeleteArgs) = checkpoint::delete;
    }

    async fn domain_create_xml_with_files(
        &self,
        _: &CallCx,
        args: DomainCreateXmlWithFilesArgs,
        _: Vec<OwnedFd>,
    ) -> Result<DomainCreateXmlWithFilesRet, VirtError> {
        self.run(|host| lifecycle::create_xml_with_files(host, args))
    }

    async fn domain_create_with_files(
        &self,
        _: &CallCx,
        args: DomainCreateWithFilesArgs,
        _: Vec<OwnedFd>,
    ) -> Result<DomainCreateWithFilesRet, VirtError> {
        self.run(|host| lifecycle::create_with_files(host, args))
    }

    /// The picture is the same whatever the guest shows, and even if there is no such guest.
    async fn domain_screenshot(
        &self,
        _: &CallCx,
        args: DomainScreenshotArgs,
        stream: StreamEnd,
    ) -> Result<DomainScreenshotRet, VirtError> {
        check_flags(args.flags, 0, "testDomainScreenshot")?;
        // Both fit the stream's queue, so nothing waits here.
        let _ = stream.outgoing.try_send(ToClient::Data(screenshot::png()));
        let _ = stream.outgoing.try_send(ToClient::End);
        Ok(DomainScreenshotRet { mime: Some("image/png".into()) })
    }
}
