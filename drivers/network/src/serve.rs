//! Which function serves which procedure.

use virtwire_driver_api::{NetworkDriver, serve};
use virtwire_protocol::remote::*;

use crate::{
    Networks, create, define, define_flags, destroy, listing, metadata, set_autostart, undefine, update,
};

serve! {
    NetworkDriver for Networks {
        connect_list_all_networks(ConnectListAllNetworksArgs) -> ConnectListAllNetworksRet = listing::all;
        connect_num_of_networks() -> ConnectNumOfNetworksRet = listing::count_active;
        connect_list_networks(ConnectListNetworksArgs) -> ConnectListNetworksRet = listing::active;
        connect_num_of_defined_networks() -> ConnectNumOfDefinedNetworksRet = listing::count_inactive;
        connect_list_defined_networks(ConnectListDefinedNetworksArgs) -> ConnectListDefinedNetworksRet = listing::inactive;
        network_lookup_by_name(NetworkLookupByNameArgs) -> NetworkLookupByNameRet = listing::by_name;
        network_lookup_by_uuid(NetworkLookupByUuidArgs) -> NetworkLookupByUuidRet = listing::by_uuid;
        network_define_xml(NetworkDefineXmlArgs) -> NetworkDefineXmlRet = define;
        network_define_xml_flags(NetworkDefineXmlFlagsArgs) -> NetworkDefineXmlFlagsRet = define_flags;
        network_update(NetworkUpdateArgs) = update;
        network_undefine(NetworkUndefineArgs) = undefine;
        network_create(NetworkCreateArgs) = create;
        network_destroy(NetworkDestroyArgs) = destroy;
        network_get_xml_desc(NetworkGetXmlDescArgs) -> NetworkGetXmlDescRet = listing::xml_desc;
        network_get_bridge_name(NetworkGetBridgeNameArgs) -> NetworkGetBridgeNameRet = listing::bridge_name;
        network_get_autostart(NetworkGetAutostartArgs) -> NetworkGetAutostartRet = listing::autostart;
        network_set_autostart(NetworkSetAutostartArgs) = set_autostart;
        network_is_active(NetworkIsActiveArgs) -> NetworkIsActiveRet = listing::is_active;
        network_is_persistent(NetworkIsPersistentArgs) -> NetworkIsPersistentRet = listing::is_persistent;
        network_get_dhcp_leases(NetworkGetDhcpLeasesArgs) -> NetworkGetDhcpLeasesRet = listing::leases;
        network_list_all_ports(NetworkListAllPortsArgs) -> NetworkListAllPortsRet = listing::ports;
        network_get_metadata(NetworkGetMetadataArgs) -> NetworkGetMetadataRet = metadata::get;
        network_set_metadata(NetworkSetMetadataArgs) = metadata::set;
    }
}
