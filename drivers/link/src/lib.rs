//! Network interfaces of the host: bridges with their addresses and routes, taps and macvtaps for guests. They are made
//! through netlink (rtnetlink(7)) and `/dev/net/tun`, in the network namespace of this process.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rtnetlink::packet_route::link::{BridgeStpState, BridgeVlanInfoFlags, MacVtapMode};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{
    Error, Handle, LinkBridge, LinkBridgePort, LinkBridgeVlan, LinkMacVtap, LinkUnspec, RouteMessageBuilder,
};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType};
use tun_rs::{DeviceBuilder, Layer};

/// Hundredths of a second, the kernel's unit of a bridge's times.
const SECOND: u64 = 100;

/// The shortest forward delay, in seconds, that the kernel takes while it speaks the spanning tree protocol.
const LEAST_DELAY: u64 = 2;

/// What a bridge is made with.
#[derive(Clone, Debug, Default)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Its MAC address; the kernel's choice if there is none.
    pub mac: Option<[u8; 6]>,
    /// The largest packet, in bytes.
    pub mtu: Option<u32>,
    /// Whether it speaks the spanning tree protocol (IEEE 802.1D).
    pub stp: bool,
    /// Seconds until a new port forwards packets.
    pub delay: u64,
}

/// A route to a network through a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The network.
    pub to: (IpAddr, u8),
    /// Where packets for it go.
    pub gateway: IpAddr,
    /// Routes with the lowest come first.
    pub metric: u32,
}

/// The virtual network that each port of a bridge begins in.
const FIRST_VLAN: u16 = 1;

/// A virtual network (IEEE 802.1Q) that a port of a bridge is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortVlan {
    /// Its number.
    pub id: u16,
    /// Whether packets that come without a tag belong to it.
    pub native: bool,
    /// Whether its packets leave without a tag.
    pub untagged: bool,
}

/// How a macvtap device talks to the others of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Through the switch at the other end of the cable.
    Vepa,
    /// Not at all.
    Private,
    /// Directly.
    Bridge,
    /// It has the device for itself.
    Passthrough,
}

/// The kernel's number of an interface.
///
/// # Errors
/// There is none of this name.
pub fn index(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    Ok(name_to_index(socket, name)?)
}

/// Whether there is an interface of this name.
pub fn exists(name: &str) -> bool {
    index(name).is_ok()
}

/// Makes a bridge, which is down.
///
/// # Errors
/// The kernel's: the name is taken or none, or nobody may.
pub async fn make_bridge(bridge: &Bridge) -> io::Result<()> {
    let delay = if bridge.stp { bridge.delay.max(LEAST_DELAY) } else { bridge.delay };
    let stp = if bridge.stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled };
    let delay = u32::try_from(delay.saturating_mul(SECOND)).unwrap_or(u32::MAX);
    let mut link = LinkBridge::new(&bridge.name).down().stp_state(stp).forward_delay(delay);
    if let Some(mac) = bridge.mac {
        link = link.address(mac.to_vec());
    }
    if let Some(mtu) = bridge.mtu {
        link = link.mtu(mtu);
    }
    connect()?.link().add(link.build()).execute().await.map_err(kernels)
}

/// Lets a bridge look at VLAN tags, which is what a table of MAC addresses that is filled by hand needs.
///
/// # Errors
/// The kernel's.
pub async fn filter_vlans(bridge: &str) -> io::Result<()> {
    let link = LinkBridge::new(bridge).index(index(bridge)?).down().vlan_filtering(true).build();
    connect()?.link().set(link).execute().await.map_err(kernels)
}

/// Gives an interface an address.
///
/// # Errors
/// The kernel's.
pub async fn add_address(name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    connect()?.address().add(index(name)?, address, prefix).execute().await.map_err(kernels)
}

/// Adds a route through an interface.
///
/// # Errors
/// The kernel's, or the addresses are of different families.
pub async fn add_route(name: &str, route: &Route) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let builder = RouteMessageBuilder::<IpAddr>::new().output_interface(index(name)?);
    let builder = builder.destination_prefix(route.to.0, route.to.1).map_err(invalid)?;
    let builder = builder.gateway(route.gateway).map_err(invalid)?;
    let message = builder.protocol(RouteProtocol::Boot).priority(route.metric).build();
    connect()?.route().add(message).execute().await.map_err(kernels)
}

/// Lets an interface work.
///
/// # Errors
/// The kernel's.
pub async fn set_up(name: &str) -> io::Result<()> {
    let link = LinkUnspec::new_with_index(index(name)?).up().build();
    connect()?.link().set(link).execute().await.map_err(kernels)
}

/// Makes an interface a port of a bridge; one that is isolated reaches only ports that are not.
///
/// # Errors
/// The kernel's.
pub async fn attach(name: &str, bridge: &str, isolated: Option<bool>) -> io::Result<()> {
    let (port, bridge) = (index(name)?, index(bridge)?);
    let netlink = connect()?;
    let link = LinkUnspec::new_with_index(port).controller(bridge).build();
    netlink.link().set(link).execute().await.map_err(kernels)?;
    if let Some(isolated) = isolated {
        let link = LinkBridgePort::new(port).isolated(isolated).build();
        netlink.link().set_port(link).execute().await.map_err(kernels)?;
    }
    Ok(())
}

/// Pulls an interface out of its bridge.
///
/// # Errors
/// The kernel's.
pub async fn detach(name: &str) -> io::Result<()> {
    let link = LinkUnspec::new_with_index(index(name)?).nocontroller().build();
    connect()?.link().set(link).execute().await.map_err(kernels)
}

/// Puts a port of a bridge into virtual networks and out of those that it was in before; where it is in none, into the one
/// that ports begin in.
///
/// # Errors
/// The kernel's: it has no such networks on bridges.
pub async fn set_vlans(name: &str, before: &[PortVlan], vlans: &[PortVlan]) -> io::Result<()> {
    let port = index(name)?;
    let netlink = connect()?;
    let begins = PortVlan { id: FIRST_VLAN, native: true, untagged: true };
    for vlan in before.iter().chain([&begins]) {
        let mut out = netlink.link().del(port);
        *out.message_mut() = LinkBridgeVlan::new(port).vlan(vlan.id, BridgeVlanInfoFlags::empty()).build();
        // It need not be in it.
        let _ = out.execute().await;
    }
    for vlan in if vlans.is_empty() { std::slice::from_ref(&begins) } else { vlans } {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, vlan.native);
        flags.set(BridgeVlanInfoFlags::Untagged, vlan.untagged);
        let joined = LinkBridgeVlan::new(port).vlan(vlan.id, flags).build();
        netlink.link().set(joined).execute().await.map_err(kernels)?;
    }
    Ok(())
}

/// Takes an interface away; that it is not there is fine.
///
/// # Errors
/// The kernel's.
pub async fn remove(name: &str) -> io::Result<()> {
    let Ok(index) = index(name) else { return Ok(()) };
    connect()?.link().del(index).execute().await.map_err(kernels)
}

/// Makes a tap, an interface whose cable is the descriptors returned: one for each queue, with virtio's headers. It is
/// gone with the last of them.
///
/// # Errors
/// The kernel's: the name is taken, there is no `/dev/net/tun`, or nobody may.
pub fn tap(name: &str, mac: Option<[u8; 6]>, mtu: Option<u16>, queues: usize) -> io::Result<Vec<OwnedFd>> {
    let mut builder = DeviceBuilder::new().name(name).layer(Layer::L2).offload(true).enable(false);
    builder = builder.multi_queue(queues > 1);
    if let Some(mac) = mac {
        builder = builder.mac_addr(mac);
    }
    if let Some(mtu) = mtu {
        builder = builder.mtu(mtu);
    }
    let device = builder.build_sync()?;
    let mut all = vec![device.as_fd().try_clone_to_owned()?];
    for _ in 1..queues {
        all.push(device.try_clone()?.as_fd().try_clone_to_owned()?);
    }
    Ok(all)
}

/// Makes a macvtap device on top of another interface, and opens it once for each queue.
///
/// # Errors
/// The kernel's.
pub async fn macvtap(
    name: &str,
    lower: &str,
    mode: Mode,
    mac: Option<[u8; 6]>,
    queues: usize,
) -> io::Result<Vec<OwnedFd>> {
    let mode = match mode {
        Mode::Vepa => MacVtapMode::Vepa,
        Mode::Private => MacVtapMode::Private,
        Mode::Bridge => MacVtapMode::Bridge,
        Mode::Passthrough => MacVtapMode::Passthrough,
    };
    let mut link = LinkMacVtap::new(name, index(lower)?, mode).up();
    if let Some(mac) = mac {
        link = link.address(mac.to_vec());
    }
    connect()?.link().add(link.build()).execute().await.map_err(kernels)?;
    let device = format!("/dev/tap{}", index(name)?);
    let open = || File::options().read(true).write(true).open(&device).map(OwnedFd::from);
    let opened: io::Result<Vec<_>> = (0..queues.max(1)).map(|_| open()).collect();
    if opened.is_err() {
        remove(name).await?;
    }
    opened
}

/// A conversation with the kernel, which ends with the handle.
fn connect() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

fn kernels(error: Error) -> io::Error {
    match error {
        Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
