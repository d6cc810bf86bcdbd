//! Where things are kept: libvirt's own layout, below a root of one's choice.

use std::env;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest part of a guest's name in the name of its directory; socket paths are short.
const SHORT_NAME: usize = 20;

/// The driver's directories. Nothing is created before [`create`](Self::create).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// Definitions: `NAME.xml`.
    pub config: PathBuf,
    /// Links to the definitions of guests that start with the daemon.
    pub autostart: PathBuf,
    /// Running guests: `NAME.xml`, `NAME.pid`.
    pub run: PathBuf,
    /// A directory for each running guest, and `save`, `snapshot`, ….
    pub lib: PathBuf,
    /// What each QEMU wrote: `NAME.log`.
    pub log: PathBuf,
    /// What may be lost.
    pub cache: PathBuf,
    /// Files that back the memory of guests.
    pub memory: PathBuf,
    /// Sockets of channels that have no path of their own.
    pub channels: PathBuf,
    /// The state of emulated TPMs, a folder for each guest.
    pub tpms: PathBuf,
    /// What those emulators wrote.
    pub tpm_logs: PathBuf,
    /// Where drivers keep what is theirs, each in a directory of its own.
    pub beside: Beside,
}

/// The directories that drivers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// What is stored.
    pub config: PathBuf,
    /// What ends with a boot.
    pub run: PathBuf,
    /// What is kept besides definitions.
    pub state: PathBuf,
}

impl Dirs {
    /// `qemu:///system`, below `root` (`/` for the usual places).
    pub fn system(root: &Path) -> Self {
        let config = root.join("etc/libvirt/qemu");
        let run = root.join("run/libvirt/qemu");
        Self {
            beside: Beside {
                config: root.join("etc/libvirt"),
                run: root.join("run/libvirt"),
                state: root.join("var/lib/libvirt"),
            },
            autostart: config.join("autostart"),
            config,
            channels: run.join("channel"),
            run,
            lib: root.join("var/lib/libvirt/qemu"),
            memory: root.join("var/lib/libvirt/qemu/ram"),
            log: root.join("var/log/libvirt/qemu"),
            cache: root.join("var/cache/libvirt/qemu"),
            tpms: root.join("var/lib/libvirt/swtpm"),
            tpm_logs: root.join("var/log/swtpm/libvirt/qemu"),
        }
    }

    /// `qemu:///session`, from the three directories of the XDG specification.
    pub fn session(config_home: &Path, cache_home: &Path, runtime: &Path) -> Self {
        let config = config_home.join("libvirt/qemu");
        let cache = cache_home.join("libvirt/qemu");
        let run = runtime.join("libvirt/qemu/run");
        Self {
            beside: Beside {
                config: config_home.join("libvirt"),
                run: runtime.join("libvirt"),
                state: config_home.join("libvirt"),
            },
            autostart: config.join("autostart"),
            lib: config.join("lib"),
            memory: config.join("lib/ram"),
            config,
            channels: run.join("channel"),
            run,
            log: cache.join("log"),
            tpms: config_home.join("libvirt/qemu/swtpm"),
            tpm_logs: cache.join("log/swtpm"),
            cache: cache.join("cache"),
        }
    }

    /// `qemu:///session` of the user whose environment this is; `None` without a home.
    pub fn session_from_env() -> Option<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = set("HOME")?;
        let config = set("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let cache = set("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        // Without a runtime directory libvirt keeps its files in the cache.
        let runtime = set("XDG_RUNTIME_DIR").unwrap_or_else(|| cache.clone());
        Some(Self::session(&config, &cache, &runtime))
    }

    /// Makes sure that the directories are there.
    pub fn create(&self) -> io::Result<()> {
        [&self.config, &self.autostart, &self.run, &self.lib, &self.log, &self.cache]
            .into_iter()
            .try_for_each(|dir| make_private(dir))
    }

    /// What guests write below, which has to be their user's. The first of them are the parents of the others.
    pub(crate) fn of_guests(&self) -> Vec<PathBuf> {
        let below = ["checkpoint", "dump", "nvram", "save", "snapshot"];
        let own = [&self.lib, &self.run, &self.channels, &self.memory].map(Clone::clone);
        own.into_iter().chain(below.map(|name| self.lib.join(name))).collect()
    }

    /// The descriptions of a guest's snapshots.
    pub fn snapshots(&self, name: &str) -> PathBuf {
        self.lib.join("snapshot").join(name)
    }

    /// The descriptions of a guest's checkpoints.
    pub fn checkpoints(&self, name: &str) -> PathBuf {
        self.lib.join("checkpoint").join(name)
    }

    /// What a guest's memory is in that starts from it the next time.
    pub fn saved(&self, name: &str) -> PathBuf {
        self.lib.join("save").join(format!("{name}.save"))
    }

    /// The settings of the driver: `qemu.conf`.
    pub fn settings(&self) -> PathBuf {
        self.beside.config.join("qemu.conf")
    }

    /// What only one daemon at a time has locked.
    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("virtwired.lock")
    }

    /// The definition of the guest called `name`.
    pub fn definition(&self, name: &str) -> PathBuf {
        self.config.join(format!("{name}.xml"))
    }

    /// The link that starts it with the daemon.
    pub fn autostart_link(&self, name: &str) -> PathBuf {
        self.autostart.join(format!("{name}.xml"))
    }

    /// The link that starts it once, after the host's next boot.
    pub fn autostart_once_link(&self, name: &str) -> PathBuf {
        self.autostart.join(format!("{name}.xml.once"))
    }

    /// The state of the running guest called `name`.
    pub fn status(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.xml"))
    }

    /// The process id of its QEMU.
    pub fn pid(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.pid"))
    }

    /// What its QEMU wrote.
    pub fn log(&self, name: &str) -> PathBuf {
        self.log.join(format!("{name}.log"))
    }

    /// The directory of a running guest.
    pub fn domain(&self, id: i32, name: &str) -> PathBuf {
        self.lib.join(format!("domain-{}", short(id, name)))
    }

    /// The directory for sockets of a running guest's channels.
    pub fn domain_channels(&self, id: i32, name: &str) -> PathBuf {
        self.channels.join(short(id, name))
    }

    /// The socket of a running guest's own message bus, which its screen is seen through.
    pub fn screen_bus(&self, id: i32, name: &str) -> PathBuf {
        self.run.join("dbus").join(format!("{}-dbus.sock", short(id, name)))
    }

    /// The state of a guest's emulated TPM.
    pub fn tpm_state(&self, uuid: &str) -> PathBuf {
        self.tpms.join(uuid)
    }

    /// What a running guest's TPM emulator wrote.
    pub fn tpm_log(&self, name: &str) -> PathBuf {
        self.tpm_logs.join(format!("{name}-swtpm.log"))
    }

    /// What the files of a running guest's TPM emulator are called.
    pub fn tpm_name(&self, id: i32, name: &str) -> String {
        format!("{}-swtpm", short(id, name))
    }

    /// Where a running guest's memory would be backed by files.
    pub fn domain_memory(&self, id: i32, name: &str) -> PathBuf {
        self.memory.join(short(id, name))
    }
}

/// A run's part of a path, and of the names of its control groups: the guest's number and the beginning of its name.
pub(crate) fn short(id: i32, name: &str) -> String {
    let name: String = name.chars().take(SHORT_NAME).collect();
    format!("{id}-{name}")
}

/// A directory that only its owner can write to, made with its parents.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

/// A directory that only its owner can look into.
pub(crate) fn make_secret(dir: &Path) -> io::Result<()> {
    make_private(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o750))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_where_libvirt_has_it() {
        let dirs = Dirs::system(Path::new("/"));
        assert_eq!(dirs.definition("a"), Path::new("/etc/libvirt/qemu/a.xml"));
        assert_eq!(dirs.autostart_link("a"), Path::new("/etc/libvirt/qemu/autostart/a.xml"));
        assert_eq!(dirs.status("a"), Path::new("/run/libvirt/qemu/a.xml"));
        assert_eq!(dirs.log("a"), Path::new("/var/log/libvirt/qemu/a.log"));
        assert_eq!(dirs.domain(7, "a"), Path::new("/var/lib/libvirt/qemu/domain-7-a"));
        assert_eq!(dirs.tpm_state("u"), Path::new("/var/lib/libvirt/swtpm/u"));
        assert_eq!(dirs.tpm_log("a"), Path::new("/var/log/swtpm/libvirt/qemu/a-swtpm.log"));
    }

    #[test]
    fn long_names_are_cut_in_directories() {
        let dirs = Dirs::system(Path::new("/"));
        let name = "ä".repeat(40);
        let cut = format!("domain-1-{}", "ä".repeat(20));
        assert_eq!(dirs.domain(1, &name).file_name().unwrap().to_str(), Some(cut.as_str()));
    }
}
