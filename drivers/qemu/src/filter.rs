//! Filters of guests' interfaces: for each that has one, a binding at the driver of network filters, which puts it in force.

use std::sync::Arc;

use virtwire_conf::domain::net::Interface;
use virtwire_conf::nwfilter::{BindingDevice, BindingMac, BindingOwner};
use virtwire_conf::{Domain, FormatOptions, NwfilterBinding};
use virtwire_driver_api::NwfilterDriver;
use virtwire_protocol::error::ErrorCode;
use virtwire_protocol::remote::{
    NwfilterBindingCreateXmlArgs, NwfilterBindingDeleteArgs, NwfilterBindingLookupByPortDevArgs,
};

use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::plug::{Owner, device, internal};

fn filters(driver: &Qemu) -> Option<Arc<dyn NwfilterDriver>> {
    driver.companions().nwfilter.clone()
}

/// Binds the filter of an interface, if it has one, to the host's end of it.
///
/// # Errors
/// It cannot be in force, or the end has a filter already.
pub(crate) async fn bind(driver: &Qemu, owner: &Owner, interface: &Interface) -> Result<()> {
    let Some(filterref) = &interface.filterref else { return Ok(()) };
    let filters = filters(driver).ok_or_else(|| QEMU.no_support("virNWFilterBindingCreateXML"))?;
    let name = |name: &str| BindingDevice { name: Some(name.to_owned()) };
    let binding = NwfilterBinding {
        owner: Some(BindingOwner { name: Some(owner.name.clone()), uuid: Some(owner.uuid) }),
        portdev: Some(name(device(interface))),
        mac: Some(BindingMac { address: interface.mac.as_ref().and_then(|mac| mac.address) }),
        filterref: Some(filterref.clone()),
        ..NwfilterBinding::default()
    };
    let xml = binding.to_xml(&FormatOptions::default()).into();
    filters.nwfilter_binding_create_xml(&internal(), NwfilterBindingCreateXmlArgs { xml, flags: 0 }).await?;
    Ok(())
}

/// Takes the filter of an interface away, if it has one.
pub(crate) async fn unbind(driver: &Qemu, owner: &Owner, interface: &Interface) {
    let dev = device(interface);
    if interface.filterref.is_none() || dev.is_empty() {
        return;
    }
    let Some(filters) = filters(driver) else { return };
    let cx = internal();
    let gone = async {
        let args = NwfilterBindingLookupByPortDevArgs { name: dev.into() };
        let nwfilter = filters.nwfilter_binding_lookup_by_port_dev(&cx, args).await?.nwfilter;
        filters.nwfilter_binding_delete(&cx, NwfilterBindingDeleteArgs { nwfilter }).await
    };
    if let Err(error) = gone.await {
        tracing::debug!(guest = owner.name, dev, %error, "its filter was gone before");
    }
}

/// Gives an interface another filter; where that cannot be, it has the one that it had.
///
/// # Errors
/// The new one cannot be in force.
pub(crate) async fn change(driver: &Qemu, owner: &Owner, old: &Interface, new: &Interface) -> Result<()> {
    unbind(driver, owner, old).await;
    let Err(error) = bind(driver, owner, new).await else { return Ok(()) };
    let dev = device(old);
    tracing::error!(guest = owner.name, dev, %error, "its new filter is not in force");
    if let Err(error) = bind(driver, owner, old).await {
        tracing::error!(guest = owner.name, dev, %error, "its filter is lost");
    }
    let text = format_args!("failed to add new filter rules to '{dev}' - attempting to restore old rules");
    Err(QEMU.operation_failed(text))
}

/// Binds the filters of a guest that was found running, where nobody has kept that they are bound.
pub(crate) async fn bind_again(driver: &Qemu, domain: &Domain) {
    let owner = Owner::of(domain);
    for interface in domain.devices.interfaces.iter().filter(|net| !device(net).is_empty()) {
        match bind(driver, &owner, interface).await {
            // It is bound.
            Err(error) if error.code == ErrorCode::OPERATION_FAILED => {}
            Err(error) => tracing::error!(guest = owner.name, %error, "its filter is not in force"),
            Ok(()) => {}
        }
    }
}
