//! `virtwire list`: a host's objects, or those of many hosts in one table.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use virtwire_client::protocol::error::ErrorCode;
use virtwire_client::{
    Connect, Domain, DomainListFlags, DomainState, DomainStats, DomainStatsFlags, DomainStatsTypes,
    InterfaceListFlags, NetworkListFlags, NodeDeviceListFlags, SecretListFlags, StoragePoolListFlags,
};

use crate::failure::Failure;
use crate::hosts::Hosts;
use crate::table::{Table, bytes, kib};

/// List guests, or networks, pools and other objects
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  virtwire list -c qemu:///system
  virtwire list --active --on qemu+ssh://root@a/system,qemu+ssh://root@b/system
  virtwire list pools --json")]
pub(crate) struct Options {
    /// What to list
    #[arg(value_enum, default_value_t = Kind::Guests)]
    kind: Kind,

    /// Only what runs
    #[arg(short, long)]
    active: bool,

    /// What virsh calls this; it is so without it
    #[arg(long = "all", hide = true, conflicts_with = "active")]
    _all: bool,

    #[command(flatten)]
    hosts: Hosts,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Guests,
    Networks,
    Pools,
    Volumes,
    Interfaces,
    Devices,
    Secrets,
    Filters,
}

/// A row: its cells, and the same as JSON.
type Row = (Vec<String>, Value);

impl Kind {
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Guests => &["ID", "NAME", "STATE", "CPUS", "MEMORY"],
            Self::Networks => &["NAME", "ACTIVE", "PERSISTENT", "AUTOSTART"],
            Self::Pools => &["NAME", "STATE", "CAPACITY", "AVAILABLE"],
            Self::Volumes => &["POOL", "NAME", "KIND", "CAPACITY", "ALLOCATION"],
            Self::Interfaces => &["NAME", "MAC"],
            Self::Devices => &["NAME"],
            Self::Secrets => &["UUID", "USAGE"],
            Self::Filters => &["NAME", "UUID"],
        }
    }
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let Options { kind, active, hosts, .. } = options;
    let mut table = Table::new(&hosts, kind.columns());
    let work = move |connect: Connect| async move {
        let mut rows = rows(&connect, kind, active).await?;
        // Daemons list in an order of their own; guests have their names behind their ids.
        let name = usize::from(matches!(kind, Kind::Guests));
        rows.sort_by(|(a, _), (b, _)| a.get(name).cmp(&b.get(name)).then(a.cmp(b)));
        Ok(rows)
    };
    hosts.each(work, |uri, rows| table.show(uri, rows)).await
}

async fn rows(connect: &Connect, kind: Kind, active: bool) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    match kind {
        Kind::Guests => return guests(connect, active).await,
        Kind::Networks => {
            let flags = if active { NetworkListFlags::ACTIVE } else { NetworkListFlags::empty() };
            for network in connect.networks(flags).await? {
                let (name, active) = (network.name(), network.is_active().await?);
                let (persistent, autostart) = (network.is_persistent().await?, network.autostart().await?);
                let json = json!({"name": name, "uuid": network.uuid().to_string(), "active": active,
                    "persistent": persistent, "autostart": autostart});
                rows.push((vec![name, yes(active), yes(persistent), yes(autostart)], json));
            }
        }
        Kind::Pools => {
            for pool in connect.storage_pools(pools(active)).await? {
                let (name, info) = (pool.name(), pool.info().await?);
                let json = json!({"name": name, "uuid": pool.uuid().to_string(), "state": info.state.to_string(),
                    "capacity": info.capacity, "allocation": info.allocation, "available": info.available});
                rows.push((
                    vec![name, info.state.to_string(), bytes(info.capacity), bytes(info.available)],
                    json,
                ));
            }
        }
        Kind::Volumes => {
            for volume in volumes(connect).await? {
                let (pool, name, info) = (volume.pool_name(), volume.name(), volume.info().await?);
                let json = json!({"pool": pool, "name": name, "key": volume.key(), "kind": info.kind.to_string(),
                    "capacity": info.capacity, "allocation": info.allocation});
                let (capacity, allocation) = (bytes(info.capacity), bytes(info.allocation));
                rows.push((vec![pool, name, info.kind.to_string(), capacity, allocation], json));
            }
        }
        Kind::Interfaces => {
            let flags = if active { InterfaceListFlags::ACTIVE } else { InterfaceListFlags::empty() };
            for interface in connect.interfaces(flags).await? {
                let (name, mac) = (interface.name(), interface.mac());
                let json = json!({"name": name, "mac": mac});
                rows.push((vec![name, mac], json));
            }
        }
        Kind::Devices => {
            for device in connect.node_devices(NodeDeviceListFlags::empty()).await? {
                let json = json!({"name": device.name()});
                rows.push((vec![device.name()], json));
            }
        }
        Kind::Secrets => {
            for secret in connect.secrets(SecretListFlags::empty()).await? {
                let (uuid, usage) = (secret.uuid().to_string(), secret.usage().1);
                let json = json!({"uuid": uuid, "usage": usage});
                rows.push((vec![uuid, usage], json));
            }
        }
        Kind::Filters => {
            for filter in connect.nwfilters(0).await? {
                let (name, uuid) = (filter.name(), filter.uuid().to_string());
                let json = json!({"name": name, "uuid": uuid});
                rows.push((vec![name, uuid], json));
            }
        }
    }
    Ok(rows)
}

fn pools(active: bool) -> StoragePoolListFlags {
    if active { StoragePoolListFlags::ACTIVE } else { StoragePoolListFlags::empty() }
}

async fn volumes(connect: &Connect) -> Result<Vec<virtwire_client::StorageVol>, Failure> {
    let mut all = Vec::new();
    for pool in connect.storage_pools(StoragePoolListFlags::ACTIVE).await? {
        all.extend(pool.volumes(0).await?);
    }
    Ok(all)
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

async fn guests(connect: &Connect, active: bool) -> Result<Vec<Row>, Failure> {
    let flags = if active { DomainStatsFlags::ACTIVE } else { DomainStatsFlags::empty() };
    let wanted = DomainStatsTypes::STATE | DomainStatsTypes::VCPU | DomainStatsTypes::BALLOON;
    let known: Vec<(Domain, Option<Figures>)> = match connect.domain_stats(&[], wanted, flags).await {
        Ok(all) => all.into_iter().map(|stats| (stats.domain.clone(), Figures::of(&stats))).collect(),
        Err(error) if is(&error, ErrorCode::NO_SUPPORT) => {
            let flags = if active { DomainListFlags::ACTIVE } else { DomainListFlags::empty() };
            connect.domains(flags).await?.into_iter().map(|domain| (domain, None)).collect()
        }
        Err(error) => return Err(error.into()),
    };
    let mut rows = Vec::new();
    for (domain, figures) in known {
        // A driver that has not all figures at once is asked for those of each guest.
        let figures = match figures {
            Some(figures) => figures,
            None => match domain.info().await {
                Ok(info) => {
                    Figures { state: info.state, vcpus: info.vcpus.into(), memory_kib: info.memory_kib }
                }
                Err(error) if is(&error, ErrorCode::NO_DOMAIN) => continue,
                Err(error) => return Err(error.into()),
            },
        };
        rows.push(guest(&domain, &figures));
    }
    Ok(rows)
}

fn is(error: &virtwire_client::Error, code: ErrorCode) -> bool {
    error.remote().is_some_and(|error| error.code == code)
}

/// What a row tells of a guest besides its name.
struct Figures {
    state: DomainState,
    vcpus: usize,
    memory_kib: u64,
}

impl Figures {
    /// `None` where the driver left one out.
    fn of(stats: &DomainStats) -> Option<Self> {
        let vcpus = Some(stats.vcpus.len()).filter(|count| *count > 0)?;
        Some(Self { state: stats.state.state?.into(), vcpus, memory_kib: stats.balloon.current? })
    }
}

fn guest(domain: &Domain, figures: &Figures) -> Row {
    let state = figures.state.to_string();
    let json = json!({"name": domain.name(), "uuid": domain.uuid().to_string(), "id": domain.id(),
        "state": state, "vcpus": figures.vcpus, "memory_kib": figures.memory_kib});
    let cells = vec![
        domain.id().map_or_else(|| "-".to_owned(), |id| id.to_string()),
        domain.name(),
        state,
        figures.vcpus.to_string(),
        kib(figures.memory_kib),
    ];
    (cells, json)
}
