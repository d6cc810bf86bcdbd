//! A checkpoint is made, or one that was described elsewhere is made known again.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use virtwire_conf::domain::disk::Disk;
use virtwire_conf::moments::Moment;
use virtwire_conf::snapshot::{CheckpointDisk, CheckpointDisks, CheckpointType};
use virtwire_conf::xml::utf8;
use virtwire_conf::{Checkpoint, Domain};
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;

use super::bitmaps::{self, Bitmaps, followed};
use super::{CHECKPOINT, on_wire};
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, bad_flags, check_flags};
use crate::guest::{Guest, Live};
use crate::kept;
use crate::overlay::check_lasting;
use crate::snapshot::of_run;

/// `VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE`, `…_REDEFINE_VALIDATE`
const REDEFINE: u32 = 1;
const REDEFINE_VALIDATE: u32 = 4;

pub(crate) async fn create_xml(
    driver: &Qemu,
    args: DomainCheckpointCreateXmlArgs,
) -> Result<DomainCheckpointCreateXmlRet> {
    check_flags(args.flags, REDEFINE | REDEFINE_VALIDATE, "qemuCheckpointCreateXML")?;
    let redefine = args.flags & REDEFINE != 0;
    if args.flags & REDEFINE_VALIDATE != 0 && !redefine {
        let text = "Flag 'VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE' is required by flag \
                    'VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE'";
        return Err(bad_flags(CHECKPOINT, "virDomainCheckpointCreateXML", text));
    }
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    if !redefine && guest.lock().live.is_none() {
        return Err(QEMU.operation_unsupported("cannot create checkpoint for inactive domain"));
    }
    let asked = read(driver, utf8(args.xml_desc.as_bytes(), ErrorDomain::DOMAIN_CHECKPOINT)?).await?;
    let moment = if redefine { redefined(&guest, asked)? } else { described(&guest, asked)? };
    if args.flags & REDEFINE_VALIDATE != 0 {
        validate(&guest, &moment.data).await?;
    }
    if !redefine {
        let live = guest.live()?;
        bitmaps::change(&live, actions(&live, &moment.data)?).await?;
    }
    let checkpoint = on_wire(&guest.handle(), &moment.name);
    remember(driver, &guest, moment, !redefine)?;
    Ok(DomainCheckpointCreateXmlRet { checkpoint })
}

/// A description of a checkpoint.
///
/// # Errors
/// It is none.
pub(crate) async fn read(driver: &Qemu, xml: &str) -> Result<Checkpoint> {
    let options = driver.options().await?.clone().validating(true);
    Checkpoint::parse(xml, &options)
}

/// Keeps a checkpoint, which the next one may follow.
///
/// # Errors
/// It cannot be stored.
pub(crate) fn remember(
    driver: &Qemu,
    guest: &Guest,
    moment: Moment<Checkpoint>,
    is_current: bool,
) -> Result<()> {
    let name = moment.name.clone();
    {
        let mut inner = guest.lock();
        inner.checkpoints.insert(moment);
        if is_current {
            inner.checkpoints.current = Some(name.clone());
        }
    }
    kept::save::<Checkpoint>(driver, guest, &[&name])
}

/// A checkpoint whose description was kept elsewhere.
fn redefined(guest: &Guest, mut whole: Checkpoint) -> Result<Moment<Checkpoint>> {
    let name = whole.name.clone().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| CHECKPOINT.xml_error("a redefined checkpoint must have a name"))?;
    if whole.creation_time.is_none() {
        return Err(CHECKPOINT.internal_error("missing creationTime from existing checkpoint"));
    }
    let parent = whole.parent.take().map(|parent| parent.name);
    guest.lock().checkpoints.check_parent(&name, parent.as_deref())?;
    if let Some(domain) = &whole.domain
        && domain.uuid.map(uuid::Uuid::into_bytes) != Some(guest.uuid)
    {
        let uuid = uuid::Uuid::from_bytes(guest.uuid).hyphenated();
        let text = format_args!("definition for checkpoint {name} must use uuid {uuid}");
        return Err(CHECKPOINT.invalid_arg(text));
    }
    let asked = whole.disks.take().map(|disks| disks.disk);
    let disks = match &whole.domain {
        Some(domain) => Some(disks(domain, &name, asked.unwrap_or_default(), true)?),
        None => asked.map(|asked| asked.into_iter().map(|disk| completed(disk, &name)).collect()),
    };
    whole.disks = disks.map(|disk| CheckpointDisks { disk });
    Ok(Moment { name, parent, data: whole })
}

/// What a new checkpoint will be: nothing is remembered yet.
///
/// # Errors
/// It cannot be.
pub(crate) fn described(guest: &Guest, asked: Checkpoint) -> Result<Moment<Checkpoint>> {
    let inner = guest.lock();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = asked.name.filter(|name| !name.is_empty()).unwrap_or_else(|| now.to_string());
    let live = inner.live.as_ref().ok_or_else(crate::error::not_running)?;
    let disks = disks(&live.domain, &name, asked.disks.map(|disks| disks.disk).unwrap_or_default(), false)?;
    let remembered = |own: &&Disk| {
        let mut all = disks.iter().filter(|disk| disk.checkpoint == Some(CheckpointType::Bitmap));
        all.any(|disk| disk.name == target(own))
    };
    live.domain.devices.disks.iter().filter(remembered).try_for_each(check_lasting)?;
    if inner.checkpoints.get(&name).is_some() {
        return Err(ErrorDomain::DOMAIN.operation_failed(format_args!("domain moment {name} already exists")));
    }
    let data = Checkpoint {
        name: Some(name.clone()),
        description: asked.description,
        creation_time: i64::try_from(now).ok(),
        disks: Some(CheckpointDisks { disk: disks }),
        domain: Some(Box::new(of_run(live))),
        ..Checkpoint::default()
    };
    Ok(Moment { name, parent: inner.checkpoints.current.clone(), data })
}

/// A disk with its bitmap named, which is called like the checkpoint unless somebody says otherwise.
fn completed(disk: CheckpointDisk, checkpoint: &str) -> CheckpointDisk {
    let type_ = disk.checkpoint.unwrap_or(CheckpointType::Bitmap);
    let bitmap = disk.bitmap.filter(|_| type_ == CheckpointType::Bitmap);
    let bitmap = bitmap.or_else(|| (type_ == CheckpointType::Bitmap).then(|| checkpoint.to_owned()));
    CheckpointDisk { checkpoint: Some(type_), bitmap, size: None, name: disk.name }
}

fn file(disk: &Disk) -> Option<&str> {
    disk.source.as_ref()?.file.as_deref()
}

/// Every disk, with whether and how its changes are remembered.
fn disks(
    domain: &Domain,
    checkpoint: &str,
    asked: Vec<CheckpointDisk>,
    redefine: bool,
) -> Result<Vec<CheckpointDisk>> {
    let all = &domain.devices.disks;
    if asked.len() > all.len() {
        return Err(CHECKPOINT.config_unsupported("too many disk checkpoint requests for domain"));
    }
    // Where none is named, all are meant.
    let others = if asked.is_empty() { CheckpointType::Bitmap } else { CheckpointType::No };
    let mut named: Vec<Option<CheckpointDisk>> = vec![None; all.len()];
    for disk in asked {
        let at = all.iter().position(|own| target(own) == disk.name || file(own) == Some(&disk.name));
        let missing = || CHECKPOINT.config_unsupported(format_args!("no disk named '{}'", disk.name));
        let at = at.ok_or_else(missing)?;
        if named[at].is_some() {
            let text = format_args!("disk '{}' specified twice", disk.name);
            return Err(CHECKPOINT.config_unsupported(text));
        }
        let own = &all[at];
        let follows = disk.checkpoint != Some(CheckpointType::No);
        if follows && (own.source.is_none() || own.readonly) {
            let text = format_args!("disk '{}' is empty or readonly", disk.name);
            return Err(CHECKPOINT.config_unsupported(text));
        }
        if !redefine && disk.bitmap.as_deref().is_some_and(|bitmap| bitmap != checkpoint) {
            let text =
                format_args!("bitmap for disk '{}' must match checkpoint name '{checkpoint}'", disk.name);
            return Err(CHECKPOINT.config_unsupported(text));
        }
        named[at] = Some(CheckpointDisk { name: target(own).to_owned(), ..disk });
    }
    let with_named = all.iter().zip(named).map(|(own, named)| {
        let empty = own.source.is_none() || own.readonly;
        let default = || CheckpointDisk {
            name: target(own).to_owned(),
            checkpoint: Some(if empty { CheckpointType::No } else { others }),
            ..CheckpointDisk::default()
        };
        completed(named.unwrap_or_else(default), checkpoint)
    });
    Ok(with_named.collect())
}

/// What has QEMU remember what changes from now on.
///
/// # Errors
/// The disks' images have no room for that.
pub(crate) fn actions(live: &Live, checkpoint: &Checkpoint) -> Result<Vec<Value>> {
    let mut actions = Vec::new();
    for (disk, bitmap) in followed(checkpoint) {
        let Some(own) = bitmaps::disk(live, &disk.name) else { continue };
        let format = own.driver.as_ref().and_then(|driver| driver.type_.as_deref()).unwrap_or("raw");
        if format != "qcow2" {
            let text =
                format_args!("checkpoint for disk {} unsupported for storage type {format}", disk.name);
            return Err(QEMU.config_unsupported(text));
        }
        let top = bitmaps::images(own).into_iter().next();
        let top = top.ok_or_else(|| QEMU.internal_error(format_args!("missing node of '{}'", disk.name)))?;
        actions.push(bitmaps::add(&top, bitmap));
    }
    Ok(actions)
}

/// Checks that QEMU has all that a description speaks of.
async fn validate(guest: &Guest, checkpoint: &Checkpoint) -> Result<()> {
    let live = guest.live()?;
    let all = Bitmaps::read(&live).await?;
    for (disk, bitmap) in followed(checkpoint) {
        let found = bitmaps::disk(&live, &disk.name).map(|own| all.of(own, bitmap)).unwrap_or_default();
        if found.is_empty() || found.iter().any(|(_, bitmap)| bitmap.inconsistent) {
            let text = format_args!("missing or broken bitmap '{bitmap}' for disk '{}'", disk.name);
            return Err(QEMU.checkpoint_inconsistent(text));
        }
    }
    Ok(())
}
