//! The host's ends of a guest's interfaces: taps, and what they are plugged into. They are made before QEMU has them; a
//! tap is gone with the last descriptor of it, the rest is given up when the guest has ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;
use virtwire_conf::domain::VirtType;
use virtwire_conf::domain::net::{
    Interface, InterfaceSource, InterfaceTarget, InterfaceType, NativeMode, PacketDriver, VlanTag,
};
use virtwire_conf::network_port::{Plug, PlugType, PortOwner};
use virtwire_conf::{Domain, FormatOptions, NetworkPort, ParseOptions, YesNo};
use virtwire_driver_api::{CallCx, NetworkDriver};
use virtwire_link as link;
use virtwire_protocol::error::VirtError;
use virtwire_protocol::remote::{
    NetworkLookupByNameArgs, NetworkPortCreateXmlArgs, NetworkPortDeleteArgs, NetworkPortGetXmlDescArgs,
    NonnullNetworkPort,
};

use crate::argv::alias;
use crate::bandwidth;
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::process::helper;
use crate::{filter, openvswitch, passt};

/// The host's end of an interface, as QEMU gets it.
#[derive(Debug)]
pub enum HostEnd {
    /// Of a tap.
    Tap(Tap),
    /// The socket where another program waits for its packets.
    Stream(PathBuf),
}

/// The descriptors that QEMU gets for an interface.
#[derive(Debug, Default)]
pub struct Tap {
    /// Of the tap, one for each queue.
    pub queues: Vec<OwnedFd>,
    /// Of the kernel's own virtio device, as many.
    pub vhost: Vec<OwnedFd>,
}

/// Those of all interfaces, by alias.
pub type HostEnds = BTreeMap<String, HostEnd>;

/// Makes the host's ends of a guest's interfaces, and notes in the definition what they are.
///
/// # Errors
/// One is not to be had; those before it are given up.
pub(crate) async fn connect(driver: &Qemu, domain: &mut Domain) -> Result<HostEnds> {
    let mut ends = HostEnds::new();
    let owner = Owner::of(domain);
    for at in 0..domain.devices.interfaces.len() {
        let interface = &domain.devices.interfaces[at];
        let name = alias(&interface.info).to_owned();
        let end = if passt::is_behind(interface) {
            passt::start(driver, domain, interface).await.map(HostEnd::Stream).map(Some)
        } else {
            let made = plug(driver, &owner, &mut domain.devices.interfaces[at]).await;
            made.map(|tap| tap.map(HostEnd::Tap))
        };
        match end {
            Ok(end) => ends.extend(end.map(|end| (name, end))),
            Err(error) => {
                give_up(driver, &owner, &domain.devices.interfaces[..=at]).await;
                return Err(error);
            }
        }
    }
    Ok(ends)
}

/// Gives up interfaces that are no more: their filters, and what is not gone with QEMU.
pub(crate) async fn give_up(driver: &Qemu, owner: &Owner, interfaces: &[Interface]) {
    for interface in interfaces {
        filter::unbind(driver, owner, interface).await;
        let dev = device(interface);
        if openvswitch::is_behind(interface) && !dev.is_empty() {
            openvswitch::remove(owner.uuid, interface, dev).await;
        }
    }
    disconnect(driver, owner, interfaces).await;
}

/// Gives up what interfaces are plugged into, where it is not gone with QEMU.
pub(crate) async fn disconnect(driver: &Qemu, owner: &Owner, interfaces: &[Interface]) {
    for interface in interfaces {
        if passt::is_behind(interface) {
            passt::end(driver, owner.id, &owner.name, interface);
        }
        let source = interface.source.as_ref();
        if let Some(dev) = interface.target.as_ref().and_then(|target| target.dev.as_deref())
            && dev.starts_with(MACVTAP.prefix)
            && let Err(error) = link::remove(dev).await
        {
            tracing::warn!(guest = owner.name, dev, %error, "an interface is left behind");
        }
        let Some((network, port)) = source.and_then(|source| source.network.as_deref().zip(source.portid))
        else {
            continue;
        };
        let Some(networks) = &driver.companions().network else { continue };
        let given_up = async {
            let net = lookup(&**networks, network).await?;
            let port = NonnullNetworkPort { net, uuid: port.into_bytes() };
            networks.network_port_delete(&internal(), NetworkPortDeleteArgs { port, flags: 0 }).await
        };
        if let Err(error) = given_up.await {
            tracing::debug!(guest = owner.name, network, %error, "a port was gone before");
        }
    }
}

/// Whose interfaces they are.
pub(crate) struct Owner {
    id: i32,
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    /// It runs in the kernel, and so may its network cards.
    is_kvm: bool,
}

impl Owner {
    pub(crate) fn of(domain: &Domain) -> Self {
        Self {
            id: domain.id.unwrap_or(-1),
            name: domain.name.clone(),
            uuid: domain.uuid.unwrap_or_default(),
            is_kvm: domain.type_ == VirtType::Kvm,
        }
    }
}

/// Makes the host's end of one interface, if it is made here.
pub(crate) async fn plug(driver: &Qemu, owner: &Owner, interface: &mut Interface) -> Result<Option<Tap>> {
    let source = interface.source.clone().unwrap_or_default();
    let socket = match interface.type_ {
        InterfaceType::Network => allotted(driver, owner, interface).await?,
        InterfaceType::Bridge => Socket::Bridge(source.bridge.unwrap_or_default()),
        InterfaceType::Direct => Socket::Device {
            dev: source.dev.unwrap_or_default(),
            mode: source.mode.unwrap_or_else(|| "vepa".to_owned()),
        },
        InterfaceType::Ethernet => Socket::Nothing,
        _ => return Ok(None),
    };
    let tap = match &socket {
        Socket::Device { .. } if interface.filterref.is_some() => {
            // Better no network than one without the filter.
            let (kind, mac) = (interface.type_, interface.mac.as_ref().and_then(|mac| mac.address));
            let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
            return Err(QEMU.config_unsupported(format_args!(
                "interface {mac} - filterref is not supported for network interfaces of type {kind}"
            )));
        }
        Socket::Device { dev, mode } => on_device(interface, dev, mode).await?,
        Socket::Bridge(bridge) => {
            if !link::exists(bridge) {
                let none = rustix::io::Errno::NODEV.into();
                return Err(failed(&none, format_args!("Cannot get interface MTU on '{bridge}'")));
            }
            let tap = tap(interface)?;
            attach(owner, device(interface), bridge, (None, interface)).await?;
            // Nothing goes through before it is in force.
            filter::bind(driver, owner, interface).await?;
            let name = device(interface);
            link::set_up(name)
                .await
                .map_err(|error| failed(&error, format_args!("cannot set '{name}' up")))?;
            tap
        }
        Socket::Nothing => {
            let tap = tap(interface)?;
            filter::bind(driver, owner, interface).await?;
            let name = device(interface);
            link::set_up(name)
                .await
                .map_err(|error| failed(&error, format_args!("cannot set '{name}' up")))?;
            if let Some(script) = interface.script.as_ref().and_then(|script| script.path.as_deref()) {
                run_script(script, name).await?;
            }
            tap
        }
    };
    if interface.bandwidth.is_some() {
        bandwidth::limit(owner.uuid, interface, interface.bandwidth.as_ref()).await?;
    }
    let vhost = vhost(owner, interface, tap.len())?;
    Ok(Some(Tap { queues: tap, vhost }))
}

/// Into what an interface is plugged.
enum Socket {
    Bridge(String),
    Device { dev: String, mode: String },
    Nothing,
}

/// Plugs the tap of an interface, which a guest has, into another bridge.
///
/// # Errors
/// There is no such network or bridge; it stays where it was.
pub(crate) async fn replug(
    driver: &Qemu,
    domain: &Domain,
    old: &Interface,
    new: &mut Interface,
) -> Result<()> {
    let owner = Owner::of(domain);
    let socket = match new.type_ {
        InterfaceType::Network => allotted(driver, &owner, new).await?,
        _ => Socket::Bridge(new.source.as_ref().and_then(|source| source.bridge.clone()).unwrap_or_default()),
    };
    let Socket::Bridge(bridge) = socket else {
        disconnect(driver, &owner, std::slice::from_ref(new)).await;
        let kind = old.type_;
        let text = format_args!("unable to change config on '{kind}' network type");
        return Err(QEMU.operation_unsupported(text));
    };
    let attached = if link::exists(&bridge) {
        attach(&owner, device(old), &bridge, (Some(old), new)).await
    } else {
        let (name, dev) = (&owner.name, device(old));
        let text = format_args!("cannot add domain {name} device {dev} to nonexistent bridge {bridge}");
        Err(QEMU.operation_failed(text))
    };
    if attached.is_err() {
        disconnect(driver, &owner, std::slice::from_ref(new)).await;
    }
    attached
}

fn bridge_of(interface: &Interface) -> &str {
    interface.source.as_ref().and_then(|source| source.bridge.as_deref()).unwrap_or_default()
}

/// Plugs a tap into a bridge, also into another one than it was in, or into the same with another port. Where that cannot be,
/// it stays where it was.
async fn attach(
    owner: &Owner,
    dev: &str,
    bridge: &str,
    (old, new): (Option<&Interface>, &Interface),
) -> Result<()> {
    let Some(old) = old else { return join(owner, dev, bridge, (None, new)).await };
    let switched = [old, new].map(openvswitch::is_behind);
    let stays = switched == [true, true] && bridge_of(old) == bridge;
    if stays && old.virtualport == new.virtualport {
        return if old.vlan == new.vlan { Ok(()) } else { openvswitch::retag(new, dev).await };
    }
    // Bridges of the kernel's take a tap over from each other.
    let leaves = !stays && switched != [false, false];
    if leaves {
        leave(owner, dev, old).await;
    }
    let joined = join(owner, dev, bridge, (Some(old).filter(|_| !leaves), new)).await;
    if joined.is_err() && leaves {
        let back = async {
            join(owner, dev, bridge_of(old), (None, old)).await?;
            match &old.bandwidth {
                Some(bandwidth) => bandwidth::limit(owner.uuid, old, Some(bandwidth)).await,
                None => Ok(()),
            }
        };
        if let Err(error) = back.await {
            tracing::error!(guest = owner.name, dev, %error, "an interface is not plugged in as it was");
        }
    }
    joined
}

/// Plugs a tap into a bridge; `old` is as what it is in one of the same kind.
async fn join(
    owner: &Owner,
    dev: &str,
    bridge: &str,
    (old, new): (Option<&Interface>, &Interface),
) -> Result<()> {
    if openvswitch::is_behind(new) {
        return openvswitch::add(owner.uuid, new, dev, bridge).await;
    }
    let is_isolated =
        |net: &Interface| net.port.as_ref().is_some_and(|port| port.isolated == Some(YesNo::Yes));
    // What nobody has said or says is as the bridge has it.
    let isolated = (old.is_some_and(is_isolated) || is_isolated(new)).then(|| is_isolated(new));
    link::attach(dev, bridge, isolated)
        .await
        .map_err(|error| failed(&error, format_args!("Unable to add bridge {bridge} port {dev}")))?;
    let (before, vlans) = (old.map(vlans).unwrap_or_default(), vlans(new));
    if before == vlans {
        return Ok(());
    }
    link::set_vlans(dev, &before, &vlans)
        .await
        .map_err(|error| failed(&error, format_args!("error adding vlan filter to interface {dev}")))
}

/// Pulls a tap out of the bridge that it is in.
async fn leave(owner: &Owner, dev: &str, interface: &Interface) {
    if openvswitch::is_behind(interface) {
        openvswitch::remove(owner.uuid, interface, dev).await;
    } else if let Err(error) = link::detach(dev).await {
        tracing::warn!(guest = owner.name, dev, %error, "an interface stays in its bridge");
    }
}

/// The virtual networks that an interface is in.
fn vlans(interface: &Interface) -> Vec<link::PortVlan> {
    let Some(vlan) = &interface.vlan else { return Vec::new() };
    let is_trunk = vlan.trunk == Some(YesNo::Yes);
    let port = |tag: &VlanTag| link::PortVlan {
        id: u16::try_from(tag.id).unwrap_or_default(),
        native: !is_trunk || tag.native_mode.is_some(),
        untagged: !is_trunk || tag.native_mode == Some(NativeMode::Untagged),
    };
    vlan.tag.iter().map(port).collect()
}

/// Takes a port of the network, which says what that is.
async fn allotted(driver: &Qemu, owner: &Owner, interface: &mut Interface) -> Result<Socket> {
    let source = interface.source.get_or_insert_default();
    let name = source.network.clone().unwrap_or_default();
    let none = || QEMU.no_support("virNetworkLookupByName");
    let networks = driver.companions().network.clone().ok_or_else(none)?;
    let network = lookup(&*networks, &name).await?;
    let wanted = NetworkPort {
        uuid: Some(Uuid::new_v4()),
        owner: Some(PortOwner { name: Some(owner.name.clone()), uuid: Some(owner.uuid) }),
        group: source.portgroup.clone(),
        mac: interface.mac.clone(),
        virtualport: interface.virtualport.clone(),
        bandwidth: interface.bandwidth.clone(),
        vlan: interface.vlan.clone(),
        port: interface.port.clone(),
        ..NetworkPort::default()
    };
    let xml = wanted.to_xml(&FormatOptions::default()).into();
    let (cx, args) = (internal(), NetworkPortCreateXmlArgs { network, xml, flags: 0 });
    let port = networks.network_port_create_xml(&cx, args).await?.port;
    source.portid = Some(Uuid::from_bytes(port.uuid));
    let described =
        networks.network_port_get_xml_desc(&cx, NetworkPortGetXmlDescArgs { port, flags: 0 }).await?;
    let port = NetworkPort::parse(&described.xml.to_str_lossy(), &ParseOptions::default())?;
    (interface.virtualport, interface.vlan) = (port.virtualport, port.vlan);
    (interface.bandwidth, interface.port) = (port.bandwidth, port.port);
    note(interface, port.plug.unwrap_or_default())
}

/// Writes into the definition what a port is plugged into. Unless that is a bridge of the network's own, it is as if the
/// interface had been defined so.
fn note(interface: &mut Interface, plug: Plug) -> Result<Socket> {
    let source: &mut InterfaceSource = interface.source.get_or_insert_default();
    match plug.type_ {
        PlugType::Network | PlugType::Bridge => {
            if plug.type_ == PlugType::Bridge {
                interface.type_ = InterfaceType::Bridge;
            }
            source.bridge.clone_from(&plug.bridge);
            Ok(Socket::Bridge(plug.bridge.unwrap_or_default()))
        }
        PlugType::Direct => {
            interface.type_ = InterfaceType::Direct;
            source.dev.clone_from(&plug.dev);
            source.mode.clone_from(&plug.mode);
            let mode = plug.mode.unwrap_or_else(|| "vepa".to_owned());
            Ok(Socket::Device { dev: plug.dev.unwrap_or_default(), mode })
        }
        PlugType::HostdevPci | PlugType::None => {
            Err(QEMU.config_unsupported("networks that hand over devices cannot be used yet"))
        }
    }
}

pub(crate) async fn lookup(
    networks: &dyn NetworkDriver,
    name: &str,
) -> Result<virtwire_protocol::remote::NonnullNetwork> {
    let args = NetworkLookupByNameArgs { name: name.into() };
    Ok(networks.network_lookup_by_name(&internal(), args).await?.net)
}

pub(crate) fn internal() -> CallCx {
    CallCx { internal: true, ..CallCx::default() }
}

/// A kind of names that the host's ends have which nobody named. Each is used once only: who watches a host tells guests
/// apart by them.
struct Names {
    prefix: &'static str,
    next: AtomicU32,
}

static VNET: Names = Names { prefix: "vnet", next: AtomicU32::new(0) };
static MACVTAP: Names = Names { prefix: "macvtap", next: AtomicU32::new(0) };

impl Names {
    /// The next one that no interface of the host has.
    fn next(&self) -> String {
        loop {
            let name = format!("{}{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed));
            if !link::exists(&name) {
                return name;
            }
        }
    }
}

/// Names the host's end of an interface, unless the definition does.
fn name(interface: &mut Interface, names: &Names) -> String {
    let target: &mut InterfaceTarget = interface.target.get_or_insert_default();
    let own = target.dev.take().filter(|dev| !dev.is_empty() && !dev.contains('%'));
    target.dev.insert(own.unwrap_or_else(|| names.next())).clone()
}

pub(crate) fn device(interface: &Interface) -> &str {
    interface.target.as_ref().and_then(|target| target.dev.as_deref()).unwrap_or_default()
}

fn queues(interface: &Interface) -> usize {
    let queues = interface.driver.as_ref().and_then(|driver| driver.queues).unwrap_or(1);
    usize::try_from(queues).unwrap_or(1).max(1)
}

fn tap(interface: &mut Interface) -> Result<Vec<OwnedFd>> {
    let name = name(interface, &VNET);
    // The bridge has the lowest of its ports' addresses, unless it was given one: a high one leaves it as it is.
    let mac = interface.mac.as_ref().and_then(|mac| mac.address).map(|mac| {
        let [_, rest @ ..] = mac.0;
        let [a, b, c, d, e] = rest;
        [0xfe, a, b, c, d, e]
    });
    let mtu = interface.mtu.as_ref().and_then(|mtu| mtu.size).and_then(|mtu| u16::try_from(mtu).ok());
    let text = format_args!("Unable to create tap device {name}");
    link::tap(&name, mac, mtu, queues(interface)).map_err(|error| failed(&error, text))
}

async fn on_device(interface: &mut Interface, dev: &str, mode: &str) -> Result<Vec<OwnedFd>> {
    let mode = match mode {
        "private" => link::Mode::Private,
        "bridge" => link::Mode::Bridge,
        "passthrough" => link::Mode::Passthrough,
        _ => link::Mode::Vepa,
    };
    let unknown = |error| failed(&error, format_args!("Unable to get index for interface {dev}"));
    link::index(dev).map_err(unknown)?;
    let name = name(interface, &MACVTAP);
    let mac = interface.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac.0);
    let made = link::macvtap(&name, dev, mode, mac, queues(interface)).await;
    made.map_err(|error| failed(&error, format_args!("error creating macvtap interface {name}@{dev}")))
}

/// Opens the kernel's virtio device as often as there are queues, where there is one and the card is virtio's.
fn vhost(owner: &Owner, interface: &Interface, queues: usize) -> Result<Vec<OwnedFd>> {
    let model = interface.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or_default();
    let driver = interface.driver.as_ref().and_then(|driver| driver.name);
    let path = interface.backend.as_ref().and_then(|backend| backend.vhost.as_deref());
    if !model.starts_with("virtio")
        || driver == Some(PacketDriver::Qemu)
        || !(owner.is_kvm || driver.is_some())
    {
        return Ok(Vec::new());
    }
    let path = path.unwrap_or("/dev/vhost-net");
    let open = || File::options().read(true).write(true).open(path).map(OwnedFd::from);
    match (0..queues).map(|_| open()).collect() {
        Ok(all) => Ok(all),
        Err(_) if driver.is_none() => Ok(Vec::new()),
        Err(_) => {
            Err(QEMU.config_unsupported("vhost-net was requested for an interface, but is unavailable"))
        }
    }
}

async fn run_script(script: &str, name: &str) -> Result<()> {
    let done = helper(script).arg(name).output().await;
    let done = done.map_err(|error| failed(&error, format_args!("cannot execute binary {script}")))?;
    if done.status.success() {
        return Ok(());
    }
    Err(QEMU.internal_error(format_args!("Child process ({script} {name}) unexpected {}", done.status)))
}

fn failed(error: &io::Error, what: std::fmt::Arguments<'_>) -> VirtError {
    VirtError::system(QEMU, error, what)
}
