//! Objects: guests, networks, pools and the rest, with the methods that libvirt's own library has.
//!
//! Every method is one call of the [`Connection`] below, which [`Connect::connection`] gives for all that has no method
//! here.

#[macro_use]
mod table;

mod connect;
mod domain;
mod events;
mod flags;
mod inside;
mod migrate;
mod moment;
mod network;
mod node;
mod parameters;
mod states;
mod stats;
mod storage;

pub use connect::Connect;
pub use domain::{Domain, DomainInfo, IpAddress};
pub use events::{DomainEvents, Lifecycle, LifecycleEvent};
pub use flags::*;
pub use inside::{BlockCounters, BlockInfo, BlockJob, InterfaceCounters, MemoryFigures};
pub use moment::{Checkpoint, Snapshot};
pub use network::{Interface, Network, NwFilter};
pub use node::{NodeDevice, NodeInfo, Secret};
pub use parameters::{
    BlkioParameters, BlockIoTune, InterfaceParameters, JobStats, MemoryParameters, MigrateParameters,
    NumaParameters, SchedulerParameters,
};
pub use states::{BlockJobKind, DomainState, PoolState, VolumeKind};
pub use stats::{BalloonStats, BlockStats, CpuStats, DomainStats, InterfaceStats, StateStats, VcpuStats};
pub use storage::{PoolInfo, StoragePool, StorageVol, VolumeInfo};
