//! Which function serves which procedure of the hypervisor family.

use virtwire_driver_api::{CallCx, HypervisorDriver, StreamEnd, serve};
use virtwire_protocol::VirtError;
use virtwire_protocol::qemu::{
    DomainAgentCommandArgs, DomainAgentCommandRet, DomainMonitorCommandArgs, DomainMonitorCommandRet,
};
use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::{
    absent, actions, autostart, caps, console, control, define, devices, info, list, machine, memory,
    metadata, monitor, rename, save, screen, snapshot, stats, tune, vcpus,
};

serve! {
    HypervisorDriver for Qemu {
        connect_get_type() -> ConnectGetTypeRet = machine::kind;
        connect_get_version() -> ConnectGetVersionRet = machine::version;
        connect_is_secure() -> ConnectIsSecureRet = machine::is_secure;
        connect_get_hostname() -> ConnectGetHostnameRet = machine::hostname;
        connect_get_max_vcpus(ConnectGetMaxVcpusArgs) -> ConnectGetMaxVcpusRet = machine::max_vcpus;
        connect_get_capabilities() -> ConnectGetCapabilitiesRet = caps::host::capabilities;
        connect_get_domain_capabilities(ConnectGetDomainCapabilitiesArgs)
            -> ConnectGetDomainCapabilitiesRet = caps::domain_capabilities;
        connect_get_cpu_model_names(ConnectGetCpuModelNamesArgs) -> ConnectGetCpuModelNamesRet = caps::cpu_model_names;
        connect_compare_cpu(ConnectCompareCpuArgs) -> ConnectCompareCpuRet = caps::compare_cpu;
        connect_compare_hypervisor_cpu(ConnectCompareHypervisorCpuArgs)
            -> ConnectCompareHypervisorCpuRet = caps::compare_hypervisor_cpu;
        connect_baseline_cpu(ConnectBaselineCpuArgs) -> ConnectBaselineCpuRet = caps::baseline_cpu;
        connect_baseline_hypervisor_cpu(ConnectBaselineHypervisorCpuArgs)
            -> ConnectBaselineHypervisorCpuRet = caps::baseline_hypervisor_cpu;
        connect_domain_xml_to_native(ConnectDomainXmlToNativeArgs) -> ConnectDomainXmlToNativeRet = define::to_native;
        node_get_info() -> NodeGetInfoRet = machine::node_info;
        node_get_cpu_stats(NodeGetCpuStatsArgs) -> NodeGetCpuStatsRet = machine::cpu_stats;
        node_get_memory_stats(NodeGetMemoryStatsArgs) -> NodeGetMemoryStatsRet = machine::memory_stats;
        node_get_cells_free_memory(NodeGetCellsFreeMemoryArgs) -> NodeGetCellsFreeMemoryRet = machine::cells_free_memory;
        node_get_free_memory() -> NodeGetFreeMemoryRet = machine::free_memory;
        node_get_cpu_map(NodeGetCpuMapArgs) -> NodeGetCpuMapRet = machine::cpu_map;
        node_get_security_model() -> NodeGetSecurityModelRet = machine::security_model;

        connect_list_all_domains(ConnectListAllDomainsArgs) -> ConnectListAllDomainsRet = list::all;
        connect_list_domains(ConnectListDomainsArgs) -> ConnectListDomainsRet = list::ids;
        connect_num_of_domains() -> ConnectNumOfDomainsRet = list::count_active;
        connect_list_defined_domains(ConnectListDefinedDomainsArgs) -> ConnectListDefinedDomainsRet = list::inactive;
        connect_num_of_defined_domains() -> ConnectNumOfDefinedDomainsRet = list::count_inactive;
        domain_lookup_by_id(DomainLookupByIdArgs) -> DomainLookupByIdRet = list::by_id;
        domain_lookup_by_name(DomainLookupByNameArgs) -> DomainLookupByNameRet = list::by_name;
        domain_lookup_by_uuid(DomainLookupByUuidArgs) -> DomainLookupByUuidRet = list::by_uuid;

        domain_define_xml(DomainDefineXmlArgs) -> DomainDefineXmlRet = define::define;
        domain_define_xml_flags(DomainDefineXmlFlagsArgs) -> DomainDefineXmlFlagsRet = define::define_flags;
        domain_undefine(DomainUndefineArgs) = define::undefine;
        domain_undefine_flags(DomainUndefineFlagsArgs) = define::undefine_flags;
        domain_get_autostart(DomainGetAutostartArgs) -> DomainGetAutostartRet = autostart::autostart;
        domain_set_autostart(DomainSetAutostartArgs) = autostart::set_autostart;
        domain_get_autostart_once(DomainGetAutostartOnceArgs) -> DomainGetAutostartOnceRet = autostart::once;
        domain_set_autostart_once(DomainSetAutostartOnceArgs) = autostart::set_once;

        domain_create(DomainCreateArgs) = control::create;
        domain_rename(DomainRenameArgs) -> DomainRenameRet = rename::rename;
        domain_set_lifecycle_action(DomainSetLifecycleActionArgs) = actions::set;
        domain_suspend(DomainSuspendArgs) = control::suspend;
        domain_resume(DomainResumeArgs) = control::resume;
        domain_shutdown(DomainShutdownArgs) = control::shutdown;
        domain_shutdown_flags(DomainShutdownFlagsArgs) = control::shutdown_flags;
        domain_reboot(DomainRebootArgs) = control::reboot;
        domain_reset(DomainResetArgs) = control::reset;
        domain_destroy(DomainDestroyArgs) = control::destroy;
        domain_destroy_flags(DomainDestroyFlagsArgs) = control::destroy_flags;
        domain_inject_nmi(DomainInjectNmiArgs) = control::inject_nmi;
        domain_send_key(DomainSendKeyArgs) = control::send_key;

        domain_get_info(DomainGetInfoArgs) -> DomainGetInfoRet = info::info;
        domain_get_state(DomainGetStateArgs) -> DomainGetStateRet = info::state;
        domain_get_control_info(DomainGetControlInfoArgs) -> DomainGetControlInfoRet = info::control_info;
        domain_get_xml_desc(DomainGetXmlDescArgs) -> DomainGetXmlDescRet = info::xml_desc;
        domain_get_os_type(DomainGetOsTypeArgs) -> DomainGetOsTypeRet = info::os_type;
        domain_is_active(DomainIsActiveArgs) -> DomainIsActiveRet = info::is_active;
        domain_is_persistent(DomainIsPersistentArgs) -> DomainIsPersistentRet = info::is_persistent;
        domain_is_updated(DomainIsUpdatedArgs) -> DomainIsUpdatedRet = info::is_updated;
        domain_get_security_label(DomainGetSecurityLabelArgs) -> DomainGetSecurityLabelRet = info::security_label;
        domain_get_security_label_list(DomainGetSecurityLabelListArgs)
            -> DomainGetSecurityLabelListRet = info::security_labels;
        domain_get_messages(DomainGetMessagesArgs) -> DomainGetMessagesRet = info::messages;
        domain_get_scheduler_type(DomainGetSchedulerTypeArgs) -> DomainGetSchedulerTypeRet = info::scheduler_type;
        domain_get_job_info(DomainGetJobInfoArgs) -> DomainGetJobInfoRet = info::job_info;
        domain_get_vcpus(DomainGetVcpusArgs) -> DomainGetVcpusRet = info::vcpus;
        domain_get_vcpus_flags(DomainGetVcpusFlagsArgs) -> DomainGetVcpusFlagsRet = info::vcpus_flags;
        domain_get_max_vcpus(DomainGetMaxVcpusArgs) -> DomainGetMaxVcpusRet = info::max_vcpus;

        domain_get_max_memory(DomainGetMaxMemoryArgs) -> DomainGetMaxMemoryRet = memory::maximum;
        domain_set_memory(DomainSetMemoryArgs) = memory::set;
        domain_set_memory_flags(DomainSetMemoryFlagsArgs) = memory::set_flags;
        domain_memory_stats(DomainMemoryStatsArgs) -> DomainMemoryStatsRet = memory::stats;

        domain_get_metadata(DomainGetMetadataArgs) -> DomainGetMetadataRet = metadata::get;
        domain_set_metadata(DomainSetMetadataArgs) = metadata::set;

        connect_get_all_domain_stats(ConnectGetAllDomainStatsArgs) -> ConnectGetAllDomainStatsRet = stats::all;
        domain_block_stats(DomainBlockStatsArgs) -> DomainBlockStatsRet = stats::block;
        domain_block_stats_flags(DomainBlockStatsFlagsArgs) -> DomainBlockStatsFlagsRet = stats::block_flags;
        domain_get_block_info(DomainGetBlockInfoArgs) -> DomainGetBlockInfoRet = stats::block_info;

        domain_get_scheduler_parameters(DomainGetSchedulerParametersArgs) -> DomainGetSchedulerParametersRet = tune::scheduler;
        domain_get_scheduler_parameters_flags(DomainGetSchedulerParametersFlagsArgs) -> DomainGetSchedulerParametersFlagsRet = tune::scheduler_flags;
        domain_get_memory_parameters(DomainGetMemoryParametersArgs) -> DomainGetMemoryParametersRet = tune::memory;
        domain_get_blkio_parameters(DomainGetBlkioParametersArgs) -> DomainGetBlkioParametersRet = tune::blkio;
        domain_get_numa_parameters(DomainGetNumaParametersArgs) -> DomainGetNumaParametersRet = tune::numa;
        domain_get_emulator_pin_info(DomainGetEmulatorPinInfoArgs) -> DomainGetEmulatorPinInfoRet = tune::emulator_pin;
        domain_get_vcpu_pin_info(DomainGetVcpuPinInfoArgs) -> DomainGetVcpuPinInfoRet = tune::vcpu_pin;

        connect_get_sysinfo(ConnectGetSysinfoArgs) -> ConnectGetSysinfoRet = absent::sysinfo;
        domain_get_time(DomainGetTimeArgs) -> DomainGetTimeRet = absent::time;
        domain_set_time(DomainSetTimeArgs) = absent::set_time;
        domain_get_hostname(DomainGetHostnameArgs) -> DomainGetHostnameRet = absent::hostname;
        domain_get_fsinfo(DomainGetFsinfoArgs) -> DomainGetFsinfoRet = absent::fsinfo;
        domain_fsfreeze(DomainFsfreezeArgs) -> DomainFsfreezeRet = absent::fsfreeze;
        domain_fsthaw(DomainFsthawArgs) -> DomainFsthawRet = absent::fsthaw;
        domain_fstrim(DomainFstrimArgs) = absent::fstrim;
        domain_get_guest_info(DomainGetGuestInfoArgs) -> DomainGetGuestInfoRet = absent::guest_info;
        domain_get_guest_vcpus(DomainGetGuestVcpusArgs) -> DomainGetGuestVcpusRet = absent::guest_vcpus;
        domain_set_user_password(DomainSetUserPasswordArgs) = absent::set_user_password;
        domain_pm_suspend_for_duration(DomainPmSuspendForDurationArgs) = absent::pm_suspend;
        domain_authorized_ssh_keys_get(DomainAuthorizedSshKeysGetArgs) -> DomainAuthorizedSshKeysGetRet = absent::ssh_keys;
        domain_interface_addresses(DomainInterfaceAddressesArgs) -> DomainInterfaceAddressesRet = absent::interface_addresses;
        domain_list_all_checkpoints(DomainListAllCheckpointsArgs) -> DomainListAllCheckpointsRet = absent::checkpoints;
        domain_get_disk_errors(DomainGetDiskErrorsArgs) -> DomainGetDiskErrorsRet = absent::disk_errors;
        domain_get_iothread_info(DomainGetIothreadInfoArgs) -> DomainGetIothreadInfoRet = tune::iothreads;
        domain_abort_job(DomainAbortJobArgs) = absent::abort_job;

        domain_get_perf_events(DomainGetPerfEventsArgs) -> DomainGetPerfEventsRet = tune::perf_events;
        domain_get_launch_security_info(DomainGetLaunchSecurityInfoArgs)
            -> DomainGetLaunchSecurityInfoRet = absent::launch_security;
        node_get_sev_info(NodeGetSevInfoArgs) -> NodeGetSevInfoRet = absent::sev_info;
        domain_set_vcpus(DomainSetVcpusArgs) = vcpus::set;
        domain_set_vcpus_flags(DomainSetVcpusFlagsArgs) = vcpus::set_flags;
        domain_interface_stats(DomainInterfaceStatsArgs) -> DomainInterfaceStatsRet = stats::interface;

        domain_attach_device(DomainAttachDeviceArgs) = devices::attach;
        domain_attach_device_flags(DomainAttachDeviceFlagsArgs) = devices::attach_flags;
        domain_detach_device(DomainDetachDeviceArgs) = devices::detach;
        domain_detach_device_flags(DomainDetachDeviceFlagsArgs) = devices::detach_flags;
        domain_detach_device_alias(DomainDetachDeviceAliasArgs) = devices::detach_alias;
        domain_update_device_flags(DomainUpdateDeviceFlagsArgs) = devices::update;

        domain_snapshot_create_xml(DomainSnapshotCreateXmlArgs) -> DomainSnapshotCreateXmlRet = snapshot::create_xml;
        domain_snapshot_get_xml_desc(DomainSnapshotGetXmlDescArgs) -> DomainSnapshotGetXmlDescRet = snapshot::xml_desc;
        domain_snapshot_num(DomainSnapshotNumArgs) -> DomainSnapshotNumRet = snapshot::count;
        domain_snapshot_list_names(DomainSnapshotListNamesArgs) -> DomainSnapshotListNamesRet = snapshot::names;
        domain_list_all_snapshots(DomainListAllSnapshotsArgs) -> DomainListAllSnapshotsRet = snapshot::of_guest;
        domain_snapshot_num_children(DomainSnapshotNumChildrenArgs) -> DomainSnapshotNumChildrenRet = snapshot::count_children;
        domain_snapshot_list_children_names(DomainSnapshotListChildrenNamesArgs)
            -> DomainSnapshotListChildrenNamesRet = snapshot::children_names;
        domain_snapshot_list_all_children(DomainSnapshotListAllChildrenArgs)
            -> DomainSnapshotListAllChildrenRet = snapshot::children;
        domain_snapshot_lookup_by_name(DomainSnapshotLookupByNameArgs) -> DomainSnapshotLookupByNameRet = snapshot::lookup;
        domain_has_current_snapshot(DomainHasCurrentSnapshotArgs) -> DomainHasCurrentSnapshotRet = snapshot::has_current;
        domain_snapshot_current(DomainSnapshotCurrentArgs) -> DomainSnapshotCurrentRet = snapshot::current;
        domain_snapshot_get_parent(DomainSnapshotGetParentArgs) -> DomainSnapshotGetParentRet = snapshot::parent;
        domain_snapshot_is_current(DomainSnapshotIsCurrentArgs) -> DomainSnapshotIsCurrentRet = snapshot::is_current;
        domain_snapshot_has_metadata(DomainSnapshotHasMetadataArgs) -> DomainSnapshotHasMetadataRet = snapshot::has_metadata;
        domain_snapshot_delete(DomainSnapshotDeleteArgs) = snapshot::delete;
        domain_revert_to_snapshot(DomainRevertToSnapshotArgs) = snapshot::revert;

        domain_save(DomainSaveArgs) = save::save;
        domain_save_flags(DomainSaveFlagsArgs) = save::save_flags;
        domain_restore(DomainRestoreArgs) = save::restore;
        domain_restore_flags(DomainRestoreFlagsArgs) = save::restore_flags;
        domain_save_image_get_xml_desc(DomainSaveImageGetXmlDescArgs) -> DomainSaveImageGetXmlDescRet = save::image_xml;
        domain_save_image_define_xml(DomainSaveImageDefineXmlArgs) = save::image_define;
        domain_managed_save(DomainManagedSaveArgs) = save::managed_save;
        domain_has_managed_save_image(DomainHasManagedSaveImageArgs) -> DomainHasManagedSaveImageRet = save::has_managed;
        domain_managed_save_remove(DomainManagedSaveRemoveArgs) = save::managed_remove;
        domain_managed_save_get_xml_desc(DomainManagedSaveGetXmlDescArgs)
            -> DomainManagedSaveGetXmlDescRet = save::managed_xml;
        domain_managed_save_define_xml(DomainManagedSaveDefineXmlArgs) = save::managed_define;

        qemu_domain_agent_command(DomainAgentCommandArgs) -> DomainAgentCommandRet = absent::agent_command;
        qemu_domain_monitor_command(DomainMonitorCommandArgs) -> DomainMonitorCommandRet = monitor::command;
    }

    async fn domain_create_xml(
        &self,
        cx: &CallCx,
        args: DomainCreateXmlArgs,
    ) -> Result<DomainCreateXmlRet, VirtError> {
        control::create_xml(self, cx, args).await
    }

    async fn domain_create_with_flags(
        &self,
        cx: &CallCx,
        args: DomainCreateWithFlagsArgs,
    ) -> Result<DomainCreateWithFlagsRet, VirtError> {
        control::create_with_flags(self, cx, args).await
    }

    async fn domain_open_console(
        &self,
        _: &CallCx,
        args: DomainOpenConsoleArgs,
        stream: StreamEnd,
    ) -> Result<(), VirtError> {
        console::open(self, args, stream).await
    }

    async fn domain_screenshot(
        &self,
        _: &CallCx,
        args: DomainScreenshotArgs,
        stream: StreamEnd,
    ) -> Result<DomainScreenshotRet, VirtError> {
        screen::shot(self, args, stream).await
    }
}
