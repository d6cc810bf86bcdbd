//! What a rule can know of an object: the attributes that libvirt hands to polkit, under the same names.

use std::fmt;

use uuid::Uuid;
use virtwire_protocol::XdrString;
use virtwire_protocol::events::Subject;
use virtwire_protocol::remote::{
    NonnullDomain, NonnullInterface, NonnullNetwork, NonnullNetworkPort, NonnullNodeDevice, NonnullNwfilter,
    NonnullNwfilterBinding, NonnullSecret, NonnullStoragePool, NonnullStorageVol,
};

/// Attribute names and values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    known: Vec<(&'static str, String)>,
    /// The URI that a client wants to have opened; it says what `connect_driver` will be.
    pub(crate) opening: Option<String>,
}

impl Attributes {
    /// Adds an attribute.
    pub(crate) fn add(&mut self, name: &'static str, value: String) -> &mut Self {
        self.known.push((name, value));
        self
    }

    fn text(&mut self, name: &'static str, value: &XdrString) -> &mut Self {
        self.add(name, value.to_str_lossy().into_owned())
    }

    /// Adds a UUID.
    pub(crate) fn uuid(&mut self, name: &'static str, uuid: &[u8; 16]) -> &mut Self {
        self.add(name, Uuid::from_bytes(*uuid).to_string())
    }

    /// All that are known.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.known.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The value of an attribute, where it is known.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// Name and value of each.
impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (name, value) in &self.known {
            write!(f, "{between}{name}={value}")?;
            between = " ";
        }
        Ok(())
    }
}

/// Something on the wire that stands for an object.
pub(crate) trait Object {
    /// Says what is known of the object of this kind.
    fn describe(&self, kind: &'static str, to: &mut Attributes);
}

/// Nothing is known: only rules for all objects of the kind apply.
impl Object for () {
    fn describe(&self, _: &'static str, _: &mut Attributes) {}
}

/// An id says nothing that a rule could ask.
impl Object for i32 {
    fn describe(&self, _: &'static str, _: &mut Attributes) {}
}

impl<T: Object> Object for &T {
    fn describe(&self, kind: &'static str, to: &mut Attributes) {
        (*self).describe(kind, to);
    }
}

/// The URI of a connection that is not open yet.
impl Object for Option<XdrString> {
    fn describe(&self, _: &'static str, to: &mut Attributes) {
        to.opening = self.as_ref().map(|uri| uri.to_str_lossy().into_owned());
    }
}

/// Lists of the old style have names, those of secrets UUIDs.
impl Object for XdrString {
    fn describe(&self, kind: &'static str, to: &mut Attributes) {
        let name = match kind {
            "domain" => "domain_name",
            "network" => "network_name",
            "storage_pool" => "pool_name",
            "storage_vol" => "vol_name",
            "interface" => "interface_name",
            "node_device" => "node_device_name",
            "nwfilter" => "nwfilter_name",
            "secret" => "secret_uuid",
            _ => return,
        };
        to.text(name, self);
    }
}

macro_rules! objects {
    ($($type:ident: $($how:ident $attribute:literal $($field:ident).+),*;)*) => {
        $(impl Object for $type {
            fn describe(&self, _: &'static str, to: &mut Attributes) {
                to$(.$how($attribute, &self.$($field).+))*;
            }
        })*
    };
}

objects! {
    NonnullDomain: text "domain_name" name, uuid "domain_uuid" uuid;
    NonnullNetwork: text "network_name" name, uuid "network_uuid" uuid;
    NonnullNetworkPort: text "network_name" net.name, uuid "network_uuid" net.uuid, uuid "port_uuid" uuid;
    NonnullStoragePool: text "pool_name" name, uuid "pool_uuid" uuid;
    NonnullStorageVol: text "pool_name" pool, text "vol_name" name, text "vol_key" key;
    NonnullInterface: text "interface_name" name, text "interface_macaddr" mac;
    NonnullNodeDevice: text "node_device_name" name;
    NonnullNwfilter: text "nwfilter_name" name, uuid "nwfilter_uuid" uuid;
    NonnullNwfilterBinding: text "nwfilter_binding_portdev" portdev, text "nwfilter_binding_filter" filtername;
}

/// What a secret's use is called, by its usage type (`VIR_SECRET_USAGE_TYPE_…`): none, volume, ceph, iscsi, tls, vtpm.
const USAGES: [Option<&str>; 6] = [
    None,
    Some("secret_usage_volume"),
    Some("secret_usage_ceph"),
    Some("secret_usage_target"),
    Some("secret_usage_name"),
    Some("secret_usage_name"),
];

impl Object for NonnullSecret {
    fn describe(&self, _: &'static str, to: &mut Attributes) {
        to.uuid("secret_uuid", &self.uuid);
        let usage =
            usize::try_from(self.usage_type).ok().and_then(|usage| USAGES.get(usage).copied().flatten());
        if let Some(usage) = usage {
            to.text(usage, &self.usage_id);
        }
    }
}

impl Object for Subject<'_> {
    fn describe(&self, kind: &'static str, to: &mut Attributes) {
        match self {
            Self::Domain(domain) => domain.describe(kind, to),
            Self::Network(network) => network.describe(kind, to),
            Self::StoragePool(pool) => pool.describe(kind, to),
            Self::NodeDevice(device) => device.describe(kind, to),
            Self::Secret(secret) => secret.describe(kind, to),
            Self::None => {}
        }
    }
}
