//! Which function serves which procedure.

use virtwire_driver_api::{CallCx, StorageDriver, StreamEnd, serve};
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;

use crate::{Pools, capabilities, content, listing, lookup, pool, volume};

serve! {
    StorageDriver for Pools {
        connect_list_all_storage_pools(ConnectListAllStoragePoolsArgs) -> ConnectListAllStoragePoolsRet = listing::all;
        connect_num_of_storage_pools() -> ConnectNumOfStoragePoolsRet = listing::count_active;
        connect_list_storage_pools(ConnectListStoragePoolsArgs) -> ConnectListStoragePoolsRet = listing::active;
        connect_num_of_defined_storage_pools() -> ConnectNumOfDefinedStoragePoolsRet = listing::count_inactive;
        connect_list_defined_storage_pools(ConnectListDefinedStoragePoolsArgs) -> ConnectListDefinedStoragePoolsRet = listing::inactive;
        connect_find_storage_pool_sources(ConnectFindStoragePoolSourcesArgs) -> ConnectFindStoragePoolSourcesRet = listing::find_sources;
        connect_get_storage_pool_capabilities(ConnectGetStoragePoolCapabilitiesArgs)
            -> ConnectGetStoragePoolCapabilitiesRet = capabilities::pools;
        storage_pool_lookup_by_name(StoragePoolLookupByNameArgs) -> StoragePoolLookupByNameRet = lookup::pool_by_name;
        storage_pool_lookup_by_uuid(StoragePoolLookupByUuidArgs) -> StoragePoolLookupByUuidRet = lookup::pool_by_uuid;
        storage_pool_lookup_by_volume(StoragePoolLookupByVolumeArgs) -> StoragePoolLookupByVolumeRet = lookup::pool_by_volume;
        storage_pool_define_xml(StoragePoolDefineXmlArgs) -> StoragePoolDefineXmlRet = pool::define;
        storage_pool_create_xml(StoragePoolCreateXmlArgs) -> StoragePoolCreateXmlRet = pool::create_xml;
        storage_pool_create(StoragePoolCreateArgs) = pool::create;
        storage_pool_build(StoragePoolBuildArgs) = pool::build;
        storage_pool_destroy(StoragePoolDestroyArgs) = pool::destroy;
        storage_pool_delete(StoragePoolDeleteArgs) = pool::delete;
        storage_pool_undefine(StoragePoolUndefineArgs) = pool::undefine;
        storage_pool_refresh(StoragePoolRefreshArgs) = pool::refresh;
        storage_pool_get_info(StoragePoolGetInfoArgs) -> StoragePoolGetInfoRet = listing::info;
        storage_pool_get_xml_desc(StoragePoolGetXmlDescArgs) -> StoragePoolGetXmlDescRet = listing::xml_desc;
        storage_pool_get_autostart(StoragePoolGetAutostartArgs) -> StoragePoolGetAutostartRet = listing::autostart;
        storage_pool_set_autostart(StoragePoolSetAutostartArgs) = pool::set_autostart;
        storage_pool_is_active(StoragePoolIsActiveArgs) -> StoragePoolIsActiveRet = listing::is_active;
        storage_pool_is_persistent(StoragePoolIsPersistentArgs) -> StoragePoolIsPersistentRet = listing::is_persistent;
        storage_pool_num_of_volumes(StoragePoolNumOfVolumesArgs) -> StoragePoolNumOfVolumesRet = volume::count;
        storage_pool_list_volumes(StoragePoolListVolumesArgs) -> StoragePoolListVolumesRet = volume::names;
        storage_pool_list_all_volumes(StoragePoolListAllVolumesArgs) -> StoragePoolListAllVolumesRet = volume::all;
        storage_vol_lookup_by_name(StorageVolLookupByNameArgs) -> StorageVolLookupByNameRet = lookup::vol_by_name;
        storage_vol_lookup_by_key(StorageVolLookupByKeyArgs) -> StorageVolLookupByKeyRet = lookup::vol_by_key;
        storage_vol_lookup_by_path(StorageVolLookupByPathArgs) -> StorageVolLookupByPathRet = lookup::vol_by_path;
        storage_vol_create_xml(StorageVolCreateXmlArgs) -> StorageVolCreateXmlRet = volume::create;
        storage_vol_create_xml_from(StorageVolCreateXmlFromArgs) -> StorageVolCreateXmlFromRet = volume::create_from;
        storage_vol_delete(StorageVolDeleteArgs) = volume::delete;
        storage_vol_resize(StorageVolResizeArgs) = volume::resize;
        storage_vol_get_info(StorageVolGetInfoArgs) -> StorageVolGetInfoRet = volume::info;
        storage_vol_get_info_flags(StorageVolGetInfoFlagsArgs) -> StorageVolGetInfoFlagsRet = volume::info_flags;
        storage_vol_get_xml_desc(StorageVolGetXmlDescArgs) -> StorageVolGetXmlDescRet = volume::xml_desc;
        storage_vol_get_path(StorageVolGetPathArgs) -> StorageVolGetPathRet = volume::path;
        storage_vol_wipe(StorageVolWipeArgs) = content::wipe;
        storage_vol_wipe_pattern(StorageVolWipePatternArgs) = content::wipe_pattern;
    }

    async fn storage_vol_upload(
        &self,
        _: &CallCx,
        args: StorageVolUploadArgs,
        stream: StreamEnd,
    ) -> Result<(), VirtError> {
        content::upload(self, args, stream).await
    }

    async fn storage_vol_download(
        &self,
        _: &CallCx,
        args: StorageVolDownloadArgs,
        stream: StreamEnd,
    ) -> Result<(), VirtError> {
        content::download(self, args, stream).await
    }
}
