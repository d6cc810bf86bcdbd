//! What a device of one kind does not say: what belongs to other kinds, and what belongs to one run of the guest.

use super::{buses, storage};
use crate::domain::chardev::{CharSource, CharType, RngBackend, RngModel, SmartcardMode, UsbDevFilter};
use crate::domain::device::Address;
use crate::domain::disk::{BackingStore, DiskSource, Filesystem, FilesystemDriverType};
use crate::domain::display::{
    Gl, Graphics, GraphicsType, Input, InputSource, InputType, Sound, SoundModel, VideoModel, VideoType,
};
use crate::domain::misc::{Hostdev, HostdevType, Tpm, TpmBackendType};
use crate::domain::net::{Interface, InterfaceDriver, InterfaceModel, InterfaceSource, InterfaceType};
use crate::domain::os::{Sysinfo, SysinfoBlock, SysinfoEntry};
use crate::domain::{Devices, Domain};
use crate::table::c_number;
use crate::{OnOff, YesNo};

/// Drops all that.
pub(super) fn keep_own(domain: &mut Domain) {
    forget_run(domain);
    let devices = &mut domain.devices;
    characters(devices);
    devices.sounds.iter_mut().for_each(sound);
    devices.graphics.iter_mut().for_each(screen);
    devices.interfaces.iter_mut().for_each(interface);
    devices.tpms.iter_mut().for_each(tpm);
    devices.videos.iter_mut().filter_map(|video| video.model.as_mut()).for_each(video);
    for hostdev in devices.hostdevs.iter_mut().filter(|h| h.type_ != HostdevType::Scsi) {
        hostdev.readonly = false;
        hostdev.shareable = false;
    }
    for info in devices.infos_mut() {
        if let Some(parameter) = info.boot.as_mut().and_then(|boot| boot.loadparm.as_mut()) {
            parameter.make_ascii_uppercase();
        }
    }
    devices.redirfilter.iter_mut().flat_map(|filter| &mut filter.usbdev).for_each(usb_rule);
    devices.inputs.iter_mut().for_each(input);
    devices.filesystems.iter_mut().for_each(shared_folder);
    devices.rngs.iter_mut().filter_map(|rng| rng.backend.as_mut()).for_each(randomness);
    devices.hostdevs.iter_mut().for_each(hostdev);
    devices.disks.iter_mut().for_each(storage::disk);
    let groups = domain.throttlegroups.iter_mut().flat_map(|groups| &mut groups.throttlegroup);
    groups.for_each(|group| group.0.drop_zeros());
    domain.sysinfo.iter_mut().for_each(sysinfo);
    if let Some(tune) = &mut domain.cputune {
        let periods =
            [&mut tune.period, &mut tune.global_period, &mut tune.emulator_period, &mut tune.iothread_period];
        periods.into_iter().for_each(|period| _ = period.take_if(|period| *period == 0));
        let quotas =
            [&mut tune.quota, &mut tune.global_quota, &mut tune.emulator_quota, &mut tune.iothread_quota];
        quotas.into_iter().for_each(|quota| _ = quota.take_if(|quota| *quota == 0));
    }
    if let Some(features) = &mut domain.features {
        let states = [
            &mut features.hap,
            &mut features.pmu,
            &mut features.pvspinlock,
            &mut features.vmport,
            &mut features.vmcoreinfo,
        ];
        states.into_iter().flatten().for_each(|state| _ = state.state.get_or_insert(OnOff::On));
        if let Some(smm) = &mut features.smm {
            smm.state.get_or_insert(OnOff::On);
            smm.tseg.take_if(|size| size.value.is_none());
        }
    }
}

/// Names of devices and numbers of images are new in each run.
fn forget_run(domain: &mut Domain) {
    let devices = &mut domain.devices;
    for info in devices.infos_mut() {
        info.alias.take_if(|alias| !alias.name.starts_with("ua-"));
    }
    for disk in &mut devices.disks {
        disk.source.iter_mut().for_each(unnumbered);
        disk.mirror = None;
        let mut below = disk.backing_store.as_deref_mut();
        while let Some(BackingStore { index, source, backing_store, .. }) = below {
            *index = None;
            source.iter_mut().for_each(unnumbered);
            below = backing_store.as_deref_mut();
        }
    }
    for label in &mut domain.seclabel {
        label.imagelabel = None;
    }
    for target in devices.channels.iter_mut().filter_map(|channel| channel.target.as_mut()) {
        target.state = None;
    }
}

fn unnumbered(source: &mut DiskSource) {
    source.index = None;
}

/// Each kind of host end has its own parts of a source.
fn characters(devices: &mut Devices) {
    let ends = devices.serials.iter_mut().map(|d| &mut d.chardev);
    let ends = ends.chain(devices.parallels.iter_mut().map(|d| &mut d.chardev));
    let ends = ends.chain(devices.consoles.iter_mut().map(|d| &mut d.chardev));
    let ends = ends.chain(devices.channels.iter_mut().map(|d| &mut d.chardev));
    let ends = ends.chain(devices.redirdevs.iter_mut().map(|d| &mut d.chardev));
    for end in ends {
        let kind = end.type_;
        end.source.iter_mut().for_each(|source| keep_for(kind, source));
    }
    for card in devices.smartcards.iter_mut().filter(|card| card.mode != SmartcardMode::Passthrough) {
        card.type_ = None;
    }
    for card in devices.smartcards.iter_mut().filter(|card| card.mode != SmartcardMode::HostCertificates) {
        card.certificate.clear();
        card.database = None;
    }
}

pub(super) fn keep_for(kind: CharType, source: &mut CharSource) {
    let mut whole = std::mem::take(source);
    let seclabel = std::mem::take(&mut whole.seclabel);
    let own = match kind {
        CharType::File | CharType::Dev | CharType::Pipe | CharType::Pty => CharSource {
            path: whole.path,
            append: whole.append.filter(|_| kind == CharType::File),
            ..CharSource::default()
        },
        CharType::Nmdm => CharSource { master: whole.master, slave: whole.slave, ..CharSource::default() },
        CharType::Spiceport | CharType::Dbus => {
            CharSource { channel: whole.channel, ..CharSource::default() }
        }
        CharType::QemuVdagent => {
            CharSource { clipboard: whole.clipboard, mouse: whole.mouse, ..CharSource::default() }
        }
        CharType::Unix => CharSource {
            mode: whole.mode,
            path: whole.path,
            reconnect_attr: whole.reconnect_attr,
            reconnect: whole.reconnect,
            ..CharSource::default()
        },
        CharType::Tcp => CharSource {
            mode: whole.mode,
            host: whole.host,
            service: whole.service,
            tls: whole.tls,
            reconnect_attr: whole.reconnect_attr,
            reconnect: whole.reconnect,
            ..CharSource::default()
        },
        CharType::Udp => {
            CharSource { mode: whole.mode, host: whole.host, service: whole.service, ..CharSource::default() }
        }
        _ => whole,
    };
    let labelled = matches!(kind, CharType::File | CharType::Dev | CharType::Pipe | CharType::Unix);
    *source = CharSource { seclabel: if labelled { seclabel } else { Vec::new() }, ..own };
}

fn sound(sound: &mut Sound) {
    if sound.model != SoundModel::Usb {
        sound.multichannel = None;
    }
    if sound.model != SoundModel::Virtio {
        sound.streams = None;
        sound.driver = None;
    }
    if !matches!(sound.model, SoundModel::Ich6 | SoundModel::Ich9) {
        sound.codec.clear();
    }
}

/// Each way to see a guest's screen has words of its own.
fn screen(screen: &mut Graphics) {
    use GraphicsType::{Dbus, Desktop, EglHeadless, Rdp, Sdl, Spice, Vnc};
    let yes = |answer: Option<YesNo>| answer.filter(|answer| *answer == YesNo::Yes);
    let whole = std::mem::take(screen);
    let bare = Graphics { type_: whole.type_, ..Graphics::default() };
    let gl = whole.gl.clone();
    *screen = match whole.type_ {
        Sdl => Graphics {
            display: whole.display,
            xauth: whole.xauth,
            fullscreen: yes(whole.fullscreen),
            gl: gl.map(|gl| Gl { rendernode: None, ..gl }),
            ..bare
        },
        Vnc => Graphics {
            tls_port: None,
            replace_user: None,
            multi_user: None,
            display: None,
            xauth: None,
            fullscreen: None,
            p2p: None,
            address: None,
            default_mode: None,
            channel: Vec::new(),
            image: None,
            jpeg: None,
            zlib: None,
            playback: None,
            streaming: None,
            mouse: None,
            clipboard: None,
            filetransfer: None,
            gl: None,
            ..whole
        },
        Spice => Graphics {
            socket: None,
            websocket: None,
            replace_user: None,
            multi_user: None,
            share_policy: None,
            power_control: None,
            display: None,
            xauth: None,
            fullscreen: None,
            p2p: None,
            address: None,
            audio: None,
            ..whole
        },
        Rdp => Graphics {
            port: whole.port,
            autoport: whole.autoport,
            replace_user: whole.replace_user,
            multi_user: whole.multi_user,
            listen_attr: whole.listen_attr,
            username: whole.username,
            passwd: whole.passwd,
            passwd_valid_to: whole.passwd_valid_to,
            connected: whole.connected,
            listens: whole.listens,
            ..bare
        },
        Desktop => Graphics { display: whole.display, fullscreen: yes(whole.fullscreen), ..bare },
        Dbus => Graphics { p2p: yes(whole.p2p), address: whole.address, gl, audio: whole.audio, ..bare },
        EglHeadless => Graphics { gl: gl.map(|gl| Gl { enable: None, ..gl }), ..bare },
    };
    if screen.passwd.is_none() {
        (screen.username, screen.connected) = (None, None);
    }
    screen.websocket.take_if(|port| *port == 0);
}

/// Cards whose names may be spelled in any case.
pub(super) const CARDS: &[&str] = &[
    "netfront",
    "rtl8139",
    "virtio",
    "e1000",
    "e1000e",
    "igb",
    "virtio-transitional",
    "virtio-non-transitional",
    "usb-net",
    "spapr-vlan",
    "lan9118",
    "smc91c111",
    "vlance",
    "vmxnet",
    "vmxnet2",
    "vmxnet3",
    "Am79C970A",
    "Am79C973",
    "82540EM",
    "82545EM",
    "82543GC",
];

/// Each kind of connection has its own parts of a source, and only virtio has options.
fn interface(interface: &mut Interface) {
    use InterfaceType::{
        Bridge, Client, Direct, Ethernet, Hostdev, Internal, Mcast, Network, Server, Udp, Vdpa, Vds,
        Vhostuser,
    };
    let (kind, passt) = (interface.type_, passt(interface));
    if let Some(source) = &mut interface.source {
        let whole = std::mem::take(source);
        let own = match kind {
            Network => InterfaceSource {
                network: whole.network,
                portgroup: whole.portgroup,
                ..InterfaceSource::default()
            },
            Bridge => InterfaceSource { bridge: whole.bridge, ..InterfaceSource::default() },
            Direct => InterfaceSource { dev: whole.dev, mode: whole.mode, ..InterfaceSource::default() },
            Internal => InterfaceSource { name: whole.name, ..InterfaceSource::default() },
            Vdpa => InterfaceSource { dev: whole.dev, ..InterfaceSource::default() },
            Vhostuser => InterfaceSource {
                type_: whole.type_,
                dev: whole.dev.filter(|_| passt),
                path: whole.path,
                mode: whole.mode,
                reconnect: whole.reconnect,
                ..InterfaceSource::default()
            },
            Server | Client | Mcast | Udp => InterfaceSource {
                address: whole.address,
                port: whole.port,
                local: whole.local.filter(|_| kind == Udp),
                ..InterfaceSource::default()
            },
            Hostdev => InterfaceSource { pci: whole.pci, ..InterfaceSource::default() },
            Vds => InterfaceSource {
                switch_port: whole.switch_port.or(Some(0)),
                connectionid: whole.connectionid.or(Some(0)),
                ..whole.clone()
            },
            _ => InterfaceSource { dev: whole.dev.filter(|_| passt), ..InterfaceSource::default() },
        };
        *source = InterfaceSource { ip: whole.ip, route: whole.route, ..own };
        let optional = matches!(kind, InterfaceType::User | Ethernet | InterfaceType::Null);
        if *source == InterfaceSource::default() && optional {
            interface.source = None;
        }
    }
    if let Some(name) = interface.model.as_mut().and_then(|model| model.type_.as_mut())
        && let Some(known) = CARDS.iter().find(|card| card.eq_ignore_ascii_case(name))
    {
        *name = (*known).to_owned();
    }
    let unnamed = |model: &InterfaceModel| model.type_.as_deref().unwrap_or_default().is_empty();
    interface.model.take_if(|model| unnamed(model));
    interface.mtu.take_if(|mtu| mtu.size.unwrap_or(0) == 0);
    interface.backend.iter_mut().for_each(|backend| _ = backend.type_.take_if(|kind| kind == "default"));
    let model = interface.model.as_ref().and_then(|model| model.type_.as_deref());
    let virtio = model.is_some_and(|model| model.starts_with("virtio"));
    if !virtio || kind == Hostdev {
        // What only virtio knows is refused of others, and not forgotten.
        let misplaced =
            |driver: InterfaceDriver| InterfaceDriver { virtio: driver.virtio, ..Default::default() };
        interface.driver = interface.driver.take().map(misplaced);
        interface.driver.take_if(|driver| *driver == InterfaceDriver::default());
        interface.backend.iter_mut().for_each(|backend| backend.vhost = None);
    }
    // Whoever lends a card says so before where it is.
    interface.host_driver.take_if(|_| kind != Hostdev);
    if kind == Hostdev {
        interface.managed = interface.managed.filter(|managed| *managed == YesNo::Yes);
        if let Some(Address::Pci(at)) = interface.source.as_mut().and_then(|source| source.pci.as_mut()) {
            buses::complete(at);
        }
    }
    let queues = interface
        .driver
        .iter_mut()
        .filter_map(|driver| driver.queues.as_mut().filter(|n| **n < 2).is_some().then_some(driver));
    queues.for_each(|driver| driver.queues = None);
    if !matches!(kind, Ethernet | Network | Bridge) {
        interface.filterref = None;
    }
    let inner = interface.source.iter_mut().flat_map(|source| &mut source.ip);
    for ip in interface.ip.iter_mut().chain(inner) {
        let v6 = ip.address.as_deref().is_some_and(|address| address.contains(':'));
        ip.family.get_or_insert_with(|| if v6 { "ipv6" } else { "ipv4" }.to_owned());
    }
    if let Some(vlan) = &mut interface.vlan {
        vlan.trunk.take_if(|trunk| *trunk == YesNo::No);
        if vlan.tag.len() > 1 {
            vlan.trunk.get_or_insert(YesNo::Yes);
        }
    }
}

pub(super) fn passt(interface: &Interface) -> bool {
    interface.backend.as_ref().and_then(|backend| backend.type_.as_deref()) == Some("passt")
}

/// Numbers in rules have as many digits as such numbers have; -1 stands for any.
fn usb_rule(rule: &mut UsbDevFilter) {
    let shown = |text: &mut Option<String>, digits: usize| {
        let number = text.as_deref().map(c_number);
        if let Some(Some(number)) = number {
            *text = Some(format!("0x{number:0digits$X}"));
        } else if text.as_deref() == Some("-1") {
            *text = None;
        }
    };
    shown(&mut rule.class, 2);
    shown(&mut rule.vendor, 4);
    shown(&mut rule.product, 4);
    rule.version.take_if(|version| version == "-1");
    // What is behind the point are hundredths.
    let parts = rule.version.as_deref().and_then(|version| version.split_once('.'));
    if let Some((Ok(major), minor)) = parts.map(|(major, minor)| (major.parse::<u8>(), minor)) {
        let hundredths = minor.parse::<u8>().unwrap_or_default() * if minor.len() == 1 { 10 } else { 1 };
        rule.version = Some(format!("{major}.{hundredths:02}"));
    }
}

/// Only what is taken from the host has a source.
fn input(input: &mut Input) {
    if let Some(source) = &mut input.source {
        let whole = std::mem::take(source);
        match input.type_ {
            InputType::Passthrough => source.evdev = whole.evdev,
            InputType::Evdev => *source = InputSource { evdev: None, ..whole },
            _ => input.source = None,
        }
    }
}

fn shared_folder(shared: &mut Filesystem) {
    use FilesystemDriverType::{Loop, Nbd, Path, Virtiofs};
    if let Some(driver) = &mut shared.driver {
        let kind = driver.type_;
        driver.name = None;
        driver.format.take_if(|_| !matches!(kind, Some(Loop | Nbd)));
        driver.wrpolicy.take_if(|_| kind != Some(Path));
        driver.queue.take_if(|_| kind != Some(Virtiofs));
    }
}

/// Only a daemon that gathers randomness is talked to.
fn randomness(backend: &mut RngBackend) {
    if backend.model == RngModel::Egd {
        let kind = backend.type_.unwrap_or_default();
        backend.source.iter_mut().for_each(|source| keep_for(kind, source));
        backend.path = None;
    } else {
        backend.type_ = None;
        backend.source.clear();
        backend.protocol = None;
        backend.path.take_if(|_| backend.model == RngModel::Builtin);
    }
}

/// Each kind of passed-through device is found in its own way.
fn hostdev(hostdev: &mut Hostdev) {
    let kind = hostdev.type_;
    let lent = kind == HostdevType::Pci;
    hostdev.driver.take_if(|_| !lent);
    hostdev.display.take_if(|_| !lent && kind != HostdevType::Mdev);
    hostdev.ramfb.take_if(|_| !lent && kind != HostdevType::Mdev);
    let Some(source) = &mut hostdev.source else { return };
    if kind != HostdevType::ScsiHost && kind != HostdevType::Scsi {
        source.protocol = None;
    }
    if kind != HostdevType::Scsi {
        source.host.clear();
        source.auth = None;
        source.initiator = None;
        source.adapter = None;
    }
    if kind != HostdevType::Usb {
        source.guest_reset = None;
        source.vendor = None;
        source.product = None;
    }
    if kind != HostdevType::Pci {
        source.write_filtering = None;
    }
}

/// The entries of each block, in the order in which they are shown; of others nobody knows.
const ENTRIES: [&[&str]; 4] = [
    &["vendor", "version", "date", "release"],
    &["manufacturer", "product", "version", "serial", "uuid", "sku", "family"],
    &["manufacturer", "product", "version", "serial", "asset", "location"],
    &["manufacturer", "version", "serial", "asset", "sku"],
];

fn sysinfo(info: &mut Sysinfo) {
    let [bios, system, board, chassis] = ENTRIES;
    let keep = |block: &mut SysinfoBlock, known: &[&str]| {
        let place = |entry: &SysinfoEntry| known.iter().position(|name| entry.name.as_deref() == Some(name));
        block.entry.retain(|entry| place(entry).is_some());
        block.entry.sort_by_key(place);
        block.entry.dedup_by(|a, b| a.name == b.name);
    };
    info.bios.iter_mut().for_each(|block| keep(block, bios));
    info.system.iter_mut().for_each(|block| keep(block, system));
    info.base_board.iter_mut().for_each(|block| keep(block, board));
    info.chassis.iter_mut().for_each(|block| keep(block, chassis));
}

/// No card has no memory.
fn video(model: &mut VideoModel) {
    if model.type_ == VideoType::None {
        *model = VideoModel { type_: VideoType::None, ..VideoModel::default() };
    }
}

fn tpm(tpm: &mut Tpm) {
    if let Some(backend) = &mut tpm.backend
        && backend.type_ != TpmBackendType::Emulator
    {
        backend.version = None;
        backend.active_pcr_banks = None;
    }
}
