//! What a disk's source says, by its kind and by the protocol that is spoken to it.

use crate::domain::disk::{BackingStore, Disk, DiskSource, Identity, Iotune, StorageProtocol, StorageType};

/// Drops what belongs to other kinds.
pub(super) fn disk(disk: &mut Disk) {
    if let Some(driver) = &mut disk.driver
        && driver.type_.as_deref() == Some("aio")
    {
        driver.type_ = Some("raw".to_owned());
    }
    disk.iotune.iter_mut().for_each(Iotune::drop_zeros);
    let kind = disk.type_;
    disk.source.iter_mut().for_each(|source| self::source(kind, source));
    let mut below = disk.backing_store.as_deref_mut();
    while let Some(store) = below {
        match store.type_ {
            None => *store = BackingStore::default(),
            Some(kind) => store.source.iter_mut().for_each(|source| {
                self::source(kind, source);
                source.startup_policy = None;
            }),
        }
        below = store.backing_store.as_deref_mut();
    }
}

/// Each kind of storage has its own parts of a source.
fn source(kind: StorageType, source: &mut DiskSource) {
    use StorageType::{Block, Dir, File, Network, Nvme, Vhostuser, Vhostvdpa, Volume};
    let only = |of: &[StorageType]| !of.contains(&kind);
    source.file.take_if(|_| only(&[File]));
    source.dev.take_if(|_| only(&[Block, Vhostvdpa]));
    source.dir.take_if(|_| only(&[Dir]));
    source.type_.take_if(|_| only(&[Nvme, Vhostuser]));
    source.path.take_if(|_| only(&[Vhostuser]));
    source.managed.take_if(|_| only(&[Nvme]));
    source.namespace.take_if(|_| only(&[Nvme]));
    source.pool.take_if(|_| only(&[Volume]));
    source.volume.take_if(|_| only(&[Volume]));
    source.mode.take_if(|_| only(&[Volume]));
    source.fdgroup.take_if(|_| only(&[File]));
    source.address.take_if(|_| only(&[Nvme]));
    if kind == Network {
        source.seclabel.clear();
    } else {
        source.protocol = None;
        source.name = None;
        source.tls = None;
        source.tls_hostname = None;
        source.host.clear();
        source.snapshot = None;
        source.config = None;
        source.initiator = None;
        source.readahead = None;
        source.timeout = None;
    }
    if kind != Vhostuser {
        spoken(source);
    }
}

/// What is said in a protocol is known in that one alone.
fn spoken(source: &mut DiskSource) {
    use StorageProtocol::{Ftps, Http, Https, Nbd, Nfs, Ssh};
    let protocol = source.protocol;
    let not = |of: &[StorageProtocol]| !protocol.is_some_and(|protocol| of.contains(&protocol));
    source.query.take_if(|_| not(&[Http, Https]));
    source.cookies.take_if(|_| not(&[Http, Https]));
    source.ssl.take_if(|_| not(&[Https, Ftps]));
    source.known_hosts.take_if(|_| not(&[Ssh]));
    source.reconnect = source.reconnect.take().filter(|_| !not(&[Nbd]));
    if let Some(reconnect) = &mut source.reconnect {
        (reconnect.enabled, reconnect.timeout) = (None, None);
    }
    let identity = |ssh: bool, of: Identity| match ssh {
        true => Identity { user: None, group: None, ..of },
        false => Identity { user: of.user, group: of.group, ..Identity::default() },
    };
    source.owner = source.owner.take().filter(|_| !not(&[Nfs])).map(|of| identity(false, of));
    source.identity = source.identity.take().filter(|_| !not(&[Ssh])).map(|of| identity(true, of));
}
