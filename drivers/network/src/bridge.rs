//! The bridge of a network.

use std::fmt::Arguments;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use virtwire_conf::domain::net::InterfaceRoute;
use virtwire_conf::network::{ForwardMode, MacTableManager, NetworkIp};
use virtwire_conf::{Network as Definition, OnOff};
use virtwire_link as link;
use virtwire_protocol::error::VirtError;

use crate::subnet::{self, Subnet};
use crate::{NETWORK, Result, dnsmasq};

/// The name of the bridge that a network says.
pub(crate) fn name(net: &Definition) -> &str {
    net.bridge.as_ref().and_then(|bridge| bridge.name.as_deref()).unwrap_or_default()
}

/// Makes the bridge with its addresses and routes, and lets it run.
///
/// # Errors
/// The kernel refuses.
pub(crate) async fn make(net: &Definition) -> Result<()> {
    let name = name(net);
    let bridge = net.bridge.clone().unwrap_or_default();
    let wanted = link::Bridge {
        name: name.to_owned(),
        mac: net.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac.0),
        mtu: net.mtu.as_ref().and_then(|mtu| mtu.size),
        stp: bridge.stp != Some(OnOff::Off),
        delay: bridge.delay.unwrap_or_default(),
    };
    link::make_bridge(&wanted)
        .await
        .map_err(|error| failed(&error, format_args!("error creating bridge interface {name}")))?;
    let all = subnet::all(&net.ips)?;
    settings(name, all.iter().any(|(subnet, _)| subnet.address.is_ipv6()))?;
    if bridge.mac_table_manager == Some(MacTableManager::Libvirt) {
        let done = link::filter_vlans(name).await;
        done.map_err(|error| failed(&error, format_args!("Unable to set bridge {name} vlan_filtering")))?;
    }
    for (Subnet { address, prefix }, _) in &all {
        let done = link::add_address(name, *address, *prefix).await;
        let text = format_args!("Failed to add IP address {address}/{prefix} to {name}");
        done.map_err(|error| failed(&error, text))?;
    }
    link::set_up(name)
        .await
        .map_err(|error| failed(&error, format_args!("Cannot set interface flags on '{name}'")))?;
    for route in &net.routes {
        let done = link::add_route(name, &of(route)?).await;
        done.map_err(|error| failed(&error, format_args!("Unable to add route via {name}")))?;
    }
    if matches!(dnsmasq::mode(net), ForwardMode::Nat | ForwardMode::Route) {
        forward(&all)?;
    }
    Ok(())
}

/// Takes the bridge away; that it is not there is fine.
pub(crate) async fn remove(name: &str) {
    if let Err(error) = link::remove(name).await {
        tracing::warn!(bridge = name, %error, "a bridge is left behind");
    }
}

/// A host's own addresses come from the definition only; without IPv6 addresses it speaks no IPv6 there.
fn settings(name: &str, has_six: bool) -> Result<()> {
    let dir = Path::new("/proc/sys/net/ipv6/conf").join(name);
    if !dir.exists() {
        return Ok(());
    }
    for (file, value) in [("disable_ipv6", !has_six), ("accept_ra", false), ("autoconf", false)] {
        set(dir.join(file), if value { "1" } else { "0" })?;
    }
    Ok(())
}

/// The host passes on what comes from the guests, and what goes to them.
fn forward(all: &[(Subnet, &NetworkIp)]) -> Result<()> {
    for (path, is_six) in [("ipv4/ip_forward", false), ("ipv6/conf/all/forwarding", true)] {
        if all.iter().any(|(subnet, _)| subnet.address.is_ipv6() == is_six) {
            set(Path::new("/proc/sys/net").join(path), "1")?;
        }
    }
    Ok(())
}

fn set(path: PathBuf, value: &str) -> Result<()> {
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value)
        .map_err(|error| failed(&error, format_args!("cannot write to '{}'", path.display())))
}

fn of(route: &InterfaceRoute) -> Result<link::Route> {
    let ip = NetworkIp {
        address: route.address.clone(),
        netmask: route.netmask.clone(),
        prefix: route.prefix,
        ..NetworkIp::default()
    };
    let bad = || NETWORK.internal_error("bad route");
    let to = Subnet::of(&ip).ok_or_else(bad)?;
    let gateway = route.gateway.as_deref().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    Ok(link::Route { to: (to.address, to.prefix), gateway, metric: route.metric.unwrap_or(1) })
}

fn failed(error: &io::Error, what: Arguments<'_>) -> VirtError {
    VirtError::system(NETWORK, error, what)
}
