//! Emulated TPMs: a process of its own (`swtpm`) for each, with state that outlives the guest's runs.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use command_fds::CommandFdExt;
use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use virtwire_conf::domain::misc::{PcrBanks, Tpm, TpmBackend, TpmBackendType, TpmSource};
use virtwire_conf::secret::SecretUsageType;
use virtwire_conf::{Domain, YesNo};

use crate::driver::Qemu;
use crate::error::{QEMU, Result, file};
use crate::prepare;
use crate::probe::find_in_path;
use crate::process::{Process, helper, spawn, write_pid};
use crate::security::{Credentials, Ids};
use crate::written;

/// How long an emulator may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// How long its state may take to be made: keys are found by chance.
const MADE_WITHIN: Duration = Duration::from_secs(120);
/// How often its socket is looked for.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the parts of a guest's emulator are.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    /// The state, and the folder of the guest around it.
    state: PathBuf,
    of_guest: PathBuf,
    /// The folder of sockets.
    run: PathBuf,
    socket: PathBuf,
    pid: PathBuf,
    log: PathBuf,
}

impl Places {
    fn of(driver: &Qemu, domain: &Domain, backend: &TpmBackend) -> Self {
        let dirs = &driver.shared.dirs;
        let of_guest = dirs.tpm_state(&domain.uuid.unwrap_or_default().hyphenated().to_string());
        let run = dirs.run.join("swtpm");
        let name = dirs.tpm_name(domain.id.unwrap_or(-1), &domain.name);
        Self {
            state: of_guest.join(if is_v2(backend) { "tpm2" } else { "tpm1.2" }),
            of_guest,
            socket: run.join(format!("{name}.sock")),
            pid: run.join(format!("{name}.pid")),
            run,
            log: dirs.tpm_log(&domain.name),
        }
    }

    /// Makes the folders, whose they have to be.
    fn make(&self, who: Option<&Who>) -> io::Result<()> {
        let make = |dir: &Path, mode| DirBuilder::new().recursive(true).mode(mode).create(dir);
        make(&self.of_guest, OTHERS_PASS)?;
        make(&self.state, 0o700)?;
        make(&self.run, 0o770)?;
        let logs = self.log.parent().unwrap_or(Path::new("/"));
        make(logs.parent().unwrap_or(logs), OTHERS_PASS)?;
        make(logs, 0o730)?;
        if let Some(Who { emulator, guest }) = who {
            for dir in [&self.state, logs] {
                written::give(dir, *emulator)?;
            }
            written::give(&self.run, Ids { user: guest.user, group: emulator.group })?;
            written::set_mode(&self.run, 0o770)?;
            written::set_mode(logs, 0o730)?;
        }
        Ok(())
    }
}

/// The mode of folders that others go through without seeing what is in them.
const OTHERS_PASS: u32 = 0o711;

/// Who runs the emulator, and whose QEMU talks to it.
struct Who {
    emulator: Ids,
    guest: Ids,
}

fn emulator(who: Option<&Who>) -> Option<Credentials> {
    who.map(|who| who.emulator.credentials())
}

fn is_v2(backend: &TpmBackend) -> bool {
    backend.version.as_deref() != Some("1.2")
}

/// The emulator of a guest, if it has one.
fn emulated(domain: &Domain) -> Option<&TpmBackend> {
    let backend = |tpm: &Tpm| tpm.backend.as_ref().map(|backend| backend.type_);
    let emulated = domain.devices.tpms.iter().find(|tpm| backend(tpm) == Some(TpmBackendType::Emulator));
    emulated?.backend.as_ref()
}

/// Starts the emulator of a guest, and says in the definition for QEMU where it listens.
///
/// # Errors
/// There is no such program, its state cannot be made, or it does not listen.
pub(crate) async fn begin(driver: &Qemu, domain: &mut Domain) -> Result<()> {
    let Some(backend) = emulated(domain).cloned() else { return Ok(()) };
    let key = match &backend.encryption {
        Some(encryption) => Some(prepare::password(driver, SecretUsageType::Vtpm, encryption.secret).await?),
        None => None,
    };
    let key = key.as_deref();
    let places = Places::of(driver, domain, &backend);
    let who = match &driver.shared.security {
        Some(dac) => Some(Who { emulator: dac.of_emulators()?, guest: dac.ids }),
        None => None,
    };
    let is_new = fs::read_dir(&places.state).map_or(true, |mut found| found.next().is_none());
    places
        .make(who.as_ref())
        .map_err(|e| file(&e, format_args!("Could not create TPM directory {}", places.state.display())))?;
    if is_new {
        let made = set_up(&places, who.as_ref(), manufacture(domain, &backend, &places), key).await;
        if made.is_err() {
            let _ = fs::remove_dir_all(&places.state);
        }
        made?;
    }
    if let Some(banks) = backend.active_pcr_banks.as_ref().filter(|_| is_v2(&backend)) {
        set_up(&places, who.as_ref(), reconfigure(banks, &places), key).await?;
    }
    let _ = fs::remove_file(&places.socket);
    let listening = listen(&places, who.as_ref(), &backend, key).await;
    if listening.is_err() {
        end(driver, domain);
    }
    listening?;
    let path = Some(places.socket.display().to_string());
    let source = TpmSource { type_: Some("unix".to_owned()), mode: Some("connect".to_owned()), path };
    for backend in domain.devices.tpms.iter_mut().filter_map(|tpm| tpm.backend.as_mut()) {
        if backend.type_ == TpmBackendType::Emulator {
            backend.source = Some(source.clone());
        }
    }
    Ok(())
}

/// A program of swtpm's.
fn program(name: &str) -> Result<Command> {
    let path = find_in_path(name)
        .ok_or_else(|| QEMU.config_unsupported(format_args!("Unable to find '{name}' in PATH")))?;
    let mut command = helper(path);
    command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    Ok(command)
}

/// What a TPM's first state is made with.
fn manufacture(domain: &Domain, backend: &TpmBackend, places: &Places) -> Vec<String> {
    let uuid = domain.uuid.unwrap_or_default().hyphenated();
    let mut args: Vec<String> = Vec::new();
    if is_v2(backend) {
        args.push("--tpm2".into());
    }
    let state = places.state.display();
    let log = places.log.display();
    args.extend(["--tpm-state".into(), state.to_string()]);
    args.extend(["--vmid".into(), format!("{}:{uuid}", domain.name)]);
    args.extend(["--logfile".into(), log.to_string()]);
    let all = ["--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite"];
    args.extend(all.map(str::to_owned));
    args
}

/// What changes the banks that a TPM 2.0 measures into.
fn reconfigure(banks: &PcrBanks, places: &Places) -> Vec<String> {
    let all =
        [("sha1", banks.sha1), ("sha256", banks.sha256), ("sha384", banks.sha384), ("sha512", banks.sha512)];
    let names: Vec<_> = all.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
    let state = places.state.display().to_string();
    let log = places.log.display().to_string();
    let words = [
        "--tpm2",
        "--tpm-state",
        &state,
        "--logfile",
        &log,
        "--pcr-banks",
        &names.join(","),
        "--reconfigure",
    ];
    words.map(str::to_owned).to_vec()
}

/// How state is encrypted.
const CIPHER: &str = "aes-256-cbc";

/// A descriptor from which a program reads what its state is encrypted with.
fn readable(key: &[u8]) -> io::Result<OwnedFd> {
    let (read, mut write) = io::pipe()?;
    // A pipe has room for what a secret can be; one that had not would end here.
    rustix::io::ioctl_fionbio(&write, true)?;
    write.write_all(key)?;
    Ok(read.into())
}

/// Runs `swtpm_setup`.
async fn set_up(places: &Places, who: Option<&Who>, mut args: Vec<String>, key: Option<&[u8]>) -> Result<()> {
    let name = "swtpm_setup";
    let cannot = |error| file(&error, format_args!("Could not run '{name}'"));
    let mut command = program(name)?;
    if let Some(key) = key {
        let fd = readable(key).map_err(cannot)?;
        args.extend(["--pwdfile-fd".into(), fd.as_raw_fd().to_string()]);
        args.extend(["--cipher".into(), CIPHER.into()]);
        command.as_std_mut().preserved_fds(vec![fd]);
    }
    command.args(args).kill_on_drop(true);
    let mut child = spawn(command, emulator(who).as_ref()).map_err(cannot)?;
    let ended = timeout(MADE_WITHIN, child.wait()).await;
    let status = ended.map_err(|_| QEMU.operation_timeout(format_args!("'{name}' does not end")))?;
    let status = status.map_err(cannot)?;
    match status.success() {
        true => Ok(()),
        false => Err(QEMU.internal_error(format_args!(
            "Could not run '{name}'. exitstatus: {}; Check error log '{}' for details.",
            status.code().unwrap_or(-1),
            places.log.display()
        ))),
    }
}

/// What the emulator is started with.
fn words(places: &Places, backend: &TpmBackend) -> Vec<String> {
    let level = backend.debug.map_or(String::new(), |level| format!(",level={level}"));
    let mut args = vec![
        "socket".into(),
        "--ctrl".into(),
        format!("type=unixio,path={},mode=0600", places.socket.display()),
        "--tpmstate".into(),
        format!("dir={},mode=0600", places.state.display()),
        "--log".into(),
        format!("file={}{level}", places.log.display()),
        "--terminate".into(),
    ];
    if is_v2(backend) {
        args.push("--tpm2".into());
    }
    args
}

/// Starts the emulator, and waits until it listens; then its socket is QEMU's.
async fn listen(places: &Places, who: Option<&Who>, backend: &TpmBackend, key: Option<&[u8]>) -> Result<()> {
    let cannot = |e| file(&e, "Could not start 'swtpm'");
    let mut command = program("swtpm")?;
    command.args(words(places, backend)).process_group(0);
    if let Some(key) = key {
        let fds = [readable(key).map_err(cannot)?, readable(key).map_err(cannot)?];
        for (option, fd) in ["--key", "--migration-key"].into_iter().zip(&fds) {
            command.arg(option).arg(format!("pwdfd={},mode={CIPHER}", fd.as_raw_fd()));
        }
        command.as_std_mut().preserved_fds(fds.into());
    }
    let mut emulator = spawn(command, emulator(who).as_ref()).map_err(cannot)?;
    let pid = emulator.id().unwrap_or_default();
    write_pid(&places.pid, pid).map_err(|e| file(&e, "Could not write swtpm's pid"))?;
    let listens = async {
        while !places.socket.exists() {
            if emulator.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            sleep(PAUSE).await;
        }
        true
    };
    if !timeout(LISTENS_WITHIN, listens).await.unwrap_or(false) {
        return Err(QEMU.internal_error(format_args!(
            "swtpm died or does not listen; check error log '{}' for details",
            places.log.display()
        )));
    }
    match who {
        Some(Who { guest, .. }) => written::give(&places.socket, *guest).map_err(|e| {
            file(&e.into(), format_args!("unable to set owner of '{}'", places.socket.display()))
        }),
        None => Ok(()),
    }
}

/// Ends the emulator of a guest that has ended. Usually it is gone with QEMU's connection.
pub(crate) fn end(driver: &Qemu, domain: &Domain) {
    let Some(backend) = emulated(domain) else { return };
    let places = Places::of(driver, domain, backend);
    let pid = fs::read_to_string(&places.pid).ok().and_then(|text| text.trim().parse().ok());
    let word = format!("type=unixio,path={},mode=0600", places.socket.display());
    if let Some(Ok(emulator)) = pid.map(|pid| Process::adopt(pid, &word)) {
        emulator.signal(Signal::TERM);
    }
    for path in [&places.pid, &places.socket] {
        let _ = fs::remove_file(path);
    }
}

/// `VIR_DOMAIN_UNDEFINE_TPM` and `…_KEEP_TPM`
const UNDEFINE: u32 = 1 << 5;
const KEEP: u32 = 1 << 6;

/// Removes the state of a guest's emulator once there is no guest any more, unless it is to be kept.
pub(crate) fn forget(driver: &Qemu, domain: &Domain, flags: u32) {
    let Some(backend) = emulated(domain) else { return };
    let is_kept = flags & KEEP != 0 || backend.persistent_state == Some(YesNo::Yes);
    if is_kept && flags & UNDEFINE == 0 {
        return;
    }
    let places = Places::of(driver, domain, backend);
    if let Err(error) = fs::remove_dir_all(&places.of_guest)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %places.of_guest.display(), %error, "a TPM's state is left behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let path = |name: &str| PathBuf::from(format!("/x/{name}"));
        Places {
            state: path("s/tpm2"),
            of_guest: path("s"),
            run: path("r"),
            socket: path("r/1-a-swtpm.sock"),
            pid: path("r/1-a-swtpm.pid"),
            log: path("l/a-swtpm.log"),
        }
    }

    #[test]
    fn the_emulator_is_started_as_libvirt_starts_it() {
        let line = |version: &str| {
            let version = Some(version.to_owned());
            words(&places(), &TpmBackend { version, ..TpmBackend::default() }).join(" ")
        };
        let common = "socket --ctrl type=unixio,path=/x/r/1-a-swtpm.sock,mode=0600 --tpmstate dir=/x/s/tpm2,mode=0600 \
                      --log file=/x/l/a-swtpm.log --terminate";
        assert_eq!(line("2.0"), format!("{common} --tpm2"));
        assert_eq!(line("1.2"), common);
    }

    #[test]
    fn state_is_made_for_this_guest() {
        let domain = Domain { name: "a".to_owned(), ..Domain::default() };
        let line = manufacture(&domain, &TpmBackend::default(), &places()).join(" ");
        assert_eq!(
            line,
            "--tpm2 --tpm-state /x/s/tpm2 --vmid a:00000000-0000-0000-0000-000000000000 --logfile /x/l/a-swtpm.log \
             --createek --create-ek-cert --create-platform-cert --lock-nvram --not-overwrite"
        );
        let banks = PcrBanks { sha1: true, sha384: true, ..PcrBanks::default() };
        assert!(reconfigure(&banks, &places()).join(" ").ends_with("--pcr-banks sha1,sha384 --reconfigure"));
    }
}
