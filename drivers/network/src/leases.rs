//! The addresses that guests have been given.

use std::fs;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use virtwire_conf::Network as Definition;
use virtwire_driver_api::check_flags;
use virtwire_protocol::remote::*;

use crate::dnsmasq::{self, Files};
use crate::{NETWORK, Networks, Result, bridge};

/// `virIPAddrType`
const IPV4: i32 = 0;
const IPV6: i32 = 1;

pub(crate) async fn all(
    networks: &Networks,
    args: NetworkGetDhcpLeasesArgs,
) -> Result<NetworkGetDhcpLeasesRet> {
    check_flags(NETWORK, args.flags, 0, "networkGetDHCPLeases")?;
    let definition = networks.with(&args.net, |network| Ok(network.definition().cloned()))?;
    let definition = definition.unwrap_or_default();
    let files = Files::of(&networks.places, &definition.name, bridge::name(&definition));
    let mut leases = Vec::new();
    if let Ok(text) = fs::read_to_string(&files.leases) {
        leases.extend(text.lines().filter_map(Lease::of_line));
    }
    if let Ok(text) = fs::read_to_string(&files.status) {
        leases.extend(serde_json::from_str::<Vec<Lease>>(&text).unwrap_or_default());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    let wanted = args.mac.map(|mac| mac.to_string().to_lowercase());
    let shown = |lease: &Lease| {
        (lease.expires == 0 || lease.expires > now)
            && wanted.as_ref().is_none_or(|wanted| lease.mac.as_deref().is_some_and(|mac| mac == wanted))
    };
    let leases: Vec<NetworkDhcpLease> =
        leases.into_iter().filter(shown).filter_map(|lease| lease.told(&definition)).collect();
    let ret = leases.len() as u32;
    Ok(NetworkGetDhcpLeasesRet { leases: if args.need_results != 0 { leases } else { Vec::new() }, ret })
}

/// A lease, with the names that libvirt's helper of dnsmasq keeps it under.
#[derive(Debug, Default, Deserialize, PartialEq)]
struct Lease {
    /// Seconds since 1970; 0 if it holds for ever.
    #[serde(rename = "expiry-time", default)]
    expires: i64,
    #[serde(rename = "mac-address")]
    mac: Option<String>,
    iaid: Option<String>,
    #[serde(rename = "ip-address")]
    address: String,
    #[serde(rename = "hostname")]
    host: Option<String>,
    #[serde(rename = "client-id")]
    client: Option<String>,
}

impl Lease {
    /// From a line of dnsmasq's own file: `EXPIRY MAC-OR-IAID ADDRESS HOST CLIENT`, with `*` for what it does not know.
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let expires = words.next()?.parse().ok()?;
        let mut known = || words.next().map(|word| Some(word.to_owned()).filter(|word| word != "*"));
        let (first, address) = (known()?, known()??);
        let (host, client) = (known()?, known()?);
        let is_six = address.contains(':');
        let (mac, iaid) = if is_six { (None, first) } else { (first, None) };
        Some(Self { expires, mac, iaid, address, host, client })
    }

    fn told(self, net: &Definition) -> Option<NetworkDhcpLease> {
        let address: IpAddr = self.address.parse().ok()?;
        let prefix = dnsmasq::subnet_of(net, address).map_or(0, |subnet| subnet.prefix);
        Some(NetworkDhcpLease {
            iface: bridge::name(net).into(),
            expirytime: self.expires,
            r#type: if address.is_ipv4() { IPV4 } else { IPV6 },
            mac: self.mac.map(Into::into),
            iaid: self.iaid.map(Into::into),
            ipaddr: self.address.into(),
            prefix: prefix.into(),
            hostname: self.host.map(Into::into),
            clientid: self.client.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_of_either_kind_of_file() {
        let four =
            Lease::of_line("1795917000 52:54:00:00:00:01 10.9.2.15 guest 01:52:54:00:00:00:01").unwrap();
        let json = r#"{"ip-address": "10.9.2.15", "mac-address": "52:54:00:00:00:01", "hostname": "guest",
            "client-id": "01:52:54:00:00:00:01", "expiry-time": 1795917000}"#;
        assert_eq!(four, serde_json::from_str(json).unwrap());
        let six = Lease::of_line("0 1234 fd00::15 * 00:01:00:01").unwrap();
        assert_eq!((six.mac, six.iaid.as_deref(), six.host), (None, Some("1234"), None));
        assert_eq!(Lease::of_line("duid 00:01:00:01:31"), None);
        assert_eq!(Lease::of_line(""), None);
    }
}
