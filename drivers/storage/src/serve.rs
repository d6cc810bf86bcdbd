//! Which function serves which procedure.

use virtwire_driver_api::{StorageDriver, serve};

use crate::{Pools, capabilities, content, listing, lookup, pool, sources, volume};

serve! {
    StorageDriver for Pools {
        connect_list_all_storage_pools = listing::all;
        connect_num_of_storage_pools = listing::count_active;
        connect_list_storage_pools = listing::active;
        connect_num_of_defined_storage_pools = listing::count_inactive;
        connect_list_defined_storage_pools = listing::inactive;
        connect_find_storage_pool_sources = sources::find;
        connect_get_storage_pool_capabilities = capabilities::pools;
        storage_pool_lookup_by_name = lookup::pool_by_name;
        storage_pool_lookup_by_uuid = lookup::pool_by_uuid;
        storage_pool_lookup_by_volume = lookup::pool_by_volume;
        storage_pool_lookup_by_target_path = lookup::pool_by_target_path;
        storage_pool_define_xml = pool::define;
        storage_pool_create_xml = pool::create_xml;
        storage_pool_create = pool::create;
        storage_pool_build = pool::build;
        storage_pool_destroy = pool::destroy;
        storage_pool_delete = pool::delete;
        storage_pool_undefine = pool::undefine;
        storage_pool_refresh = pool::refresh;
        storage_pool_get_info = listing::info;
        storage_pool_get_xml_desc = listing::xml_desc;
        storage_pool_get_autostart = listing::autostart;
        storage_pool_set_autostart = pool::set_autostart;
        storage_pool_is_active = listing::is_active;
        storage_pool_is_persistent = listing::is_persistent;
        storage_pool_num_of_volumes = volume::count;
        storage_pool_list_volumes = volume::names;
        storage_pool_list_all_volumes = volume::all;
        storage_vol_lookup_by_name = lookup::vol_by_name;
        storage_vol_lookup_by_key = lookup::vol_by_key;
        storage_vol_lookup_by_path = lookup::vol_by_path;
        storage_vol_create_xml = volume::create;
        storage_vol_create_xml_from = volume::create_from;
        storage_vol_delete = volume::delete;
        storage_vol_resize = volume::resize;
        storage_vol_get_info = volume::info;
        storage_vol_get_info_flags = volume::info_flags;
        storage_vol_get_xml_desc = volume::xml_desc;
        storage_vol_get_path = volume::path;
        storage_vol_wipe = content::wipe;
        storage_vol_wipe_pattern = content::wipe_pattern;
        storage_vol_upload = content::upload;
        storage_vol_download = content::download;
    }
}
