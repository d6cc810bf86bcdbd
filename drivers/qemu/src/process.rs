//! A QEMU process: started so that it outlives the daemon, watched and signalled by descriptor, so that a number used
//! again for another process can't be mistaken for it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use command_fds::CommandFdExt;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, pidfd_send_signal, prlimit, umask,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::command::CommandLine;
use crate::lock;
use crate::namespace::OwnDev;
use crate::policy::Limits;
use crate::security::Credentials;
use crate::written;

/// The longest path a unix socket may have, in bytes, without the closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// How many milliseconds a process may take to become another program.
const BECOMES: u32 = 100;

/// The mode of a socket that guests' clients and helpers connect to.
const SOCKET_MODE: u32 = 0o775;

/// A process that is, or was, running.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    handle: Arc<OwnedFd>,
}

/// How to start it.
pub struct Start<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its options and descriptors.
    pub line: CommandLine,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Who it runs as; `None` for whoever the daemon is.
    pub(crate) run_as: Option<Credentials>,
    /// Where its output goes.
    pub output: Stdio,
    /// The devices that it sees; `None` for the host's.
    pub(crate) dev: Option<OwnDev>,
    /// The bytes of memory that it may lock; `None` for what the daemon may.
    pub(crate) lock: Option<u64>,
    /// What else it may have.
    pub(crate) limits: Limits,
}

impl Process {
    /// Starts a program in a process group of its own: signals to the daemon's terminal do not reach it. It inherits
    /// the descriptors of the command line and no others.
    pub fn start(start: Start<'_>, errors: Stdio) -> io::Result<Self> {
        let (args, fds) = start.line.into_parts();
        let mut command = Command::new(start.program);
        command.args(args).env_clear().envs(start.env).process_group(0).preserved_fds(fds);
        command.stdin(Stdio::null()).stdout(start.output).stderr(errors);
        // Dropped at once: tokio reaps a child that nobody waits for.
        let runtime = tokio::runtime::Handle::current();
        let own_thread = start.run_as.is_some();
        let dev = start.dev;
        let enter = || dev.as_ref().map_or(Ok(()), OwnDev::enter);
        let spawn = || {
            if own_thread {
                // What QEMU makes is for its group too; the rest of the daemon keeps its own mask.
                unshare(CloneFlags::CLONE_FS)?;
                umask(Mode::WOTH);
            }
            let _entered = runtime.enter();
            let child = tokio::process::Command::from(command).spawn()?;
            let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            let process = Self::from_pid(pid.ok_or(io::ErrorKind::NotFound)?)?;
            // Here, as the user who it runs as: another would need a privilege for it.
            process.hold(start.limits).inspect_err(|_| process.signal(Signal::KILL))?;
            Ok(process)
        };
        lock::with(start.lock, || match &start.run_as {
            Some(who) => who.run_after(enter, spawn),
            None => spawn(),
        })
    }

    /// Sets what it may have.
    fn hold(&self, limits: Limits) -> io::Result<()> {
        // Unless it is set, a core dump is as large as anybody allows.
        let most = getrlimit(Resource::Core).maximum;
        let core = limits.core.map_or(most, |core| Some(core).filter(|core| *core < u64::MAX));
        let all = [
            (Resource::Nproc, limits.processes.map(Some)),
            // As in libvirt, which counts one for itself.
            (Resource::Nofile, limits.files.map(|files| Some(files.saturating_add(1)))),
            (Resource::Core, Some(core)),
        ];
        for (resource, limit) in all.into_iter().filter_map(|(resource, limit)| Some((resource, limit?))) {
            prlimit(Some(self.pid), resource, Rlimit { current: limit, maximum: limit })?;
        }
        Ok(())
    }

    /// A process started earlier, if its command line holds `word`.
    pub fn adopt(pid: u32, word: &str) -> io::Result<Self> {
        Self::adopt_if(pid, |line| line.split(|&byte| byte == 0).any(|arg| arg == word.as_bytes()))
    }

    /// A process started earlier, if its command line, whose words end in zeros, is the right one.
    pub fn adopt_if(pid: u32, is_right: impl Fn(&[u8]) -> bool) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        let process = Self::from_pid(pid)?;
        // Looked at while we hold it, so that it is the same one.
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))?;
        if is_right(&line) { Ok(process) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn from_pid(pid: Pid) -> io::Result<Self> {
        let handle = Arc::new(pidfd_open(pid, PidfdFlags::empty())?);
        Ok(Self { pid, handle })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end; `false` if it has not come within `limit`.
    pub async fn ended_within(&self, limit: Duration) -> bool {
        // The handle is readable once the process has ended.
        let ended = async {
            #[expect(
                deprecated,
                reason = "its successor is unsafe; an OwnedFd keeps its descriptor for life"
            )]
            let handle = AsyncFd::with_interest(self.handle.try_clone()?, Interest::READABLE)?;
            handle.readable().await.map(drop)
        };
        matches!(tokio::time::timeout(limit, ended).await, Ok(Ok(())))
    }

    /// Sends a signal; one to a process that has ended is lost.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&*self.handle, signal);
    }
}

/// What a program beside QEMU gets of the daemon's environment: where programs and settings are.
const INHERITED: [&str; 6] = ["HOME", "LANG", "LC_ALL", "PATH", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"];

/// A program beside QEMU, which is told nothing but its arguments.
pub(crate) fn helper(program: impl AsRef<OsStr>) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    command.env_clear().envs(INHERITED.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command.stdin(Stdio::null());
    command
}

/// Starts a program beside QEMU as whom it has to be.
pub(crate) fn spawn(
    mut command: tokio::process::Command,
    who: Option<&Credentials>,
) -> io::Result<tokio::process::Child> {
    let runtime = tokio::runtime::Handle::current();
    let mut spawn = || {
        let _entered = runtime.enter();
        command.spawn()
    };
    match who {
        Some(who) => who.run(spawn),
        None => spawn(),
    }
}

/// Writes down which process it is.
pub(crate) fn write_pid(path: &Path, pid: u32) -> io::Result<()> {
    written::put(path, &format!("{pid}\n"))
}

/// Waits while a process is just becoming another program: it has no command line then.
pub(crate) async fn settled(pid: u32) {
    let place = PathBuf::from(format!("/proc/{pid}"));
    // Threads of the kernel, and what has ended, have no program either.
    let becomes = || {
        fs::read(place.join("cmdline")).is_ok_and(|line| line.is_empty())
            && fs::read_link(place.join("exe")).is_ok()
    };
    for _ in 0..BECOMES {
        if !becomes() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The threads of a process.
pub(crate) fn threads_of(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// Listens on a socket in the file system for a program to be started; what was there before is removed.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let (_dir, path) = reachable(path)?;
    let listener = UnixListener::bind(&path)?;
    written::set_mode(&path, SOCKET_MODE)?;
    Ok(listener)
}

/// Connects to a socket in the file system.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_dir, path) = reachable(path)?;
    UnixStream::connect(path).await
}

/// A path that fits a socket's address; a longer one goes by way of a descriptor of its directory, held open meanwhile.
fn reachable(path: &Path) -> io::Result<(Option<OwnedFd>, PathBuf)> {
    use std::os::fd::AsRawFd;
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) if path.as_os_str().len() > SOCKET_PATH_MAX => {
            let dir =
                rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
            Ok((Some(dir), short))
        }
        _ => Ok((None, path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtwire_store::Scratch;

    const LONG: Duration = Duration::from_secs(60);

    fn sleeper() -> Process {
        let mut line = CommandLine::default();
        line.word("1000");
        let start = Start {
            program: Path::new("sleep"),
            line,
            env: Vec::new(),
            run_as: None,
            dev: None,
            output: Stdio::null(),
            lock: None,
            limits: Limits::default(),
        };
        Process::start(start, Stdio::null()).unwrap()
    }

    #[tokio::test]
    async fn ends_by_a_signal_and_is_reaped() {
        let process = sleeper();
        assert!(!process.ended_within(Duration::ZERO).await);
        process.signal(Signal::TERM);
        assert!(process.ended_within(LONG).await);
        process.signal(Signal::KILL);
    }

    #[tokio::test]
    async fn only_the_right_process_is_adopted() {
        let process = sleeper();
        assert_eq!(Process::adopt(process.pid(), "100").unwrap_err().kind(), io::ErrorKind::NotFound);
        let adopted = Process::adopt(process.pid(), "1000").unwrap();
        adopted.signal(Signal::KILL);
        assert!(process.ended_within(LONG).await);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there() {
        let start = Start {
            program: Path::new("/nowhere/qemu"),
            line: CommandLine::default(),
            env: Vec::new(),
            run_as: None,
            dev: None,
            output: Stdio::null(),
            lock: None,
            limits: Limits::default(),
        };
        assert_eq!(Process::start(start, Stdio::null()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn sockets_may_lie_deep() {
        let dir = Scratch::new();
        let deep = dir.path().join("d".repeat(100));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("monitor.sock");
        let listener = listen(&path).unwrap();
        let _again = listen(&path).unwrap();
        drop(listener);
        connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_program_beside_qemu_has_none_of_the_daemons_secrets() {
        // Cargo's own stand in for them.
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some());
        let said = helper("env").output().await.unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(said.lines().any(|line| line.starts_with("PATH=")), "{said}");
        let known = |line: &str| INHERITED.iter().any(|name| line.split('=').next() == Some(name));
        assert!(said.lines().all(known), "{said}");
    }
}
