//! The bridge of a network, made through netlink.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rtnetlink::packet_route::link::BridgeStpState;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::{Error, Handle, LinkBridge, LinkUnspec, RouteMessageBuilder};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType};
use virtwire_conf::domain::net::InterfaceRoute;
use virtwire_conf::network::{ForwardMode, MacTableManager, NetworkIp};
use virtwire_conf::{Network as Definition, OnOff};
use virtwire_protocol::error::VirtError;

use crate::subnet::{self, Subnet};
use crate::{NETWORK, Result, dnsmasq};

/// Hundredths of a second, the kernel's unit of a bridge's times.
const SECOND: u64 = 100;

/// The shortest forward delay that the kernel takes while it speaks the spanning tree protocol.
const LEAST_DELAY: u64 = 2;

/// The name of the bridge that a network says.
pub(crate) fn name(net: &Definition) -> &str {
    net.bridge.as_ref().and_then(|bridge| bridge.name.as_deref()).unwrap_or_default()
}

/// Whether the host has an interface of this name.
pub(crate) fn exists(name: &str) -> bool {
    index(name).is_ok()
}

/// Makes the bridge with its addresses and routes, and lets it run.
///
/// # Errors
/// The kernel refuses.
pub(crate) async fn make(net: &Definition) -> Result<()> {
    let name = name(net);
    let netlink =
        connect().map_err(|error| failed(&error, format_args!("error creating bridge interface {name}")))?;
    let bridge = net.bridge.clone().unwrap_or_default();
    let stp = bridge.stp != Some(OnOff::Off);
    let delay = bridge.delay.unwrap_or_default();
    let delay = if stp { delay.max(LEAST_DELAY) } else { delay };
    let mut link = LinkBridge::new(name)
        .down()
        .stp_state(if stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled })
        .forward_delay(u32::try_from(delay * SECOND).unwrap_or(u32::MAX));
    if let Some(mac) = net.mac.as_ref().and_then(|mac| mac.address) {
        link = link.address(mac.0.to_vec());
    }
    if let Some(mtu) = net.mtu.as_ref().and_then(|mtu| mtu.size) {
        link = link.mtu(mtu);
    }
    let made = netlink.link().add(link.build()).execute().await;
    made.map_err(|error| failed(&as_io(error), format_args!("error creating bridge interface {name}")))?;
    set_up(&netlink, net, name).await
}

async fn set_up(netlink: &Handle, net: &Definition, name: &str) -> Result<()> {
    let index = index(name)?;
    let all = subnet::all(&net.ips)?;
    let has_six = all.iter().any(|(subnet, _)| subnet.address.is_ipv6());
    settings(name, has_six)?;
    if net.bridge.as_ref().is_some_and(|bridge| bridge.mac_table_manager == Some(MacTableManager::Libvirt)) {
        let filtering = LinkBridge::new(name).index(index).down().vlan_filtering(true).build();
        let done = netlink.link().set(filtering).execute().await;
        let text = format_args!("Unable to set bridge {name} vlan_filtering via ioctl");
        done.map_err(|error| failed(&as_io(error), text))?;
    }
    for (subnet, _) in &all {
        let Subnet { address, prefix } = *subnet;
        let done = netlink.address().add(index, address, prefix).execute().await;
        done.map_err(|error| {
            failed(&as_io(error), format_args!("Failed to add IP address {address}/{prefix} to {name}"))
        })?;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    let done = netlink.link().set(up).execute().await;
    done.map_err(|error| failed(&as_io(error), format_args!("Cannot set interface flags on '{name}'")))?;
    for route in &net.routes {
        let message = message(route, index)?;
        let done = netlink.route().add(message).execute().await;
        done.map_err(|error| failed(&as_io(error), format_args!("Unable to add route via {name}")))?;
    }
    if matches!(dnsmasq::mode(net), ForwardMode::Nat | ForwardMode::Route) {
        forward(&all)?;
    }
    Ok(())
}

/// Takes the bridge away; that it is not there is fine.
pub(crate) async fn remove(name: &str) {
    let Ok(index) = index(name) else { return };
    let Ok(netlink) = connect() else { return };
    if let Err(error) = netlink.link().del(index).execute().await {
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

fn message(route: &InterfaceRoute, index: u32) -> Result<RouteMessage> {
    let ip = NetworkIp {
        address: route.address.clone(),
        netmask: route.netmask.clone(),
        prefix: route.prefix,
        ..NetworkIp::default()
    };
    let bad = || NETWORK.internal_error("bad route");
    let subnet = Subnet::of(&ip).ok_or_else(bad)?;
    let gateway: IpAddr = route.gateway.as_deref().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let builder = RouteMessageBuilder::<IpAddr>::new().output_interface(index);
    let builder = builder.destination_prefix(subnet.address, subnet.prefix).map_err(|_| bad())?;
    let builder = builder.gateway(gateway).map_err(|_| bad())?;
    Ok(builder.protocol(RouteProtocol::Boot).priority(route.metric.unwrap_or(1)).build())
}

/// The kernel's number of an interface.
fn index(name: &str) -> Result<u32> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None);
    let found = socket.and_then(|socket| name_to_index(socket, name));
    found.map_err(|error| failed(&error.into(), format_args!("Unable to get index for interface {name}")))
}

/// A conversation with the kernel, which ends with the handle.
fn connect() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

fn as_io(error: Error) -> io::Error {
    match error {
        Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

fn failed(error: &io::Error, what: std::fmt::Arguments<'_>) -> VirtError {
    VirtError::system(NETWORK, error, what)
}
