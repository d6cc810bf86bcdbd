//! How the guest boots: `<os>`, and what firmware tells it.

use crate::domain::disk::DiskSource;
use crate::{OnOff, YesNo, element, keywords};

keywords! {
    /// Where to boot from.
    pub enum BootDevice { Fd = "fd", Cdrom = "cdrom", Hd = "hd", Network = "network" }
    /// Firmware chosen by libvirt.
    pub enum Firmware { Bios = "bios", Efi = "efi" }
    /// How the loader is mapped.
    pub enum LoaderType { Rom = "rom", Pflash = "pflash" }
    /// Image format of firmware.
    pub enum FirmwareFormat { Raw = "raw", Qcow2 = "qcow2" }
    /// Where SMBIOS data comes from.
    pub enum SmbiosMode { None = "none", Emulate = "emulate", Host = "host", Sysinfo = "sysinfo" }
    /// What an ACPI table file holds.
    pub enum AcpiTableType { Raw = "raw", Rawset = "rawset", Slic = "slic", Msdm = "msdm" }
    /// How information reaches the guest.
    pub enum SysinfoType { Smbios = "smbios", Fwcfg = "fwcfg" }
}

element! {
    /// `<os>`: how the guest boots.
    pub struct Os {
        attr firmware: Option<Firmware> => DOMAIN.xml_error "unknown firmware value {}";
        child type_ "type": Option<OsType>;
        child firmware_features "firmware": Option<FirmwareFeatures>;
        leaf init: Option<String>;
        leaf initarg: Vec<String>;
        child initenv: Vec<InitEnv>;
        leaf initdir: Option<String>;
        leaf inituser: Option<String>;
        leaf initgroup: Option<String>;
        child loader: Option<Loader>;
        child nvram: Option<Nvram>;
        leaf kernel: Option<String>;
        leaf initrd: Option<String>;
        leaf cmdline: Option<String>;
        leaf shim: Option<String>;
        leaf dtb: Option<String>;
        leaf root: Option<String>;
        child acpi: Option<OsAcpi>;
        child boot: Vec<OsBoot>;
        child bootmenu: Option<BootMenu>;
        child bios: Option<Bios>;
        child smbios: Option<Smbios>;
    }

    /// `<type>`: the kind of machine.
    pub struct OsType {
        attr arch: Option<String>;
        attr machine: Option<String>;
        text name: String;
    }

    /// `<firmware>`: wishes for automatic selection.
    pub struct FirmwareFeatures {
        child feature: Vec<FirmwareFeature>;
    }

    /// `<feature>` of firmware.
    pub struct FirmwareFeature {
        attr enabled: YesNo;
        attr name: String | "enrolled-keys" | "secure-boot";
    }

    /// `<initenv>`: an environment variable of a container's init.
    pub struct InitEnv {
        attr name: String;
        text value: String;
    }

    /// `<loader>`: the firmware image.
    pub struct Loader {
        attr readonly: Option<YesNo>;
        attr secure: Option<YesNo>;
        attr type_ "type": Option<LoaderType>;
        attr stateless: Option<YesNo>;
        attr format: Option<FirmwareFormat>;
        text path: Option<String>;
    }

    /// `<nvram>`: where firmware keeps its variables.
    pub struct Nvram {
        attr template: Option<String>;
        attr template_format "templateFormat": Option<FirmwareFormat>;
        attr type_ "type": Option<String>
            | "file" | "block" | "dir" | "network" | "volume" | "nvme" | "vhostuser" | "vhostvdpa";
        attr format: Option<FirmwareFormat>;
        text path: Option<String>;
        child source: Option<DiskSource>;
    }

    /// `<acpi>` of `<os>`: additional tables.
    pub struct OsAcpi {
        child table: Vec<AcpiTable>;
    }

    /// `<table>`: a file with an ACPI table.
    pub struct AcpiTable {
        attr type_ "type": AcpiTableType;
        text path: String;
    }

    /// `<boot>` of `<os>`.
    pub struct OsBoot {
        attr dev: BootDevice;
    }

    /// `<bootmenu>`.
    pub struct BootMenu {
        attr enable: Option<YesNo>;
        attr timeout: Option<u32>;
    }

    /// `<bios>`: SeaBIOS' output and reboot.
    pub struct Bios {
        loose useserial: Option<YesNo>;
        attr reboot_timeout "rebootTimeout": Option<i32>;
    }

    /// `<smbios>`.
    pub struct Smbios {
        attr mode: SmbiosMode => DOMAIN.config_unsupported "unknown smbios mode '{}'";
    }

    /// `<sysinfo>`: what SMBIOS or fw_cfg tells the guest.
    pub struct Sysinfo {
        attr type_ "type": SysinfoType;
        child bios: Option<SysinfoBlock>;
        child system: Option<SysinfoBlock>;
        child base_board "baseBoard": Vec<SysinfoBlock>;
        child chassis: Option<SysinfoBlock>;
        child oem_strings "oemStrings": Option<SysinfoBlock>;
        child entry: Vec<SysinfoEntry>;
    }

    /// A block of entries.
    pub struct SysinfoBlock {
        child entry: Vec<SysinfoEntry>;
    }

    /// `<entry>`: one value.
    pub struct SysinfoEntry {
        attr name: Option<String>;
        attr file: Option<String>;
        text value: Option<String>;
    }

    /// `<idmap>`: users of a container.
    pub struct Idmap {
        child uid: Vec<IdmapEntry>;
        child gid: Vec<IdmapEntry>;
    }

    /// One range of `<idmap>`.
    pub struct IdmapEntry {
        attr start: u32 => DOMAIN.xml_error "invalid idmap start/target/count settings";
        attr target: u32 => DOMAIN.xml_error "invalid idmap start/target/count settings";
        attr count: u32 => DOMAIN.xml_error "invalid idmap start/target/count settings";
    }

    /// `<pm>`: which kinds of sleep the guest sees.
    pub struct Pm {
        child suspend_to_mem "suspend-to-mem": Option<PmState>;
        child suspend_to_disk "suspend-to-disk": Option<PmState>;
    }

    /// One kind of sleep.
    pub struct PmState {
        attr enabled: Option<YesNo>;
    }

    /// `<perf>`: performance events.
    pub struct Perf {
        child event: Vec<PerfEvent>;
    }

    /// `<event>` of `<perf>`.
    pub struct PerfEvent {
        attr name: String;
        attr enabled: YesNo;
    }
}

/// `virPerfEventType`, by name.
pub const PERF_EVENTS: [&str; 22] = [
    "cmt",
    "mbmt",
    "mbml",
    "cpu_cycles",
    "instructions",
    "cache_references",
    "cache_misses",
    "branch_instructions",
    "branch_misses",
    "bus_cycles",
    "stalled_cycles_frontend",
    "stalled_cycles_backend",
    "ref_cpu_cycles",
    "cpu_clock",
    "task_clock",
    "page_faults",
    "context_switches",
    "cpu_migrations",
    "page_faults_min",
    "page_faults_maj",
    "alignment_faults",
    "emulation_faults",
];

keywords! {
    /// How the clock is set when the guest starts.
    pub enum ClockOffset {
        Utc = "utc", Localtime = "localtime", Variable = "variable", Timezone = "timezone", Absolute = "absolute",
        _ = "",
    }
    /// What a variable clock counts from.
    pub enum ClockBasis { Utc = "utc", Localtime = "localtime" }
    /// A timer.
    pub enum TimerName {
        Platform = "platform", Pit = "pit", Rtc = "rtc", Hpet = "hpet", Tsc = "tsc", Kvmclock = "kvmclock",
        Hypervclock = "hypervclock", Armvtimer = "armvtimer",
    }
    /// What becomes of missed ticks.
    pub enum TickPolicy { Delay = "delay", Catchup = "catchup", Merge = "merge", Discard = "discard" }
    /// Which clock a timer follows.
    pub enum TimerTrack { Boot = "boot", Guest = "guest", Wall = "wall", Realtime = "realtime" }
    /// How a TSC is provided.
    pub enum TimerMode {
        Auto = "auto", Native = "native", Emulate = "emulate", Paravirt = "paravirt", Smpsafe = "smpsafe",
    }
}

element! {
    /// `<clock>`.
    pub struct Clock {
        attr_default offset: ClockOffset => DOMAIN.config_unsupported "unknown clock offset '{}'";
        attr adjustment: Option<String>;
        attr basis: Option<ClockBasis> => DOMAIN.config_unsupported "unknown clock basis '{}'";
        attr timezone: Option<String>;
        loose start: Option<u64>;
        child timer: Vec<Timer>;
    }

    /// `<timer>`.
    pub struct Timer {
        attr name: TimerName;
        attr present: Option<YesNo>;
        attr tickpolicy: Option<TickPolicy>;
        attr track: Option<TimerTrack>;
        attr frequency: Option<u64>;
        attr mode: Option<TimerMode>;
        child catchup: Option<Catchup>;
    }

    /// `<catchup>`: limits for catching up.
    pub struct Catchup {
        attr threshold: Option<u32>;
        attr slew: Option<u32>;
        attr limit: Option<u32>;
    }

    /// `<on/off state>` of something.
    pub struct State {
        attr state: Option<OnOff>;
    }
}
