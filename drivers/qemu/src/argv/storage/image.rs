//! Images as block nodes: one for the storage, one for a slice of it, one for the format.

use serde_json::Value;
use virtwire_conf::domain::disk::{
    BackingStore, DetectZeroes, Disk, DiskCache, DiskDevice, DiskDiscard, DiskSource, Encryption,
    StorageAuth, StorageProtocol, StorageType,
};
use virtwire_conf::domain::private::{
    Manager, NodeName, NodeNames, ObjectName, SourceObjects, SourcePrivate, SourceSecret,
};
use virtwire_conf::table::Bytes;
use virtwire_conf::{OnOff, YesNo};
use virtwire_protocol::VirtError;

use super::super::{Context, Json};
use super::protocol;
use crate::command::CommandLine;
use crate::error::QEMU;

/// An image of a disk's chain.
pub(crate) struct Image<'a> {
    pub(super) disk: &'a Disk,
    pub(super) kind: StorageType,
    pub(super) source: &'a DiskSource,
    /// The number in its nodes' names.
    pub(super) number: u32,
    format: &'a str,
    /// The guest's own, not one behind it.
    top: bool,
    cache_size: Option<Bytes>,
    /// What is behind it: a node, nothing, or whatever the image says.
    backing: Option<Value>,
}

/// The images of a disk, the guest's own first; empty for a drive without a medium.
pub(crate) fn chain(disk: &Disk) -> Vec<Image<'_>> {
    let Some(source) = disk.source.as_ref().filter(|source| !is_empty(disk.type_, source)) else {
        return Vec::new();
    };
    let driver = disk.driver.as_ref();
    let mut images = vec![Image {
        disk,
        kind: disk.type_,
        source,
        number: source.index.unwrap_or_default(),
        format: driver.and_then(|driver| driver.type_.as_deref()).unwrap_or("raw"),
        top: true,
        cache_size: driver.and_then(|driver| driver.metadata_cache.as_ref()?.max_size),
        backing: None,
    }];
    let mut below = disk.backing_store.as_deref();
    while let Some(store) = below {
        let next = behind(disk, store);
        let behind = next.as_ref().map_or(Value::Null, |image| image.node().into());
        if let Some(last) = images.last_mut() {
            last.backing = Some(behind);
        }
        images.extend(next);
        below = store.backing_store.as_deref();
    }
    images
}

fn behind<'a>(disk: &'a Disk, store: &'a BackingStore) -> Option<Image<'a>> {
    let source = store.source.as_ref()?;
    let format = store.format.as_ref();
    Some(Image {
        disk,
        kind: store.type_.unwrap_or_default(),
        source,
        number: store.index.or(source.index).unwrap_or_default(),
        format: format.map_or("raw", |format| format.type_.as_str()),
        top: false,
        cache_size: format.and_then(|format| format.metadata_cache.as_ref()?.max_size),
        backing: None,
    })
}

/// Whether a drive has no medium.
fn is_empty(kind: StorageType, source: &DiskSource) -> bool {
    match kind {
        StorageType::File => source.file.is_none(),
        StorageType::Block | StorageType::Vhostvdpa => source.dev.is_none(),
        StorageType::Dir => source.dir.is_none(),
        StorageType::Network => source.protocol.is_none(),
        StorageType::Volume => source.volume.is_none(),
        StorageType::Nvme | StorageType::Vhostuser => false,
    }
}

impl<'a> Image<'a> {
    /// The uppermost node.
    pub(crate) fn node(&self) -> String {
        match (self.has_format_node(), self.slice()) {
            (true, _) => self.named("format"),
            (false, Some(_)) => self.named("slice-sto"),
            (false, None) => self.named("storage"),
        }
    }

    /// All nodes, the lowest first.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.layers().map(|layer| self.named(layer)).collect()
    }

    /// What each node does.
    fn layers(&self) -> impl Iterator<Item = &'static str> {
        let layers =
            [("storage", true), ("slice-sto", self.slice().is_some()), ("format", self.has_format_node())];
        layers.into_iter().filter(|(_, is)| *is).map(|(layer, _)| layer)
    }

    fn named(&self, layer: &str) -> String {
        format!("libvirt-{}-{layer}", self.number)
    }

    /// What of QEMU's there is for it, as a status file says it.
    pub(crate) fn private(&self) -> SourcePrivate {
        let node = |layer: &str| NodeName { type_: layer.to_owned(), name: self.named(layer) };
        let nodename = self.layers().map(node).collect();
        let secret = |type_: &str, alias| SourceSecret { type_: type_.to_owned(), alias };
        let auth = self.auth().filter(|auth| auth.secret.is_some() && self.kind == StorageType::Network);
        let secrets = self.encryption().map_or(0, |encryption| encryption.secret.len());
        let tls = self.uses_tls().then(|| ObjectName { alias: self.tls_object() });
        let secret = (auth.map(|_| secret("auth", self.auth_secret())).into_iter())
            .chain((0..secrets).map(|place| secret("encryption", self.encryption_secret(place))))
            .chain(self.source.cookies.as_ref().map(|_| secret("httpcookie", self.cookie_secret())));
        let objects = SourceObjects { secret: secret.collect(), tls };
        SourcePrivate {
            nodenames: Some(NodeNames { nodename }),
            reservations: self.reservations().map(|mgralias| Manager { mgralias }),
            objects: Some(objects),
        }
    }

    /// Raw storage needs no node for its format, unless it is encrypted.
    fn has_format_node(&self) -> bool {
        match self.format {
            "raw" | "iso" => self.encryption().is_some_and(|encryption| !by_storage(encryption)),
            _ => true,
        }
    }

    fn slice(&self) -> Option<(u64, u64)> {
        let slices = self.source.slices.as_ref()?;
        let storage = slices.slice.iter().find(|slice| slice.type_.as_deref() == Some("storage"))?;
        Some((storage.offset, storage.size))
    }

    pub(super) fn encryption(&self) -> Option<&'a Encryption> {
        let of_disk = self.disk.encryption.as_ref().filter(|_| self.top);
        self.source.encryption.as_ref().or(of_disk)
    }

    pub(super) fn auth(&self) -> Option<&'a StorageAuth> {
        let of_disk = self.disk.auth.as_ref().filter(|_| self.top);
        self.source.auth.as_ref().or(of_disk)
    }

    pub(super) fn auth_secret(&self) -> String {
        self.named("storage-auth-secret0")
    }

    pub(super) fn cookie_secret(&self) -> String {
        self.named("storage-httpcookie-secret0")
    }

    pub(super) fn tls_secret(&self) -> String {
        format!("{}-secret0", self.tls_object())
    }

    pub(super) fn tls_object(&self) -> String {
        format!("objlibvirt-{}-storage_tls0", self.number)
    }

    pub(super) fn encryption_secret(&self, place: usize) -> String {
        let engine = self.encryption().filter(|encryption| by_storage(encryption));
        let layer = if engine.is_some() { "storage" } else { "format" };
        self.named(&format!("{layer}-encryption-secret{place}"))
    }

    pub(super) fn uses_tls(&self) -> bool {
        let protocol = self.source.protocol;
        self.kind == StorageType::Network
            && protocol == Some(StorageProtocol::Nbd)
            && self.source.tls == Some(YesNo::Yes)
    }

    /// The object that holds this image's SCSI reservations.
    pub(super) fn reservations(&self) -> Option<String> {
        let reservations = self.source.reservations.as_ref()?;
        Some(match reservations.managed {
            Some(YesNo::No) => format!("pr-helper-libvirt-{}-storage", self.number),
            Some(YesNo::Yes) | None => super::MANAGED_HELPER.to_owned(),
        })
    }

    /// All nodes, the lowest first.
    pub(crate) fn add(&self, line: &mut CommandLine, context: &Context<'_>) -> Result<(), VirtError> {
        super::objects::add(line, self, context)?;
        let (has_format, slice) = (self.has_format_node(), self.slice());
        let storage = protocol::storage(self)?.with_if("filename", self.opened(line, context)?);
        let storage = match slice.is_some() || has_format {
            false => self.as_seen(storage.with("node-name", self.named("storage"))),
            true => self.as_carrier(storage.with("node-name", self.named("storage"))),
        };
        storage.add(line);
        if let Some((offset, size)) = slice {
            let part = Json::node("raw").with("file", self.named("storage"));
            let part =
                part.with("offset", offset).with("size", size).with("node-name", self.named("slice-sto"));
            let part = if has_format { self.as_carrier(part) } else { self.as_seen(part) };
            part.add(line);
        }
        if has_format {
            self.format_node(slice.is_some()).add(line);
        }
        Ok(())
    }

    /// Hands the files over that a client has opened for this image; their path in QEMU.
    fn opened(&self, line: &mut CommandLine, context: &Context<'_>) -> Result<Option<String>, VirtError> {
        let Some(name) = &self.source.fdgroup else { return Ok(None) };
        let none = || {
            let text = format_args!("file descriptor group '{name}' was not associated with the domain");
            QEMU.invalid_arg(text)
        };
        let group = context.opened.iter().find(|group| group.name == *name).ok_or_else(none)?;
        let set = line.next_set();
        for fd in &*group.fds {
            let cannot = |error| VirtError::system(QEMU, &error, "failed to duplicate file handle");
            let fd = line.pass(fd.try_clone().map_err(cannot)?);
            line.option("-add-fd", format!("set={set},fd={fd},opaque={}", self.named("storage")));
        }
        Ok(Some(format!("/dev/fdset/{set}")))
    }

    /// What a node below another is told: the one above decides.
    fn as_carrier(&self, node: Json) -> Json {
        node.with("auto-read-only", true).with("discard", "unmap").with_if("cache", self.cache())
    }

    /// What the uppermost node is told.
    fn as_seen(&self, node: Json) -> Json {
        let driver = self.disk.driver.as_ref();
        let discard = driver.and_then(|driver| driver.discard);
        let zeroes = driver.and_then(|driver| driver.detect_zeroes).filter(|_| self.top);
        let zeroes = zeroes.map(|zeroes| match (zeroes, discard) {
            // What is not passed on cannot be unmapped.
            (DetectZeroes::Unmap, discard) if discard != Some(DiskDiscard::Unmap) => DetectZeroes::On,
            (zeroes, _) => zeroes,
        });
        node.with("read-only", self.read_only())
            .with_if("discard", discard.map(DiskDiscard::as_str))
            .with_if("detect-zeroes", zeroes.map(DetectZeroes::as_str))
            .with_if("cache", self.cache())
    }

    fn read_only(&self) -> bool {
        !self.top || self.disk.readonly || self.disk.device == DiskDevice::Cdrom
    }

    fn cache(&self) -> Option<Value> {
        let mode = cache_mode(self.disk)?;
        let direct = matches!(mode, DiskCache::None | DiskCache::Directsync);
        Some(Json::part().with("direct", direct).with("no-flush", mode == DiskCache::Unsafe).into())
    }

    fn format_node(&self, sliced: bool) -> Json {
        let node = self.as_seen(Json::begin("-blockdev", "node-name", self.named("format")));
        let key = || self.encryption_secret(0);
        let node = match (self.format, self.encryption()) {
            ("raw" | "iso", Some(_)) => node.with("driver", "luks").with("key-secret", key()),
            ("raw" | "iso" | "fat", None) => node.with("driver", "raw"),
            (format, encryption) => {
                let encrypt = encryption.map(|encryption| {
                    let format = if encryption.format == "qcow" { "aes" } else { "luks" };
                    Json::part().with("format", format).with("key-secret", key())
                });
                node.with("driver", driver_of(format)).with_if("encrypt", encrypt)
            }
        };
        let no_unref = self.disk.driver.as_ref().and_then(|driver| driver.discard_no_unref);
        let file = self.named(if sliced { "slice-sto" } else { "storage" });
        let backing =
            self.backing.clone().filter(|_| matches!(self.format, "cow" | "qcow" | "qcow2" | "qed" | "vmdk"));
        node.with_if("cache-size", self.cache_size.map(|size| size.0))
            .switch("discard-no-unref", no_unref.filter(|_| self.format == "qcow2" && self.top))
            .with("file", file)
            .with_if("backing", backing)
    }
}

/// How the host caches a disk; one that several guests share is written through.
pub(super) fn cache_mode(disk: &Disk) -> Option<DiskCache> {
    let said = disk.driver.as_ref().and_then(|driver| driver.cache);
    said.or_else(|| disk.shareable.then_some(DiskCache::None))
}

/// Whether the storage decrypts, not QEMU.
fn by_storage(encryption: &Encryption) -> bool {
    encryption.engine.as_deref() == Some("librbd")
}

/// QEMU's name of a format.
fn driver_of(format: &str) -> &str {
    match format {
        "vhd" => "vhdx",
        other => other,
    }
}

/// Why an image cannot be given to QEMU.
pub(super) fn unsupported(what: std::fmt::Arguments<'_>) -> VirtError {
    QEMU.config_unsupported(what)
}

/// Whether a switch is on.
pub(super) fn is_on(switch: Option<OnOff>) -> bool {
    switch == Some(OnOff::On)
}
