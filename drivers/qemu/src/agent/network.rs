//! What the guest is called, and its addresses.

use serde::Deserialize;
use serde_json::Value;
use virtwire_protocol::remote::*;

use super::{ask, bounded, check};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags};
use crate::guest::Guest;

/// `VIR_DOMAIN_GET_HOSTNAME_…`
const LEASE: u32 = 1;
const AGENT: u32 = 2;

#[derive(Deserialize)]
struct HostName {
    #[serde(rename = "host-name")]
    name: String,
}

/// The name that the guest gives itself.
pub(super) async fn own_name(guest: &Guest, procedure: &'static str) -> Result<String> {
    Ok(ask::<HostName>(guest, procedure, "guest-get-host-name", Value::Null).await?.name)
}

pub(crate) async fn hostname(driver: &Qemu, args: DomainGetHostnameArgs) -> Result<DomainGetHostnameRet> {
    check_flags(args.flags, LEASE | AGENT, "qemuDomainGetHostname")?;
    let guest = driver.guest(&args.dom)?;
    check(&guest)?;
    let none = |_| QEMU.no_hostname(format_args!("no hostname found for domain {}", guest.name));
    let name = own_name(&guest, "DomainGetHostname").await.map_err(none)?;
    Ok(DomainGetHostnameRet { hostname: name.as_str().into() })
}

/// An interface as the agent tells of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) hardware_address: Option<String>,
    #[serde(default)]
    pub(super) ip_addresses: Vec<IpAddress>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct IpAddress {
    pub(super) ip_address: String,
    pub(super) ip_address_type: String,
    pub(super) prefix: u32,
}

impl IpAddress {
    /// `VIR_IP_ADDR_TYPE_…`
    fn kind(&self) -> i32 {
        i32::from(self.ip_address_type != "ipv4")
    }
}

/// The interfaces; other names of one (`eth0:1`) are the same one.
pub(super) async fn interfaces(guest: &Guest, procedure: &'static str) -> Result<Vec<Interface>> {
    Ok(merged(ask(guest, procedure, "guest-network-get-interfaces", Value::Null).await?))
}

fn merged(said: Vec<Interface>) -> Vec<Interface> {
    let mut all: Vec<Interface> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for mut next in said {
        let name = next.name.split(':').next().unwrap_or_default().to_owned();
        match places.get(&name).and_then(|at: &usize| all.get_mut(*at)) {
            Some(known) => known.ip_addresses.append(&mut next.ip_addresses),
            None => {
                places.insert(name.clone(), all.len());
                all.push(Interface { name, ..next });
            }
        }
    }
    all
}

/// `VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT`
const SOURCE_AGENT: u32 = 1;

pub(crate) async fn interface_addresses(
    driver: &Qemu,
    args: DomainInterfaceAddressesArgs,
) -> Result<DomainInterfaceAddressesRet> {
    let guest = driver.guest(&args.dom)?;
    guest.live()?;
    if args.source != SOURCE_AGENT {
        return Ok(DomainInterfaceAddressesRet::default());
    }
    let all = interfaces(&guest, "DomainInterfaceAddresses").await?;
    let all = bounded(all, REMOTE_DOMAIN_INTERFACE_MAX, "interfaces")?;
    let ifaces = all.into_iter().map(|it| {
        let addresses = bounded(it.ip_addresses, REMOTE_DOMAIN_IP_ADDR_MAX, "addresses of an interface")?;
        Ok(DomainInterface {
            name: it.name.as_str().into(),
            hwaddr: it.hardware_address.map(|address| address.as_str().into()),
            addrs: addresses
                .iter()
                .map(|address| DomainIpAddr {
                    r#type: address.kind(),
                    addr: address.ip_address.as_str().into(),
                    prefix: address.prefix,
                })
                .collect(),
        })
    });
    Ok(DomainInterfaceAddressesRet { ifaces: ifaces.collect::<Result<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_an_interface_are_the_same_interface() {
        let address =
            |ip: &str| IpAddress { ip_address: ip.into(), ip_address_type: "ipv4".into(), prefix: 24 };
        let said = |name: &str, ip: &str| Interface {
            name: name.into(),
            hardware_address: None,
            ip_addresses: vec![address(ip)],
        };
        let all = merged(vec![said("eth0", "1"), said("lo", "2"), said("eth0:1", "3")]);
        let names: Vec<_> = all.iter().map(|it| (it.name.as_str(), it.ip_addresses.len())).collect();
        assert_eq!(names, [("eth0", 2), ("lo", 1)]);
    }
}
