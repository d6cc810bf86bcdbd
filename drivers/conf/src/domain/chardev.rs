//! Serial ports, consoles, channels: guest ends of host character devices.

use virtwire_protocol::ErrorDomain;

use crate::domain::device::{DeviceInfo, DeviceSeclabel, VirtioOptions};
use crate::domain::disk::{Reconnect, VirtioModel};
use crate::table::{Element, Result, Value};
use crate::xml::{Node, Writer};
use crate::{OnOff, YesNo, element, keywords};

const DOMAIN: ErrorDomain = ErrorDomain::DOMAIN;

keywords! {
    /// What the host end is.
    pub enum CharType {
        Pty = "pty", Null = "null", Vc = "vc", Dev = "dev", File = "file", Pipe = "pipe", Stdio = "stdio", Udp = "udp",
        Tcp = "tcp", Unix = "unix", Spicevmc = "spicevmc", Spiceport = "spiceport", Nmdm = "nmdm",
        QemuVdagent = "qemu-vdagent", Dbus = "dbus",
    }
    /// Who listens.
    pub enum CharMode { Connect = "connect", Bind = "bind", Client = "client", Server = "server" }
    /// What travels over TCP.
    pub enum CharProtocol { Raw = "raw", Telnet = "telnet", Telnets = "telnets", Tls = "tls" }
    /// A serial port's bus.
    pub enum SerialTargetType {
        IsaSerial = "isa-serial", UsbSerial = "usb-serial", PciSerial = "pci-serial",
        SpaprVioSerial = "spapr-vio-serial", SystemSerial = "system-serial", SclpSerial = "sclp-serial",
        IsaDebug = "isa-debug",
    }
    /// What a console is to the guest.
    pub enum ConsoleTargetType {
        Serial = "serial", Xen = "xen", Uml = "uml", Virtio = "virtio", Lxc = "lxc", Openvz = "openvz",
        Sclp = "sclp", Sclplm = "sclplm",
    }
    /// What a channel is to the guest.
    pub enum ChannelTargetType { Guestfwd = "guestfwd", Virtio = "virtio", Xen = "xen" }
}

element! {
    /// The host end.
    pub struct Chardev {
        attr_default type_ "type": CharType => DOMAIN.config_unsupported "unknown type presented to host for character device: {}";
        attr tty if live: Option<String>;
        child source: Vec<CharSource>;
        sole protocol: Option<Protocol> => DOMAIN.xml_error "only one protocol element is allowed for character device";
        child log: Option<Log>;
    }

    /// `<source>` of a character device.
    pub struct CharSource {
        attr mode: Option<CharMode>;
        attr host: Option<String>;
        attr service: Option<String>;
        attr path: Option<String>;
        attr append: Option<OnOff>;
        attr tls: Option<YesNo>;
        attr channel: Option<String>;
        attr master: Option<String>;
        attr slave: Option<String>;
        attr reconnect_attr "reconnect": Option<u32>;
        child seclabel: Vec<DeviceSeclabel>;
        child reconnect: Option<Reconnect>;
        child clipboard: Option<AgentClipboard>;
        child mouse: Option<AgentMouse>;
    }

    /// `<clipboard>` of an agent channel.
    pub struct AgentClipboard {
        attr copypaste: YesNo;
    }

    /// `<mouse>` of an agent channel.
    pub struct AgentMouse {
        attr mode: CharMode;
    }

    /// `<protocol>`.
    pub struct Protocol {
        attr_default type_ "type": CharProtocol;
    }

    /// `<log>`: a file that gets all output.
    pub struct Log {
        attr file: Option<String>;
        attr append: Option<OnOff>;
    }

    /// `<serial>`.
    pub struct Serial {
        flat chardev: Chardev;
        child target: Option<SerialTarget>;
        flat info: DeviceInfo;
    }

    /// `<target>` of a serial port.
    pub struct SerialTarget {
        attr type_ "type": Option<SerialTargetType> => DOMAIN.config_unsupported "unknown target type '{}' specified for character device";
        attr port: Option<i32> => DOMAIN.xml_error "Invalid port number: {}";
        child model: Option<TargetModel>;
    }

    /// `<model>` of a target.
    pub struct TargetModel {
        attr name: Option<String>;
    }

    /// `<parallel>`.
    pub struct Parallel {
        flat chardev: Chardev;
        child target: Option<ParallelTarget>;
        flat info: DeviceInfo;
    }

    /// `<target>` of a parallel port.
    pub struct ParallelTarget {
        attr port: Option<i32> => DOMAIN.xml_error "Invalid port number: {}";
    }

    /// `<console>`.
    pub struct Console {
        flat chardev: Chardev;
        child target: Option<ConsoleTarget>;
        flat info: DeviceInfo;
    }

    /// `<target>` of a console.
    pub struct ConsoleTarget {
        attr type_ "type": Option<ConsoleTargetType> => DOMAIN.config_unsupported "unknown target type '{}' specified for character device";
        attr port: Option<i32> => DOMAIN.xml_error "Invalid port number: {}";
    }

    /// `<channel>`.
    pub struct Channel {
        flat chardev: Chardev;
        child target: Option<ChannelTarget>;
        flat info: DeviceInfo;
    }

    /// `<target>` of a channel.
    pub struct ChannelTarget {
        attr type_ "type": Option<ChannelTargetType> => DOMAIN.config_unsupported "unknown target type '{}' specified for character device";
        attr address: Option<String>;
        attr port: Option<String>;
        attr name: Option<String>;
        attr state if live: Option<String>;
    }

    /// `<smartcard>`.
    pub struct Smartcard {
        attr mode: SmartcardMode;
        attr type_ "type": Option<CharType> => DOMAIN.config_unsupported "unknown type presented to host for character device: {}";
        leaf certificate: Vec<String>;
        leaf database: Option<String>;
        child source: Vec<CharSource>;
        sole protocol: Option<Protocol> => DOMAIN.xml_error "only one protocol element is allowed for character device";
        child log: Option<Log>;
        flat info: DeviceInfo;
    }

    /// `<redirdev>`: a USB device of the viewer's.
    pub struct Redirdev {
        attr_default bus: RedirdevBus => DOMAIN.config_unsupported "unknown redirdev bus '{}'";
        flat known: KnownRedirection;
        flat chardev: Chardev;
        flat info: DeviceInfo;
    }

    /// `<redirfilter>`.
    pub struct Redirfilter {
        child usbdev: Vec<UsbDevFilter>;
    }

    /// `<usbdev>`: a rule.
    pub struct UsbDevFilter {
        attr class: Option<String>;
        attr vendor: Option<String>;
        attr product: Option<String>;
        attr version: Option<String>;
        attr allow: YesNo;
    }

    /// `<rng>`: a source of randomness.
    pub struct Rng {
        attr model: VirtioModel;
        child rate: Option<RngRate>;
        sole backend: Option<RngBackend> => DOMAIN.xml_error "only one RNG backend is supported";
        child driver: Option<RngDriver>;
        flat info: DeviceInfo;
    }

    /// `<rate>`.
    pub struct RngRate {
        attr_default bytes: u32 => DOMAIN.xml_error "invalid RNG rate bytes value";
        attr period: Option<u32> => DOMAIN.xml_error "invalid RNG rate period value";
    }

    /// `<backend>` of a random number generator.
    pub struct RngBackend {
        attr model: RngModel;
        attr type_ "type": Option<CharType> => DOMAIN.config_unsupported "unknown backend type '{}' for egd";
        child source: Vec<CharSource>;
        sole protocol: Option<Protocol> => DOMAIN.xml_error "only one protocol element is allowed for character device";
        text path: Option<String>;
    }

    /// `<driver>` of a random number generator.
    pub struct RngDriver {
        flat virtio: VirtioOptions;
    }
}

/// What brings a viewer's device is known; refused in words of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownRedirection;

impl Element for KnownRedirection {
    fn read(node: Node<'_>) -> Result<Self> {
        match node.attribute("type") {
            None => Err(DOMAIN.internal_error("missing type in redirdev")),
            Some(kind) if CharType::parse(kind).is_err() => {
                Err(DOMAIN
                    .config_unsupported(format_args!("unknown redirdev character device type '{kind}'")))
            }
            Some(_) => Ok(Self),
        }
    }

    fn write(&self, _: &mut Writer<'_>) {}
}

impl Channel {
    /// Whether it is a port of a virtio-serial controller.
    pub fn is_virtio(&self) -> bool {
        self.target.as_ref().and_then(|t| t.type_) == Some(ChannelTargetType::Virtio)
    }
}

impl Console {
    /// Whether it is a port of a virtio-serial controller.
    pub fn is_virtio(&self) -> bool {
        self.target.as_ref().and_then(|t| t.type_) == Some(ConsoleTargetType::Virtio)
    }
}

keywords! {
    /// What a smart card is on the host.
    pub enum SmartcardMode { Host = "host", HostCertificates = "host-certificates", Passthrough = "passthrough" }
    /// What is redirected.
    pub enum RedirdevBus { Usb = "usb" }
    /// Where randomness comes from.
    pub enum RngModel { Random = "random", Egd = "egd", Builtin = "builtin" }
}
