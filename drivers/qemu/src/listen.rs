//! Screens that are seen on a network: they listen where the host is in it.

use virtwire_conf::domain::display::ListenType;
use virtwire_conf::{Domain, Network, ParseOptions};
use virtwire_protocol::remote::NetworkGetXmlDescArgs;

use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::plug::{internal, lookup};

/// Notes in the definition of a run where each network is, of those on which its screens are seen.
///
/// # Errors
/// There is no such network, or the host has no address in it.
pub(crate) async fn on_networks(driver: &Qemu, domain: &mut Domain) -> Result<()> {
    for screen in &mut domain.devices.graphics {
        for listen in screen.listens.iter_mut().filter(|listen| listen.type_ == ListenType::Network) {
            let Some(network) = &listen.network else { continue };
            let address = address(driver, network).await?;
            screen.listen_attr = Some(address.clone());
            listen.address = Some(address);
        }
    }
    Ok(())
}

async fn address(driver: &Qemu, name: &str) -> Result<String> {
    let none = || QEMU.no_support("virNetworkLookupByName");
    let networks = driver.companions().network.clone().ok_or_else(none)?;
    let net = lookup(&*networks, name).await?;
    let described =
        networks.network_get_xml_desc(&internal(), NetworkGetXmlDescArgs { net, flags: 0 }).await?;
    let network = Network::parse(&described.xml.to_str_lossy(), &ParseOptions::default())?;
    let own = network.ips.into_iter().find_map(|ip| ip.address);
    own.ok_or_else(|| QEMU.xml_error(format_args!("network '{name}' doesn't have an IP address")))
}
