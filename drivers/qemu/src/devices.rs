//! Devices that come and go: in the stored definition, and in a running guest.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use virtwire_conf::Domain;
use virtwire_conf::change::find_interface;
use virtwire_conf::domain::device::Alias;
use virtwire_conf::domain::disk::Disk;
use virtwire_conf::domain::net::{Interface, LinkState};
use virtwire_conf::domain::one::Device;
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{BlockdevDel, DeviceDel, Getfd, NetdevDel, SetLink};

use crate::audit;
use crate::blockjob::check_idle;
use crate::command::CommandLine;
use crate::define::replace;
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, file, monitor, not_running};
use crate::guest::{Guest, Live};
use crate::info::one_definition;
use crate::plug::{self, Owner};
use crate::state::Lifecycle;
use crate::{argv, chain, live, overlay, prepare};

/// `VIR_DOMAIN_AFFECT_…` and `VIR_DOMAIN_DEVICE_MODIFY_FORCE`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;
const FORCE: u32 = 4;

/// Devices that can be plugged into a guest that runs, and taken out.
fn pluggable(device: &Device) -> Result<()> {
    match device {
        Device::Disk(_) | Device::Interface(_) => Ok(()),
        other => {
            let text =
                format_args!("devices of type '{}' cannot come or go while the guest runs", other.kind());
            Err(QEMU.config_unsupported(text))
        }
    }
}

fn source(disk: &Disk) -> Option<&str> {
    let source = disk.source.as_ref()?;
    source.file.as_deref().or(source.dev.as_deref())
}

fn alias_is(alias: Option<&Alias>, name: &str) -> bool {
    alias.is_some_and(|alias| alias.name == name)
}

/// Which definitions flags mean: that of the run, the stored one.
fn affected(guest: &Guest, flags: u32) -> Result<(bool, bool)> {
    let inner = guest.lock();
    one_definition(&inner, flags & (LIVE | CONFIG))?;
    if flags & LIVE != 0 && inner.live.is_none() {
        return Err(not_running());
    }
    Ok(match flags & (LIVE | CONFIG) {
        0 => (inner.live.is_some(), inner.live.is_none()),
        flags => (flags & LIVE != 0, flags & CONFIG != 0),
    })
}

/// Stores a definition whose devices have changed, and tells of it.
fn redefine(driver: &Qemu, guest: &Guest, stored: Domain) -> Result<()> {
    replace(driver, guest, stored)?;
    driver.emit(Lifecycle::DEFINED_UPDATED.of(guest.handle()));
    Ok(())
}

pub(crate) async fn attach(driver: &Qemu, args: DomainAttachDeviceArgs) -> Result<()> {
    attach_flags(driver, DomainAttachDeviceFlagsArgs { dom: args.dom, xml: args.xml, flags: LIVE }).await
}

pub(crate) async fn attach_flags(driver: &Qemu, args: DomainAttachDeviceFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainAttachDeviceLiveAndConfig")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (to_live, to_stored) = affected(&guest, args.flags)?;
    let device = Device::parse(&args.xml.to_str_lossy())?;
    let stored = match stored(&guest, to_stored)? {
        Some(stored) => Some(stored.attach(device.clone(), driver.options().await?)?),
        None => None,
    };
    if to_live {
        plug_in(driver, &guest, &device).await?;
    }
    stored.map_or(Ok(()), |stored| redefine(driver, &guest, stored))
}

/// The stored definition, if it is to be changed.
fn stored(guest: &Guest, wanted: bool) -> Result<Option<Arc<Domain>>> {
    if !wanted {
        return Ok(None);
    }
    guest.lock().next().ok_or_else(not_running).map(Some)
}

/// Plugs a device into a running guest.
async fn plug_in(driver: &Qemu, guest: &Guest, device: &Device) -> Result<()> {
    pluggable(device)?;
    let live = guest.live()?;
    let domain = Arc::clone(&live.domain);
    let alias;
    let mut last_source = live.last_source;
    // What is like the guest but has the new device alone.
    let mut alone = (*domain).clone();
    alone.os.boot.clear();
    alone.devices.disks.clear();
    alone.devices.interfaces.clear();
    let mut line = CommandLine::to_plug();
    match device {
        Device::Disk(disk) => {
            if let Some(other) = domain.devices.disks.iter().find(|other| target(other) == target(disk)) {
                return Err(ErrorDomain::DOMAIN.xml_error(format_args!(
                    "target '{}' duplicated for disk sources '{}' and '{}'",
                    target(disk),
                    source(other).unwrap_or_default(),
                    source(disk).unwrap_or_default()
                )));
            }
            if let Some(path) = source(disk) {
                std::fs::metadata(path)
                    .map_err(|e| file(&e, format_args!("Cannot access storage file '{path}'")))?;
            }
            let with = domain.attach(device.clone(), driver.options().await?)?;
            let new = with.devices.disks.into_iter().find(|new| target(new) == target(disk));
            let mut new = new.ok_or_else(|| QEMU.internal_error("the disk was lost"))?;
            // The nodes of a disk that is on its way out may still be there: numbers are not used again.
            let number = argv::storage::last_number(&domain).max(live.last_source) + 1;
            chain::find(&mut new)?;
            last_source = live::number_chain(&mut new, number);
            if new.transient.is_some() {
                last_source += 1;
                overlay::lay(&domain.name, &mut new, last_source).await?;
            }
            alone.devices.disks.push(new);
            live::name_devices(&mut alone);
            line = line_of(driver, &alone, argv::storage::disks).await?;
            alone.devices.disks.iter_mut().for_each(live::end_chain);
            alias = alone.devices.disks.first().and_then(|disk| disk.info.alias.clone());
        }
        _ => {
            let with = domain.attach(device.clone(), driver.options().await?)?;
            let mut new = with.devices.interfaces.into_iter().next_back();
            let new = new.as_mut().ok_or_else(|| QEMU.internal_error("the interface was lost"))?;
            let known = |name: &str| {
                domain.devices.interfaces.iter().any(|net| alias_is(net.info.alias.as_ref(), name))
            };
            let free = (0..).map(|number| format!("net{number}")).find(|name| !known(name));
            new.info.alias = free.map(|name| Alias { name });
            alone.devices.interfaces.push(new.clone());
            let taps = plug::connect(driver, &mut alone).await?;
            argv::net::interfaces(&mut line, &alone, taps)?;
            alias = new.info.alias.clone();
        }
    }
    let dac = driver.shared.security.as_ref();
    let given = alone.devices.disks.first().zip(dac).map(|(disk, dac)| dac.give_disk(&domain, disk));
    let given = given.transpose()?;
    let plugged = run(&live, line).await;
    if plugged.is_err() {
        overlay::remove_all(&alone);
        plug::disconnect(driver, &Owner::of(&domain), &alone.devices.interfaces).await;
    }
    let new = audit::devices(&alone.devices.disks, &alone.devices.interfaces, "attach");
    driver.audit(&guest.handle(), plugged.is_ok(), new);
    plugged?;
    if let Some(given) = given {
        given.keep();
    }
    if let Some(live) = &mut guest.lock().live {
        // Not in the place of what it was: QEMU may have told something meanwhile.
        let now = Arc::make_mut(&mut live.domain);
        now.devices.disks.append(&mut alone.devices.disks);
        now.devices.interfaces.append(&mut alone.devices.interfaces);
        live.last_source = last_source;
    }
    driver.save_status(guest);
    let dev_alias = alias.map(|alias| alias.name).unwrap_or_default().as_str().into();
    let msg = DomainEventCallbackDeviceAddedMsg { callback_id: 0, dom: guest.handle(), dev_alias };
    driver.emit(Event::DomainDeviceAdded(msg));
    Ok(())
}

/// What the command line would say of the devices of a running guest, to be said over its monitor.
///
/// # Errors
/// What they need is not there, or `add` refuses them.
pub(crate) async fn line_of(
    driver: &Qemu,
    domain: &Domain,
    add: impl FnOnce(&mut CommandLine, &Domain, &argv::Context<'_>) -> Result<()>,
) -> Result<CommandLine> {
    let (id, dirs) = (domain.id.unwrap_or(-1), &driver.shared.dirs);
    let (dir, memory) = (dirs.domain(id, &domain.name), dirs.domain_memory(id, &domain.name));
    let caps = driver.caps_of(Path::new(domain.devices.emulator.as_deref().unwrap_or_default())).await?;
    let found = prepare::volumes(driver, domain).await?;
    let vault = prepare::unlock(driver, &found, prepare::vault_of(&dir)?).await?;
    let context = argv::Context::apart(&dir, &memory, &caps, vault);
    let mut line = CommandLine::to_plug();
    add(&mut line, &found, &context)?;
    Ok(line)
}

/// What the command line says of devices, said over the monitor. When one part fails, those before it are taken back.
pub(crate) async fn run(live: &Live, line: CommandLine) -> Result<()> {
    let (args, fds) = line.into_parts();
    for fd in fds {
        let fdname = CommandLine::name_of(fd.as_raw_fd());
        live.monitor.execute_with_fds(&Getfd { fdname }, vec![fd]).await.map_err(monitor)?;
    }
    let mut nodes = Vec::new();
    let mut backend = None;
    for pair in args.chunks(2) {
        let [option, value] = pair else { continue };
        let object: Map<String, Value> =
            serde_json::from_str(value).map_err(|error| QEMU.internal_error(error))?;
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let command = match option.as_str() {
            "-blockdev" => "blockdev-add",
            "-object" => "object-add",
            "-netdev" => "netdev_add",
            "-device" => "device_add",
            other => return Err(QEMU.internal_error(format_args!("{other} is not a device's option"))),
        };
        if let Err(error) = live.monitor.execute_raw(command, &object).await {
            take_back(live, nodes, backend).await;
            return Err(monitor(error));
        }
        match command {
            "blockdev-add" => nodes.push(text("node-name")),
            "netdev_add" => backend = Some(text("id")),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what was behind a device, the uppermost first. What is gone already is no matter.
async fn take_back(live: &Live, nodes: Vec<String>, backend: Option<String>) {
    for node_name in nodes.into_iter().rev() {
        let _ = live.monitor.execute(&BlockdevDel { node_name }).await;
    }
    if let Some(id) = backend {
        let _ = live.monitor.execute(&NetdevDel { id }).await;
    }
}

pub(crate) async fn detach(driver: &Qemu, args: DomainDetachDeviceArgs) -> Result<()> {
    detach_flags(driver, DomainDetachDeviceFlagsArgs { dom: args.dom, xml: args.xml, flags: LIVE }).await
}

pub(crate) async fn detach_flags(driver: &Qemu, args: DomainDetachDeviceFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainDetachDeviceLiveAndConfig")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (to_live, to_stored) = affected(&guest, args.flags)?;
    let device = Device::parse(&args.xml.to_str_lossy())?;
    let stored = match stored(&guest, to_stored)? {
        Some(stored) => Some(stored.detach(&device, driver.options().await?)?),
        None => None,
    };
    if to_live {
        pluggable(&device)?;
        let live = guest.live()?;
        let mut left = (*live.domain).clone();
        let alias = take_out(&mut left, &device)?;
        if let Device::Disk(disk) = &device {
            check_idle(&live, target(disk))?;
        }
        let id = alias.map(|alias| alias.name).unwrap_or_default();
        // The guest decides; its answer is an event.
        live.monitor.execute(&DeviceDel { id }).await.map_err(monitor)?;
    }
    stored.map_or(Ok(()), |stored| redefine(driver, &guest, stored))
}

/// Takes a device out of a definition; its alias, if it had one.
fn take_out(domain: &mut Domain, device: &Device) -> Result<Option<Alias>> {
    match device {
        Device::Disk(disk) => {
            let name = target(disk);
            let at = domain.devices.disks.iter().position(|other| target(other) == name);
            let at = at.ok_or_else(|| QEMU.device_missing(format_args!("no target device {name}")))?;
            Ok(domain.devices.disks.remove(at).info.alias)
        }
        Device::Interface(wanted) => {
            let at = find_interface(domain, wanted)?;
            Ok(domain.devices.interfaces.remove(at).info.alias)
        }
        other => pluggable(other).map(|()| None),
    }
}

pub(crate) async fn detach_alias(driver: &Qemu, args: DomainDetachDeviceAliasArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainDetachDeviceAliasLiveAndConfig")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (to_live, to_stored) = affected(&guest, args.flags)?;
    let alias = args.alias.to_string();
    let none = || ErrorDomain::DOMAIN.internal_error(format_args!("no device found with alias {alias}"));
    if to_live {
        let live = guest.live()?;
        let devices = &live.domain.devices;
        let mut all =
            devices.disks.iter().map(|disk| &disk.info).chain(devices.interfaces.iter().map(|net| &net.info));
        if !all.any(|info| alias_is(info.alias.as_ref(), &alias)) {
            return Err(none());
        }
        live.monitor.execute(&DeviceDel { id: alias.clone() }).await.map_err(monitor)?;
    }
    if to_stored {
        let mut stored = (*guest.lock().next().ok_or_else(not_running)?).clone();
        if !remove_alias(&mut stored, &alias) {
            return Err(none());
        }
        replace(driver, &guest, stored)?;
    }
    Ok(())
}

fn remove_alias(domain: &mut Domain, alias: &str) -> bool {
    let devices = &mut domain.devices;
    let before = devices.disks.len() + devices.interfaces.len();
    devices.disks.retain(|disk| !alias_is(disk.info.alias.as_ref(), alias));
    devices.interfaces.retain(|net| !alias_is(net.info.alias.as_ref(), alias));
    devices.disks.len() + devices.interfaces.len() < before
}

impl Qemu {
    /// A device has left a running guest.
    pub(crate) fn unplugged(&self, guest: &Arc<Guest>, alias: &str) {
        let (live, disk, interface, nodes) = {
            let mut inner = guest.lock();
            let Some(live) = &mut inner.live else { return };
            let found = |net: &&Interface| alias_is(net.info.alias.as_ref(), alias);
            let interface = live.domain.devices.interfaces.iter().find(found).cloned();
            let found = |disk: &&Disk| alias_is(disk.info.alias.as_ref(), alias);
            let disk = live.domain.devices.disks.iter().find(found).cloned();
            let nodes = disk.as_ref().map_or_else(Vec::new, argv::storage::nodes);
            if !remove_alias(Arc::make_mut(&mut live.domain), alias) {
                return;
            }
            (live.clone(), disk, interface, nodes)
        };
        // In a task of its own: whoever takes a monitor's events must not wait for its replies.
        let (driver, guest, alias) = (self.clone(), Arc::clone(guest), alias.to_owned());
        tokio::spawn(async move {
            take_back(&live, nodes, Some(format!("host{alias}"))).await;
            plug::disconnect(&driver, &Owner::of(&live.domain), interface.as_slice()).await;
            if let (Some(disk), Some(dac)) = (&disk, &driver.shared.security) {
                dac.take_back_disk(&live.domain, disk);
            }
            disk.iter().for_each(|disk| overlay::remove(&guest.name, disk));
            driver.save_status(&guest);
            let msg = DomainEventDeviceRemovedMsg { dom: guest.handle(), dev_alias: alias.as_str().into() };
            let msg = DomainEventCallbackDeviceRemovedMsg { callback_id: 0, msg };
            driver.emit(Event::DomainDeviceRemoved(msg));
        });
    }
}

pub(crate) async fn update(driver: &Qemu, args: DomainUpdateDeviceFlagsArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG | FORCE, "qemuDomainUpdateDeviceFlags")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let (to_live, to_stored) = affected(&guest, args.flags)?;
    let device = Device::parse(&args.xml.to_str_lossy())?;
    let stored = match stored(&guest, to_stored)? {
        Some(stored) => Some(stored.update(device.clone(), driver.options().await?)?),
        None => None,
    };
    if to_live {
        update_live(driver, &guest, &device).await?;
    }
    stored.map_or(Ok(()), |stored| redefine(driver, &guest, stored))
}

/// Changes what can be changed of an interface while the guest runs: whether it is plugged in.
async fn update_live(driver: &Qemu, guest: &Guest, device: &Device) -> Result<()> {
    let Device::Interface(new) = device else {
        let text = format_args!("devices of type '{}' cannot be changed while the guest runs", device.kind());
        return Err(QEMU.config_unsupported(text));
    };
    let live = guest.live()?;
    let at = find_interface(&live.domain, new)?;
    let Some(net) = live.domain.devices.interfaces.get(at) else { return Ok(()) };
    set_link(&live, net, new).await?;
    if let Some(live) = &mut guest.lock().live
        && let Ok(at) = find_interface(&live.domain, new)
        && let Some(net) = Arc::make_mut(&mut live.domain).devices.interfaces.get_mut(at)
    {
        net.link = new.link.clone();
    }
    driver.save_status(guest);
    Ok(())
}

async fn set_link(live: &Live, net: &Interface, as_of: &Interface) -> Result<()> {
    let name = net.info.alias.as_ref().map(|alias| alias.name.clone()).unwrap_or_default();
    live.monitor.execute(&SetLink { name, up: is_up(as_of) }).await.map_err(monitor)?;
    Ok(())
}

/// Whether an interface is plugged in; it is if nothing is said.
pub(crate) fn is_up(net: &Interface) -> bool {
    net.link.as_ref().and_then(|link| link.state) != Some(LinkState::Down)
}
