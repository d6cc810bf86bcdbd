//! The addresses of a network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use virtwire_conf::network::NetworkIp;
use virtwire_protocol::error::VirtError;

use crate::{NETWORK, Result};

/// The address of a bridge, and how much of it all on the bridge have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

impl Subnet {
    /// `None` if the address is none, which a complete definition doesn't have.
    pub(crate) fn of(ip: &NetworkIp) -> Option<Self> {
        let address: IpAddr = ip.address.as_deref()?.parse().ok()?;
        let said = ip.prefix.and_then(|prefix| u8::try_from(prefix).ok());
        let masked =
            || ip.netmask.as_deref()?.parse().ok().map(|mask: Ipv4Addr| mask.to_bits().leading_ones() as u8);
        let usual = match address {
            IpAddr::V4(address) if address.octets()[0] < 128 => 8,
            IpAddr::V4(address) if address.octets()[0] < 192 => 16,
            IpAddr::V4(_) => 24,
            IpAddr::V6(_) => 64,
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        Some(Self { address, prefix: said.or_else(masked).unwrap_or(usual).min(most) })
    }

    /// Its first address.
    fn base(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }

    /// The netmask in IPv4's way of writing, the prefix in IPv6's.
    pub(crate) fn mask(self) -> String {
        match self.address {
            IpAddr::V4(_) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                Ipv4Addr::from_bits(mask).to_string()
            }
            IpAddr::V6(_) => self.prefix.to_string(),
        }
    }

    /// The domain in which its addresses have names (RFC 1035 section 3.5, RFC 3596 section 2.5).
    ///
    /// # Errors
    /// The prefix ends within a label.
    pub(crate) fn reverse(self) -> Result<String> {
        let (family, bytes, bits, zone) = match self.address {
            IpAddr::V4(address) => ("IPv4", address.octets().to_vec(), 8, "in-addr.arpa"),
            IpAddr::V6(address) => {
                let nibbles = address.octets().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
                ("IPv6", nibbles.collect(), 4, "ip6.arpa")
            }
        };
        let whole = bytes.len() * usize::from(bits);
        if !self.prefix.is_multiple_of(bits) || usize::from(self.prefix) >= whole || self.prefix == 0 {
            let prefix = self.prefix;
            return Err(NETWORK.config_unsupported(format_args!(
                "PTR domain for {family} network with prefix {prefix} cannot be automatically created"
            )));
        }
        let labels = bytes.iter().take(usize::from(self.prefix / bits)).rev();
        let label = |label: &u8| if bits == 8 { format!("{label}.") } else { format!("{label:x}.") };
        Ok(labels.map(label).collect::<String>() + zone)
    }
}

/// The network it is part of: `10.1.2.0/24`.
impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

/// All addresses of a definition.
///
/// # Errors
/// One is none.
pub(crate) fn all(ips: &[NetworkIp]) -> Result<Vec<(Subnet, &NetworkIp)>, VirtError> {
    let bad = |ip: &NetworkIp| {
        NETWORK.internal_error(format_args!("bad address '{}'", ip.address.as_deref().unwrap_or_default()))
    };
    ips.iter().map(|ip| Ok((Subnet::of(ip).ok_or_else(|| bad(ip))?, ip))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(address: &str, prefix: u8) -> Subnet {
        Subnet { address: address.parse().unwrap(), prefix }
    }

    #[test]
    fn an_address_is_part_of_a_network() {
        assert_eq!(subnet("10.1.2.3", 22).to_string(), "10.1.0.0/22");
        assert_eq!(subnet("10.1.2.3", 0).to_string(), "0.0.0.0/0");
        assert_eq!(subnet("fd00:1::9", 64).to_string(), "fd00:1::/64");
        assert_eq!(subnet("10.1.2.3", 22).mask(), "255.255.252.0");
        let masked = NetworkIp {
            address: Some("172.16.0.1".to_owned()),
            netmask: Some("255.255.255.128".to_owned()),
            ..NetworkIp::default()
        };
        assert_eq!(Subnet::of(&masked).unwrap().prefix, 25);
        assert_eq!(Subnet::of(&NetworkIp { netmask: None, ..masked }).unwrap().prefix, 16);
    }

    #[test]
    fn names_of_addresses_end_at_a_label() {
        assert_eq!(subnet("10.9.5.1", 24).reverse().unwrap(), "5.9.10.in-addr.arpa");
        let long = subnet("fd00:3::1", 64).reverse().unwrap();
        assert_eq!(long, "0.0.0.0.0.0.0.0.3.0.0.0.0.0.d.f.ip6.arpa");
        assert!(subnet("10.9.5.1", 22).reverse().is_err());
        assert!(subnet("fd00::", 63).reverse().is_err());
    }
}
