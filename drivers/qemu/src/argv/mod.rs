//! From a definition to QEMU's command line, in libvirt's order and spelling.
//!
//! One function per group of options, called in the order of the line.

mod audio;
mod boot;
mod chardev;
mod controllers;
mod cpu;
mod device;
mod environment;
mod filesystem;
mod firmware;
mod graphics;
pub(crate) mod hostdev;
mod input;
mod iothreads;
mod machine;
pub(crate) mod memory;
mod modules;
pub(crate) mod net;
mod numa;
mod one;
mod overrides;
mod peripherals;
pub(crate) mod refused;
mod serial;
mod spice;
pub(crate) mod storage;
mod sysinfo;
pub(crate) mod tls;
mod tpm;
mod vault;
mod video;

use std::os::fd::OwnedFd;
use std::path::Path;

use virtwire_conf::Domain;
use virtwire_protocol::VirtError;
use virtwire_qmp::replies::MachineInfo;

use crate::command::{CommandLine, Options};
use crate::fds::Group;
use crate::plug::HostEnds;
use crate::policy::Policy;
use crate::probe::QemuCaps;

pub(crate) use device::{Json as Device, Json, alias, is_q35};

use chardev::Means;
pub(crate) use environment::environment;
pub(crate) use one::{Made, one};
use tls::Credentials;
pub use vault::Vault;

/// What the line needs to know besides the definition.
pub struct Context<'a> {
    /// The guest's directory: keys and sockets.
    pub dir: &'a Path,
    /// The directory for files that back the guest's memory.
    pub memory: &'a Path,
    /// What QEMU can do.
    pub caps: &'a QemuCaps,
    /// Where the monitor listens: a descriptor for a real start, else the path is shown.
    pub monitor: Option<OwnedFd>,
    /// What secrets are encrypted with, and their values.
    pub vault: Vault,
    /// What the administrator says of guests.
    pub(crate) policy: &'a Policy,
    /// The host's ends of interfaces.
    pub taps: HostEnds,
    /// Files that clients have opened for the guest.
    pub opened: Vec<Group>,
}

impl<'a> Context<'a> {
    /// Of a line that starts nothing: it is shown, or said to a QEMU that runs.
    pub(crate) fn apart(
        dir: &'a Path,
        memory: &'a Path,
        caps: &'a QemuCaps,
        vault: Vault,
        policy: &'a Policy,
    ) -> Self {
        Self { dir, memory, caps, monitor: None, vault, policy, taps: HostEnds::new(), opened: Vec::new() }
    }
}

impl Context<'_> {
    /// What character devices need.
    fn chardevs(&self) -> Means<'_> {
        let credentials = Credentials { tls: &self.policy.chardev, vault: &self.vault };
        Means { credentials, opens_files: self.policy.opens_files }
    }

    /// The guest's machine, as QEMU describes it.
    fn machine(&self, domain: &Domain) -> Option<&MachineInfo> {
        self.caps.machine(domain.os.type_.as_ref()?.machine.as_deref()?)
    }

    fn x86(&self) -> bool {
        matches!(self.caps.arch.as_str(), "x86_64" | "i386")
    }

    /// The CPU of a machine of which nothing is said.
    fn default_cpu(&self, domain: &Domain) -> String {
        let kind = self.machine(domain).and_then(|machine| machine.default_cpu_type.clone());
        let kind = kind.unwrap_or_else(|| "qemu64".to_owned());
        let suffix = format!("-{}-cpu", self.caps.arch);
        kind.strip_suffix(&suffix).unwrap_or(&kind).to_owned()
    }
}

/// What QEMU is kept from.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The whole command line.
///
/// # Errors
/// A device that this driver cannot give to QEMU.
pub fn build(domain: &Domain, mut context: Context<'_>) -> Result<CommandLine, VirtError> {
    numa::placed(domain)?;
    let mut line = if context.monitor.is_some() { CommandLine::to_start() } else { CommandLine::default() };
    let monitor = context.monitor.take();
    begin(&mut line, domain, &context)?;
    machine::monitor(&mut line, &context, monitor);
    boot::clock(&mut line, domain);
    boot::power(&mut line, domain, &context);
    boot::boot(&mut line, domain);
    controllers::globals(&mut line, domain);
    peripherals::iommu(&mut line, domain);
    controllers::controllers(&mut line, domain)?;
    modules::modules(&mut line, domain, &context)?;
    input::hubs(&mut line, domain);
    controllers::smart_card_controllers(&mut line, domain);
    storage::disks(&mut line, domain, &context)?;
    let devices = &domain.devices;
    devices
        .filesystems
        .iter()
        .for_each(|filesystem| filesystem::filesystem(&mut line, domain, filesystem, &context));
    net::interfaces(&mut line, domain, std::mem::take(&mut context.taps))?;
    input::smart_cards(&mut line, domain, &context)?;
    serial::ports(&mut line, domain, &context)?;
    devices.channels.iter().try_for_each(|channel| serial::channel(&mut line, domain, channel, &context))?;
    devices.consoles.iter().try_for_each(|console| serial::console(&mut line, domain, console, &context))?;
    tpm::tpms(&mut line, domain)?;
    devices.inputs.iter().for_each(|input| input::input(&mut line, domain, input));
    audio::backends(&mut line, domain);
    graphics::graphics(&mut line, domain, &context)?;
    video::videos(&mut line, domain, &context)?;
    audio::cards(&mut line, domain)?;
    peripherals::watchdogs(&mut line, domain);
    devices.redirdevs.iter().try_for_each(|device| input::redirected(&mut line, domain, device, &context))?;
    hostdev::hostdevs(&mut line, domain, &context)?;
    peripherals::balloon(&mut line, domain);
    devices.rngs.iter().try_for_each(|rng| peripherals::rng(&mut line, domain, rng, &context))?;
    machine::core_dumps(&mut line, domain);
    machine::launch_security(&mut line, domain, &context);
    for arg in domain.qemu_commandline.iter().flat_map(|more| &more.arg) {
        line.word(&arg.value);
    }
    line.option("-sandbox", if context.policy.sandbox { SANDBOX } else { "off" });
    peripherals::panics(&mut line, domain);
    devices.shmems.iter().for_each(|shmem| peripherals::shared_memory(&mut line, domain, shmem));
    devices.vsock.iter().try_for_each(|vsock| peripherals::vsock(&mut line, domain, vsock))?;
    devices.cryptos.iter().for_each(|crypto| peripherals::crypto(&mut line, domain, crypto));
    peripherals::pstore(&mut line, domain);
    machine::teardown(&mut line, domain);
    line.option("-msg", if context.policy.timestamps { "timestamp=on" } else { "timestamp=off" });
    overrides::apply(&mut line, domain)?;
    Ok(line)
}

/// Everything before the monitor: what the guest is, and none of its devices.
fn begin(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) -> Result<(), VirtError> {
    let process = context.policy.process_name.then(|| format!("qemu:{}", domain.name));
    let name = Options::new("").with("guest", &domain.name).with_if("process", process);
    line.option("-name", name.with("debug-threads", "on"));
    machine::deprecation(line, domain, context);
    line.flag("-S");
    let key = context.dir.join("master-key.aes").display().to_string();
    Json::object("secret", "masterKey0").with("format", "raw").with("file", key).add(line);
    storage::managed_helper(line, domain, context);
    firmware::flash(line, domain);
    machine::machine(line, domain, context);
    cpu::cpu(line, domain, context);
    firmware::loader(line, domain);
    memory::memory(line, domain, context)?;
    cpu::smp(line, domain);
    iothreads::iothreads(line, domain);
    storage::throttle_groups(line, domain);
    numa::numa(line, domain, context)?;
    machine::identity(line, domain);
    sysinfo::sysinfo(line, domain);
    machine::generation(line, domain);
    graphics::none(line, domain);
    line.flag("-no-user-config");
    line.flag("-nodefaults");
    Ok(())
}
