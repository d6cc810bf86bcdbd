//! From what a client calls an object to what the driver knows of it.
//!
//! Objects on the wire have several names, of which a driver may use any: the UUID, the name, the id. They are
//! replaced by those of one object, found by its key, before a rule looks at them.

use std::pin::Pin;

use virtwire_protocol::XdrString;
use virtwire_protocol::error::VirtError;
use virtwire_protocol::remote::*;

use crate::dispatch::Call;

/// The work of looking an object up.
pub(crate) type Resolving<'a> = Pin<Box<dyn Future<Output = Result<(), VirtError>> + Send + 'a>>;

/// An object in the arguments of a call.
pub(crate) trait Resolve {
    /// Replaces it by what the driver has under its key.
    fn resolve<'a>(&'a mut self, call: &'a Call) -> Resolving<'a>;
}

macro_rules! resolve {
    ($($object:ident: $family:ident $method:ident $args:ident { $($key:ident = $from:ident),* } $ret:ident;)*) => {
        $(impl Resolve for $object {
            #[allow(clippy::clone_on_copy)]
            fn resolve<'a>(&'a mut self, call: &'a Call) -> Resolving<'a> {
                Box::pin(async move {
                    let args = $args { $($key: self.$from.clone()),* };
                    *self = call.$family()?.$method(&call.cx, args).await?.$ret;
                    Ok(())
                })
            }
        })*
    };
}

resolve! {
    NonnullDomain: hypervisor domain_lookup_by_uuid DomainLookupByUuidArgs { uuid = uuid } dom;
    NonnullNetwork: network network_lookup_by_uuid NetworkLookupByUuidArgs { uuid = uuid } net;
    NonnullStoragePool: storage storage_pool_lookup_by_uuid StoragePoolLookupByUuidArgs { uuid = uuid } pool;
    NonnullInterface: interface interface_lookup_by_name InterfaceLookupByNameArgs { name = name } iface;
    NonnullNodeDevice: node_device node_device_lookup_by_name NodeDeviceLookupByNameArgs { name = name } dev;
    NonnullSecret: secret secret_lookup_by_uuid SecretLookupByUuidArgs { uuid = uuid } secret;
    NonnullNwfilter: nwfilter nwfilter_lookup_by_uuid NwfilterLookupByUuidArgs { uuid = uuid } nwfilter;
    NonnullNwfilterBinding: nwfilter nwfilter_binding_lookup_by_port_dev
        NwfilterBindingLookupByPortDevArgs { name = portdev } nwfilter;
}

/// A port belongs to its network, whatever that is called.
impl Resolve for NonnullNetworkPort {
    fn resolve<'a>(&'a mut self, call: &'a Call) -> Resolving<'a> {
        self.net.resolve(call)
    }
}

/// A volume is what its pool has under its name.
impl Resolve for NonnullStorageVol {
    fn resolve<'a>(&'a mut self, call: &'a Call) -> Resolving<'a> {
        Box::pin(async move {
            let storage = call.storage()?;
            let by_name = StoragePoolLookupByNameArgs { name: self.pool.clone() };
            let pool = storage.storage_pool_lookup_by_name(&call.cx, by_name).await?.pool;
            let args = StorageVolLookupByNameArgs { pool, name: self.name.clone() };
            *self = storage.storage_vol_lookup_by_name(&call.cx, args).await?.vol;
            Ok(())
        })
    }
}

/// What is to be opened is nothing yet.
impl Resolve for Option<XdrString> {
    fn resolve<'a>(&'a mut self, _: &'a Call) -> Resolving<'a> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A name alone is the key.
impl Resolve for XdrString {
    fn resolve<'a>(&'a mut self, _: &'a Call) -> Resolving<'a> {
        Box::pin(std::future::ready(Ok(())))
    }
}
