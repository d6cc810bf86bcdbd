//! Which function serves which procedure.

use virtwire_driver_api::{NetworkDriver, serve};

use crate::{
    Networks, create, define, define_flags, destroy, listing, metadata, set_autostart, undefine, update,
};

serve! {
    NetworkDriver for Networks {
        connect_list_all_networks = listing::all;
        connect_num_of_networks = listing::count_active;
        connect_list_networks = listing::active;
        connect_num_of_defined_networks = listing::count_inactive;
        connect_list_defined_networks = listing::inactive;
        network_lookup_by_name = listing::by_name;
        network_lookup_by_uuid = listing::by_uuid;
        network_define_xml = define;
        network_define_xml_flags = define_flags;
        network_update = update;
        network_undefine = undefine;
        network_create = create;
        network_destroy = destroy;
        network_get_xml_desc = listing::xml_desc;
        network_get_bridge_name = listing::bridge_name;
        network_get_autostart = listing::autostart;
        network_set_autostart = set_autostart;
        network_is_active = listing::is_active;
        network_is_persistent = listing::is_persistent;
        network_get_dhcp_leases = listing::leases;
        network_list_all_ports = listing::ports;
        network_get_metadata = metadata::get;
        network_set_metadata = metadata::set;
    }
}
