//! Networks, the host's interfaces, network filters.

use uuid::Uuid;
use virtwire_protocol::remote::{NonnullInterface, NonnullNetwork, NonnullNwfilter};

use super::table::text;

object! {
    /// A network of guests.
    Network(NonnullNetwork)
}

object! {
    /// A network interface of the host.
    Interface(NonnullInterface)
}

object! {
    /// Rules for what may go over a guest's interface.
    NwFilter(NonnullNwfilter)
}

impl Network {
    fn handle(&self) -> NonnullNetwork {
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
}

methods! { Network [net = handle] {
    /// Starts it.
    fn start() = network_create NetworkCreateArgs;
    /// Ends it.
    fn destroy() = network_destroy NetworkDestroyArgs;
    /// Removes its definition.
    fn undefine() = network_undefine NetworkUndefineArgs;
    /// Its definition; flag 1 shows that of its next start.
    fn xml(flags: u32) -> String = network_get_xml_desc NetworkGetXmlDescArgs |_, ret| text(&ret.xml);
    /// Whether it runs.
    fn is_active() -> bool = network_is_active NetworkIsActiveArgs |_, ret| ret.active != 0;
    /// Whether it is defined.
    fn is_persistent() -> bool = network_is_persistent NetworkIsPersistentArgs |_, ret| ret.persistent != 0;
    /// Whether it starts with the host.
    fn autostart() -> bool = network_get_autostart NetworkGetAutostartArgs |_, ret| ret.autostart != 0;
    /// Whether it is to start with the host.
    fn set_autostart(autostart: bool) = network_set_autostart NetworkSetAutostartArgs;
    /// The host's bridge.
    fn bridge_name() -> String = network_get_bridge_name NetworkGetBridgeNameArgs |_, ret| text(&ret.name);
    /// Changes a part of it: `virNetworkUpdateCommand`, `virNetworkUpdateSection`.
    fn update(command: u32, section: u32, parent_index: i32, xml: &str, flags: u32) =
        network_update NetworkUpdateArgs;
} }

impl Interface {
    fn handle(&self) -> NonnullInterface {
        self.raw.clone()
    }

    /// Its name.
    pub fn name(&self) -> String {
        text(&self.raw.name)
    }

    /// Its hardware address.
    pub fn mac(&self) -> String {
        text(&self.raw.mac)
    }
}

methods! { Interface [iface = handle] {
    /// Its definition.
    fn xml(flags: u32) -> String = interface_get_xml_desc InterfaceGetXmlDescArgs |_, ret| text(&ret.xml);
    /// Brings it up.
    fn start(flags: u32) = interface_create InterfaceCreateArgs;
    /// Takes it down.
    fn destroy(flags: u32) = interface_destroy InterfaceDestroyArgs;
    /// Removes its definition.
    fn undefine() = interface_undefine InterfaceUndefineArgs;
    /// Whether it is up.
    fn is_active() -> bool = interface_is_active InterfaceIsActiveArgs |_, ret| ret.active != 0;
} }

impl NwFilter {
    fn handle(&self) -> NonnullNwfilter {
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
}

methods! { NwFilter [nwfilter = handle] {
    /// Its definition.
    fn xml(flags: u32) -> String = nwfilter_get_xml_desc NwfilterGetXmlDescArgs |_, ret| text(&ret.xml);
    /// Removes its definition.
    fn undefine() = nwfilter_undefine NwfilterUndefineArgs;
} }
