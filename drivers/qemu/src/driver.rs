//! The driver: its guests, where it keeps them, what it serves.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, oneshot};
use uuid::Uuid;
use virtwire_conf::{ARCHITECTURES, Domain, Emulator, Machine, ParseOptions, QemuHost};
use virtwire_driver_api::{
    CallCx, Connection, Driver, EventHub, Kept, NetworkDriver, NodeDeviceDriver, NwfilterDriver, Reach,
    SecretDriver, StorageDriver, async_trait, uri_path,
};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::{Event, NonnullDomain};
use virtwire_qmp::ANSWER_LIMIT;

use crate::autodestroy::{Bound, Guard};
use crate::caps::host::program_for;
use crate::caps_cache::CapsCache;
use crate::cgroup::Cgroups;
use crate::dirs::{Beside, Dirs};
use crate::error::{QEMU, Result, no_uuid};
use crate::guest::{Definition, Guest};
use crate::host::Host;
use crate::migration::Entrance;
use crate::namespace::Always;
use crate::policy::Policy;
use crate::ports::Ports;
use crate::probe::{QemuCaps, find_in_path, find_program};
use crate::rotation::Rotation;
use crate::save::Formats;
use crate::security::{self, Dac};
use crate::settings::Settings;
use crate::state::Lifecycle;
use crate::sysinfo::HostSysinfo;
use crate::{checkpoint, define, kept, strays};
use virtwire_store::{self as store, Found};

/// Features (`VIR_DRV_FEATURE_…`) of this driver: migration between peers and in its third version, where what moves is protected from
/// changes, string parameters, XML for hosts that may be older, migration of guests that do not run, migration with
/// parameters, and the order of a network update's parts.
const FEATURES: &[i32] = &[4, 6, 7, 9, 11, 12, 13, 16];

/// The guests of the machine or of one user, kept below some directories.
#[derive(Clone)]
pub struct Qemu {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) dirs: Dirs,
    pub(crate) host: Host,
    pub(crate) host_uuid: Uuid,
    pub(crate) events: Arc<EventHub>,
    pub(crate) caps: CapsCache,
    /// Who guests run as; `None` where they run as the daemon does.
    pub(crate) security: Option<Dac>,
    /// What guests see of the devices of the host; `None` for all.
    pub(crate) dev: Option<Always>,
    /// Where guests from other hosts come in.
    pub(crate) entrance: Entrance,
    /// How the memory of guests is in files.
    pub(crate) formats: Formats,
    /// What the administrator says of guests.
    pub(crate) policy: Policy,
    /// What the host's firmware says of it, if it can be asked.
    pub(crate) sysinfo: OnceCell<Option<Arc<HostSysinfo>>>,
    /// The ports of guests' screens.
    pub(crate) ports: Ports,
    /// Where guests are held to their shares; nowhere where they are a user's.
    pub(crate) cgroups: Cgroups,
    /// How long QEMU may take to answer a command, and to answer at all when it starts.
    pub(crate) answer_limit: Duration,
    options: OnceCell<ParseOptions>,
    guests: Mutex<Guests>,
    /// Who has which console, by its path; telling the holder ends its stream.
    consoles: Mutex<HashMap<String, oneshot::Sender<()>>>,
    /// What ends with the connection of its client.
    bound: Mutex<Vec<Bound>>,
    /// The clients that manage a migration, or did.
    managing: Mutex<HashSet<u64>>,
    /// The drivers beside this one.
    companions: OnceLock<Companions>,
    /// The way to other daemons, where there is one.
    reach: OnceLock<Arc<dyn Reach>>,
    /// Keeps guests' logs small for as long as there is this.
    _rotation: Rotation,
    /// Tells a daemon that comes later whether this one, and all that it had begun, is gone.
    _alive: File,
}

/// All guests, by UUID in the order of their definition.
#[derive(Default)]
struct Guests {
    all: Vec<Arc<Guest>>,
    by_name: HashMap<String, Arc<Guest>>,
    by_uuid: HashMap<[u8; 16], Arc<Guest>>,
    last_id: i32,
}

impl Qemu {
    /// The guests of the whole machine, kept below `root` (`/` for libvirt's own places).
    ///
    /// # Errors
    /// The directories cannot be made or read.
    pub async fn system(root: &Path) -> io::Result<Self> {
        Self::system_within(root, ANSWER_LIMIT, None).await
    }

    /// Like [`system`](Self::system), with another limit for QEMU's answers, and another UUID for the host than its own.
    ///
    /// # Errors
    /// The directories cannot be made or read.
    pub async fn system_within(
        root: &Path,
        answer_limit: Duration,
        host_uuid: Option<Uuid>,
    ) -> io::Result<Self> {
        let dirs = Dirs::system(root);
        let settings = Settings::read(&dirs.settings())?;
        let (security, cgroups) = match rustix::process::geteuid().is_root() {
            true => (Some(Dac::of(&settings)?), Cgroups::of_host(&settings)?),
            false => (None, Cgroups::default()),
        };
        Self::open(dirs, &settings, (security, cgroups), answer_limit, host_uuid).await
    }

    /// The guests of one user.
    ///
    /// # Errors
    /// The user has no home, or the directories cannot be made or read.
    pub async fn session(answer_limit: Duration, host_uuid: Option<Uuid>) -> io::Result<Self> {
        let dirs = Dirs::session_from_env()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no home directory"))?;
        let settings = Settings::read(&dirs.settings())?;
        let host = (None, Cgroups::default());
        Self::open(dirs, &settings, host, answer_limit, host_uuid).await
    }

    async fn open(
        mut dirs: Dirs,
        settings: &Settings,
        (security, cgroups): (Option<Dac>, Cgroups),
        answer_limit: Duration,
        host_uuid: Option<Uuid>,
    ) -> io::Result<Self> {
        let policy = Policy::of(settings)?;
        // Who has no privileges has no way to make one.
        let dev = security.as_ref().map_or(Ok(None), |_| Always::of(settings))?;
        if let Some(dir) = &policy.memory {
            dirs.memory = dir.join("libvirt/qemu");
        }
        dirs.create()?;
        for dir in dirs.of_guests() {
            security::make_dir(security.as_ref(), &dir)?;
        }
        let alive = strays::claim(&dirs.lock()).await?;
        let shared = Shared {
            host: Host::default(),
            host_uuid: host_uuid.unwrap_or_else(crate::caps::host::host_uuid),
            events: EventHub::new(),
            caps: CapsCache::new(&dirs.cache),
            security,
            dev,
            entrance: Entrance::of(settings)?,
            formats: Formats::of(settings)?,
            policy,
            sysinfo: OnceCell::new(),
            ports: Ports::default(),
            cgroups,
            answer_limit,
            options: OnceCell::new(),
            guests: Mutex::default(),
            consoles: Mutex::default(),
            bound: Mutex::default(),
            managing: Mutex::default(),
            companions: OnceLock::new(),
            reach: OnceLock::new(),
            _rotation: Rotation::of(&dirs, settings)?,
            _alive: alive,
            dirs,
        };
        let driver = Self { shared: Arc::new(shared) };
        driver.reload()?;
        driver.adopt_all().await;
        Ok(driver)
    }

    /// Reads the stored definitions, as [`Driver::reload`] says.
    fn reload(&self) -> io::Result<()> {
        let dirs = &self.shared.dirs;
        // What is stored is complete already.
        let read = |text: &str| {
            let mut domain = Domain::parse(text, &ParseOptions::default()).map_err(|error| error.message)?;
            let is_nameless = domain.uuid.is_none();
            domain.uuid.get_or_insert_with(Uuid::new_v4);
            let completed =
                is_nameless.then(|| define::stored(&domain.name, &Definition::new(domain.clone()).xml));
            Ok(Found { name: domain.name.clone(), object: domain, completed })
        };
        for domain in store::load(&dirs.config, read)? {
            let (name, uuid) = (domain.name.clone(), domain.uuid.unwrap_or_default().into_bytes());
            let known = self.by_uuid(&uuid).filter(|known| known.name == name);
            let (guest, new) = match known {
                Some(known) => (known, false),
                None => (Arc::new(Guest::new(name, uuid, None, false)), true),
            };
            // Who has the job may be about to store another definition.
            let Ok(_job) = guest.job.try_lock() else {
                tracing::warn!(guest = guest.name, "is at work, and not read again");
                continue;
            };
            {
                let mut inner = guest.lock();
                inner.persistent = Some(Definition::new(domain));
                inner.autostart = dirs.autostart_link(&guest.name).is_symlink();
                inner.autostart_once = dirs.autostart_once_link(&guest.name).is_symlink();
                if new {
                    inner.saved = dirs.saved(&guest.name).is_file();
                    inner.snapshots = kept::load(dirs, &guest.name)?;
                    inner.checkpoints = checkpoint::load(dirs, &guest.name)?;
                }
            }
            if new {
                match self.add(Arc::clone(&guest)) {
                    Ok(()) => self.emit(Lifecycle::DEFINED_ADDED.of(guest.handle())),
                    Err(error) => tracing::warn!(guest = guest.name, %error, "is not read"),
                }
            }
        }
        Ok(())
    }

    /// Where this driver raises its events.
    pub fn events(&self) -> Arc<EventHub> {
        Arc::clone(&self.shared.events)
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.shared.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn consoles(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<()>>> {
        self.shared.consoles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bound(&self) -> MutexGuard<'_, Vec<Bound>> {
        self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn managing(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.shared.managing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All guests, in the order in which they became known.
    pub(crate) fn all(&self) -> Vec<Arc<Guest>> {
        self.guests().all.clone()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Guest>> {
        self.guests().by_name.get(name).cloned()
    }

    pub(crate) fn by_uuid(&self, uuid: &[u8; 16]) -> Option<Arc<Guest>> {
        self.guests().by_uuid.get(uuid).cloned()
    }

    /// The guest that a client means.
    pub(crate) fn guest(&self, dom: &NonnullDomain) -> Result<Arc<Guest>> {
        self.by_uuid(&dom.uuid).ok_or_else(|| no_uuid(&dom.uuid, Some(&dom.name.to_str_lossy())))
    }

    /// Makes a guest known, if neither its name nor its UUID is another's.
    pub(crate) fn add(&self, guest: Arc<Guest>) -> Result<()> {
        let mut guests = self.guests();
        if let Some(other) = guests.by_uuid.get(&guest.uuid) {
            let uuid = Uuid::from_bytes(guest.uuid).hyphenated();
            let text = format_args!("domain '{}' is already defined with uuid {uuid}", other.name);
            return Err(ErrorDomain::DOMAIN.operation_failed(text));
        }
        if let Some(other) = guests.by_name.get(&guest.name) {
            let uuid = Uuid::from_bytes(other.uuid).hyphenated();
            let text = format_args!("domain '{}' already exists with uuid {uuid}", guest.name);
            return Err(ErrorDomain::DOMAIN.operation_failed(text));
        }
        guests.add(guest);
        Ok(())
    }

    /// Whether this is still the guest that clients mean by its UUID.
    pub(crate) fn knows(&self, guest: &Arc<Guest>) -> bool {
        self.by_uuid(&guest.uuid).is_some_and(|known| Arc::ptr_eq(&known, guest))
    }

    /// Puts a guest of another name in the place of one.
    pub(crate) fn take_place(&self, old: &Guest, new: &Arc<Guest>) -> Result<()> {
        let mut guests = self.guests();
        if guests.by_name.contains_key(&new.name) {
            let text = format_args!("domain with name '{}' already exists", new.name);
            return Err(ErrorDomain::DOMAIN.operation_invalid(text));
        }
        guests.by_name.remove(&old.name);
        guests.by_name.insert(new.name.clone(), Arc::clone(new));
        guests.by_uuid.insert(new.uuid, Arc::clone(new));
        if let Some(place) = guests.all.iter_mut().find(|guest| guest.uuid == new.uuid) {
            *place = Arc::clone(new);
        }
        Ok(())
    }

    /// Forgets a guest.
    pub(crate) fn remove(&self, guest: &Guest) {
        let mut guests = self.guests();
        guests.all.retain(|other| other.uuid != guest.uuid);
        guests.by_name.remove(&guest.name);
        guests.by_uuid.remove(&guest.uuid);
    }

    /// A number for a guest that starts.
    pub(crate) fn next_id(&self) -> i32 {
        let mut guests = self.guests();
        guests.last_id += 1;
        guests.last_id
    }

    /// Numbers up to this one are taken.
    pub(crate) fn ids_from(&self, id: i32) {
        let mut guests = self.guests();
        guests.last_id = guests.last_id.max(id);
    }

    pub(crate) fn emit(&self, event: Event) {
        self.shared.events.emit(event);
    }

    /// What the installed QEMU can do.
    pub(crate) async fn caps(&self) -> Result<Arc<QemuCaps>> {
        let program = find_program(std::env::consts::ARCH).ok_or_else(|| {
            QEMU.internal_error(format_args!("Cannot find suitable emulator for {}", std::env::consts::ARCH))
        })?;
        self.caps_of(&program).await
    }

    /// What a program can do.
    pub(crate) async fn caps_of(&self, program: &Path) -> Result<Arc<QemuCaps>> {
        self.shared.caps.get(program).await.map_err(|error| error.refusal(program))
    }

    /// The drivers beside this one; none where it stands alone.
    pub(crate) fn companions(&self) -> Companions {
        self.shared.companions.get().cloned().unwrap_or_default()
    }

    /// The way to other daemons, where there is one.
    pub(crate) fn reach(&self) -> Option<Arc<dyn Reach>> {
        self.shared.reach.get().cloned()
    }

    /// From now on this is the way to other daemons.
    pub fn set_reach(&self, reach: Arc<dyn Reach>) {
        let _ = self.shared.reach.set(reach);
    }

    /// How definitions are read: with the defaults of this host.
    pub(crate) async fn options(&self) -> Result<&ParseOptions> {
        self.shared
            .options
            .get_or_try_init(|| async {
                let mut emulators = vec![emulator(std::env::consts::ARCH, &*self.caps().await?)];
                for arch in ARCHITECTURES.iter().filter(|arch| **arch != std::env::consts::ARCH) {
                    // A program that is there and cannot be asked has no guests.
                    if let Some(program) = program_for(arch)
                        && let Ok(caps) = self.caps_of(&program).await
                    {
                        emulators.push(emulator(arch, &caps));
                    }
                }
                let nvram_dir = self.shared.dirs.lib.join("nvram").display().to_string();
                let firmware = crate::firmware::installed();
                let address_bits = crate::caps::address_bits();
                let check_program = Some(check_emulator as fn(&str) -> Result<()>);
                Ok(ParseOptions::qemu(Arc::new(QemuHost {
                    emulators,
                    firmware,
                    nvram_dir,
                    address_bits,
                    check_program,
                })))
            })
            .await
    }
}

fn check_emulator(program: &str) -> Result<()> {
    crate::probe::check_program(Path::new(program))
}

fn emulator(arch: &str, caps: &QemuCaps) -> Emulator {
    let mut machines: Vec<_> = caps.machines.iter().filter(|machine| machine.name != "none").collect();
    machines.sort_by_key(|machine| (!machine.is_default, machine.alias.is_none()));
    let machines = machines.into_iter().map(|machine| Machine {
        name: machine.name.clone(),
        alias: machine.alias.clone(),
        cpu: machine.default_cpu_type.clone(),
        acpi: machine.acpi,
        vcpus: Some(machine.cpu_max),
    });
    Emulator {
        arch: arch.to_owned(),
        path: caps.program.display().to_string(),
        machines: machines.collect(),
        kvm: caps.kvm,
        devices: caps.devices.clone(),
        tpm: find_in_path("swtpm").is_some(),
    }
}

impl Guests {
    fn add(&mut self, guest: Arc<Guest>) {
        self.by_name.insert(guest.name.clone(), Arc::clone(&guest));
        self.by_uuid.insert(guest.uuid, Arc::clone(&guest));
        self.all.push(guest);
    }
}

/// What a connection has besides guests; `None` for what there is not.
#[derive(Clone, Default)]
pub struct Companions {
    /// Virtual networks.
    pub network: Option<Arc<dyn NetworkDriver>>,
    /// Storage pools and volumes.
    pub storage: Option<Arc<dyn StorageDriver>>,
    /// Secrets.
    pub secret: Option<Arc<dyn SecretDriver>>,
    /// Network filters.
    pub nwfilter: Option<Arc<dyn NwfilterDriver>>,
    /// Devices of the host.
    pub node_device: Option<Arc<dyn NodeDeviceDriver>>,
    /// Those of them that keep something in files.
    pub kept: Vec<Arc<dyn Kept>>,
}

/// Where the companions of a set of guests keep what is theirs, and where their events go.
pub struct Place {
    /// What is stored.
    pub config: PathBuf,
    /// What ends with a boot.
    pub run: PathBuf,
    /// What is kept besides definitions.
    pub state: PathBuf,
    /// The UUID of the host.
    pub host_uuid: Uuid,
    /// All events of the connection.
    pub events: Arc<EventHub>,
}

/// Opens companions.
#[async_trait]
pub trait OpenCompanions: Send + Sync {
    /// Opens those of one set of guests.
    async fn open(&self, place: Place) -> io::Result<Companions>;
}

/// A set of guests, and what belongs to it.
struct Opened {
    guests: Qemu,
    companions: Companions,
}

/// `qemu:`, whose guests are those of the machine where the daemon is root's, else those of its user. root has no others:
/// `qemu:///session` leads to the machine's too, as with libvirtd.
pub struct QemuDriver {
    root: PathBuf,
    companions: Option<Box<dyn OpenCompanions>>,
    opened: OnceCell<Opened>,
    privileged: bool,
    answer_limit: Duration,
    host_uuid: Option<Uuid>,
    reach: Option<Arc<dyn Reach>>,
}

impl QemuDriver {
    /// A driver that keeps the machine's guests below `root`.
    pub fn new(root: PathBuf) -> Self {
        let privileged = rustix::process::geteuid().is_root();
        let (opened, answer_limit) = (OnceCell::new(), ANSWER_LIMIT);
        let (companions, host_uuid, reach) = (None, None, None);
        Self { root, companions, opened, privileged, answer_limit, host_uuid, reach }
    }

    /// With another limit for QEMU's answers than [`ANSWER_LIMIT`].
    #[must_use]
    pub fn answers_within(mut self, limit: Duration) -> Self {
        self.answer_limit = limit;
        self
    }

    /// With another UUID for the host than its own.
    #[must_use]
    pub fn known_as(mut self, host_uuid: Option<Uuid>) -> Self {
        self.host_uuid = host_uuid;
        self
    }

    /// With a way to other daemons.
    #[must_use]
    pub fn reaching(mut self, reach: Arc<dyn Reach>) -> Self {
        self.reach = Some(reach);
        self
    }

    /// Whether the guests are those of the machine.
    pub fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// The drivers beside the guests, and where all of them raise their events.
    ///
    /// # Errors
    /// The directories cannot be made or read.
    pub async fn companions(&self) -> Result<(Companions, Arc<EventHub>)> {
        let Opened { guests, companions } = self.opened_for_client().await?;
        Ok((companions.clone(), guests.events()))
    }

    async fn opened_for_client(&self) -> Result<&Opened> {
        let failed = |error| VirtError::system(QEMU, &error, "cannot open the guests' directories");
        self.opened().await.map_err(failed)
    }

    /// With drivers of other families beside the guests.
    #[must_use]
    pub fn with(mut self, companions: Box<dyn OpenCompanions>) -> Self {
        self.companions = Some(companions);
        self
    }

    /// The guests and what belongs to them, opened when first asked for.
    async fn opened(&self) -> io::Result<&Opened> {
        let open = async || {
            let (limit, uuid) = (self.answer_limit, self.host_uuid);
            let guests = match self.privileged {
                true => Qemu::system_within(&self.root, limit, uuid).await?,
                false => Qemu::session(limit, uuid).await?,
            };
            self.accompany(guests).await
        };
        self.opened.get_or_try_init(open).await
    }

    async fn accompany(&self, guests: Qemu) -> io::Result<Opened> {
        let Beside { config, run, state } = guests.shared.dirs.beside.clone();
        let host_uuid = guests.shared.host_uuid;
        let place = Place { config, run, state, host_uuid, events: guests.events() };
        let companions = match &self.companions {
            Some(companions) => companions.open(place).await?,
            None => Companions::default(),
        };
        if let Some(reach) = &self.reach {
            guests.set_reach(Arc::clone(reach));
        }
        let companions = guests.shared.companions.get_or_init(|| companions).clone();
        // Only now: their disks may be volumes, or have secrets.
        guests.autostart();
        Ok(Opened { guests, companions })
    }

    /// Loads what is stored, so that running guests are known before anybody asks.
    ///
    /// # Errors
    /// The directories cannot be made or read.
    pub async fn load(&self) -> io::Result<()> {
        self.opened().await.map(drop)
    }
}

#[async_trait]
impl Driver for QemuDriver {
    fn name(&self) -> &'static str {
        "qemu"
    }

    async fn reload(&self) {
        let Some(Opened { guests, companions }) = self.opened.get() else { return };
        for kept in &companions.kept {
            if let Err(error) = kept.reload().await {
                tracing::error!(%error, "what is stored is not read again");
            }
        }
        if let Err(error) = guests.reload() {
            tracing::error!(%error, "the guests' definitions are not read again");
        }
    }

    async fn open(&self, cx: &CallCx, uri: &str) -> Result<Connection, VirtError> {
        let own_uri = match (uri_path(uri), self.privileged) {
            ("/system", true) => "qemu:///system",
            ("/session", _) => "qemu:///session",
            (path, privileged) => {
                let other = if privileged { "qemu:///system" } else { "qemu:///session" };
                let text = format_args!("unexpected qemu URI path '{path}', try {other}");
                return Err(ErrorDomain::NONE.internal_error(text));
            }
        };
        let Opened { guests: driver, companions } = self.opened_for_client().await?;
        let events = Arc::clone(&driver.shared.events);
        let hypervisor = Arc::new(driver.clone());
        Ok(Connection {
            features: FEATURES,
            monitor_events: true,
            network: companions.network.clone(),
            storage: companions.storage.clone(),
            secret: companions.secret.clone(),
            nwfilter: companions.nwfilter.clone(),
            node_device: companions.node_device.clone(),
            guard: Some(Arc::new(Guard { driver: driver.clone(), client: cx.client })),
            ..Connection::new(own_uri, hypervisor, events)
        })
    }

    fn default_uri(&self) -> Option<String> {
        find_program(std::env::consts::ARCH)?;
        Some(if self.privileged { "qemu:///system" } else { "qemu:///session" }.to_owned())
    }

    fn is_busy(&self) -> bool {
        let guests = self.opened.get().map(|opened| opened.guests.all()).unwrap_or_default();
        guests.iter().any(|guest| guest.lock().live.is_some())
    }
}
