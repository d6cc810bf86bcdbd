//! `<domainsnapshot>` and `<domaincheckpoint>`: XML in, XML out.

use virtwire_conf::domain::Domain;
use virtwire_conf::snapshot::{
    CheckpointDisk, CheckpointDisks, CheckpointType, Parent, SnapshotDisk, SnapshotDisks, SnapshotLocation,
    SnapshotMemory, SnapshotState,
};
use virtwire_conf::{FormatOptions, ParseOptions};
use virtwire_protocol::ErrorDomain;

use super::guest::Definition;
use super::state::State;
use super::stats::disk_paths;
use crate::error::Result;

/// The inactive form: what is remembered has no id.
fn options(secure: bool) -> FormatOptions {
    FormatOptions { secure, inactive: true, ..FormatOptions::default() }
}

/// The target of the disk that `name` means.
fn find_disk(domain: &Domain, name: &str, from: ErrorDomain) -> Result<String> {
    let mut names = domain.devices.disks.iter().map(disk_paths);
    let found = names.find(|(target, source)| *target == name || *source == Some(name));
    found
        .map(|(target, _)| target.to_owned())
        .ok_or_else(|| from.config_unsupported(format_args!("no disk named '{name}'")))
}

/// The document's own text of a complete domain, as the moment holds it.
fn definition(domain: Option<&Domain>) -> Option<Result<Definition>> {
    Some(Definition::parse(&domain?.to_xml(&options(true))))
}

/// What a new snapshot shall be.
#[derive(Debug)]
pub(super) struct SnapshotRequest {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
}

/// A snapshot: the guest as it was. Memory and disks are always kept inside.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// Free text.
    pub(crate) description: Option<String>,
    /// What the guest was doing.
    pub(crate) state: State,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// What it was made of.
    pub(crate) definition: Definition,
}

/// Where errors about snapshots come from.
const SNAPSHOT: ErrorDomain = ErrorDomain::DOMAIN_SNAPSHOT;
/// Where errors about checkpoints come from.
const CHECKPOINT: ErrorDomain = ErrorDomain::DOMAIN_CHECKPOINT;

/// An empty name is none.
fn filled(name: Option<String>) -> Option<String> {
    name.filter(|name| !name.is_empty())
}

impl Snapshot {
    /// Reads what shall be taken.
    pub(super) fn request(xml: &str, domain: &Domain) -> Result<SnapshotRequest> {
        let asked = virtwire_conf::Snapshot::parse(xml, &ParseOptions::test())?;
        if let Some(memory) = &asked.memory {
            match (memory.snapshot, &memory.file) {
                (Some(SnapshotLocation::External), None) => {
                    return Err(SNAPSHOT.xml_error("external memory snapshots require a filename"));
                }
                (Some(SnapshotLocation::External) | None, Some(_)) => {
                    let target = domain.devices.disks.first().map_or("", |disk| disk_paths(disk).0);
                    return Err(SNAPSHOT.config_unsupported(format_args!(
                        "source for disk '{target}' is not a regular file; refusing to generate external snapshot name"
                    )));
                }
                _ => {}
            }
        }
        let disks = asked.disks.map(|disks| disks.disk).unwrap_or_default();
        if disks.len() > domain.devices.disks.len() {
            return Err(SNAPSHOT.config_unsupported("too many disk snapshot requests for domain"));
        }
        for disk in &disks {
            let target = find_disk(domain, &disk.name, SNAPSHOT)?;
            if disk.snapshot.is_some_and(|place| place != SnapshotLocation::Internal) {
                let text = format_args!("disk '{target}' must use snapshot mode 'internal'");
                return Err(SNAPSHOT.config_unsupported(text));
            }
        }
        Ok(SnapshotRequest { name: filled(asked.name), description: asked.description })
    }

    /// Reads a snapshot that was described in full: name, parent and the rest.
    /// `check` sees name and parent first.
    pub(super) fn parse(
        xml: &str,
        check: impl FnOnce(&str, Option<&str>) -> Result<()>,
    ) -> Result<(String, Option<String>, Self)> {
        let whole = virtwire_conf::Snapshot::parse(xml, &ParseOptions::test())?;
        let name =
            filled(whole.name).ok_or_else(|| SNAPSHOT.xml_error("a redefined snapshot must have a name"))?;
        let created = whole
            .creation_time
            .ok_or_else(|| SNAPSHOT.internal_error("missing creationTime from existing snapshot"))?;
        let state = whole.state.ok_or_else(|| SNAPSHOT.xml_error("missing state from existing snapshot"))?;
        let state = State(state as i32);
        let memory = whole
            .memory
            .and_then(|memory| memory.snapshot)
            .is_some_and(|place| place != SnapshotLocation::No);
        if memory && state == State::SHUTOFF {
            return Err(SNAPSHOT.xml_error("memory state cannot be saved with offline or disk-only snapshot"));
        }
        let parent = whole.parent.map(|parent| parent.name);
        check(&name, parent.as_deref())?;
        let definition = definition(whole.domain.as_deref())
            .unwrap_or_else(|| Err(SNAPSHOT.internal_error("missing domain in snapshot")))?;
        Ok((name, parent, Self { description: whole.description, state, created, definition }))
    }

    /// The document.
    pub(super) fn format(&self, name: &str, parent: Option<&str>, secure: bool) -> String {
        let domain = self.definition.domain();
        let disks = domain.devices.disks.iter().map(|disk| SnapshotDisk {
            name: disk_paths(disk).0.to_owned(),
            snapshot: Some(SnapshotLocation::Internal),
            ..SnapshotDisk::default()
        });
        let memory =
            if self.state == State::SHUTOFF { SnapshotLocation::No } else { SnapshotLocation::Internal };
        let state = SnapshotState::ALL.get(self.state.0 as usize).copied();
        let whole = virtwire_conf::Snapshot {
            name: Some(name.to_owned()),
            description: self.description.clone(),
            state,
            parent: parent.map(|name| Parent { name: name.to_owned() }),
            creation_time: Some(self.created),
            memory: Some(SnapshotMemory { snapshot: Some(memory), file: None }),
            disks: Some(SnapshotDisks { disk: disks.collect() }),
            domain: Some(Box::new(domain.clone())),
            ..virtwire_conf::Snapshot::default()
        };
        whole.to_xml(&options(secure))
    }
}

/// A checkpoint: from when on each disk's changes are remembered.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    /// Free text.
    pub(crate) description: Option<String>,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// Each disk, and the bitmap that remembers its changes.
    pub(crate) disks: Vec<(String, Option<String>)>,
    /// What the guest was made of.
    pub(crate) definition: Definition,
}

impl Checkpoint {
    /// Reads what shall be made of the guest as it is. Disks that aren't named take part.
    pub(super) fn request(xml: &str, definition: &Definition, now: i64) -> Result<(String, Self)> {
        let asked = virtwire_conf::Checkpoint::parse(xml, &ParseOptions::test())?;
        let name = filled(asked.name).unwrap_or_else(|| now.to_string());
        let mut named = Vec::new();
        for disk in asked.disks.map(|disks| disks.disk).unwrap_or_default() {
            named.push((find_disk(definition.domain(), &disk.name, CHECKPOINT)?, disk));
        }
        let all_take_part = named.is_empty();
        let disks = definition.domain().devices.disks.iter().map(|disk| {
            let target = disk_paths(disk).0;
            let bitmap = match named.iter().find(|(name, _)| name == target) {
                Some((_, disk)) if disk.checkpoint == Some(CheckpointType::No) => None,
                Some((_, disk)) => Some(disk.bitmap.clone().unwrap_or_else(|| name.clone())),
                None => all_take_part.then(|| name.clone()),
            };
            (target.to_owned(), bitmap)
        });
        let disks = disks.collect();
        Ok((
            name,
            Self { description: asked.description, created: now, disks, definition: definition.clone() },
        ))
    }

    /// Reads a checkpoint that was described in full: name, parent and the rest.
    pub(super) fn parse(xml: &str) -> Result<(String, Option<String>, Self)> {
        let whole = virtwire_conf::Checkpoint::parse(xml, &ParseOptions::test())?;
        let created = whole
            .creation_time
            .ok_or_else(|| CHECKPOINT.internal_error("missing creationTime from existing checkpoint"))?;
        let name = filled(whole.name)
            .ok_or_else(|| CHECKPOINT.xml_error("a redefined checkpoint must have a name"))?;
        let definition = definition(whole.domain.as_deref())
            .unwrap_or_else(|| Err(CHECKPOINT.xml_error("missing domain in checkpoint redefine")))?;
        let disks = whole.disks.map(|disks| disks.disk).unwrap_or_default();
        let disks = disks.into_iter().map(|disk| (disk.name, disk.bitmap)).collect();
        let parent = whole.parent.map(|parent| parent.name);
        Ok((name, parent, Self { description: whole.description, created, disks, definition }))
    }

    /// The document, with or without the guest.
    pub(super) fn format(&self, name: &str, parent: Option<&str>, secure: bool, with_domain: bool) -> String {
        let disks = self.disks.iter().map(|(name, bitmap)| CheckpointDisk {
            name: name.clone(),
            checkpoint: Some(if bitmap.is_some() { CheckpointType::Bitmap } else { CheckpointType::No }),
            bitmap: bitmap.clone(),
            ..CheckpointDisk::default()
        });
        let whole = virtwire_conf::Checkpoint {
            name: Some(name.to_owned()),
            description: self.description.clone(),
            parent: parent.map(|name| Parent { name: name.to_owned() }),
            creation_time: Some(self.created),
            disks: Some(CheckpointDisks { disk: disks.collect() }),
            domain: with_domain.then(|| Box::new(self.definition.domain().clone())),
        };
        whole.to_xml(&options(secure))
    }
}
