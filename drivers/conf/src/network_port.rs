//! `<networkport>`: what a guest's interface has of a network.

use uuid::Uuid;
use virtwire_protocol::error::VirtError;

use crate::domain::device::Address;
use crate::domain::net::{Bandwidth, InterfaceMac, PortOptions, VirtualPort, Vlan};
use crate::network::{ForwardDriver, MacTableManager};
use crate::{ParseOptions, YesNo, element, keywords};

keywords! {
    /// Into what an interface is plugged.
    pub enum PlugType {
        None = "none", Network = "network", Bridge = "bridge", Direct = "direct", HostdevPci = "hostdev-pci",
    }
}

element! {
    /// `<networkport>`.
    pub struct NetworkPort {
        leaf uuid: Option<Uuid> => NETWORK.xml_error "Unable to parse UUID '{}'";
        child owner: Option<PortOwner>;
        leaf group: Option<String>;
        child mac: Option<InterfaceMac>;
        child virtualport: Option<VirtualPort>;
        child bandwidth: Option<Bandwidth>;
        child vlan: Option<Vlan>;
        child port: Option<PortOptions>;
        child rxfilters: Option<RxFilters>;
        child plug: Option<Plug>;
    }

    /// `<owner>`: the guest.
    pub struct PortOwner {
        leaf name: Option<String>;
        leaf uuid: Option<Uuid>;
    }

    /// `<rxfilters>`.
    pub struct RxFilters {
        attr trust_guest "trustGuest": Option<YesNo>;
    }

    /// `<plug>`.
    pub struct Plug {
        attr type_ "type": PlugType;
        attr bridge: Option<String>;
        attr mac_table_manager "macTableManager": Option<MacTableManager>;
        attr dev: Option<String>;
        attr mode: Option<String>;
        attr managed: Option<YesNo>;
        child driver: Option<ForwardDriver>;
        child address: Option<Address>;
    }
}

impl NetworkPort {
    /// Whoever names no UUID gets one.
    pub(crate) fn complete(&mut self, _: &ParseOptions) -> Result<(), VirtError> {
        self.uuid.get_or_insert_with(Uuid::new_v4);
        Ok(())
    }
}
