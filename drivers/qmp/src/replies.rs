//! What replies carry, as far as a driver looks at it; other members are skipped.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Structs whose members are named on the wire in one style.
macro_rules! replies {
    ($style:literal; $(
        $(#[$doc:meta])*
        $type:ident { $($(#[$field_doc:meta])* $field:ident: $field_type:ty,)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(rename_all = $style)]
        pub struct $type {
            $($(#[$field_doc])* pub $field: $field_type,)*
        }
    )*};
}

/// A reply that only says that it was done.
#[derive(Clone, Debug, Deserialize)]
pub struct Empty {}

replies! { "kebab-case";
    /// QEMU's version and the distribution's.
    #[derive(Serialize)]
    VersionInfo {
        /// QEMU's own.
        qemu: VersionTriple,
        /// The distribution's, often empty.
        package: String,
    }
    /// Three numbers.
    #[derive(Serialize)]
    VersionTriple {
        /// First.
        major: u32,
        /// Second.
        minor: u32,
        /// Third.
        micro: u32,
    }
    /// Whether the guest runs.
    StatusInfo {
        /// The CPUs run.
        running: bool,
        /// More exactly.
        status: RunState,
    }
    /// A command.
    CommandInfo {
        /// Its name.
        name: String,
    }
    /// A machine type.
    #[derive(Serialize)]
    MachineInfo {
        /// The name, with the version.
        name: String,
        /// The name without.
        alias: Option<String>,
        /// It is the default.
        #[serde(default)]
        is_default: bool,
        /// The most CPUs.
        cpu_max: u32,
        /// CPUs can be plugged in.
        #[serde(default)]
        hotpluggable_cpus: bool,
        /// It can have NUMA nodes.
        #[serde(default)]
        numa_mem_supported: bool,
        /// It will go.
        #[serde(default)]
        deprecated: bool,
        /// The CPU it has by default.
        default_cpu_type: Option<String>,
        /// The id of its main memory.
        default_ram_id: Option<String>,
        /// It has ACPI.
        #[serde(default)]
        acpi: bool,
    }
    /// A CPU model.
    #[derive(Serialize)]
    CpuDefinition {
        /// The name.
        name: String,
        /// It is the same on every host.
        migration_safe: Option<bool>,
        /// It never changes.
        r#static: bool,
        /// What this host lacks for it.
        unavailable_features: Option<Vec<String>>,
        /// The type of its object.
        typename: String,
        /// The versioned name behind it.
        alias_of: Option<String>,
        /// It will go.
        #[serde(default)]
        deprecated: bool,
    }
    /// A CPU model expanded.
    #[derive(Serialize)]
    CpuModelExpansion {
        /// The result.
        model: CpuModel,
    }
    /// A CPU model and its properties.
    #[derive(Serialize)]
    CpuModel {
        /// The name.
        name: String,
        /// The properties.
        props: Option<serde_json::Map<String, Value>>,
    }
    /// KVM.
    KvmInfo {
        /// The guest uses it.
        enabled: bool,
        /// This QEMU has it.
        present: bool,
    }
    /// The target.
    TargetInfo {
        /// As in `x86_64`.
        arch: String,
    }
    /// A type of objects.
    ObjectTypeInfo {
        /// The name.
        name: String,
        /// It has no instances.
        #[serde(default)]
        r#abstract: bool,
        /// What it derives from.
        parent: Option<String>,
    }
    /// A property.
    ObjectPropertyInfo {
        /// The name.
        name: String,
        /// The type, as in `child<virtio-balloon>`.
        r#type: String,
    }
    /// A job.
    JobInfo {
        /// Its name.
        id: String,
        /// `running`, `concluded` and more.
        status: String,
        /// What it has done, in a measure of its own.
        current_progress: Option<u64>,
        /// What it will have done, as far as is known.
        total_progress: Option<u64>,
        /// What it failed with.
        error: Option<String>,
    }
    /// A migration.
    MigrationInfo {
        /// `active`, `completed`, `failed` and more; nothing before the first one.
        status: Option<String>,
        /// What it failed with.
        error_desc: Option<String>,
        /// Why there can be none.
        blocked_reasons: Option<Vec<String>>,
    }
    /// A virtual CPU.
    CpuInfo {
        /// Its number.
        cpu_index: u32,
        /// Its object.
        qom_path: String,
        /// Its thread on the host.
        thread_id: u32,
    }
    /// What somebody counts of a guest or a virtual CPU.
    Statistics {
        /// The CPU's object.
        qom_path: Option<String>,
        /// The counters.
        stats: Vec<Statistic>,
    }
    /// A counter.
    Statistic {
        /// Its name.
        name: String,
        /// A number, a boolean, or numbers of a histogram.
        value: Value,
    }
    /// What the counters of a target are.
    StatisticsSchema {
        /// `vm` or `vcpu`.
        target: String,
        /// The counters.
        stats: Vec<StatisticKind>,
    }
    /// What a counter is.
    StatisticKind {
        /// Its name.
        name: String,
        /// `cumulative`, `instant`, `peak`, or a histogram.
        r#type: String,
    }
    /// An I/O thread.
    IoThreadInfo {
        /// Its name.
        id: String,
        /// Its thread on the host.
        thread_id: u32,
    }
    /// The balloon.
    BalloonInfo {
        /// What the guest has, bytes.
        actual: u64,
    }
    /// Memory.
    MemorySizeSummary {
        /// Without what was plugged in, bytes.
        base_memory: u64,
        /// What was plugged in, bytes.
        plugged_memory: Option<u64>,
    }
    /// A block device.
    BlockInfo {
        /// Its old name, empty with `-blockdev`.
        device: String,
        /// The path or id of the guest's device.
        qdev: Option<String>,
        /// It can be taken out.
        removable: bool,
        /// The guest locked it.
        locked: bool,
        /// What is in it.
        inserted: Option<BlockNode>,
        /// The tray is out.
        #[serde(rename = "tray_open")]
        tray_open: Option<bool>,
        /// `ok`, `failed` or `nospace`.
        io_status: Option<String>,
    }
    /// A block node.
    BlockNode {
        /// Its name.
        node_name: Option<String>,
        /// The format.
        drv: String,
        /// It can't be written.
        ro: bool,
        /// The file.
        file: String,
        /// What is known of the image.
        image: Option<ImageInfo>,
        /// The highest offset the guest wrote, for thresholds.
        #[serde(rename = "write_threshold", default)]
        write_threshold: u64,
    }
    /// An image.
    ImageInfo {
        /// As the guest sees it, bytes.
        virtual_size: u64,
        /// On the host, bytes.
        actual_size: Option<u64>,
    }
    /// What a block device has done.
    BlockStats {
        /// Its old name.
        device: Option<String>,
        /// The guest's device.
        qdev: Option<String>,
        /// The node.
        node_name: Option<String>,
        /// The counters.
        stats: BlockCounters,
        /// The layer below.
        parent: Option<Box<BlockStats>>,
        /// The backing image.
        backing: Option<Box<BlockStats>>,
    }
    /// A memory module.
    MemoryDevice {
        /// What is known of it.
        data: MemoryDeviceInfo,
    }
    /// What is known of a memory module.
    MemoryDeviceInfo {
        /// Its id.
        id: Option<String>,
        /// Where it begins, if it is a DIMM or NVDIMM.
        addr: Option<u64>,
        /// Where it begins, if it is a virtio device.
        memaddr: Option<u64>,
        /// How much the guest has of it, bytes.
        size: u64,
    }
    /// A character device.
    ChardevInfo {
        /// Its id.
        label: String,
        /// Where it leads, as in `pty:/dev/pts/3`.
        filename: String,
        /// Somebody is connected.
        frontend_open: bool,
    }
    /// A set of descriptors.
    FdsetInfo {
        /// Its number.
        fdset_id: u32,
    }
    /// A descriptor in a set.
    AddFdInfo {
        /// The set.
        fdset_id: i64,
        /// Its number in QEMU.
        fd: i64,
    }
}

replies! { "snake_case";
    /// Counters since the start.
    BlockCounters {
        /// Bytes read.
        rd_bytes: u64,
        /// Bytes written.
        wr_bytes: u64,
        /// Reads.
        rd_operations: u64,
        /// Writes.
        wr_operations: u64,
        /// Flushes.
        flush_operations: u64,
        /// Time spent reading, nanoseconds.
        rd_total_time_ns: u64,
        /// Time spent writing, nanoseconds.
        wr_total_time_ns: u64,
        /// Time spent flushing, nanoseconds.
        flush_total_time_ns: u64,
        /// The highest offset written, bytes.
        wr_highest_offset: u64,
    }
}

/// `RunState`: what the guest is doing.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(from = "String")]
pub enum RunState {
    /// Stopped by the debugger.
    Debug,
    /// Stopped after migration.
    FinishMigrate,
    /// Waits for a migration to come in.
    InMigrate,
    /// Stopped by an internal error.
    InternalError,
    /// Stopped by an error of a disk.
    IoError,
    /// Stopped by a command.
    Paused,
    /// Stopped after a migration.
    Postmigrate,
    /// Not yet started, `-S`.
    Prelaunch,
    /// State is being restored.
    RestoreVm,
    /// Runs.
    Running,
    /// State is being saved.
    SaveVm,
    /// The guest shut down, and `-no-shutdown` holds.
    Shutdown,
    /// Sleeps.
    Suspended,
    /// Stopped by the watchdog.
    Watchdog,
    /// The guest panicked.
    GuestPanicked,
    /// Stopped for a checkpoint of COLO.
    Colo,
    /// A state that is not in this list.
    Unknown(String),
}

impl From<String> for RunState {
    fn from(name: String) -> Self {
        match name.as_str() {
            "debug" => Self::Debug,
            "finish-migrate" => Self::FinishMigrate,
            "inmigrate" => Self::InMigrate,
            "internal-error" => Self::InternalError,
            "io-error" => Self::IoError,
            "paused" => Self::Paused,
            "postmigrate" => Self::Postmigrate,
            "prelaunch" => Self::Prelaunch,
            "restore-vm" => Self::RestoreVm,
            "running" => Self::Running,
            "save-vm" => Self::SaveVm,
            "shutdown" => Self::Shutdown,
            "suspended" => Self::Suspended,
            "watchdog" => Self::Watchdog,
            "guest-panicked" => Self::GuestPanicked,
            "colo" => Self::Colo,
            _ => Self::Unknown(name),
        }
    }
}

impl fmt::Display for VersionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VersionTriple { major, minor, micro } = self.qemu;
        write!(f, "{major}.{minor}.{micro}")
    }
}
