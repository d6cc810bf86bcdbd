//! What an installed QEMU can do: asked once, over its own monitor, and kept until the program's file changes.

use std::collections::BTreeSet;
use std::io::{self, PipeReader, Read};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use virtwire_protocol::error::VirtError;
use virtwire_qmp::commands::*;
use virtwire_qmp::replies::{CpuDefinition, MachineInfo, VersionInfo};
use virtwire_qmp::{ErrorClass, Monitor, QmpError};

use crate::caps::cpus::CpusTold;
use crate::command::CommandLine;
use crate::error::{QEMU, Result, file};
use crate::policy::Limits;
use crate::process::{Process, Start};

/// How long QEMU may take to answer everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one program can do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QemuCaps {
    /// The program.
    pub program: PathBuf,
    /// The architecture of its guests, by QEMU's name, as in `x86_64`, `aarch64`.
    pub arch: String,
    /// Its version.
    pub version: VersionInfo,
    /// The machine types, in QEMU's order.
    pub machines: Vec<MachineInfo>,
    /// The CPU models that guests may have here; with KVM where it can be used.
    pub cpus: Vec<CpuDefinition>,
    /// Guests can run on KVM here.
    pub kvm: bool,
    /// The monitor's commands.
    pub commands: BTreeSet<String>,
    /// The kinds of devices, and of host ends of character devices (`chardev-pty`).
    pub devices: BTreeSet<String>,
}

/// Why a program can't be used.
#[derive(Debug)]
pub enum ProbeError {
    /// It does not start.
    Start(io::Error),
    /// Its monitor does not answer as it should.
    Monitor(QmpError),
    /// It ended before its monitor had answered everything, having said this on its standard error.
    Ended(String),
    /// It took too long.
    Silent,
}

impl QemuCaps {
    /// The machine type called `name`, or whose alias it is.
    pub fn machine(&self, name: &str) -> Option<&MachineInfo> {
        let by_name = self.machines.iter().find(|machine| machine.name == name);
        by_name.or_else(|| self.machines.iter().find(|machine| machine.alias.as_deref() == Some(name)))
    }

    /// The version as libvirt counts it: 1,000,000 × major + 1,000 × minor + micro.
    pub fn version_number(&self) -> u64 {
        let triple = &self.version.qemu;
        u64::from(triple.major) * 1_000_000 + u64::from(triple.minor) * 1_000 + u64::from(triple.micro)
    }

    /// Whether there is such a kind of device.
    pub fn has_device(&self, kind: &str) -> bool {
        self.devices.contains(kind)
    }
}

/// The program for guests of an architecture, searched in `PATH`.
pub fn find_program(arch: &str) -> Option<PathBuf> {
    let name = match arch {
        "i686" => "qemu-system-i386".to_owned(),
        "armv6l" | "armv7l" => "qemu-system-arm".to_owned(),
        "openrisc" => "qemu-system-or1k".to_owned(),
        "parisc" => "qemu-system-hppa".to_owned(),
        other => format!("qemu-system-{other}"),
    };
    let other = || if arch == "ppc64le" { find_in_path("qemu-system-ppc64") } else { None };
    find_in_path(&name).or_else(other)
}

/// Whether a program is there and can be executed.
pub(crate) fn check_program(program: &Path) -> Result<()> {
    let meta = std::fs::metadata(program);
    let meta = meta.map_err(|e| file(&e, format_args!("Cannot check QEMU binary {}", program.display())))?;
    let executable = if meta.is_dir() { Err(Errno::ISDIR) } else { access(program, Access::EXEC_OK) };
    let cannot =
        |e: Errno| file(&e.into(), format_args!("QEMU binary {} is not executable", program.display()));
    executable.map_err(cannot)
}

/// A program, searched in `PATH`.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// Asks a program what it can do.
pub(crate) async fn probe(program: &Path) -> Result<QemuCaps, ProbeError> {
    interview(program, "kvm:tcg", |monitor| ask(program, monitor)).await
}

/// Asks a program which CPUs its guests may have, with KVM or without.
pub(crate) async fn probe_cpus(program: &Path, kvm: bool) -> Result<CpusTold, ProbeError> {
    let (accelerator, whole) = if kvm { ("kvm", "host") } else { ("tcg", "max") };
    interview(program, accelerator, |monitor| async move { CpusTold::ask(&monitor, whole).await }).await
}

/// Starts the program without a machine, asks, and ends it.
async fn interview<T, F>(
    program: &Path,
    accelerators: &str,
    ask: impl FnOnce(Monitor) -> F,
) -> Result<T, ProbeError>
where
    F: Future<Output = Result<T, QmpError>>,
{
    let (ours, theirs) = StdUnixStream::pair().map_err(ProbeError::Start)?;
    let mut line = CommandLine::default();
    line.flag("-S");
    line.flag("-no-user-config");
    line.flag("-nodefaults");
    line.flag("-nographic");
    line.option("-machine", format!("none,accel={accelerators}"));
    let monitor = line.pass(theirs.into());
    line.option("-chardev", format!("socket,id=monitor,fd={monitor}"));
    line.option("-mon", "chardev=monitor,mode=control");
    let env = vec![("LC_ALL".to_owned(), "C".to_owned())];
    let (output, limits) = (Stdio::null(), Limits::default());
    let start = Start { program, line, env, run_as: None, dev: None, output, lock: None, limits };
    let (complaints, errors) = std::io::pipe().map_err(ProbeError::Start)?;
    let process = Process::start(start, errors.into()).map_err(ProbeError::Start)?;

    let began = SystemTime::now();
    let conversation = async {
        ours.set_nonblocking(true)?;
        let (monitor, _events) = Monitor::connect(UnixStream::from_std(ours)?).await?;
        ask(monitor).await
    };
    let answer = tokio::time::timeout(PATIENCE, conversation).await;
    process.signal(Signal::KILL);
    tracing::debug!(program = %program.display(), took = ?began.elapsed().unwrap_or_default(), "asked QEMU");
    match answer {
        Ok(Ok(caps)) => Ok(caps),
        Ok(Err(QmpError::Closed | QmpError::Io(_))) => Err(ProbeError::Ended(complaint(complaints))),
        Ok(Err(error)) => Err(ProbeError::Monitor(error)),
        Err(_) => Err(ProbeError::Silent),
    }
}

/// What a program that has ended left in its standard error; never waits for more.
fn complaint(pipe: PipeReader) -> String {
    const ENOUGH: usize = 1024;
    let mut said = vec![0; ENOUGH];
    let read = rustix::io::ioctl_fionbio(&pipe, true).map_err(io::Error::from);
    let count = read.and_then(|()| (&pipe).read(&mut said)).unwrap_or_default();
    String::from_utf8_lossy(&said[..count]).into_owned()
}

/// The processors that a program has; one with a single kind of them may not tell.
async fn processors(monitor: &Monitor) -> Result<Vec<CpuDefinition>, QmpError> {
    match monitor.execute(&QueryCpuDefinitions {}).await {
        Err(QmpError::Command(error)) if error.class == ErrorClass::CommandNotFound => Ok(Vec::new()),
        told => told,
    }
}

/// Memory that is encrypted by the processor, and what the kernel has where the processor does that.
const SGX_MEMORY: &str = "sgx-epc";
const SGX: &str = "/dev/sgx_vepc";

async fn ask(program: &Path, monitor: Monitor) -> Result<QemuCaps, QmpError> {
    let types = |kind: &str| QomListTypes { implements: Some(kind.to_owned()), ..QomListTypes::default() };
    let (devices, chardevs) = (types("device"), types("chardev"));
    let (target, machines, cpus, kvm, commands, devices, chardevs) = tokio::try_join!(
        monitor.execute(&QueryTarget {}),
        monitor.execute(&QueryMachines {}),
        processors(&monitor),
        monitor.execute(&QueryKvm {}),
        monitor.execute(&QueryCommands {}),
        monitor.execute(&devices),
        monitor.execute(&chardevs),
    )?;
    Ok(QemuCaps {
        program: program.to_owned(),
        arch: target.arch,
        version: monitor.greeting().ok_or(QmpError::Closed)?.version.clone(),
        machines,
        cpus,
        kvm: kvm.enabled,
        commands: commands.into_iter().map(|command| command.name).collect(),
        devices: devices
            .into_iter()
            .chain(chardevs)
            .map(|device| device.name)
            .filter(|name| name != SGX_MEMORY || Path::new(SGX).exists())
            .collect(),
    })
}

impl ProbeError {
    /// The error for the client who wanted `program`.
    pub(crate) fn refusal(&self, program: &Path) -> VirtError {
        let program = program.display();
        match self {
            Self::Start(error) => file(error, format_args!("QEMU binary {program} is not executable")),
            Self::Ended(said) if said.is_empty() => {
                let nothing = io::Error::from(Errno::NOENT);
                file(&nothing, format_args!("QEMU binary {program} ended without opening its monitor"))
            }
            Self::Ended(said) => {
                QEMU.internal_error(format_args!("Failed to start QEMU binary {program} for probing: {said}"))
            }
            Self::Monitor(error) => {
                QEMU.internal_error(format_args!("Failed to probe QEMU binary {program}: {error}"))
            }
            Self::Silent => {
                QEMU.internal_error(format_args!("QEMU binary {program} does not answer on its monitor"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use virtwire_store::Scratch;

    use super::*;

    /// What a client is told of a program with this content and mode.
    async fn refusal(dir: &Path, content: &str, mode: u32) -> String {
        let program = dir.join("emulator");
        fs::write(&program, content).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
        let refused = match check_program(&program) {
            Ok(()) => probe(&program).await.unwrap_err().refusal(&program),
            Err(error) => error,
        };
        refused.message.replace(&program.display().to_string(), "EMULATOR")
    }

    #[tokio::test]
    async fn programs_that_are_no_emulators_are_told_apart() {
        let scratch = Scratch::new();
        let dir = scratch.path();
        let missing = check_program(&dir.join("none")).unwrap_err().message;
        assert!(missing.ends_with("none: No such file or directory"), "{missing}");
        let no_file = check_program(dir).unwrap_err().message;
        assert!(no_file.ends_with("is not executable: Is a directory"), "{no_file}");
        let data = refusal(dir, "data", 0o600).await;
        assert_eq!(data, "QEMU binary EMULATOR is not executable: Permission denied");
        let complains = refusal(dir, "#!/bin/sh\necho no such machine >&2; exit 1\n", 0o700).await;
        let expected = "internal error: Failed to start QEMU binary EMULATOR for probing: no such machine\n";
        assert_eq!(complains, expected);
        let silent = refusal(dir, "#!/bin/sh\n", 0o700).await;
        let expected = "QEMU binary EMULATOR ended without opening its monitor: No such file or directory";
        assert_eq!(silent, expected);
    }
}
