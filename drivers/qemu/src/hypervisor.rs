//! Which function serves which procedure of the hypervisor family.

use virtwire_driver_api::{HypervisorDriver, serve};

use crate::driver::Qemu;
use crate::{
    absent, actions, agent, autostart, backup, bandwidth, blockjob, caps, checkpoint, console, control,
    define, devices, disks, dump, fds, graphics, info, iothreads, jobs, list, machine, memory, metadata,
    migration, monitor, nodedev, pages, pin, power, rename, save, screen, secure, snapshot, stats, sysinfo,
    throttle, tune, vcpus,
};

serve! {
    HypervisorDriver for Qemu {
        connect_get_type = machine::kind;
        connect_get_version = machine::version;
        connect_is_secure = machine::is_secure;
        connect_get_hostname = machine::hostname;
        connect_get_max_vcpus = machine::max_vcpus;
        connect_get_capabilities = caps::host::capabilities;
        connect_get_domain_capabilities = caps::domain_capabilities;
        connect_get_cpu_model_names = caps::cpu_model_names;
        connect_compare_cpu = caps::compare_cpu;
        connect_compare_hypervisor_cpu = caps::compare_hypervisor_cpu;
        connect_baseline_cpu = caps::baseline_cpu;
        connect_baseline_hypervisor_cpu = caps::baseline_hypervisor_cpu;
        connect_domain_xml_to_native = define::to_native;
        node_get_info = machine::node_info;
        node_get_cpu_stats = machine::cpu_stats;
        node_get_memory_stats = machine::memory_stats;
        node_get_cells_free_memory = machine::cells_free_memory;
        node_get_free_memory = machine::free_memory;
        node_get_free_pages = pages::free;
        node_alloc_pages = pages::allocate;
        node_get_memory_parameters = pages::merging;
        node_set_memory_parameters = pages::set_merging;
        node_suspend_for_duration = pages::suspend;
        node_get_cpu_map = machine::cpu_map;
        node_get_security_model = machine::security_model;
        node_device_dettach = nodedev::detach;
        node_device_detach_flags = nodedev::detach_flags;
        node_device_re_attach = nodedev::reattach;
        node_device_reset = nodedev::reset;

        connect_list_all_domains = list::all;
        connect_list_domains = list::ids;
        connect_num_of_domains = list::count_active;
        connect_list_defined_domains = list::inactive;
        connect_num_of_defined_domains = list::count_inactive;
        domain_lookup_by_id = list::by_id;
        domain_lookup_by_name = list::by_name;
        domain_lookup_by_uuid = list::by_uuid;

        domain_define_xml = define::define;
        domain_define_xml_flags = define::define_flags;
        domain_undefine = define::undefine;
        domain_undefine_flags = define::undefine_flags;
        domain_get_autostart = autostart::autostart;
        domain_set_autostart = autostart::set_autostart;
        domain_get_autostart_once = autostart::once;
        domain_set_autostart_once = autostart::set_once;

        domain_create = control::create;
        domain_create_xml(cx) = control::create_xml;
        domain_create_with_flags(cx) = control::create_with_flags;
        domain_rename = rename::rename;
        domain_set_lifecycle_action = actions::set;
        domain_suspend = control::suspend;
        domain_resume = control::resume;
        domain_shutdown = control::shutdown;
        domain_shutdown_flags = control::shutdown_flags;
        domain_reboot = control::reboot;
        domain_reset = control::reset;
        domain_destroy = control::destroy;
        domain_destroy_flags = control::destroy_flags;
        domain_inject_nmi = control::inject_nmi;
        domain_send_key = control::send_key;

        domain_open_console = console::open;
        domain_open_channel = console::open_channel;
        domain_screenshot = screen::shot;
        domain_open_graphics = graphics::open;
        domain_open_graphics_fd = graphics::open_fd;
        domain_graphics_reload = graphics::reload;
        domain_fd_associate(cx) = fds::associate;
        domain_pm_wakeup = power::wake;

        domain_get_info = info::info;
        domain_get_state = info::state;
        domain_get_control_info = info::control_info;
        domain_get_xml_desc = info::xml_desc;
        domain_get_os_type = info::os_type;
        domain_is_active = info::is_active;
        domain_is_persistent = info::is_persistent;
        domain_is_updated = info::is_updated;
        domain_get_security_label = info::security_label;
        domain_get_security_label_list = info::security_labels;
        domain_get_messages = info::messages;
        domain_get_scheduler_type = info::scheduler_type;
        domain_get_job_info = info::job_info;
        domain_get_vcpus = info::vcpus;
        domain_get_vcpus_flags = info::vcpus_flags;
        domain_get_max_vcpus = info::max_vcpus;

        domain_get_max_memory = memory::maximum;
        domain_set_max_memory = memory::set_maximum;
        domain_set_memory = memory::set;
        domain_set_memory_flags = memory::set_flags;
        domain_memory_stats = memory::stats;
        domain_set_memory_stats_period = memory::set_stats_period;

        domain_get_metadata = metadata::get;
        domain_set_metadata = metadata::set;

        connect_get_all_domain_stats = stats::all;
        domain_block_stats = stats::block;
        domain_block_stats_flags = stats::block_flags;
        domain_get_block_info = stats::block_info;
        domain_get_cpu_stats = stats::cpu;
        domain_block_resize = disks::resize;
        domain_block_peek = disks::peek;
        domain_memory_peek = disks::peek_memory;
        domain_set_block_threshold = disks::set_threshold;
        domain_block_pull = blockjob::pull;
        domain_block_rebase = blockjob::rebase;
        domain_block_commit = blockjob::commit;
        domain_block_copy = blockjob::copy;
        domain_block_job_abort = blockjob::abort;
        domain_get_block_job_info = blockjob::info;
        domain_block_job_set_speed = blockjob::set_speed;

        domain_migrate_begin3(cx) = migration::begin3;
        domain_migrate_begin3_params(cx) = migration::begin3_params;
        domain_migrate_prepare3(cx) = migration::prepare3;
        domain_migrate_prepare3_params(cx) = migration::prepare3_params;
        domain_migrate_prepare_tunnel(cx) = migration::prepare_tunnel;
        domain_migrate_prepare_tunnel3(cx) = migration::prepare_tunnel3;
        domain_migrate_prepare_tunnel3_params(cx) = migration::prepare_tunnel3_params;
        domain_migrate_perform3(cx) = migration::perform3;
        domain_migrate_perform3_params(cx) = migration::perform3_params;
        domain_migrate_finish3 = migration::finish3;
        domain_migrate_finish3_params = migration::finish3_params;
        domain_migrate_confirm3 = migration::confirm3;
        domain_migrate_confirm3_params = migration::confirm3_params;
        domain_migrate_set_max_speed = jobs::set_max_speed;
        domain_migrate_get_max_speed = jobs::max_speed;
        domain_migrate_set_max_downtime = jobs::set_max_downtime;
        domain_migrate_get_max_downtime = jobs::max_downtime;
        domain_migrate_set_compression_cache = jobs::set_cache;
        domain_migrate_get_compression_cache = jobs::cache;
        domain_migrate_start_post_copy = jobs::start_post_copy;
        domain_get_job_stats = jobs::stats;
        domain_abort_job_flags = jobs::abort;
        domain_start_dirty_rate_calc = jobs::start_dirty_rate;

        domain_get_scheduler_parameters = tune::scheduler;
        domain_get_scheduler_parameters_flags = tune::scheduler_flags;
        domain_set_scheduler_parameters = tune::set_scheduler;
        domain_set_scheduler_parameters_flags = tune::set_scheduler_flags;
        domain_get_memory_parameters = tune::memory;
        domain_set_memory_parameters = tune::set_memory;
        domain_get_interface_parameters = bandwidth::get;
        domain_set_interface_parameters = bandwidth::set;
        domain_get_blkio_parameters = tune::blkio;
        domain_set_blkio_parameters = tune::set_blkio;
        domain_get_numa_parameters = tune::numa;
        domain_set_numa_parameters = tune::set_numa;
        domain_get_emulator_pin_info = pin::emulator_info;
        domain_get_vcpu_pin_info = pin::vcpu_info;
        domain_pin_vcpu = pin::vcpu;
        domain_pin_vcpu_flags = pin::vcpu_flags;
        domain_pin_emulator = pin::emulator;
        domain_get_iothread_info = iothreads::info;
        domain_add_iothread = iothreads::add;
        domain_del_iothread = iothreads::delete;
        domain_set_iothread_params = iothreads::set_params;
        domain_pin_iothread = iothreads::pin;
        domain_get_block_io_tune = throttle::get;
        domain_set_block_io_tune = throttle::set;
        domain_set_throttle_group = throttle::groups::set;
        domain_del_throttle_group = throttle::groups::delete;

        connect_get_sysinfo = sysinfo::get;
        domain_get_time = agent::time;
        domain_set_time = agent::set_time;
        domain_get_hostname = agent::hostname;
        domain_get_fsinfo = agent::fsinfo;
        domain_fsfreeze = agent::fsfreeze;
        domain_fsthaw = agent::fsthaw;
        domain_fstrim = agent::fstrim;
        domain_get_guest_info = agent::guest_info;
        domain_get_guest_vcpus = agent::guest_vcpus;
        domain_set_user_password = agent::set_user_password;
        domain_pm_suspend_for_duration = agent::pm_suspend;
        domain_authorized_ssh_keys_get = agent::ssh_keys;
        domain_authorized_ssh_keys_set = agent::set_ssh_keys;
        domain_agent_set_response_timeout = agent::set_response_timeout;
        domain_set_guest_vcpus = agent::set_guest_vcpus;
        domain_interface_addresses = agent::interface_addresses;
        domain_get_disk_errors = absent::disk_errors;
        domain_abort_job = jobs::abort_job;

        domain_get_perf_events = tune::perf_events;
        domain_set_perf_events = tune::set_perf_events;
        domain_get_launch_security_info = absent::launch_security;
        domain_set_launch_security_state = secure::set_state;
        node_get_sev_info = absent::sev_info;
        domain_set_vcpus = vcpus::set;
        domain_set_vcpus_flags = vcpus::set_flags;
        domain_set_vcpu = vcpus::set_one;
        domain_core_dump = dump::dump;
        domain_core_dump_with_format = dump::with_format;
        domain_interface_stats = stats::interface;

        domain_attach_device = devices::attach;
        domain_attach_device_flags = devices::attach_flags;
        domain_detach_device = devices::detach;
        domain_detach_device_flags = devices::detach_flags;
        domain_detach_device_alias = devices::detach_alias;
        domain_update_device_flags = devices::update;

        domain_snapshot_create_xml = snapshot::create_xml;
        domain_snapshot_get_xml_desc = snapshot::xml_desc;
        domain_snapshot_num = snapshot::count;
        domain_snapshot_list_names = snapshot::names;
        domain_list_all_snapshots = snapshot::of_guest;
        domain_snapshot_num_children = snapshot::count_children;
        domain_snapshot_list_children_names = snapshot::children_names;
        domain_snapshot_list_all_children = snapshot::children;
        domain_snapshot_lookup_by_name = snapshot::lookup;
        domain_has_current_snapshot = snapshot::has_current;
        domain_snapshot_current = snapshot::current;
        domain_snapshot_get_parent = snapshot::parent;
        domain_snapshot_is_current = snapshot::is_current;
        domain_snapshot_has_metadata = snapshot::has_metadata;
        domain_snapshot_delete = snapshot::delete;
        domain_revert_to_snapshot = snapshot::revert;

        domain_checkpoint_create_xml = checkpoint::create_xml;
        domain_checkpoint_get_xml_desc = checkpoint::xml_desc;
        domain_list_all_checkpoints = checkpoint::of_guest;
        domain_checkpoint_list_all_children = checkpoint::children;
        domain_checkpoint_lookup_by_name = checkpoint::lookup;
        domain_checkpoint_get_parent = checkpoint::parent;
        domain_checkpoint_delete = checkpoint::delete;

        domain_backup_begin = backup::begin;
        domain_backup_get_xml_desc = backup::xml_desc;

        domain_save = save::save;
        domain_save_flags = save::save_flags;
        domain_save_params = save::save_params;
        domain_restore = save::restore;
        domain_restore_flags = save::restore_flags;
        domain_restore_params = save::restore_params;
        domain_save_image_get_xml_desc = save::image_xml;
        domain_save_image_define_xml = save::image_define;
        domain_managed_save = save::managed_save;
        domain_has_managed_save_image = save::has_managed;
        domain_managed_save_remove = save::managed_remove;
        domain_managed_save_get_xml_desc = save::managed_xml;
        domain_managed_save_define_xml = save::managed_define;

        qemu_domain_agent_command = agent::command;
        qemu_domain_monitor_command = monitor::command;
        qemu_domain_monitor_command_with_files = monitor::command_with_files;
    }
}
