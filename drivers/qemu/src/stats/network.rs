//! The traffic of interfaces, from the host's side of them.

use std::fs;

use virtwire_conf::Domain;
use virtwire_conf::domain::net::{Interface, InterfaceType};
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::Result;

/// What went over an interface, and names of it, in the order of stats.
struct Traffic([u64; 8]);

/// Names of the figures in stats.
const NAMES: [&str; 8] =
    ["rx.bytes", "rx.pkts", "rx.errs", "rx.drop", "tx.bytes", "tx.pkts", "tx.errs", "tx.drop"];

/// The host's name of an interface.
fn device(net: &Interface) -> Option<&str> {
    net.target.as_ref()?.dev.as_deref()
}

impl Traffic {
    /// What `/proc/net/dev` says of an interface.
    fn of(net: &Interface, device: &str, table: &str) -> Option<Self> {
        let line =
            table.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
        let columns: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let part =
            |from: usize| std::array::from_fn(|at| columns.get(from + at).copied().unwrap_or_default());
        let (received, sent): ([u64; 4], [u64; 4]) = (part(0), part(8));
        // What the host receives from a tap, the guest has sent; a macvtap counts as the guest does.
        let (received, sent) = match net.type_ {
            InterfaceType::Direct => (received, sent),
            _ => (sent, received),
        };
        let mut all = received.into_iter().chain(sent);
        Some(Self(std::array::from_fn(|_| all.next().unwrap_or_default())))
    }
}

fn table() -> String {
    fs::read_to_string("/proc/net/dev").unwrap_or_default()
}

/// The figures of all interfaces that the host has a name for.
pub(super) fn all(params: &mut Vec<TypedParam>, domain: &Domain) {
    let interfaces = &domain.devices.interfaces;
    params.push(TypedParam::new("net.count", interfaces.len() as u32));
    let table = if interfaces.iter().any(|net| device(net).is_some()) { table() } else { String::new() };
    for (number, net) in interfaces.iter().enumerate() {
        let Some(device) = device(net) else { continue };
        params.push(TypedParam::new(format!("net.{number}.name"), device));
        if let Some(Traffic(figures)) = Traffic::of(net, device, &table) {
            let named = NAMES.iter().zip(figures);
            params
                .extend(named.map(|(name, figure)| TypedParam::new(format!("net.{number}.{name}"), figure)));
        }
    }
}

pub(crate) async fn interface(
    driver: &Qemu,
    args: DomainInterfaceStatsArgs,
) -> Result<DomainInterfaceStatsRet> {
    let live = driver.guest(&args.dom)?.live()?;
    let wanted = args.device.to_string();
    let Some(net) = live.domain.devices.interfaces.iter().find(|net| net.is_called(&wanted)) else {
        return Err(ErrorDomain::DOMAIN.invalid_arg(format_args!("'{wanted}' is not a known interface")));
    };
    let device = device(net);
    let device = device.ok_or_else(|| ErrorDomain::NONE.internal_error("Interface name not provided"))?;
    let traffic = Traffic::of(net, device, &table())
        .ok_or_else(|| ErrorDomain::NONE.internal_error("/proc/net/dev: Interface not found"))?;
    let [rx_bytes, rx_packets, rx_errs, rx_drop, tx_bytes, tx_packets, tx_errs, tx_drop] =
        traffic.0.map(|figure| figure as i64);
    Ok(DomainInterfaceStatsRet {
        rx_bytes,
        rx_packets,
        rx_errs,
        rx_drop,
        tx_bytes,
        tx_packets,
        tx_errs,
        tx_drop,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_counts_the_other_way_round() {
        let table = "Inter-| Receive\n face |bytes\n vnet1: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\nvnet10:9 0\n";
        let net = |type_| Interface { type_, ..Interface::default() };
        let figures = |type_, device| Traffic::of(&net(type_), device, table).map(|traffic| traffic.0);
        assert_eq!(figures(InterfaceType::Network, "vnet1"), Some([5, 6, 7, 8, 1, 2, 3, 4]));
        assert_eq!(figures(InterfaceType::Direct, "vnet1"), Some([1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(figures(InterfaceType::Bridge, "vnet10"), Some([0, 0, 0, 0, 9, 0, 0, 0]));
        assert_eq!(figures(InterfaceType::Bridge, "vnet"), None);
    }
}
