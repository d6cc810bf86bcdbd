//! What the daemon gives up before it takes the first byte from anybody, and with it all its guests: writing where it
//! has nothing to write (Landlock), system calls that neither it nor QEMU needs (seccomp), core dumps.
//!
//! Landlock and a seccomp filter are for ever, and descendants have them too. What the kernel does not have is done
//! without, and said.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::config::Settings;

/// The rights that are known here: those of Linux 6.10, and what an older kernel has of them.
const RIGHTS: ABI = ABI::V5;

/// Where a system daemon and its guests write.
const SYSTEM: [&str; 5] =
    ["/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"];
/// Where everybody's guests write: devices, shared memory among them, and control groups. Networks that start change
/// settings of the kernel's, and iptables may take its lock.
const DEVICES: [&str; 4] = ["/dev", "/sys/fs/cgroup", "/proc/sys/net", "/run/xtables.lock"];

macro_rules! system_calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// System calls that are answered with `EPERM`: they change the kernel, the clock or the mounts, reach into other
/// processes, or are a frequent way into the kernel.
const REFUSED: &[libc::c_long] = system_calls![
    SYS_acct SYS_add_key SYS_adjtimex SYS_bpf SYS_clock_adjtime SYS_clock_settime SYS_delete_module SYS_finit_module
    SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick SYS_init_module SYS_kexec_file_load SYS_kexec_load SYS_keyctl
    SYS_lookup_dcookie SYS_mount SYS_mount_setattr SYS_move_mount SYS_nfsservctl SYS_open_by_handle_at SYS_open_tree
    SYS_perf_event_open SYS_pivot_root SYS_process_vm_readv SYS_process_vm_writev SYS_ptrace SYS_quotactl SYS_reboot
    SYS_request_key SYS_setdomainname SYS_sethostname SYS_settimeofday SYS_swapoff SYS_swapon SYS_syslog SYS_umount2
    SYS_vhangup
];

/// Why a sandbox that was asked for cannot be had.
#[derive(Debug)]
pub enum SandboxError {
    /// Landlock has it, and refuses.
    Landlock(RulesetError),
    /// The filter cannot be built or set.
    Seccomp(String),
    /// Core dumps cannot be forbidden.
    Dumpable(std::io::Error),
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Landlock(error) => write!(f, "Landlock: {error}"),
            Self::Seccomp(error) => write!(f, "seccomp: {error}"),
            Self::Dumpable(error) => write!(f, "core dumps: {error}"),
        }
    }
}

impl std::error::Error for SandboxError {}

/// Gives up what the settings say, and `writable` are the places that this daemon's own options add. To be called
/// before there are other threads. Returns what the kernel does not have.
pub fn enter(settings: &Settings, writable: &[PathBuf]) -> Result<Vec<&'static str>, SandboxError> {
    let mut missing = Vec::new();
    if !settings.core_dumps {
        let not = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        not.map_err(|error| SandboxError::Dumpable(error.into()))?;
    }
    if settings.landlock {
        let configured = settings.landlock_writable.iter().map(PathBuf::from);
        let places: Vec<_> = configured.chain(writable.iter().cloned()).collect();
        if !restrict_files(&places).map_err(SandboxError::Landlock)? {
            missing.push("this kernel has no Landlock: files are not protected from the daemon");
        }
    }
    if settings.seccomp {
        seccompiler::apply_filter_all_threads(&filter(REFUSED)?).map_err(seccomp)?;
    }
    Ok(missing)
}

/// Makes whatever descriptors this process was started with, beside standard input and outputs, its own: programs that
/// it starts do not get them. All that it opens itself is so from its birth.
pub fn keep_descriptors() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// The directories of a user's own daemon.
fn home() -> impl Iterator<Item = PathBuf> {
    let below = |variable: &str, rest: &str| Some(PathBuf::from(std::env::var_os(variable)?).join(rest));
    let config = below("XDG_CONFIG_HOME", "libvirt").or_else(|| below("HOME", ".config/libvirt"));
    let cache = below("XDG_CACHE_HOME", "libvirt").or_else(|| below("HOME", ".cache/libvirt"));
    let data = below("XDG_DATA_HOME", "libvirt").or_else(|| below("HOME", ".local/share/libvirt"));
    [config, cache, data, below("XDG_RUNTIME_DIR", "libvirt")].into_iter().flatten()
}

/// Everything can be read and run, and only these places be written. `false` where the kernel cannot do that.
fn restrict_files(places: &[PathBuf]) -> Result<bool, RulesetError> {
    let own: Vec<PathBuf> = if rustix::process::geteuid().is_root() {
        SYSTEM.iter().map(PathBuf::from).collect()
    } else {
        home().collect()
    };
    let places: Vec<_> = own.iter().chain(places).map(PathBuf::as_path).collect();
    for place in &places {
        // A rule is for what is there. Where it cannot be made, it cannot be written to later either.
        let _ = std::fs::create_dir_all(place);
    }
    let places = places.into_iter().chain(DEVICES.iter().map(Path::new));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(RIGHTS))?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(RIGHTS)))?
        .add_rules(path_beneath_rules(places, AccessFs::from_all(RIGHTS)))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

fn seccomp(error: impl fmt::Display) -> SandboxError {
    SandboxError::Seccomp(error.to_string())
}

/// A filter that answers these system calls with `EPERM`, and lets all others pass.
fn filter(refused: &[libc::c_long]) -> Result<BpfProgram, SandboxError> {
    let rules: BTreeMap<_, _> = refused.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into().map_err(seccomp)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(seccomp)?;
    filter.try_into().map_err(seccomp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_system_call_is_not_permitted_and_others_are_as_before() {
        // A filter of its own thread, which ends with it.
        let thread = std::thread::spawn(|| {
            assert!(rustix::process::getpriority_process(None).is_ok());
            seccompiler::apply_filter(&filter(&[libc::SYS_getpriority]).unwrap()).unwrap();
            let refused = rustix::process::getpriority_process(None);
            (refused, rustix::process::getpid())
        });
        let (refused, _) = thread.join().unwrap();
        assert_eq!(refused, Err(rustix::io::Errno::PERM));
        assert!(rustix::process::getpriority_process(None).is_ok());
        assert!(filter(REFUSED).is_ok());
    }

    #[test]
    fn there_are_no_core_dumps_unless_they_are_asked_for() {
        assert_eq!(enter(&Settings::default(), &[]).unwrap(), Vec::<&str>::new());
        assert_eq!(rustix::process::dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }

    #[test]
    fn only_the_given_places_can_be_written() {
        let dir = std::env::temp_dir().join(format!("virtwired-{}-landlock", std::process::id()));
        let (inside, outside) = (dir.join("inside"), dir.join("outside"));
        std::fs::create_dir_all(&outside).unwrap();
        let places = vec![inside.clone()];
        let thread = std::thread::spawn(move || {
            let has = restrict_files(&places).unwrap();
            let write = |dir: &Path| std::fs::write(dir.join("file"), "x");
            let made = write(&places[0]);
            let refused = write(&outside).map_err(|error| error.kind());
            let read = std::fs::read_dir(&outside).is_ok();
            (has, made.is_ok(), refused, read)
        });
        let (has, made, refused, read) = thread.join().unwrap();
        assert!(made && read);
        if has {
            assert_eq!(refused, Err(std::io::ErrorKind::PermissionDenied));
        } else {
            virtwire_skip::without_program(format_args!("no Landlock in this kernel"));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
