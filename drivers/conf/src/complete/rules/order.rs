//! The order in which libvirt reads a definition: where several things are wrong, it tells the first of them.
//!
//! Tables are read in the order in which they are written, which is another one. So where a definition cannot be read, it is
//! looked at again, part by part.

use virtwire_protocol::{ErrorDomain, VirtError};

use super::{
    Result, caches, characters, clock, controllers, disks, displays, features, filesystems, hostdevs, memory,
    net, nodes, small, throttle, tune, written,
};
use crate::complete::{check, seclabel, vcpus};
use crate::domain::Domain;
use crate::table::Element;
use crate::xml::Document;

/// Elements that are read together, and what shows as soon as they are.
struct Part {
    /// Below the root; what is below another element comes behind its name.
    elements: &'static [&'static str],
    rule: fn(&mut Domain) -> Result,
}

macro_rules! parts {
    ($($($element:literal)+ => $rule:expr;)*) => {
        &[$(Part { elements: &[$($element),+], rule: $rule },)*]
    };
}

/// As libvirt 11.3 has it.
const PARTS: &[Part] = parts! {
    "name" "uuid" "genid" => |it| written::identity(it);
    "os/type" => |it| written::kind(it);
    "title" => |it| written::title(it);
    "description" "metadata" "seclabel" => seclabel::read;
    "memory" => nothing;
    "currentMemory" => nothing;
    "maxMemory" => nothing;
    "memoryBacking/source" "memoryBacking/access" "memoryBacking/allocation" => nothing;
    "memoryBacking/hugepages" => |it| memory::pages(it);
    "memtune" => nothing;
    "blkiotune" => |it| tune::weights(it);
    "vcpu" => |it| vcpus::count(it);
    "vcpus" => |it| vcpus::named(it);
    "iothreads" => nothing;
    "defaultiothread" => |it| tune::default_pool(it);
    "iothreadids" => |it| tune::threads(it);
    "cputune/shares" "cputune/period" "cputune/quota" "cputune/global_period" "cputune/global_quota"
    "cputune/emulator_period" "cputune/emulator_quota" "cputune/iothread_period" "cputune/iothread_quota" => nothing;
    "cputune/vcpupin" => |it| tune::vcpu_pins(it);
    "cputune/emulatorpin" => |it| tune::emulator_pin(it);
    "cputune/iothreadpin" => |it| tune::thread_pins(it);
    "cputune/vcpusched" => |it| tune::vcpu_schedulers(it);
    "cputune/iothreadsched" => |it| tune::thread_schedulers(it);
    "cputune/emulatorsched" => |it| tune::emulator_scheduler(it);
    "cputune/cachetune" => |it| caches::read(it);
    "cputune/memorytune" => |it| caches::read_bandwidth(it);
    "cpu/model" => |it| written::processor(it);
    "cpu/vendor" => |it| written::vendor(it);
    "cpu/topology" => nothing;
    "cpu/feature" => |it| nodes::processor(it);
    "cpu/cache" => |it| written::cache(it);
    "cpu/maxphysaddr" => |it| written::width(it);
    "cpu/numa" => |it| nodes::read(it);
    "numatune" => |it| tune::nodes(it);
    "resource" => |it| written::resource(it);
    "features" => |it| features::read(it);
    "on_reboot" => nothing;
    "on_poweroff" => nothing;
    "on_crash" "on_lockfailure" => nothing;
    "pm" => nothing;
    "perf" => |it| written::events(it);
    "clock" => |it| clock::read(it);
    "os/firmware" "os/loader" "os/nvram" => |it| written::variables(it);
    "os/acpi" => |it| written::tables(it);
    "os/boot" "os/bootmenu" "os/bios" => nothing;
    "throttlegroups" => |it| throttle::read(it);
    "devices/emulator" "devices/disk" => |it| {
        it.devices.infos().into_iter().try_for_each(small::read)?;
        it.devices.disks.iter().try_for_each(disks::read)
    };
    "devices/controller" => |it| it.devices.controllers.iter().try_for_each(controllers::read);
    "devices/lease" => |it| it.devices.leases.iter().try_for_each(small::read_lease);
    "devices/filesystem" => |it| it.devices.filesystems.iter().try_for_each(filesystems::read);
    "devices/interface" => |it| it.devices.interfaces.iter().try_for_each(net::read);
    "devices/smartcard" => |it| it.devices.smartcards.iter().try_for_each(characters::read_smartcard);
    "devices/serial" => |it| it.devices.serials.iter().try_for_each(characters::read_serial);
    "devices/parallel" => |it| it.devices.parallels.iter().try_for_each(characters::read_parallel);
    "devices/console" => |it| it.devices.consoles.iter().try_for_each(characters::read_console);
    "devices/channel" => |it| it.devices.channels.iter().try_for_each(characters::read_channel);
    "devices/input" => |it| displays::inputs(it);
    "devices/graphics" => |it| displays::screens(it);
    "devices/sound" => nothing;
    "devices/audio" => |it| displays::audios(it);
    "devices/video" => nothing;
    "devices/hostdev" => |it| {
        check::early(it)?;
        it.devices.hostdevs.iter().try_for_each(hostdevs::read)
    };
    "devices/watchdog" => nothing;
    "devices/memballoon" => nothing;
    "devices/rng" => |it| it.devices.rngs.iter().try_for_each(characters::read_rng);
    "devices/crypto" => |it| it.devices.cryptos.iter().try_for_each(small::read_crypto);
    "devices/tpm" => |it| {
        it.devices.tpms.iter().try_for_each(small::read_tpm)?;
        small::few_chips(&it.devices.tpms)
    };
    "devices/nvram" => nothing;
    "devices/hub" => nothing;
    "devices/redirdev" => |it| it.devices.redirdevs.iter().try_for_each(characters::read_redirdev);
    "devices/redirfilter" => |it| {
        it.devices.redirfilter.iter().flat_map(|filter| &filter.usbdev).try_for_each(small::usb_rule)
    };
    "devices/panic" => nothing;
    "devices/shmem" => |it| {
        it.devices.shmems.iter().try_for_each(small::read_shmem)?;
        written::parameters(it)
    };
    "launchSecurity" => |it| written::launch_policy(it);
    "devices/memory" => |it| it.devices.memories.iter().try_for_each(memory::read);
    "devices/iommu" => nothing;
    "devices/vsock" => nothing;
    "devices/pstore" => |it| it.devices.pstore.iter().try_for_each(small::read_pstore);
    "idmap" => nothing;
    "sysinfo" => |it| written::told(it);
    "os/smbios" => nothing;
    "keywrap" => |it| written::ciphers(it);
    "qemu:commandline" => |it| written::environment(it);
    "qemu:override" => |it| written::properties(it);
    "qemu:capabilities" "qemu:deprecation" => nothing;
    "os/init" => |it| written::init(it);
};

fn nothing(_: &mut Domain) -> Result {
    Ok(())
}

/// What shows of a definition that can be read, as soon as it is.
pub(in super::super) fn read(domain: &mut Domain) -> Result {
    PARTS.iter().try_for_each(|part| (part.rule)(domain))
}

/// The first thing that is wrong with a definition that cannot be read.
pub(crate) fn first(xml: &str) -> Option<VirtError> {
    let wrong = |count: usize| {
        let document = Document::parse_root(xml, "domain", ErrorDomain::DOMAIN).ok()?;
        let document = document.retain(|path| count == PARTS.len() || is_read(path, count));
        let read = Domain::read(document.root());
        read.and_then(|mut domain| PARTS[..count].iter().try_for_each(|part| (part.rule)(&mut domain))).err()
    };
    let counts: Vec<usize> = (1..=PARTS.len()).collect();
    // What is wrong with some parts is wrong with more of them.
    let at = counts.partition_point(|count| wrong(*count).is_none());
    wrong(*counts.get(at)?)
}

/// Whether an element is among those of the first `count` parts, or around some, or within one. One of which nothing is said
/// here comes last.
fn is_read(path: &str, count: usize) -> bool {
    let place = |path: &str| PARTS.iter().position(|part| part.elements.contains(&path));
    let around = |inner: &&'static str| inner.split_once('/').is_some_and(|(outer, _)| outer == path);
    match (place(path), path.split_once('/')) {
        (Some(at), _) => at < count,
        (None, Some((outer, _))) => place(outer).is_some(),
        (None, None) => {
            count == PARTS.len() || PARTS[..count].iter().flat_map(|part| part.elements).any(around)
        }
    }
}
