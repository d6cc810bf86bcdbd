//! Network cards: a `-netdev` for the host's end, a `-device` for the guest's.

use std::fs::File;
use std::os::fd::OwnedFd;

use serde_json::json;
use virtwire_conf::Domain;
use virtwire_conf::domain::device::Address;
use virtwire_conf::domain::disk::VirtioModel;
use virtwire_conf::domain::net::{Interface, InterfaceDriver, InterfaceType, TeamingType};
use virtwire_conf::domain::os::BootDevice;
use virtwire_protocol::{ErrorDomain, VirtError};

use super::boot::boot_index;
use super::chardev::Backend;
use super::device::is_on;
use super::{Device, Json, alias};
use crate::command::{CommandLine, Options};
use crate::error::QEMU;
use crate::plug::{HostEnd, HostEnds, Tap};

pub(crate) fn interfaces(
    line: &mut CommandLine,
    domain: &Domain,
    mut taps: HostEnds,
) -> Result<(), VirtError> {
    for (index, interface) in domain.devices.interfaces.iter().enumerate() {
        let by_kind = if index == 0 { boot_index(domain, BootDevice::Network) } else { None };
        let made = taps.remove(alias(&interface.info));
        self::interface(line, domain, (interface, by_kind), made)?;
    }
    Ok(())
}

/// One card, and where it stands in the boot order by its kind.
pub(super) fn interface(
    line: &mut CommandLine,
    domain: &Domain,
    (interface, by_kind): (&Interface, Option<u32>),
    made: Option<HostEnd>,
) -> Result<(), VirtError> {
    host_end(line, interface, made)?;
    if is_built_in(domain, interface) {
        line.option("-net", built_in(interface));
    } else {
        guest_end(domain, interface, by_kind)?.add(line);
    }
    Ok(())
}

/// Whether a card is the board's own: on ARM, where it is neither on PCI nor in memory.
fn is_built_in(domain: &Domain, interface: &Interface) -> bool {
    let arch = domain.os.type_.as_ref().and_then(|kind| kind.arch.as_deref());
    let placed = matches!(interface.info.address, Some(Address::Pci(_) | Address::VirtioMmio(_)));
    matches!(arch, Some("aarch64" | "armv7l" | "armv6l")) && !placed
}

fn built_in(interface: &Interface) -> Options {
    let name = alias(&interface.info);
    let mac = interface.mac.as_ref().and_then(|mac| mac.address);
    Options::new("nic")
        .with_if("macaddr", mac)
        .with("netdev", format!("host{name}"))
        .with_if("model", interface.model.as_ref().and_then(|model| model.type_.as_ref()))
        .with("id", name)
}

/// How long QEMU waits before it looks again for a program that has gone.
const RECONNECT_MS: u32 = 5000;

/// The host's end: `hostnetN`.
fn host_end(line: &mut CommandLine, interface: &Interface, made: Option<HostEnd>) -> Result<(), VirtError> {
    let source = interface.source.as_ref();
    let place = || {
        let address = source.and_then(|source| source.address.as_deref()).unwrap_or_default();
        format!("{address}:{}", source.and_then(|source| source.port).unwrap_or_default())
    };
    let netdev = |kind: &str| Json::begin("-netdev", "type", kind);
    let name = alias(&interface.info);
    let netdev = match (interface.type_, made) {
        (_, Some(HostEnd::Tap(made))) => tap(line, netdev("tap"), made),
        (_, Some(HostEnd::Stream(socket))) => netdev("stream")
            .with("addr", json!({"type": "unix", "path": socket.display().to_string()}))
            .with("server", false)
            .with("reconnect-ms", RECONNECT_MS),
        (InterfaceType::Ethernet, None) => {
            tap(line, netdev("tap"), Tap { queues: vec![shown()?], vhost: Vec::new() })
        }
        (InterfaceType::User, None) => user(netdev("user"), interface),
        (InterfaceType::Server, None) => netdev("socket").with("listen", place()),
        (InterfaceType::Client, None) => netdev("socket").with("connect", place()),
        (InterfaceType::Mcast, None) => netdev("socket").with("mcast", place()),
        (InterfaceType::Udp, None) => {
            let near = source.and_then(|source| source.local.as_ref());
            let address = near.and_then(|near| near.address.as_deref()).unwrap_or_default();
            let port = near.and_then(|near| near.port).unwrap_or_default();
            netdev("socket").with("udp", place()).with("localaddr", format!("{address}:{port}"))
        }
        (InterfaceType::Vhostuser, None) => vhost_user(line, netdev("vhost-user"), interface),
        (other, None) => {
            let text = format_args!("interfaces of type '{}' cannot be started yet", other.as_str());
            return Err(QEMU.config_unsupported(text));
        }
    };
    netdev.with("id", format!("host{name}")).add(line);
    Ok(())
}

/// QEMU's own network, with the addresses that the definition wants in it.
fn user(netdev: Json, interface: &Interface) -> Json {
    interface.ip.iter().fold(netdev, |netdev, ip| {
        let Some(address) = &ip.address else { return netdev };
        if address.contains(':') {
            netdev.with("ipv6-prefix", address.as_str()).with_if("ipv6-prefixlen", ip.prefix)
        } else {
            let prefix = ip.prefix.map(|prefix| format!("/{prefix}")).unwrap_or_default();
            netdev.with("net", format!("{address}{prefix}"))
        }
    })
}

/// A switch in another process, at the other end of a socket.
fn vhost_user(line: &mut CommandLine, netdev: Json, interface: &Interface) -> Json {
    let source = interface.source.as_ref();
    let id = format!("char{}", alias(&interface.info));
    let path = source.and_then(|source| source.path.as_deref()).unwrap_or_default();
    let listens = source.and_then(|source| source.mode.as_deref()) == Some("server");
    let again = source.and_then(|source| source.reconnect.as_ref()).and_then(|again| again.timeout);
    Backend::new("socket")
        .with("path", path)
        .with_if("server", listens.then_some(true))
        .with_if("reconnect-ms", again.map(|seconds| u64::from(seconds) * 1000))
        .add(line, &id);
    let queues = interface.driver.as_ref().and_then(|driver| driver.queues).filter(|queues| *queues > 1);
    netdev.with("chardev", id).with_if("queues", queues)
}

/// A tap of the host's.
fn tap(line: &mut CommandLine, netdev: Json, tap: Tap) -> Json {
    let mut pass = |fds: Vec<OwnedFd>| fds.into_iter().map(|fd| line.pass(fd)).collect::<Vec<_>>();
    let (queues, vhost) = (pass(tap.queues), pass(tap.vhost));
    let named = |one: &'static str, many: &'static str, fds: &[String]| {
        (if fds.len() == 1 { one } else { many }, fds.join(":"))
    };
    let (key, fds) = named("fd", "fds", &queues);
    let netdev = netdev.with(key, fds);
    if vhost.is_empty() {
        return netdev;
    }
    let (key, fds) = named("vhostfd", "vhostfds", &vhost);
    netdev.with("vhost", true).with(key, fds)
}

/// A guest that is only shown needs no more than the number of a descriptor.
fn shown() -> Result<OwnedFd, VirtError> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    tun.map(OwnedFd::from).map_err(|error| {
        let text = "Unable to open /dev/net/tun, is tun module loaded?";
        VirtError::system(ErrorDomain::NONE, &error, text)
    })
}

fn guest_end(domain: &Domain, interface: &Interface, by_kind: Option<u32>) -> Result<Device, VirtError> {
    let name = alias(&interface.info);
    let model = interface.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or("rtl8139");
    let version = match model {
        "virtio" => Some(VirtioModel::Virtio),
        "virtio-transitional" => Some(VirtioModel::VirtioTransitional),
        "virtio-non-transitional" => Some(VirtioModel::VirtioNonTransitional),
        _ => None,
    };
    let options = interface.driver.as_ref();
    let (address, none) = (interface.info.address.as_ref(), InterfaceDriver::default());
    let device = match version {
        Some(version) => {
            let virtio = options.map(|options| &options.virtio);
            let device = Device::virtio("virtio-net", address, Some(version), virtio);
            virtio_card(device, interface, options.unwrap_or(&none))
        }
        None => Device::new(model),
    };
    let boot = interface.info.boot.as_ref().map(|boot| boot.order.get()).or(by_kind);
    let mac = interface.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac.to_string());
    let pair = interface.teaming.as_ref().filter(|teaming| teaming.type_ == TeamingType::Transient);
    Ok(device
        .with("netdev", format!("host{name}"))
        .with("id", name)
        .with_if("mac", mac)
        .with_if("bootindex", boot)
        .with_if("failover_pair_id", pair.and_then(|pair| pair.persistent.clone()))
        .at(domain, &interface.info)
        .rom(&interface.info))
}

/// What a virtio card can be told.
fn virtio_card(device: Device, interface: &Interface, options: &InterfaceDriver) -> Device {
    let transmit = options.txmode.as_deref().and_then(|mode| match mode {
        "iothread" => Some("bh"),
        "timer" => Some("timer"),
        _ => None,
    });
    let (host, guest) = (options.host.as_ref(), options.guest.as_ref());
    let queues = options.queues.filter(|queues| *queues > 1);
    let switches = [
        ("ioeventfd", options.ioeventfd),
        ("event_idx", options.event_idx),
        ("csum", host.and_then(|host| host.csum)),
        ("gso", host.and_then(|host| host.gso)),
        ("host_tso4", host.and_then(|host| host.tso4)),
        ("host_tso6", host.and_then(|host| host.tso6)),
        ("host_ecn", host.and_then(|host| host.ecn)),
        ("host_ufo", host.and_then(|host| host.ufo)),
        ("mrg_rxbuf", host.and_then(|host| host.mrg_rxbuf)),
        ("guest_csum", guest.and_then(|guest| guest.csum)),
        ("guest_tso4", guest.and_then(|guest| guest.tso4)),
        ("guest_tso6", guest.and_then(|guest| guest.tso6)),
        ("guest_ecn", guest.and_then(|guest| guest.ecn)),
        ("guest_ufo", guest.and_then(|guest| guest.ufo)),
        ("rss", options.rss),
        ("hash", options.rss_hash_report),
    ];
    let device = device.with_if("tx", transmit);
    let device =
        switches.into_iter().fold(device, |device, (name, state)| device.with_if(name, state.map(is_on)));
    let persistent = interface.teaming.as_ref().filter(|teaming| teaming.type_ == TeamingType::Persistent);
    device
        .with_if("mq", queues.map(|_| true))
        // One for each direction of each queue, one for control, one for changes of the configuration.
        .with_if("vectors", queues.map(|queues| 2 * queues + 2))
        .with_if("rx_queue_size", options.rx_queue_size)
        .with_if("tx_queue_size", options.tx_queue_size)
        .with_if("host_mtu", interface.mtu.as_ref().and_then(|mtu| mtu.size))
        .with_if("failover", persistent.map(|_| true))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::sync::Arc;

    use virtwire_conf::{ParseOptions, QemuHost};

    use super::*;

    /// The options of one interface, as libvirtd 11.3 started QEMU 10.0 with.
    #[track_caller]
    fn check(interface: &str, expected: &[&str]) {
        let xml = format!(
            "<domain type='qemu'><name>a</name><memory>65536</memory><os><type machine='q35'>hvm</type></os>\
             <devices>{interface}<memballoon model='none'/></devices></domain>"
        );
        let host = QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", false);
        let mut domain = Domain::parse(&xml, &ParseOptions::qemu(Arc::new(host))).unwrap();
        crate::live::name_devices(&mut domain);
        let mut line = CommandLine::default();
        interfaces(&mut line, &domain, HostEnds::new()).unwrap();
        let pairs: Vec<String> = line.args().chunks(2).map(|pair| pair.join(" ")).collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn qemus_own_network() {
        check(
            "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>\
             <ip family='ipv4' address='172.17.2.0' prefix='24'/>\
             <ip family='ipv6' address='2001:db8::' prefix='64'/></interface>",
            &[
                r#"-netdev {"type":"user","net":"172.17.2.0/24","ipv6-prefix":"2001:db8::","ipv6-prefixlen":64,"id":"hostnet0"}"#,
                r#"-device {"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","mac":"52:54:00:00:00:01","bus":"pci.1","addr":"0x0"}"#,
            ],
        );
    }

    #[test]
    fn taps_are_descriptors_one_for_each_queue() {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let mut line = CommandLine::to_plug(0);
        let one = tap(
            &mut line,
            Json::begin("-netdev", "type", "tap"),
            Tap { queues: vec![null()], vhost: Vec::new() },
        );
        one.add(&mut line);
        let two = Tap { queues: vec![null(), null()], vhost: vec![null(), null()] };
        tap(&mut line, Json::begin("-netdev", "type", "tap"), two).add(&mut line);
        let (args, fds) = line.into_parts();
        let [a, b, c, d, e] =
            fds.iter().map(|fd| CommandLine::name_of(fd.as_raw_fd())).collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(args[1], format!(r#"{{"type":"tap","fd":"{a}"}}"#));
        assert_eq!(args[3], format!(r#"{{"type":"tap","fds":"{b}:{c}","vhost":true,"vhostfds":"{d}:{e}"}}"#));
    }

    #[test]
    fn sockets() {
        let source = "<source address='127.0.0.1' port='5558'/><mac address='52:54:00:00:00:01'/>\
                      <model type='virtio'/><driver rss='on' rss_hash_report='on' iommu='on' ats='on'/>";
        let device = r#"-device {"driver":"virtio-net-pci","iommu_platform":true,"ats":true,"rss":true,"hash":true,"netdev":"hostnet0","id":"net0","mac":"52:54:00:00:00:01","bus":"pci.1","addr":"0x0"}"#;
        for (kind, word) in [("server", "listen"), ("client", "connect"), ("mcast", "mcast")] {
            let netdev = format!(r#"-netdev {{"type":"socket","{word}":"127.0.0.1:5558","id":"hostnet0"}}"#);
            check(&format!("<interface type='{kind}'>{source}</interface>"), &[&netdev, device]);
        }
    }
}
