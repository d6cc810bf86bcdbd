//! A backup begins: for all of its disks in one moment, and with the checkpoint that is made at once.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use virtwire_conf::backup::{BackupDisk, BackupServer, BackupTransport};
use virtwire_conf::domain::disk::{Disk, StorageType};
use virtwire_conf::{Backup, Domain, YesNo};
use virtwire_protocol::remote::DomainBackupBeginArgs;
use virtwire_qmp::commands::BlockdevDel;

use super::images::{as_disk, bitmap, is_upon, node_of, store, store_nodes};
use super::{Running, included, now, plan};
use crate::argv::storage::chain;
use crate::blockjob::{BlockJob, Kind, layers, say, virtual_size};
use crate::checkpoint::bitmaps::{self, Bitmaps};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, file};
use crate::guest::{Guest, Live};
use crate::named;
use crate::namespace::Handed;
use crate::snapshot::qemu_img;
use crate::{checkpoint, devices};

/// QEMU's name of a server's keys.
pub(super) const TLS: &str = "libvirt-backup-tls0";

/// `VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL`
const REUSE_EXTERNAL: u32 = 1;

pub(crate) async fn begin(driver: &Qemu, args: DomainBackupBeginArgs) -> Result<()> {
    check_flags(args.flags, REUSE_EXTERNAL, "qemuBackupBegin")?;
    let guest = driver.guest(&args.dom)?;
    let options = driver.options().await?.clone().validating(true);
    let asked = Backup::parse(&args.backup_xml.to_str_lossy(), &options)?;
    let moment = match &args.checkpoint_xml {
        Some(xml) => Some(checkpoint::read(driver, &xml.to_str_lossy()).await?),
        None => None,
    };
    let off = || QEMU.operation_unsupported("cannot perform disk backup for inactive domain");
    if guest.lock().live.is_none() {
        return Err(off());
    }
    let _job = guest.turn().await?;
    let live = guest.live().map_err(|_| off())?;
    let moment = moment.map(|moment| checkpoint::described(&guest, moment)).transpose()?;
    let reuse = args.flags & REUSE_EXTERNAL != 0;
    let suffix = moment.as_ref().map_or_else(|| (now() / 1000).to_string(), |moment| moment.name.clone());
    let shown = plan::complete(asked, &guest, &live, &suffix, reuse)?;
    let mut actions = match &moment {
        Some(moment) => checkpoint::actions(&live, &moment.data)?,
        None => Vec::new(),
    };
    let mut made = Made::default();
    let new = Running::new(shown, reuse);
    let begun = run(driver, &guest, &live, new, &mut actions, &mut made).await;
    if begun.is_err() {
        made.take_back(&live).await;
        return begun;
    }
    made.keep();
    match moment {
        Some(moment) => checkpoint::remember(driver, &guest, moment, true),
        None => Ok(()),
    }
}

/// What is to be taken back where a backup does not come about.
#[derive(Default)]
struct Made<'d> {
    files: Vec<String>,
    nodes: Vec<String>,
    given: Vec<Handed<'d>>,
    serves: bool,
}

impl Made<'_> {
    async fn take_back(self, live: &Live) {
        if self.serves {
            super::end::stop_server(live).await;
        }
        for node_name in self.nodes {
            let _ = live.monitor.execute(&BlockdevDel { node_name }).await;
        }
        drop(self.given);
        self.files.iter().for_each(|path| drop(fs::remove_file(path)));
    }

    fn keep(self) {
        self.given.into_iter().for_each(Handed::keep);
    }
}

async fn run<'d>(
    driver: &'d Qemu,
    guest: &Arc<Guest>,
    live: &Live,
    new: Running,
    actions: &mut Vec<Value>,
    made: &mut Made<'d>,
) -> Result<()> {
    let (shown, reuse) = (&new.shown, new.reuse);
    let all = Bitmaps::read(live).await?;
    let mut jobs = Vec::new();
    for disk in included(shown) {
        let own = plan::own(&live.domain, disk)?;
        image(live, own, disk, reuse, made).await?;
        add(driver, live, own, disk, made).await?;
        actions.extend(changed_since(own, disk, &all)?);
        let (name, action) = job(own, disk, shown.server.is_some());
        actions.push(action);
        jobs.push(BlockJob::new(name, Kind::Backup, &disk.name));
    }
    if let Some(server) = &shown.server {
        serve(live, server).await?;
        made.serves = true;
    }
    let exports: Vec<_> = match shown.server {
        Some(_) => included(shown).filter_map(|disk| export(&live.domain, disk)).collect(),
        None => Vec::new(),
    };
    let names: Vec<_> = jobs.iter().map(|job| job.name.clone()).collect();
    if let Some(live) = &mut guest.lock().live {
        let last = included(shown).filter_map(|disk| disk.index).max();
        live.last_source = last.unwrap_or_default().max(live.last_source);
        live.block_jobs.append(&mut jobs);
    }
    guest.set_backup(Some(new));
    driver.save_status(guest);
    let mut begun = bitmaps::change(live, std::mem::take(actions)).await;
    if begun.is_ok() {
        for export in exports {
            begun = say(&live.monitor, "block-export-add", export).await;
            if begun.is_err() {
                break;
            }
        }
        if begun.is_err() {
            super::end::give_up(live, &names).await;
        }
    }
    if begun.is_err() {
        names.iter().for_each(|name| drop(driver.forget_job(guest, name)));
        guest.set_backup(None);
        driver.save_status(guest);
    }
    begun
}

/// Has QEMU listen for clients that read.
async fn serve(live: &Live, server: &BackupServer) -> Result<()> {
    let credentials = server.tls == Some(YesNo::Yes);
    if credentials {
        let object = json!({"qom-type": "tls-creds-x509", "id": TLS, "dir": credentials_dir(), "endpoint": "server",
            "verify-peer": true});
        say(&live.monitor, "object-add", object).await?;
    }
    let address = match server.transport {
        Some(BackupTransport::Unix) => json!({"type": "unix", "data": {"path": server.socket}}),
        _ => {
            let port = server.port.unwrap_or_default().to_string();
            json!({"type": "inet", "data": {"host": server.name, "port": port}})
        }
    };
    let mut arguments = json!({"addr": address});
    if credentials {
        arguments["tls-creds"] = TLS.into();
    }
    let started = say(&live.monitor, "nbd-server-start", arguments).await;
    if started.is_err() && credentials {
        let _ = say(&live.monitor, "object-del", json!({"id": TLS})).await;
    }
    started
}

/// Where the keys of a server are: those for backups, or those that are for everything.
fn credentials_dir() -> &'static str {
    let own = "/etc/pki/libvirt-backup";
    if Path::new(own).is_dir() { own } else { "/etc/pki/qemu" }
}

/// Makes an image as large as the disk.
async fn image(live: &Live, own: &Disk, disk: &BackupDisk, reuse: bool, made: &mut Made<'_>) -> Result<()> {
    let new = store(disk);
    let Some(path) = new.path().filter(|_| !reuse) else { return Ok(()) };
    if new.type_ == StorageType::File {
        let opened = named::new().open(path);
        opened.map_err(|error| file(&error, format_args!("failed to create image file '{path}'")))?;
        made.files.push(path.to_owned());
    } else if new.format == "raw" {
        return Ok(());
    }
    let size = virtual_size(live, &node_of(own).unwrap_or_default()).await?.to_string();
    let mut args = vec!["create", "-q", "-f", &new.format];
    let below = layers(own).0.into_iter().next().filter(|_| is_upon(disk));
    if let Some((image, base)) = below.as_ref().and_then(|image| Some((image, image.path()?))) {
        args.extend(["-u", "-F", &image.format, "-b", base]);
    }
    args.extend([path, &size]);
    qemu_img(&args).await
}

/// Has QEMU know it.
async fn add<'d>(
    driver: &'d Qemu,
    live: &Live,
    own: &Disk,
    disk: &BackupDisk,
    made: &mut Made<'d>,
) -> Result<()> {
    let mut only = Domain::clone(&live.domain);
    only.devices.disks = vec![as_disk(own, disk)];
    let line = devices::line_of(driver, live, &only, |line, domain, context| {
        let mut own = domain.devices.disks.iter().filter_map(|disk| chain(disk).into_iter().next());
        own.try_for_each(|image| image.add(line, context))
    });
    let line = line.await?;
    let alone = Disk { backing_store: Some(Box::default()), ..as_disk(own, disk) };
    made.given.push(driver.give_disk(live, &alone)?);
    devices::run(&live.monitor, line).await?;
    made.nodes.extend(store_nodes(own, disk).1);
    Ok(())
}

/// Gathers what has changed on a disk since a checkpoint.
fn changed_since(own: &Disk, disk: &BackupDisk, all: &Bitmaps) -> Result<Vec<Value>> {
    let (Some(name), Some(since)) = (bitmap(disk), &disk.incremental) else { return Ok(Vec::new()) };
    let node = match disk.scratch {
        Some(_) => store_nodes(own, disk).0,
        None => node_of(own).unwrap_or_default(),
    };
    let found = all.of(own, since);
    let Some((_, first)) = found.first().filter(|_| found.iter().all(|(_, bitmap)| !bitmap.inconsistent))
    else {
        let text = format_args!("missing or broken bitmap '{since}' for disk '{}'", disk.name);
        return Err(QEMU.checkpoint_inconsistent(text));
    };
    let from = found.iter().map(|(node, bitmap)| json!({"node": node, "name": bitmap.name}));
    let from: Vec<_> = from.collect();
    Ok(vec![
        json!({"type": "block-dirty-bitmap-add", "data": {"node": node, "name": name, "persistent": false,
            "disabled": true, "granularity": first.granularity}}),
        json!({"type": "block-dirty-bitmap-merge", "data": {"node": node, "target": name, "bitmaps": from}}),
    ])
}

/// The job that fills a disk's image: with all, with what has changed, or with what is about to be written over.
fn job(own: &Disk, disk: &BackupDisk, pull: bool) -> (String, Value) {
    let device = node_of(own).unwrap_or_default();
    let name = format!("backup-{}-{device}", disk.name);
    let mut data = json!({"device": device, "job-id": name, "target": store_nodes(own, disk).0,
        "auto-finalize": true, "auto-dismiss": false});
    match bitmap(disk).filter(|_| !pull) {
        _ if pull => data["sync"] = "none".into(),
        Some(bitmap) => {
            data["sync"] = "incremental".into();
            data["bitmap"] = bitmap.into();
        }
        None => data["sync"] = "full".into(),
    }
    (name, json!({"type": "blockdev-backup", "data": data}))
}

/// What a client is to see of a disk.
fn export(domain: &Domain, disk: &BackupDisk) -> Option<Value> {
    let own = plan::own(domain, disk).ok()?;
    let node = store_nodes(own, disk).0;
    let name = disk.exportname.as_deref().unwrap_or(&disk.name);
    let mut export = json!({"type": "nbd", "id": format!("libvirt-nbd-{node}"), "node-name": node,
        "writable": false, "name": name});
    if let Some(bitmap) = bitmap(disk) {
        export["bitmaps"] = json!([bitmap]);
    }
    Some(export)
}
