//! A guest goes back to what it was.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use virtwire_conf::snapshot::{SnapshotDisk, SnapshotLocation, SnapshotState};
use virtwire_conf::{Domain, Snapshot};
use virtwire_protocol::remote::DomainRevertToSnapshotArgs;
use virtwire_qmp::commands::SnapshotLoad;

use super::create::nodes;
use super::image::{job, qemu_img};
use super::{external, find, guest_of, is_external};
use crate::begin::{Begin, Memory};
use crate::define::replace;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor};
use crate::guest::{Guest, Live};
use crate::kept;
use crate::save::Image;
use crate::state::{Lifecycle, State};

/// `VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING`, `…_PAUSED`; with `…_FORCE` and `…_RESET_NVRAM`.
const RUNNING: u32 = 1;
const PAUSED: u32 = 2;
const KNOWN: u32 = 15;

/// The files that an internal snapshot is in.
pub(super) fn images(snapshot: &Snapshot) -> Vec<String> {
    let disks = snapshot.disks.iter().flat_map(|disks| &disks.disk);
    let internal = disks.filter(|disk| disk.snapshot == Some(SnapshotLocation::Internal));
    let own = |name: &str| {
        let mut all = snapshot.domain.iter().flat_map(|domain| &domain.devices.disks);
        let disk =
            all.find(|disk| disk.target.as_ref().is_some_and(|target| target.dev.as_deref() == Some(name)));
        disk?.source.as_ref()?.file.clone()
    };
    internal.filter_map(|disk| own(&disk.name)).collect()
}

pub(crate) async fn revert(driver: &Qemu, args: DomainRevertToSnapshotArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "qemuSnapshotRevert")?;
    let guest = guest_of(driver, &args.snap)?;
    let _job = guest.job.lock().await;
    let (name, snapshot, before, persistent) = {
        let inner = guest.lock();
        let moment = find(&inner, &args.snap.name.to_str_lossy())?;
        let before = inner.snapshots.current.clone();
        (moment.name.clone(), moment.data.clone(), before, inner.persistent.is_some())
    };
    let Some(domain) = snapshot.domain.as_deref() else {
        let text = format_args!("can't revert to snapshot '{name}': no domain definition");
        return Err(QEMU.operation_invalid(text));
    };
    let off = matches!(snapshot.state, Some(SnapshotState::Shutoff | SnapshotState::DiskSnapshot));
    let memory = match snapshot.memory.as_ref().and_then(|memory| memory.file.as_deref()) {
        Some(path) => Some(Image::read(path)?.1),
        None => None,
    };
    let asked = args.flags & (RUNNING | PAUSED);
    if off && asked == 0 && !persistent {
        return Err(QEMU.operation_invalid(
            "transient domain needs to request run or pause to revert to inactive snapshot",
        ));
    }
    // The guest may have got another name since.
    let named = |domain: &Domain| Domain { name: guest.name.clone(), ..domain.clone() };
    let mut stored = named(snapshot.inactive_domain.as_deref().unwrap_or(domain));
    let mut domain = named(domain);
    driver.stop_for_snapshot(&guest).await;
    if !driver.knows(&guest) {
        // A transient guest goes on as the same one.
        driver.add(Arc::clone(&guest))?;
    }
    let outside = is_external(&snapshot);
    if outside {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let made = external::branch(&snapshot, [&mut stored, &mut domain], now).await?;
        let gone = external::branched(&mut guest.lock().snapshots, &name, made);
        external::remove(&gone);
    } else if off {
        for path in images(&snapshot) {
            qemu_img(&["snapshot", "-a", &name, &path]).await?;
        }
    }
    if persistent {
        replace(driver, &guest, stored)?;
    }
    let paused = match asked {
        0 => snapshot.state == Some(SnapshotState::Paused),
        asked => asked & PAUSED != 0,
    };
    if off {
        guest.lock().state = State::SHUTOFF_FROM_SNAPSHOT;
        if asked != 0 {
            driver.start_from(&guest, &domain, paused).await?;
        }
    } else if let Some(file) = memory {
        driver.begin(&guest, &domain, Begin { paused, memory: Memory::Outside(file) }).await?;
    } else {
        load(driver, &guest, &domain, &snapshot, &name, paused).await?;
    }
    if persistent {
        driver.emit(Lifecycle::DEFINED_FROM_SNAPSHOT.of(guest.handle()));
    }
    guest.lock().snapshots.current = Some(name.clone());
    let changed: Vec<_> = before.iter().map(String::as_str).chain([name.as_str()]).collect();
    kept::save::<Snapshot>(driver, &guest, &changed)
}

/// Fills the memory of a guest that has just been started with what it was.
///
/// # Errors
/// What QEMU says.
pub(crate) async fn load_memory(live: &Live, name: &str, disks: &[SnapshotDisk]) -> Result<()> {
    let devices = nodes(live, &disks.iter().collect::<Vec<_>>()).await?;
    let vmstate = devices.first().cloned();
    let vmstate = vmstate.ok_or_else(|| QEMU.internal_error("missing vmstate device"))?;
    let (job_id, tag) = (format!("snapload-{name}"), name.to_owned());
    let load = SnapshotLoad { job_id: job_id.clone(), tag, vmstate, devices };
    live.monitor.execute(&load).await.map_err(monitor)?;
    job(&live.monitor, &job_id).await
}

/// Starts a guest with the memory that it had.
async fn load(
    driver: &Qemu,
    guest: &Arc<Guest>,
    domain: &Domain,
    snapshot: &Snapshot,
    name: &str,
    paused: bool,
) -> Result<()> {
    let disks = snapshot.disks.iter().flat_map(|disks| &disks.disk);
    let disks = disks.filter(|disk| disk.snapshot == Some(SnapshotLocation::Internal));
    let memory = Memory::Snapshot { name: name.to_owned(), disks: disks.cloned().collect() };
    driver.begin(guest, domain, Begin { paused, memory }).await
}
