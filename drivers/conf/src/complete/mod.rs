//! What is checked and filled in after reading.
//!
//! A definition as written says little; what a driver stores says everything. Small functions do the rest, in libvirt's
//! order: first what all drivers have in common, then what one driver adds, then addresses. [`Flavor`] says whose rules hold.

/// One line for each thing that cannot be: the case, and the error that says so.
macro_rules! refuse {
    ($($case:expr => $domain:ident.$code:ident($($text:tt)+);)*) => {
        $(if $case {
            return Err($domain.$code(format_args!($($text)+)));
        })*
    };
}
pub(crate) use refuse;

mod belongs;
mod board;
pub(crate) mod buses;
mod channels;
mod check;
mod companions;
mod conflicts;
mod devices;
mod domain;
pub(crate) mod drives;
mod endpoints;
mod firmware;
mod forms;
mod migratable;
pub(crate) mod network;
pub(crate) mod nwfilter;
mod others;
mod pci;
mod pool_source;
mod qemu;
mod resources;
mod rules;
mod seclabel;
mod silent;
mod storage;
mod test;
mod usb;
mod vcpus;

pub use firmware::{FirmwareImage, FirmwareMapping};
pub(crate) use rules::Newest;
pub(crate) use rules::first as first_error;

use std::collections::BTreeSet;
use std::sync::Arc;

use virtwire_protocol::VirtError;

use crate::Domain;

/// How to read a definition.
#[derive(Debug, Clone, Default)]
pub struct ParseOptions {
    /// Whose defaults and rules hold.
    pub flavor: Flavor,
    /// Whether a document may say only what is known (`VIR_…_VALIDATE`).
    pub validate: bool,
}

impl ParseOptions {
    /// As the test hypervisor does.
    pub fn test() -> Self {
        Self { flavor: Flavor::Test, validate: false }
    }

    /// The same, and documents may say only what is known if `wanted`.
    #[must_use]
    pub fn validating(self, wanted: bool) -> Self {
        Self { validate: wanted, ..self }
    }

    /// As the QEMU driver does on `host`.
    pub fn qemu(host: Arc<QemuHost>) -> Self {
        Self { flavor: Flavor::Qemu(host), validate: false }
    }
}

/// Whose defaults and rules hold.
#[derive(Debug, Clone, Default)]
pub enum Flavor {
    /// Nobody's: the definition stays as written.
    #[default]
    Plain,
    /// The test hypervisor's.
    Test,
    /// The QEMU driver's, with what is known about the host.
    Qemu(Arc<QemuHost>),
}

/// Says whether a program can be run.
pub type ProgramCheck = fn(&str) -> Result<(), VirtError>;

/// What the QEMU driver knows about its host.
#[derive(Debug, Clone, Default)]
pub struct QemuHost {
    /// One for each architecture; the first is the host's own.
    pub emulators: Vec<Emulator>,
    /// Firmware that can be chosen, the best first.
    pub firmware: Vec<FirmwareImage>,
    /// Where guests' variables are kept.
    pub nvram_dir: String,
    /// How wide the addresses of its memory are, in bits.
    pub address_bits: Option<u32>,
    /// What finds out whether an emulator can be run.
    pub check_program: Option<ProgramCheck>,
}

/// A QEMU binary.
#[derive(Debug, Clone, Default)]
pub struct Emulator {
    /// The architecture it emulates (`x86_64`).
    pub arch: String,
    /// Where it is.
    pub path: String,
    /// The machines; the first is the default.
    pub machines: Vec<Machine>,
    /// Whether KVM can be used.
    pub kvm: bool,
    /// Kinds of devices it has; empty where nobody asked it.
    pub devices: BTreeSet<String>,
    /// Whether there is a program that emulates TPMs.
    pub tpm: bool,
}

/// A machine that a QEMU binary has.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Its name (`pc-q35-10.0`).
    pub name: String,
    /// A short name that stands for it (`q35`).
    pub alias: Option<String>,
    /// The kind of processor of which nothing is said (`qemu64-x86_64-cpu`).
    pub cpu: Option<String>,
    /// Whether it has ACPI.
    pub acpi: bool,
    /// How many processors it can have.
    pub vcpus: Option<u32>,
}

impl Emulator {
    /// The machine of a name or alias.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        let by_alias = self.machines.iter().find(|machine| machine.alias.as_deref() == Some(name));
        by_alias.or_else(|| self.machines.iter().find(|machine| machine.name == name))
    }

    /// Whether somebody asked it what it has.
    pub(crate) fn is_known(&self) -> bool {
        !self.devices.is_empty()
    }

    /// Whether it has a kind of device.
    pub fn has(&self, device: &str) -> bool {
        self.devices.is_empty() || self.devices.contains(device)
    }
}

impl QemuHost {
    /// An x86-64 host with `path` as its emulator, whose newest machines are those of QEMU `version` (`10.0`).
    pub fn x86_64(path: &str, version: &str, kvm: bool) -> Self {
        let machines = |default: &str| {
            let all = [("pc", "pc-i440fx"), ("q35", "pc-q35")];
            let named = all.iter().map(|(alias, name)| Machine {
                name: format!("{name}-{version}"),
                alias: Some((*alias).to_owned()),
                cpu: None,
                acpi: true,
                vcpus: None,
            });
            let mut machines: Vec<_> = named.collect();
            machines.sort_by_key(|machine| machine.alias.as_deref() != Some(default));
            machines
        };
        let emulator = |arch: &str, path: String| Emulator {
            arch: arch.to_owned(),
            path,
            machines: machines("pc"),
            kvm,
            devices: BTreeSet::new(),
            tpm: true,
        };
        Self {
            emulators: vec![
                emulator("x86_64", path.to_owned()),
                emulator("i686", path.replace("x86_64", "i386")),
            ],
            firmware: Vec::new(),
            nvram_dir: "/var/lib/libvirt/qemu/nvram".to_owned(),
            address_bits: None,
            check_program: None,
        }
    }

    /// The emulator for `arch`.
    pub fn emulator(&self, arch: &str) -> Option<&Emulator> {
        self.emulators.iter().find(|e| e.arch == arch)
    }
}

impl Domain {
    /// Checks and fills in what is missing, as the driver of `options` does.
    ///
    /// # Errors
    /// libvirt's, for what contradicts itself or cannot be.
    pub fn complete(&mut self, options: &ParseOptions) -> Result<(), VirtError> {
        match &options.flavor {
            // Two parts of a disk's source have one name; its protocol says which of them it is.
            Flavor::Plain => {
                self.devices.disks.iter_mut().for_each(storage::disk);
                Ok(())
            }
            Flavor::Test => {
                test::begin(self);
                domain::begin(self, "i686", false)?;
                rules::firmware(self)?;
                test::complete(self)?;
                domain::finish(self)?;
                domain::place(self)?;
                domain::check_whole(self)?;
                rules::check_itself(self)?;
                check::contradictions(self)?;
                rules::check_last(self)?;
                test::name_interfaces(self);
                Ok(())
            }
            Flavor::Qemu(host) => {
                self.fill(options)?;
                domain::place(self)?;
                qemu::finish(self)?;
                domain::check_whole(self)?;
                let chipset = board::chipset(self);
                channels::assign(self, chipset)?;
                pci::assign(self)?;
                usb::assign(self)?;
                if chipset == board::Chipset::Ccw {
                    channels::identify(self);
                }
                rules::check_slots(self)?;
                rules::check_width(self, host.address_bits)?;
                rules::check(self, self.emulator(options))?;
                check::contradictions(self)?;
                drives::keep_removable(self);
                rules::check_last(self)
            }
        }
    }

    /// Fills in the defaults of the QEMU driver; nothing gets an address.
    pub(crate) fn fill(&mut self, options: &ParseOptions) -> Result<(), VirtError> {
        let Flavor::Qemu(host) = &options.flavor else { return Ok(()) };
        let arch = host.emulators.first().map_or("x86_64", |e| e.arch.as_str());
        domain::begin(self, arch, true)?;
        qemu::complete(self, host)?;
        domain::finish(self)?;
        devices::complete_videos(self, board::chipset(self).board().video);
        Ok(())
    }

    /// Whether QEMU, or a machine of it, can have what has just come to its kind, at place `at` of these.
    pub(crate) fn check_newest(
        &self,
        options: &ParseOptions,
        newest: Newest,
        at: usize,
    ) -> Result<(), VirtError> {
        if !matches!(options.flavor, Flavor::Qemu(_)) {
            return Ok(());
        }
        rules::check_newest(self, self.emulator(options), newest, at)
    }

    /// The emulator for this guest's architecture; none where another is named that is not for it.
    fn emulator<'h>(&self, options: &'h ParseOptions) -> Option<&'h Emulator> {
        let Flavor::Qemu(host) = &options.flavor else { return None };
        let arch = self.os.type_.as_ref().and_then(|kind| kind.arch.as_deref()).unwrap_or_default();
        let named = host.emulators.iter().find(|it| Some(&it.path) == self.devices.emulator.as_ref());
        let suits = |it: &Emulator| it.arch == arch || it.arch == "x86_64" && arch == "i686";
        host.emulator(arch).filter(|_| named.is_none_or(suits))
    }
}
