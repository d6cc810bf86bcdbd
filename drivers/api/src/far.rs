//! Other daemons, for what two of them do between themselves.

use virtwire_protocol::error::VirtError;
use virtwire_protocol::remote::{
    DomainMigrateFinish3ParamsArgs, DomainMigrateFinish3ParamsRet, DomainMigratePrepare3ParamsArgs,
    DomainMigratePrepare3ParamsRet, DomainMigratePrepareTunnel3ParamsArgs,
    DomainMigratePrepareTunnel3ParamsRet,
};

use crate::async_trait;

/// The way to other daemons.
#[async_trait]
pub trait Reach: Send + Sync {
    /// Opens a connection to the hypervisor of a URI.
    ///
    /// # Errors
    /// There is no way there, or it is not to be gone.
    async fn open(&self, uri: &str) -> Result<Box<dyn Far>, VirtError>;
}

/// Another daemon: as much of it as a migration needs.
#[async_trait]
pub trait Far: Send + Sync {
    /// Whether it has a feature (`VIR_DRV_FEATURE_…`).
    async fn supports(&self, feature: i32) -> Result<bool, VirtError>;

    /// `virDomainMigratePrepare3Params`
    async fn prepare(
        &self,
        args: DomainMigratePrepare3ParamsArgs,
    ) -> Result<DomainMigratePrepare3ParamsRet, VirtError>;

    /// `virDomainMigratePrepareTunnel3Params`, with the way in.
    async fn prepare_tunnel(
        &self,
        args: DomainMigratePrepareTunnel3ParamsArgs,
    ) -> Result<(DomainMigratePrepareTunnel3ParamsRet, Box<dyn Tunnel>), VirtError>;

    /// `virDomainMigrateFinish3Params`
    async fn finish(
        &self,
        args: DomainMigrateFinish3ParamsArgs,
    ) -> Result<DomainMigrateFinish3ParamsRet, VirtError>;
}

/// The way of a guest's memory to another daemon, beside the calls to it. Whoever drops it gives the guest up.
#[async_trait]
pub trait Tunnel: Send + Sync {
    /// Sends some of it. Waits while the other daemon is behind.
    ///
    /// # Errors
    /// The other daemon takes nothing more, or has gone.
    async fn send(&self, bytes: &[u8]) -> Result<(), VirtError>;

    /// Says that all is sent, and waits until the other daemon has it.
    ///
    /// # Errors
    /// It does not have it.
    async fn finish(self: Box<Self>) -> Result<(), VirtError>;
}
