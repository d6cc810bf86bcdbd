//! Which function serves which procedure.

use virtwire_driver_api::{NetworkDriver, serve};

use crate::{Networks, changes, leases, listing, metadata, ports};

serve! {
    NetworkDriver for Networks {
        connect_list_all_networks = listing::all;
        connect_num_of_networks = listing::count_active;
        connect_list_networks = listing::active;
        connect_num_of_defined_networks = listing::count_inactive;
        connect_list_defined_networks = listing::inactive;
        network_lookup_by_name = listing::by_name;
        network_lookup_by_uuid = listing::by_uuid;
        network_create_xml = changes::create_xml;
        network_create_xml_flags = changes::create_xml_flags;
        network_define_xml = changes::define;
        network_define_xml_flags = changes::define_flags;
        network_update = changes::update;
        network_undefine = changes::undefine;
        network_create = changes::create;
        network_destroy = changes::destroy;
        network_get_xml_desc = listing::xml_desc;
        network_get_bridge_name = listing::bridge_name;
        network_get_autostart = listing::autostart;
        network_set_autostart = changes::set_autostart;
        network_is_active = listing::is_active;
        network_is_persistent = listing::is_persistent;
        network_get_dhcp_leases = leases::all;
        network_list_all_ports = ports::all;
        network_port_lookup_by_uuid = ports::by_uuid;
        network_port_create_xml = ports::create;
        network_port_get_xml_desc = ports::xml_desc;
        network_port_delete = ports::delete;
        network_port_get_parameters = ports::parameters;
        network_port_set_parameters = ports::set_parameters;
        network_get_metadata = metadata::get;
        network_set_metadata = metadata::set;
    }
}
