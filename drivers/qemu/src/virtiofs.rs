//! Folders of the host that a guest shares: a process of its own (`virtiofsd`) for each, which serves QEMU over a socket
//! and ends with it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use command_fds::CommandFdExt;
use rustix::process::Signal;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use virtwire_conf::domain::disk::{Filesystem, FilesystemBinary, FilesystemDriverType};
use virtwire_conf::domain::os::{Idmap, IdmapEntry};
use virtwire_conf::{Domain, OnOff};

use crate::argv::alias;
use crate::dirs::Dirs;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, file};
use crate::log::GuestLog;
use crate::process::{Process, helper, listen, write_pid};

/// Where descriptors of such programs are, QEMU's `docs/interop/vhost-user.json`: an administrator's hide those of the
/// same name.
const DESCRIPTORS: [&str; 2] = ["/usr/share/qemu/vhost-user", "/etc/qemu/vhost-user"];

/// What a descriptor says.
#[derive(Deserialize)]
struct Descriptor {
    r#type: String,
    binary: String,
}

/// The program that is installed: the first that a descriptor names.
pub(crate) fn installed() -> Option<PathBuf> {
    let files = DESCRIPTORS.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let files = files.filter(|entry| entry.path().extension().is_some_and(|end| end == "json"));
    let by_name: std::collections::BTreeMap<_, _> =
        files.map(|entry| (entry.file_name(), entry.path())).collect();
    let read = |path: &PathBuf| serde_json::from_slice::<Descriptor>(&fs::read(path).ok()?).ok();
    let found = by_name.values().filter_map(read).find(|found| found.r#type == "fs");
    found.map(|found| found.binary.into())
}

/// Whether a program of the daemon's own stands behind a shared folder.
pub(crate) fn is_behind(filesystem: &Filesystem) -> bool {
    let driver = filesystem.driver.as_ref().and_then(|driver| driver.type_);
    let elsewhere = filesystem.source.as_ref().is_some_and(|source| source.socket.is_some());
    driver == Some(FilesystemDriverType::Virtiofs) && !elsewhere
}

/// Where the parts of one are.
struct Places {
    socket: PathBuf,
    pid: PathBuf,
    log: PathBuf,
}

impl Places {
    fn of(dirs: &Dirs, domain: &Domain, filesystem: &Filesystem) -> Self {
        let (id, alias) = (domain.id.unwrap_or(-1), alias(&filesystem.info));
        let name = crate::dirs::short(id, &domain.name);
        Self {
            socket: socket(&dirs.domain(id, &domain.name), alias),
            pid: dirs.run.join(format!("{name}-{alias}-fs.pid")),
            log: dirs.log.join(format!("{}-{alias}-virtiofsd.log", domain.name)),
        }
    }
}

/// Where QEMU finds the one behind a device.
pub(crate) fn socket(dir: &Path, alias: &str) -> PathBuf {
    dir.join(format!("{alias}-fs.sock"))
}

/// Says in the definition of a run which program shares a folder, where it says none.
///
/// # Errors
/// None is installed, or there is no such folder.
pub(crate) fn find_all(domain: &mut Domain) -> Result<()> {
    for filesystem in domain.devices.filesystems.iter_mut().filter(|filesystem| is_behind(filesystem)) {
        let folder = folder(filesystem);
        if !Path::new(folder).is_dir() {
            let text = format_args!("the virtiofs export directory '{folder}' does not exist");
            return Err(QEMU.internal_error(text));
        }
        let binary = filesystem.binary.get_or_insert_default();
        if binary.path.is_none() {
            let program = installed();
            let missing = || QEMU.operation_failed("Unable to find a satisfying virtiofsd");
            binary.path = Some(program.ok_or_else(missing)?.display().to_string());
        }
    }
    Ok(())
}

/// Starts those of a guest, or of devices that come to it.
///
/// # Errors
/// One is not there, or does not start; those before it are ended.
pub(crate) async fn begin(driver: &Qemu, domain: &Domain) -> Result<()> {
    for filesystem in domain.devices.filesystems.iter().filter(|filesystem| is_behind(filesystem)) {
        if let Err(error) = start(driver, domain, filesystem).await {
            end(driver, domain);
            return Err(error);
        }
    }
    Ok(())
}

/// What a program says that it can do, besides what each can.
#[derive(Deserialize)]
struct Abilities {
    #[serde(default)]
    features: Vec<String>,
}

/// Options are words of their own, not parts of one.
const SEPARATE: &str = "separate-options";

/// How long a program may take to say what it can do, and how much it may say.
const SAYS_WITHIN: Duration = Duration::from_secs(10);
const SAYS_AT_MOST: u64 = 64 << 10;

/// Whether a program, which may be any that a definition names, has its options apart.
async fn is_separate(program: &Path) -> Result<bool> {
    let cannot = |e: io::Error| file(&e, format_args!("Cannot run '{}'", program.display()));
    let mut command = helper(program);
    command.arg("--print-capabilities").stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(cannot)?;
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        let mut output = output.take(SAYS_AT_MOST);
        let read = timeout(SAYS_WITHIN, output.read_to_end(&mut said)).await;
        let silent = || QEMU.operation_timeout(format_args!("'{}' does not end", program.display()));
        read.map_err(|_| silent())?.map_err(cannot)?;
    }
    let abilities: Abilities = serde_json::from_slice(&said).map_err(|_| {
        QEMU.internal_error(format_args!("unable to parse json capabilities '{}'", program.display()))
    })?;
    Ok(abilities.features.iter().any(|feature| feature == SEPARATE))
}

async fn start(driver: &Qemu, domain: &Domain, filesystem: &Filesystem) -> Result<()> {
    let named = filesystem.binary.as_ref().and_then(|binary| binary.path.as_deref());
    let program = PathBuf::from(named.unwrap_or_default());
    let separate = is_separate(&program).await?;
    let locks = filesystem.binary.as_ref().is_some_and(|binary| binary.lock.is_some());
    if separate && locks {
        return Err(QEMU.config_unsupported("locking options are not supported by this virtiofsd"));
    }
    let places = Places::of(&driver.shared.dirs, domain, filesystem);
    let cannot = |what: &'static str, path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| file(&e, format_args!("{what} '{path}'"))
    };
    let listener = listen(&places.socket).map_err(cannot("Failed to create socket", &places.socket))?;
    if let Some(dac) = &driver.shared.security {
        dac.give_own(domain, &places.socket)?;
    }
    let log = GuestLog::open(&places.log).map_err(cannot("failed to open", &places.log))?;
    let output = || log.output().map(Stdio::from).map_err(cannot("failed to open", &places.log));
    let fd = OwnedFd::from(listener);
    let mut words = vec![format!("--fd={}", fd.as_raw_fd())];
    words.extend(if separate { apart(filesystem) } else { together(filesystem).to_vec() });
    words.extend(limits(filesystem));
    words.extend(driver.shared.policy.virtiofsd_debug.then(|| "-d".to_owned()));
    words.extend(filesystem.readonly.then(|| "--readonly".to_owned()));
    words.extend(filesystem.idmap.iter().flat_map(mapped));
    let mut command = helper(&program);
    command.args(&words).stdout(output()?).stderr(output()?).current_dir("/").process_group(0);
    command.as_std_mut().preserved_fds(vec![fd]);
    let child = command.spawn().map_err(|e| file(&e, format_args!("Cannot run '{}'", program.display())))?;
    let pid = child.id().unwrap_or_default();
    write_pid(&places.pid, pid).map_err(cannot("Failed to write pid file", &places.pid))
}

/// Ends those of a guest that has ended, or of devices that have left it. Usually they are gone with QEMU's connection.
pub(crate) fn end(driver: &Qemu, domain: &Domain) {
    for filesystem in domain.devices.filesystems.iter().filter(|filesystem| is_behind(filesystem)) {
        let places = Places::of(&driver.shared.dirs, domain, filesystem);
        let pid = fs::read_to_string(&places.pid).ok().and_then(|text| text.trim().parse().ok());
        let serves = |line: &[u8]| {
            line.split(|&byte| byte == 0).any(|word| word.starts_with(b"--fd="))
                && contains(line, folder(filesystem))
        };
        if let Some(Ok(process)) = pid.map(|pid| Process::adopt_if(pid, serves)) {
            process.signal(Signal::TERM);
        }
        for left in [&places.socket, &places.pid] {
            let _ = fs::remove_file(left);
        }
    }
}

fn contains(line: &[u8], folder: &str) -> bool {
    line.windows(folder.len().max(1)).any(|part| part == folder.as_bytes())
}

/// What is shared.
fn folder(filesystem: &Filesystem) -> &str {
    filesystem.source.as_ref().and_then(|source| source.dir.as_deref()).unwrap_or_default()
}

/// The options that every program has: parts of one, behind the folder.
fn together(filesystem: &Filesystem) -> [String; 2] {
    let none = FilesystemBinary::default();
    let binary = filesystem.binary.as_ref().unwrap_or(&none);
    let mut options = format!("source={}", folder(filesystem));
    if let Some(mode) = binary.cache.as_ref().and_then(|cache| cache.mode.as_deref()) {
        options += &format!(",cache={mode}");
    }
    if let Some(mode) = binary.sandbox.as_ref().and_then(|sandbox| sandbox.mode.as_deref()) {
        options += &format!(",sandbox={mode}");
    }
    let lock = binary.lock.as_ref();
    for (name, state) in [
        ("xattr", binary.xattr),
        ("flock", lock.and_then(|lock| lock.flock)),
        ("posix_lock", lock.and_then(|lock| lock.posix)),
    ] {
        if let Some(state) = state {
            options += &format!(",{}{name}", if state == OnOff::On { "" } else { "no_" });
        }
    }
    ["-o".to_owned(), options]
}

/// The same of programs that have them apart.
fn apart(filesystem: &Filesystem) -> Vec<String> {
    let none = FilesystemBinary::default();
    let binary = filesystem.binary.as_ref().unwrap_or(&none);
    let cache = binary.cache.as_ref().and_then(|cache| cache.mode.as_deref());
    let cache = cache.map(|mode| if mode == "none" { "never" } else { mode });
    let sandbox = binary.sandbox.as_ref().and_then(|sandbox| sandbox.mode.as_deref());
    let mut words = vec!["--shared-dir".to_owned(), folder(filesystem).to_owned()];
    for (name, value) in [("--cache", cache), ("--sandbox", sandbox)] {
        words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value.to_owned()]));
    }
    words.extend((binary.xattr == Some(OnOff::On)).then(|| "--xattr".to_owned()));
    words
}

/// How much of the host one may have.
fn limits(filesystem: &Filesystem) -> impl Iterator<Item = String> {
    let binary = filesystem.binary.as_ref();
    let threads = binary.and_then(|binary| binary.thread_pool.as_ref()?.size);
    let files = binary.and_then(|binary| binary.openfiles.as_ref()?.max);
    let threads = threads.map(|size| format!("--thread-pool-size={size}"));
    threads.into_iter().chain(files.map(|max| format!("--rlimit-nofile={max}")))
}

/// Whose files are whose.
fn mapped(idmap: &Idmap) -> Vec<String> {
    let all = |option: &str, entries: &[IdmapEntry]| {
        let word =
            |entry: &IdmapEntry| format!("--{option}-map=:{}:{}:{}:", entry.start, entry.target, entry.count);
        entries.iter().map(word).collect::<Vec<_>>()
    };
    [all("uid", &idmap.uid), all("gid", &idmap.gid)].concat()
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;

    use super::*;

    fn filesystem(inside: &str) -> Filesystem {
        let xml = format!(
            "<domain type='test'><name>g</name><memory>8192</memory><os><type>hvm</type></os><devices><filesystem>\
             <driver type='virtiofs'/>{inside}<source dir='/share'/><target dir='t'/></filesystem></devices></domain>"
        );
        let mut domain = Domain::parse(&xml, &ParseOptions::default()).unwrap();
        domain.devices.filesystems.remove(0)
    }

    /// As libvirtd 11.3 starts them.
    #[test]
    fn options_are_those_that_libvirt_gives() {
        let plain = "<binary xattr='on'><cache mode='none'/><sandbox mode='chroot'/>\
                     <lock posix='on' flock='off'/><thread_pool size='16'/><openfiles max='4096'/></binary>";
        let whole = filesystem(plain);
        assert_eq!(together(&whole)[1], "source=/share,cache=none,sandbox=chroot,xattr,no_flock,posix_lock");
        assert_eq!(apart(&whole).join(" "), "--shared-dir /share --cache never --sandbox chroot --xattr");
        assert_eq!(limits(&whole).collect::<Vec<_>>(), ["--thread-pool-size=16", "--rlimit-nofile=4096"]);
        let other = filesystem(
            "<binary xattr='off'/><idmap><uid start='0' target='100000' count='65535'/>\
             <gid start='0' target='200000' count='65535'/></idmap>",
        );
        assert_eq!(together(&other)[1], "source=/share,no_xattr");
        assert_eq!(apart(&other).join(" "), "--shared-dir /share");
        let maps: Vec<_> = other.idmap.iter().flat_map(mapped).collect();
        assert_eq!(maps, ["--uid-map=:0:100000:65535:", "--gid-map=:0:200000:65535:"]);
    }
}
