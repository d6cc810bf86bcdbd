//! `<disk>`, and sources of storage wherever they stand.

pub use crate::domain::throttle::{Iotune, ThrottleGroup};

use crate::domain::device::{DeviceInfo, DeviceSeclabel, Ejectable, PciAddress, VirtioOptions};
use crate::table::KiB;
use crate::{OnOff, YesNo, element, keywords};

keywords! {
    /// What kind of storage.
    pub enum StorageType {
        File = "file", Block = "block", Dir = "dir", Network = "network", Volume = "volume", Nvme = "nvme",
        Vhostuser = "vhostuser", Vhostvdpa = "vhostvdpa",
    }
    /// What the guest sees.
    pub enum DiskDevice { Disk = "disk", Cdrom = "cdrom", Floppy = "floppy", Lun = "lun" }
    /// Where the guest finds it.
    pub enum DiskBus {
        Ide = "ide", Fdc = "fdc", Scsi = "scsi", Virtio = "virtio", Xen = "xen", Usb = "usb", Uml = "uml",
        Sata = "sata", Sd = "sd",
    }
    /// Which virtio.
    pub enum VirtioModel {
        Virtio = "virtio", VirtioTransitional = "virtio-transitional",
        VirtioNonTransitional = "virtio-non-transitional",
    }
    /// How the host caches.
    pub enum DiskCache {
        None = "none", Writethrough = "writethrough", Writeback = "writeback", Directsync = "directsync",
        Unsafe = "unsafe", _ = "default",
    }
    /// What the guest sees of write errors.
    pub enum ErrorPolicy {
        Stop = "stop", Report = "report", Ignore = "ignore", Enospace = "enospace", _ = "default",
    }
    /// How QEMU does asynchronous I/O.
    pub enum DiskIo { Native = "native", Threads = "threads", IoUring = "io_uring", _ = "default" }
    /// What becomes of discarded blocks.
    pub enum DiskDiscard { Unmap = "unmap", Ignore = "ignore", _ = "default" }
    /// Whether zeroes are written.
    pub enum DetectZeroes { Off = "off", On = "on", Unmap = "unmap", _ = "default" }
    /// Where snapshots of a disk go.
    pub enum DiskSnapshot { No = "no", Internal = "internal", External = "external", Manual = "manual", _ = "default" }
    /// What becomes of a missing source at start.
    pub enum StartupPolicy { Mandatory = "mandatory", Requisite = "requisite", Optional = "optional", _ = "default" }
    /// A tray.
    pub enum Tray { Closed = "closed", Open = "open" }
    /// Whether raw SCSI commands pass.
    pub enum Sgio { Filtered = "filtered", Unfiltered = "unfiltered", _ = "default" }
    /// How a geometry is translated.
    pub enum GeometryTrans { None = "none", Auto = "auto", Lba = "lba", _ = "default" }
    /// A network storage protocol.
    pub enum StorageProtocol {
        Nbd = "nbd", Rbd = "rbd", Sheepdog = "sheepdog", Gluster = "gluster", Iscsi = "iscsi", Http = "http",
        Https = "https", Ftp = "ftp", Ftps = "ftps", Tftp = "tftp", Ssh = "ssh", Vxhs = "vxhs", Nfs = "nfs",
    }
}

element! {
    /// `<disk>`.
    pub struct Disk {
        attr_default type_ "type": StorageType;
        attr_default device: DiskDevice;
        attr model: Option<VirtioModel>;
        attr rawio: Option<YesNo>;
        attr sgio: Option<Sgio>;
        attr snapshot: Option<DiskSnapshot>;
        child driver: Option<DiskDriver>;
        child auth: Option<StorageAuth>;
        child source: Option<DiskSource>;
        kept backing_store "backingStore": Option<Box<BackingStore>>;
        child backend_domain "backenddomain": Option<BackendDomain>;
        child geometry: Option<Geometry>;
        child blockio: Option<Blockio>;
        kept mirror if live: Option<Mirror>;
        child target: Option<DiskTarget>;
        child iotune: Option<Iotune>;
        child throttlefilters: Option<ThrottleFilters>;
        flag readonly;
        flag shareable;
        kept transient: Option<Transient>;
        leaf serial: Option<String>;
        leaf wwn: Option<String>;
        leaf vendor: Option<String>;
        leaf product: Option<String>;
        pair encryption: Option<Encryption>;
        flat info: DeviceInfo;
        child private "privateData" if status: Option<super::private::DiskPrivate>;
    }

    /// `<driver>` of a disk.
    pub struct DiskDriver {
        attr name: Option<String>;
        attr type_ "type": Option<String>;
        attr cache: Option<DiskCache>;
        attr error_policy: Option<ErrorPolicy>;
        attr rerror_policy: Option<ErrorPolicy>;
        attr io: Option<DiskIo>;
        attr ioeventfd: Option<OnOff>;
        attr event_idx: Option<OnOff>;
        attr copy_on_read: Option<OnOff>;
        attr discard: Option<DiskDiscard>;
        attr iothread: Option<u32>;
        attr detect_zeroes: Option<DetectZeroes>;
        attr discard_no_unref: Option<OnOff>;
        attr queues: Option<u32>;
        attr queue_size: Option<u32>;
        flat virtio: VirtioOptions;
        child statistics: Option<Statistics>;
        child iothreads: Option<DiskIothreads>;
        child metadata_cache: Option<MetadataCache>;
    }

    /// `<iothreads>` that share a disk.
    pub struct DiskIothreads {
        child iothread: Vec<DiskIothread>;
    }

    /// `<iothread>` of a disk.
    pub struct DiskIothread {
        attr id: u32;
        child queue: Vec<DiskQueue>;
    }

    /// `<queue>` of a disk.
    pub struct DiskQueue {
        attr id: u32;
    }

    /// `<statistics>` of a disk.
    pub struct Statistics {
        child statistic: Vec<Statistic>;
    }

    /// `<statistic>`: an interval in seconds.
    pub struct Statistic {
        attr interval: u32;
    }

    /// `<metadata_cache>` of qcow2.
    pub struct MetadataCache {
        child max_size: Option<crate::table::Bytes>;
    }

    /// `<source>` of storage; which attributes count depends on the disk's type.
    pub struct DiskSource {
        attr type_ "type": Option<String>;
        attr file: Option<String>;
        attr fdgroup: Option<String>;
        attr dev: Option<String>;
        attr dir: Option<String>;
        attr protocol: Option<StorageProtocol>;
        attr name: Option<String>;
        attr query: Option<String>;
        attr tls: Option<YesNo>;
        attr tls_hostname "tlsHostname": Option<String>;
        attr pool: Option<String>;
        attr volume: Option<String>;
        attr mode: Option<String>;
        attr path: Option<String>;
        attr managed: Option<YesNo>;
        attr namespace: Option<u64>;
        attr startup_policy "startupPolicy": Option<StartupPolicy>;
        attr index if live: Option<u32>;
        child host: Vec<StorageHost>;
        child address: Option<PciAddress>;
        child reconnect: Option<Reconnect>;
        child owner "identity": Option<Identity>;
        child snapshot: Option<SourceName>;
        child config: Option<SourceFile>;
        child initiator: Option<Initiator>;
        child ssl: Option<Ssl>;
        child cookies if secure: Option<Cookies>;
        child readahead: Option<Readahead>;
        child timeout: Option<Timeout>;
        child known_hosts "knownHosts": Option<KnownHosts>;
        child identity: Option<Identity>;
        child slices: Option<Slices>;
        child auth: Option<StorageAuth>;
        child seclabel: Vec<DeviceSeclabel>;
        pair encryption: Option<Encryption>;
        child reservations: Option<Reservations>;
        child data_store "dataStore": Option<Box<DataStore>>;
        child private "privateData" if status: Option<super::private::SourcePrivate>;
    }

    /// `<host>` of network storage.
    pub struct StorageHost {
        attr name: Option<String>;
        attr port: Option<String>;
        attr transport: Option<String>;
        attr socket: Option<String>;
    }

    /// `<reconnect>`.
    pub struct Reconnect {
        attr enabled: Option<YesNo>;
        attr delay: Option<u32>;
        attr timeout: Option<u32>;
    }

    /// `<snapshot>` of a source.
    pub struct SourceName {
        attr name: Option<String>;
    }

    /// `<config>` of a source.
    pub struct SourceFile {
        attr file: Option<String>;
    }

    /// `<initiator>`.
    pub struct Initiator {
        child iqn: Option<SourceName>;
    }

    /// `<auth>`: who asks a storage server.
    pub struct StorageAuth {
        attr type_ "type": Option<String>;
        attr username: Option<String>;
        child secret: Option<SecretReference>;
    }

    /// `<secret>`: a secret of libvirt's, by UUID or usage.
    pub struct SecretReference {
        attr type_ "type": Option<String>;
        attr uuid: Option<uuid::Uuid> => NONE.xml_error "invalid secret uuid '{}'";
        attr usage: Option<String>;
    }

    /// `<ssl>`.
    pub struct Ssl {
        attr verify: Option<YesNo>;
    }

    /// `<cookies>`.
    pub struct Cookies {
        child cookie: Vec<Cookie>;
    }

    /// `<cookie>`.
    pub struct Cookie {
        attr name: String => DOMAIN.xml_error "{}", DOMAIN.xml_error "missing cookie name";
        text value: String;
    }

    /// `<readahead>` in bytes.
    pub struct Readahead {
        attr size: Option<u64> => DOMAIN.xml_error "invalid readahead size or timeout";
    }

    /// `<timeout>`.
    pub struct Timeout {
        attr seconds: Option<u64> => DOMAIN.xml_error "invalid readahead size or timeout";
    }

    /// `<identity>`.
    pub struct Identity {
        attr user: Option<String>;
        attr group: Option<String>;
        attr username: Option<String>;
        attr keyfile: Option<String>;
        attr agentsock: Option<String>;
    }

    /// `<knownHosts>`.
    pub struct KnownHosts {
        attr path: Option<String>;
    }

    /// `<slices>`.
    pub struct Slices {
        child slice: Vec<Slice>;
    }

    /// `<slice>`: part of a file.
    pub struct Slice {
        attr type_ "type": Option<String>;
        attr offset: u64 => DOMAIN.xml_error "malformed value '{}' of 'offset' attribute of slice",
            DOMAIN.xml_error "missing offset or size attribute of slice";
        attr size: u64 => DOMAIN.xml_error "malformed value '{}' of 'size' attribute of slice",
            DOMAIN.xml_error "missing offset or size attribute of slice";
    }

    /// `<reservations>`: SCSI persistent reservations.
    pub struct Reservations {
        attr managed: Option<YesNo>;
        child source: Option<ReservationSource>;
    }

    /// `<source>` of reservations.
    pub struct ReservationSource {
        attr type_ "type": Option<String>;
        attr path: Option<String>;
        attr mode: Option<String>;
    }

    /// `<encryption>` of storage.
    pub struct Encryption {
        attr format: String | "default" | "qcow" | "luks" | "luks2" | "luks-any"
            => STORAGE.config_unsupported "unknown volume encryption format type {}",
            STORAGE.xml_error "unknown volume encryption format";
        attr engine: Option<String> | "qemu" | "librbd";
        child secret: Vec<SecretReference>;
        child cipher: Option<Cipher>;
        child ivgen: Option<Ivgen>;
    }

    /// `<cipher>`.
    pub struct Cipher {
        attr name: String;
        attr size: Option<u32>;
        attr mode: Option<String>;
        attr hash: Option<String>;
    }

    /// `<ivgen>`.
    pub struct Ivgen {
        attr name: String;
        attr hash: Option<String>;
    }

    /// `<backingStore>`: what lies below an image. Empty: nothing does.
    pub struct BackingStore {
        attr type_ "type": Option<StorageType> => DOMAIN.xml_error "unknown storage source type '{}'";
        attr index if live: Option<u32>;
        child format: Option<BackingFormat>;
        child source: Option<DiskSource>;
        kept backing_store "backingStore": Option<Box<BackingStore>>;
    }

    /// `<format>` of a backing store.
    pub struct BackingFormat {
        attr type_ "type": String => DOMAIN.xml_error "{}", DOMAIN.xml_error "missing disk backing store format";
        child metadata_cache: Option<MetadataCache>;
    }

    /// `<backenddomain>`.
    pub struct BackendDomain {
        attr name: Option<String>;
    }

    /// `<geometry>`.
    pub struct Geometry {
        attr cyls: Option<u32>;
        attr heads: Option<u32>;
        attr secs: Option<u32>;
        attr trans: Option<GeometryTrans>;
    }

    /// `<blockio>`: sizes in bytes.
    pub struct Blockio {
        attr logical_block_size: Option<u32>;
        attr physical_block_size: Option<u32>;
        attr discard_granularity: Option<u32>;
    }

    /// `<mirror>`: a block job's copy.
    pub struct Mirror {
        attr type_ "type": Option<StorageType>;
        attr file: Option<String>;
        attr format_name "format": Option<String>;
        attr job: Option<String>;
        attr ready: Option<String>;
        child format: Option<BackingFormat>;
        child source: Option<DiskSource>;
        kept backing_store "backingStore": Option<Box<BackingStore>>;
    }

    /// `<target>` of a disk.
    pub struct DiskTarget {
        attr dev: Option<String>;
        attr bus: Option<DiskBus>;
        attr tray: Option<Tray>;
        attr removable: Option<OnOff>;
        flat ejectable: Ejectable;
        attr rotation_rate: Option<u32>;
    }

    /// `<dataStore>`: where an image keeps its data, if not in itself.
    pub struct DataStore {
        attr type_ "type": StorageType;
        child format: Option<BackingFormat>;
        child source: Option<DiskSource>;
    }

    /// `<throttlefilters>`.
    pub struct ThrottleFilters {
        child throttlefilter: Vec<ThrottleFilter>;
    }

    /// `<throttlefilter>`.
    pub struct ThrottleFilter {
        attr group: String => DOMAIN.xml_error "{}", DOMAIN.xml_error "throttle group '(null)' not found";
    }

    /// `<transient>`.
    pub struct Transient {
        attr share_backing "shareBacking": Option<YesNo>;
    }

    /// `<filesystem>`.
    pub struct Filesystem {
        attr_default type_ "type": FilesystemType;
        attr accessmode: Option<AccessMode>;
        attr model: Option<VirtioModel>;
        attr multidevs: Option<Multidevs>;
        attr fmode: Option<String>;
        attr dmode: Option<String>;
        child driver: Option<FilesystemDriver>;
        child binary: Option<FilesystemBinary>;
        child idmap: Option<super::os::Idmap>;
        child source: Option<FilesystemSource>;
        child target: Option<FilesystemTarget>;
        flag readonly;
        child space_hard_limit: Option<KiB>;
        child space_soft_limit: Option<KiB>;
        flat info: DeviceInfo;
    }

    /// `<driver>` of a filesystem.
    pub struct FilesystemDriver {
        attr type_ "type": Option<FilesystemDriverType>;
        attr format: Option<String>;
        attr name: Option<String>;
        attr wrpolicy: Option<String> | "immediate";
        attr queue: Option<u64> => DOMAIN.xml_error "cannot parse queue size '{}' for virtiofs";
        flat virtio: VirtioOptions;
    }

    /// `<binary>`: the virtiofs daemon.
    pub struct FilesystemBinary {
        attr path: Option<String>;
        attr xattr: Option<OnOff>;
        child cache: Option<FilesystemCache>;
        child sandbox: Option<FilesystemSandbox>;
        child lock: Option<FilesystemLock>;
        child thread_pool: Option<ThreadPool>;
        child openfiles: Option<OpenFiles>;
    }

    /// `<cache>` of the virtiofs daemon.
    pub struct FilesystemCache {
        attr mode: Option<String> | "none" | "always";
    }

    /// `<sandbox>` of the virtiofs daemon.
    pub struct FilesystemSandbox {
        attr mode: Option<String> | "namespace" | "chroot";
    }

    /// `<lock>`.
    pub struct FilesystemLock {
        attr posix: Option<OnOff>;
        attr flock: Option<OnOff>;
    }

    /// `<thread_pool>`.
    pub struct ThreadPool {
        attr size: Option<u32> => DOMAIN.xml_error "cannot parse thread pool size '{}' for virtiofs";
    }

    /// `<openfiles>`.
    pub struct OpenFiles {
        attr max: Option<u64>;
    }

    /// `<source>` of a filesystem.
    pub struct FilesystemSource {
        attr dir: Option<String>;
        attr file: Option<String>;
        attr dev: Option<String>;
        attr name: Option<String>;
        attr pool: Option<String>;
        attr volume: Option<String>;
        attr usage: Option<u64>;
        attr units: Option<String>;
        attr socket: Option<String>;
    }

    /// `<target>` of a filesystem.
    pub struct FilesystemTarget {
        attr dir: Option<String>;
    }

    /// `<lease>`: a lock held while the guest runs.
    pub struct Lease {
        leaf lockspace: Option<String>;
        leaf key: Option<String>;
        child target: Option<LeaseTarget>;
    }

    /// `<target>` of a lease.
    pub struct LeaseTarget {
        attr path: Option<String>;
        attr offset: Option<u64>;
    }
}

impl DiskSource {
    /// Whether it is asked for over HTTP or FTP.
    pub(crate) const fn speaks_http(&self) -> bool {
        use StorageProtocol::{Ftp, Ftps, Http, Https};
        matches!(self.protocol, Some(Http | Https | Ftp | Ftps))
    }
}

keywords! {
    /// What is shared with the guest.
    pub enum FilesystemType {
        Mount = "mount", Block = "block", File = "file", Template = "template", Ram = "ram", Bind = "bind",
        Volume = "volume",
    }
    /// Whose permissions count.
    pub enum AccessMode { Passthrough = "passthrough", Mapped = "mapped", Squash = "squash" }
    /// What becomes of several devices below one export.
    pub enum Multidevs { Remap = "remap", Forbid = "forbid", Warn = "warn", _ = "default" }
    /// How a filesystem reaches the guest.
    pub enum FilesystemDriverType {
        Path = "path", Handle = "handle", Loop = "loop", Nbd = "nbd", Ploop = "ploop", Virtiofs = "virtiofs",
        Mtp = "mtp", _ = "default",
    }
}
