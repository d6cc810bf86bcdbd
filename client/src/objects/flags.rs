//! Flags of libvirt's functions.

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident $prefix:literal { $($flag:ident = $value:literal,)* })*) => {
        $(bitflags::bitflags! {
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $name: u32 {
                $(#[doc = concat!("`", $prefix, stringify!($flag), "`")]
                const $flag = $value;)*
                /// What later versions of libvirt have.
                const _ = !0;
            }
        }

        impl super::table::ToWire<u32> for $name {
            fn to_wire(self) -> u32 {
                self.bits()
            }
        }

        impl From<$name> for u32 {
            fn from(flags: $name) -> Self {
                flags.bits()
            }
        })*
    };
}

flags! {
    /// Which guests are listed; none lists all.
    DomainListFlags "VIR_CONNECT_LIST_DOMAINS_" {
        ACTIVE = 0x1,
        INACTIVE = 0x2,
        PERSISTENT = 0x4,
        TRANSIENT = 0x8,
        RUNNING = 0x10,
        PAUSED = 0x20,
        SHUTOFF = 0x40,
        OTHER = 0x80,
        MANAGEDSAVE = 0x100,
        NO_MANAGEDSAVE = 0x200,
        AUTOSTART = 0x400,
        NO_AUTOSTART = 0x800,
        HAS_SNAPSHOT = 0x1000,
        NO_SNAPSHOT = 0x2000,
        HAS_CHECKPOINT = 0x4000,
        NO_CHECKPOINT = 0x8000,
    }

    /// How a guest is started.
    DomainCreateFlags "VIR_DOMAIN_START_" {
        PAUSED = 0x1,
        AUTODESTROY = 0x2,
        BYPASS_CACHE = 0x4,
        FORCE_BOOT = 0x8,
        VALIDATE = 0x10,
        RESET_NVRAM = 0x20,
    }

    /// How a guest's definition is taken.
    DomainDefineFlags "VIR_DOMAIN_DEFINE_" {
        VALIDATE = 0x1,
    }

    /// How a guest is ended.
    DomainDestroyFlags "VIR_DOMAIN_DESTROY_" {
        GRACEFUL = 0x1,
        REMOVE_LOGS = 0x2,
    }

    /// By which means a guest is asked to shut down or to reboot.
    DomainShutdownFlags "VIR_DOMAIN_SHUTDOWN_" {
        ACPI_POWER_BTN = 0x1,
        GUEST_AGENT = 0x2,
        INITCTL = 0x4,
        SIGNAL = 0x8,
        PARAVIRT = 0x10,
    }

    /// What goes with a guest's definition, or stays.
    DomainUndefineFlags "VIR_DOMAIN_UNDEFINE_" {
        MANAGED_SAVE = 0x1,
        SNAPSHOTS_METADATA = 0x2,
        NVRAM = 0x4,
        KEEP_NVRAM = 0x8,
        CHECKPOINTS_METADATA = 0x10,
        TPM = 0x20,
        KEEP_TPM = 0x40,
    }

    /// What a guest's XML shows.
    DomainXmlFlags "VIR_DOMAIN_XML_" {
        SECURE = 0x1,
        INACTIVE = 0x2,
        UPDATE_CPU = 0x4,
        MIGRATABLE = 0x8,
    }

    /// How a guest is saved or restored.
    DomainSaveFlags "VIR_DOMAIN_SAVE_" {
        BYPASS_CACHE = 0x1,
        RUNNING = 0x2,
        PAUSED = 0x4,
        RESET_NVRAM = 0x8,
    }

    /// What a change affects; none is what there is now.
    DomainImpact "VIR_DOMAIN_AFFECT_" {
        LIVE = 0x1,
        CONFIG = 0x2,
    }

    /// Which count of CPUs is meant.
    DomainVcpuFlags "VIR_DOMAIN_VCPU_" {
        LIVE = 0x1,
        CONFIG = 0x2,
        MAXIMUM = 0x4,
        GUEST = 0x8,
        HOTPLUGGABLE = 0x10,
    }

    /// Which memory is meant.
    DomainMemoryFlags "VIR_DOMAIN_MEM_" {
        LIVE = 0x1,
        CONFIG = 0x2,
        MAXIMUM = 0x4,
    }

    /// Which figures are asked for; none asks for all.
    DomainStatsTypes "VIR_DOMAIN_STATS_" {
        STATE = 0x1,
        CPU_TOTAL = 0x2,
        BALLOON = 0x4,
        VCPU = 0x8,
        INTERFACE = 0x10,
        BLOCK = 0x20,
        PERF = 0x40,
        IOTHREAD = 0x80,
        MEMORY = 0x100,
        DIRTYRATE = 0x200,
        VM = 0x400,
    }

    /// Of which guests figures are asked for, and how.
    DomainStatsFlags "VIR_CONNECT_GET_ALL_DOMAINS_STATS_" {
        ACTIVE = 0x1,
        INACTIVE = 0x2,
        PERSISTENT = 0x4,
        TRANSIENT = 0x8,
        RUNNING = 0x10,
        PAUSED = 0x20,
        SHUTOFF = 0x40,
        OTHER = 0x80,
        NOWAIT = 0x20000000,
        BACKING = 0x40000000,
        ENFORCE_STATS = 0x80000000,
    }

    /// How a console is taken.
    DomainConsoleFlags "VIR_DOMAIN_CONSOLE_" {
        FORCE = 0x1,
        SAFE = 0x2,
    }

    /// What happens around a dump of a guest's memory.
    DomainDumpFlags "VIR_DUMP_" {
        CRASH = 0x1,
        LIVE = 0x2,
        BYPASS_CACHE = 0x4,
        RESET = 0x8,
        MEMORY_ONLY = 0x10,
    }

    /// How a guest is migrated.
    MigrateFlags "VIR_MIGRATE_" {
        LIVE = 0x1,
        PEER2PEER = 0x2,
        TUNNELLED = 0x4,
        PERSIST_DEST = 0x8,
        UNDEFINE_SOURCE = 0x10,
        PAUSED = 0x20,
        NON_SHARED_DISK = 0x40,
        NON_SHARED_INC = 0x80,
        CHANGE_PROTECTION = 0x100,
        UNSAFE = 0x200,
        OFFLINE = 0x400,
        COMPRESSED = 0x800,
        ABORT_ON_ERROR = 0x1000,
        AUTO_CONVERGE = 0x2000,
        RDMA_PIN_ALL = 0x4000,
        POSTCOPY = 0x8000,
        TLS = 0x10000,
        PARALLEL = 0x20000,
        NON_SHARED_SYNCHRONOUS_WRITES = 0x40000,
        POSTCOPY_RESUME = 0x80000,
        ZEROCOPY = 0x100000,
    }

    /// How a snapshot is taken.
    SnapshotCreateFlags "VIR_DOMAIN_SNAPSHOT_CREATE_" {
        REDEFINE = 0x1,
        CURRENT = 0x2,
        NO_METADATA = 0x4,
        HALT = 0x8,
        DISK_ONLY = 0x10,
        REUSE_EXT = 0x20,
        QUIESCE = 0x40,
        ATOMIC = 0x80,
        LIVE = 0x100,
        VALIDATE = 0x200,
    }

    /// What is deleted with a snapshot, or instead of it.
    SnapshotDeleteFlags "VIR_DOMAIN_SNAPSHOT_DELETE_" {
        CHILDREN = 0x1,
        METADATA_ONLY = 0x2,
        CHILDREN_ONLY = 0x4,
    }

    /// Which snapshots are listed.
    SnapshotListFlags "VIR_DOMAIN_SNAPSHOT_LIST_" {
        ROOTS = 0x1,
        METADATA = 0x2,
        LEAVES = 0x4,
        NO_LEAVES = 0x8,
        NO_METADATA = 0x10,
        INACTIVE = 0x20,
        ACTIVE = 0x40,
        DISK_ONLY = 0x80,
        INTERNAL = 0x100,
        EXTERNAL = 0x200,
        TOPOLOGICAL = 0x400,
    }

    /// In which state a guest is after it went back.
    SnapshotRevertFlags "VIR_DOMAIN_SNAPSHOT_REVERT_" {
        RUNNING = 0x1,
        PAUSED = 0x2,
        FORCE = 0x4,
        RESET_NVRAM = 0x8,
    }

    /// How a checkpoint is made.
    CheckpointCreateFlags "VIR_DOMAIN_CHECKPOINT_CREATE_" {
        REDEFINE = 0x1,
        QUIESCE = 0x2,
        REDEFINE_VALIDATE = 0x4,
    }

    /// What is deleted with a checkpoint, or instead of it.
    CheckpointDeleteFlags "VIR_DOMAIN_CHECKPOINT_DELETE_" {
        CHILDREN = 0x1,
        METADATA_ONLY = 0x2,
        CHILDREN_ONLY = 0x4,
    }

    /// Which networks are listed; none lists all.
    NetworkListFlags "VIR_CONNECT_LIST_NETWORKS_" {
        INACTIVE = 0x1,
        ACTIVE = 0x2,
        PERSISTENT = 0x4,
        TRANSIENT = 0x8,
        AUTOSTART = 0x10,
        NO_AUTOSTART = 0x20,
    }

    /// Which pools are listed; none lists all.
    StoragePoolListFlags "VIR_CONNECT_LIST_STORAGE_POOLS_" {
        INACTIVE = 0x1,
        ACTIVE = 0x2,
        PERSISTENT = 0x4,
        TRANSIENT = 0x8,
        AUTOSTART = 0x10,
        NO_AUTOSTART = 0x20,
        DIR = 0x40,
        FS = 0x80,
        NETFS = 0x100,
        LOGICAL = 0x200,
        DISK = 0x400,
        ISCSI = 0x800,
        SCSI = 0x1000,
        MPATH = 0x2000,
        RBD = 0x4000,
        SHEEPDOG = 0x8000,
        GLUSTER = 0x10000,
        ZFS = 0x20000,
        VSTORAGE = 0x40000,
        ISCSI_DIRECT = 0x80000,
    }

    /// How a pool is started.
    StoragePoolCreateFlags "VIR_STORAGE_POOL_CREATE_" {
        WITH_BUILD = 0x1,
        WITH_BUILD_OVERWRITE = 0x2,
        WITH_BUILD_NO_OVERWRITE = 0x4,
    }

    /// How a pool's storage is made.
    StoragePoolBuildFlags "VIR_STORAGE_POOL_BUILD_" {
        REPAIR = 0x1,
        RESIZE = 0x2,
        NO_OVERWRITE = 0x4,
        OVERWRITE = 0x8,
    }

    /// How a volume is made.
    StorageVolCreateFlags "VIR_STORAGE_VOL_CREATE_" {
        PREALLOC_METADATA = 0x1,
        REFLINK = 0x2,
        VALIDATE = 0x4,
    }

    /// How a volume is deleted.
    StorageVolDeleteFlags "VIR_STORAGE_VOL_DELETE_" {
        ZEROED = 0x1,
        WITH_SNAPSHOTS = 0x2,
    }

    /// How a new size is meant.
    StorageVolResizeFlags "VIR_STORAGE_VOL_RESIZE_" {
        ALLOCATE = 0x1,
        DELTA = 0x2,
        SHRINK = 0x4,
    }

    /// How a volume is downloaded.
    StorageVolDownloadFlags "VIR_STORAGE_VOL_DOWNLOAD_" {
        SPARSE_STREAM = 0x1,
    }

    /// How a volume is uploaded.
    StorageVolUploadFlags "VIR_STORAGE_VOL_UPLOAD_" {
        SPARSE_STREAM = 0x1,
    }

    /// Which devices are listed; none lists all.
    NodeDeviceListFlags "VIR_CONNECT_LIST_NODE_DEVICES_" {
        CAP_SYSTEM = 0x1,
        CAP_PCI_DEV = 0x2,
        CAP_USB_DEV = 0x4,
        CAP_USB_INTERFACE = 0x8,
        CAP_NET = 0x10,
        CAP_SCSI_HOST = 0x20,
        CAP_SCSI_TARGET = 0x40,
        CAP_SCSI = 0x80,
        CAP_STORAGE = 0x100,
        CAP_FC_HOST = 0x200,
        CAP_VPORTS = 0x400,
        CAP_SCSI_GENERIC = 0x800,
        CAP_DRM = 0x1000,
        CAP_MDEV_TYPES = 0x2000,
        CAP_MDEV = 0x4000,
        CAP_CCW_DEV = 0x8000,
        CAP_CSS_DEV = 0x10000,
        CAP_VDPA = 0x20000,
        CAP_AP_CARD = 0x40000,
        CAP_AP_QUEUE = 0x80000,
        CAP_AP_MATRIX = 0x100000,
        CAP_VPD = 0x200000,
        INACTIVE = 0x40000000,
        ACTIVE = 0x80000000,
    }

    /// Which interfaces are listed; none lists all.
    InterfaceListFlags "VIR_CONNECT_LIST_INTERFACES_" {
        INACTIVE = 0x1,
        ACTIVE = 0x2,
    }

    /// Which secrets are listed; none lists all.
    SecretListFlags "VIR_CONNECT_LIST_SECRETS_" {
        EPHEMERAL = 0x1,
        NO_EPHEMERAL = 0x2,
        PRIVATE = 0x4,
        NO_PRIVATE = 0x8,
    }

    /// How images are committed.
    BlockCommitFlags "VIR_DOMAIN_BLOCK_COMMIT_" {
        SHALLOW = 0x1,
        DELETE = 0x2,
        ACTIVE = 0x4,
        RELATIVE = 0x8,
        BANDWIDTH_BYTES = 0x10,
    }

    /// How a disk is copied.
    BlockCopyFlags "VIR_DOMAIN_BLOCK_COPY_" {
        SHALLOW = 0x1,
        REUSE_EXT = 0x2,
        TRANSIENT_JOB = 0x4,
        SYNCHRONOUS_WRITES = 0x8,
    }

    /// How a job on a disk ends.
    BlockJobAbortFlags "VIR_DOMAIN_BLOCK_JOB_ABORT_" {
        ASYNC = 0x1,
        PIVOT = 0x2,
    }

    /// How a screen is opened.
    OpenGraphicsFlags "VIR_DOMAIN_OPEN_GRAPHICS_" {
        SKIPAUTH = 0x1,
    }
}
