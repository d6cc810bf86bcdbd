//! What is in a guest's memory, put into a file for those who look for what went wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rustix::fs::{Advice, fadvise};
use serde_json::{Map, Value, json};
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{Cont, Getfd, Stop, SystemReset};

use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, file, monitor};
use crate::guest::{Ending, Guest, Live};
use crate::named;
use crate::save::Stream;
use crate::state::{Lifecycle, State};

/// `VIR_DUMP_…`
mod flag {
    pub(super) const CRASH: u32 = 1 << 0;
    pub(super) const LIVE: u32 = 1 << 1;
    pub(super) const BYPASS_CACHE: u32 = 1 << 2;
    pub(super) const RESET: u32 = 1 << 3;
    pub(super) const MEMORY_ONLY: u32 = 1 << 4;
    pub(super) const KNOWN: u32 = CRASH | LIVE | BYPASS_CACHE | RESET | MEMORY_ONLY;
}

/// libvirt's words and QEMU's for the formats (`VIR_DOMAIN_CORE_DUMP_FORMAT_…`).
const FORMATS: [(&str, &str); 5] = [
    ("raw", "elf"),
    ("kdump-zlib", "kdump-zlib"),
    ("kdump-lzo", "kdump-lzo"),
    ("kdump-snappy", "kdump-snappy"),
    ("win-dmp", "win-dmp"),
];

/// QEMU's name of the file.
const NAME: &str = "dump";

pub(crate) async fn dump(driver: &Qemu, args: DomainCoreDumpArgs) -> Result<()> {
    let DomainCoreDumpArgs { dom, to, flags } = args;
    with_format(driver, DomainCoreDumpWithFormatArgs { dom, to, dumpformat: 0, flags }).await
}

pub(crate) async fn with_format(driver: &Qemu, args: DomainCoreDumpWithFormatArgs) -> Result<()> {
    check_flags(args.flags, flag::KNOWN, "qemuDomainCoreDumpWithFormat")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.turn().await?;
    let live = guest.live().map_err(|_| QEMU.operation_invalid("domain is not running"))?;
    let unknown = || QEMU.invalid_arg(format_args!("unknown dumpformat '{}'", args.dumpformat));
    let format = FORMATS.get(args.dumpformat as usize).ok_or_else(unknown)?;
    let ran = guest.lock().state.runs();
    if ran && args.flags & flag::LIVE == 0 {
        driver.change(&guest, State::runs, State::PAUSED_DUMP, Lifecycle::SUSPENDED_PAUSED);
        live.monitor.execute(&Stop {}).await.map_err(monitor)?;
    }
    let dumped = put(driver, &guest, &live, Path::new(&*args.to.to_str_lossy()), format, args.flags).await;
    if dumped.is_ok() && args.flags & flag::CRASH != 0 {
        driver.kill(&guest, Ending::Dumped).await;
        return Ok(());
    }
    if dumped.is_ok() && args.flags & flag::RESET != 0 {
        live.monitor.execute(&SystemReset {}).await.map_err(monitor)?;
    }
    if ran {
        live.monitor.execute(&Cont {}).await.map_err(monitor)?;
        let stands = |state: State| !state.runs();
        driver.change(&guest, stands, State::RUNNING_UNPAUSED, Lifecycle::RESUMED_UNPAUSED);
    }
    dumped
}

/// Puts what is in a guest's memory into a file, as a debugger reads it.
///
/// # Errors
/// The file cannot be made, or what QEMU says.
pub(crate) async fn memory(driver: &Qemu, guest: &Guest, live: &Live, path: &Path) -> Result<()> {
    let bypass = if driver.shared.policy.dumps_past_cache { flag::BYPASS_CACHE } else { 0 };
    put(driver, guest, live, path, &FORMATS[0], flag::MEMORY_ONLY | bypass).await
}

/// Makes the file; where it cannot be filled it is gone again.
async fn put(
    driver: &Qemu,
    guest: &Guest,
    live: &Live,
    path: &Path,
    format: &(&str, &str),
    flags: u32,
) -> Result<()> {
    if flags & flag::MEMORY_ONLY == 0 && format.1 != "elf" {
        let text = "kdump-compressed format is only supported with memory-only dump";
        return Err(QEMU.operation_failed(text));
    }
    if flags & flag::MEMORY_ONLY != 0 {
        check_format(live, format).await?;
    }
    let opened = named::new().open(path);
    let out = opened.map_err(|e| file(&e, format_args!("Failed to create file '{}'", path.display())))?;
    let is_file = out.metadata().is_ok_and(|made| made.is_file());
    let filled = match flags & flag::MEMORY_ONLY {
        0 => {
            let format = driver.shared.formats.of_dump();
            Stream { file: out, format, offset: 0, channels: None }.fill(&live.monitor).await
        }
        _ => memory_only(guest, live, out, format.1).await,
    };
    // A device stays where it is.
    if filled.is_err() && is_file {
        let _ = fs::remove_file(path);
    }
    if filled.is_ok() && flags & flag::BYPASS_CACHE != 0 && is_file {
        forget_cached(path.to_owned()).await;
    }
    filled
}

/// Has the host keep nothing of a file in its own memory. Where it does nevertheless, nobody lacks anything.
async fn forget_cached(path: PathBuf) {
    let forget = move || {
        let file = fs::File::open(&path)?;
        file.sync_data()?;
        Ok::<_, io::Error>(fadvise(&file, 0, None, Advice::DontNeed)?)
    };
    if let Ok(Err(error)) = tokio::task::spawn_blocking(forget).await {
        tracing::debug!(%error, "a dump stays in the host's memory");
    }
}

/// Checks that QEMU has a format; it always has ELF.
async fn check_format(live: &Live, (name, format): &(&str, &str)) -> Result<()> {
    if *format == "elf" {
        return Ok(());
    }
    let command = "query-dump-guest-memory-capability";
    let said = live.monitor.execute_raw(command, &Map::new()).await.map_err(monitor)?;
    let said: Value = serde_json::from_str(said.get()).map_err(|error| QEMU.internal_error(error))?;
    let has = said["formats"].as_array().is_some_and(|all| all.iter().any(|known| known == format));
    match has {
        true => Ok(()),
        false => Err(QEMU.invalid_arg(format_args!("unsupported dumpformat '{name}' for this QEMU binary"))),
    }
}

/// Has QEMU write the memory alone, as a debugger reads it, and waits until it says that it has.
async fn memory_only(guest: &Guest, live: &Live, out: fs::File, format: &str) -> Result<()> {
    let mut done = guest.dumped.subscribe();
    done.mark_unchanged();
    let name = Getfd { fdname: NAME.to_owned() };
    live.monitor.execute_with_fds(&name, vec![out.into()]).await.map_err(monitor)?;
    let mut arguments =
        json!({"paging": false, "protocol": format!("fd:{NAME}"), "detach": true, "format": format});
    let arguments = arguments.as_object_mut().map(std::mem::take).unwrap_or_default();
    live.monitor.execute_raw("dump-guest-memory", &arguments).await.map_err(monitor)?;
    let failed = tokio::select! {
        biased;
        changed = done.changed() => changed.ok().and_then(|()| done.borrow().clone()),
        true = live.process.ended_within(Duration::MAX) => Some("QEMU has ended".to_owned()),
    };
    match failed {
        Some(error) => Err(QEMU.operation_failed(format_args!("memory-only dump failed: {error}"))),
        None => Ok(()),
    }
}
