//! Which function serves which procedure of the hypervisor family.

use virtwire_driver_api::{HypervisorDriver, serve};

use crate::connect;
use crate::domain::{
    agent, checkpoint, device, info, iothread, lifecycle, list, memory, metadata, save, snapshot, stats,
    throttle, tuning, vcpu,
};
use crate::driver::TestConnection;
use crate::screenshot;

serve! {
    HypervisorDriver for TestConnection by run {
        connect_get_type = connect::kind;
        connect_get_version = connect::version;
        connect_is_secure = connect::is_secure;
        connect_get_hostname = connect::hostname;
        connect_get_sysinfo = connect::sysinfo;
        connect_get_capabilities = connect::capabilities;
        connect_get_domain_capabilities = connect::domain_capabilities_of;
        connect_get_cpu_model_names = connect::cpu_models;
        connect_baseline_cpu = connect::baseline_cpu;
        connect_get_max_vcpus = info::max_vcpus_of_host;
        connect_get_all_domain_stats = stats::all;
        node_get_info = connect::node_info;
        node_get_cpu_stats = connect::cpu_stats;
        node_get_cells_free_memory = connect::cells_free_memory;
        node_get_free_memory = connect::free_memory;
        node_get_free_pages = connect::free_pages;
        node_get_cpu_map = connect::cpu_map;
        node_get_security_model = connect::security_model;

        connect_list_all_domains = list::all;
        connect_list_domains = list::ids;
        connect_num_of_domains = list::count_active;
        connect_list_defined_domains = list::inactive;
        connect_num_of_defined_domains = list::count_inactive;
        domain_lookup_by_id = list::by_id;
        domain_lookup_by_name = list::by_name;
        domain_lookup_by_uuid = list::by_uuid;

        domain_define_xml = lifecycle::define;
        domain_define_xml_flags = lifecycle::define_flags;
        domain_create_xml = lifecycle::create_xml;
        domain_create_xml_with_files = lifecycle::create_xml_with_files;
        domain_create = lifecycle::create;
        domain_create_with_flags = lifecycle::create_with_flags;
        domain_create_with_files = lifecycle::create_with_files;
        domain_suspend = lifecycle::suspend;
        domain_resume = lifecycle::resume;
        domain_shutdown = lifecycle::shutdown;
        domain_shutdown_flags = lifecycle::shutdown_flags;
        domain_reboot = lifecycle::reboot;
        domain_reset = lifecycle::reset;
        domain_destroy = lifecycle::destroy;
        domain_destroy_flags = lifecycle::destroy_flags;
        domain_undefine = lifecycle::undefine;
        domain_undefine_flags = lifecycle::undefine_flags;
        domain_rename = lifecycle::rename;

        domain_get_info = info::info;
        domain_get_state = info::state;
        domain_get_control_info = info::control_info;
        domain_get_xml_desc = info::xml_desc;
        domain_get_autostart = info::autostart;
        domain_set_autostart = info::set_autostart;
        domain_get_os_type = info::os_type;
        domain_is_active = info::is_active;
        domain_is_persistent = info::is_persistent;
        domain_is_updated = info::is_updated;
        domain_get_security_label = info::security_label;
        domain_set_lifecycle_action = info::set_lifecycle_action;
        domain_get_messages = info::messages;
        domain_get_launch_security_info = info::launch_security_info;
        domain_get_metadata = metadata::get;
        domain_set_metadata = metadata::set;

        domain_get_max_memory = memory::max;
        domain_set_memory = memory::set;
        domain_set_max_memory = memory::set_max;
        domain_set_memory_flags = memory::set_flags;
        domain_memory_stats = memory::stats;
        domain_set_memory_stats_period = memory::set_stats_period;
        domain_memory_peek = memory::peek;

        domain_get_max_vcpus = vcpu::max;
        domain_set_vcpus = vcpu::set;
        domain_set_vcpus_flags = vcpu::set_flags;
        domain_get_vcpus_flags = vcpu::get_flags;
        domain_get_vcpus = vcpu::get;
        domain_pin_vcpu = vcpu::pin_vcpu;
        domain_pin_vcpu_flags = vcpu::pin_vcpu_flags;
        domain_get_vcpu_pin_info = vcpu::pin_info;
        domain_pin_emulator = vcpu::pin_emulator;
        domain_get_emulator_pin_info = vcpu::emulator_pin_info;
        domain_get_iothread_info = iothread::info;
        domain_pin_iothread = iothread::pin;
        domain_add_iothread = iothread::add;
        domain_del_iothread = iothread::delete;
        domain_set_iothread_params = iothread::set_params;

        domain_get_scheduler_type = tuning::scheduler_type;
        domain_get_scheduler_parameters = tuning::scheduler;
        domain_get_scheduler_parameters_flags = tuning::scheduler_flags;
        domain_set_scheduler_parameters = tuning::set_scheduler;
        domain_set_scheduler_parameters_flags = tuning::set_scheduler_flags;
        domain_get_memory_parameters = tuning::memory;
        domain_set_memory_parameters = tuning::set_memory;
        domain_get_blkio_parameters = tuning::blkio;
        domain_set_blkio_parameters = tuning::set_blkio;
        domain_get_numa_parameters = tuning::numa;
        domain_set_numa_parameters = tuning::set_numa;
        domain_get_perf_events = tuning::perf;
        domain_set_perf_events = tuning::set_perf;
        domain_get_block_io_tune = throttle::block_io;
        domain_set_block_io_tune = throttle::set_block_io;
        domain_get_interface_parameters = throttle::interface_params;
        domain_set_interface_parameters = throttle::set_interface_params;

        domain_block_stats = stats::block;
        domain_interface_stats = stats::network;
        domain_get_block_info = stats::block_info;
        domain_get_disk_errors = stats::disk_errors;
        domain_get_cpu_stats = stats::cpu;
        domain_interface_addresses = stats::addresses;

        domain_attach_device = device::attach;
        domain_attach_device_flags = device::attach_flags;
        domain_update_device_flags = device::update_flags;
        domain_detach_device_alias = device::detach_alias;

        domain_get_hostname = agent::hostname;
        domain_get_time = agent::time;
        domain_set_time = agent::set_time;
        domain_get_fsinfo = agent::fs_info;
        domain_fsfreeze = agent::freeze;
        domain_fsthaw = agent::thaw;
        domain_fstrim = agent::trim;
        domain_send_key = agent::send_key;
        domain_send_process_signal = agent::send_process_signal;
        domain_inject_nmi = agent::inject_nmi;
        domain_set_user_password = agent::set_user_password;

        domain_save = save::save;
        domain_save_flags = save::save_flags;
        domain_restore = save::restore;
        domain_restore_flags = save::restore_flags;
        domain_save_image_get_xml_desc = save::image_xml_desc;
        domain_save_image_define_xml = save::image_define_xml;
        domain_managed_save = save::managed_save;
        domain_has_managed_save_image = save::has_managed_save;
        domain_managed_save_remove = save::remove_managed_save;
        domain_core_dump = save::core_dump;
        domain_core_dump_with_format = save::core_dump_with_format;

        domain_snapshot_create_xml = snapshot::create_xml;
        domain_snapshot_get_xml_desc = snapshot::get_xml_desc;
        domain_snapshot_num = snapshot::num;
        domain_snapshot_list_names = snapshot::list_names;
        domain_list_all_snapshots = snapshot::list_all;
        domain_snapshot_num_children = snapshot::num_children;
        domain_snapshot_list_children_names = snapshot::list_children_names;
        domain_snapshot_list_all_children = snapshot::list_all_children;
        domain_snapshot_lookup_by_name = snapshot::lookup_by_name;
        domain_has_current_snapshot = snapshot::has_current;
        domain_snapshot_current = snapshot::current;
        domain_snapshot_get_parent = snapshot::parent;
        domain_snapshot_is_current = snapshot::is_current;
        domain_snapshot_has_metadata = snapshot::has_metadata;
        domain_snapshot_delete = snapshot::delete;
        domain_revert_to_snapshot = snapshot::revert;

        domain_checkpoint_create_xml = checkpoint::create_xml;
        domain_checkpoint_get_xml_desc = checkpoint::get_xml_desc;
        domain_list_all_checkpoints = checkpoint::list_all;
        domain_checkpoint_list_all_children = checkpoint::list_all_children;
        domain_checkpoint_lookup_by_name = checkpoint::lookup_by_name;
        domain_checkpoint_get_parent = checkpoint::parent;
        domain_checkpoint_delete = checkpoint::delete;
        domain_screenshot = screenshot::shot;
    }
}
