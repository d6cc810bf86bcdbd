//! The way to other daemons, which a guest goes that is migrated between peers: as a client of theirs.

use std::time::Duration;

use virtwire_client::{Connection, Error, Stream, Target, Transport};
use virtwire_driver_api::{Far, Reach, Tunnel, async_trait};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::{
    DomainMigrateFinish3ParamsArgs, DomainMigrateFinish3ParamsRet, DomainMigratePrepare3ParamsArgs,
    DomainMigratePrepare3ParamsRet, DomainMigratePrepareTunnel3ParamsArgs,
    DomainMigratePrepareTunnel3ParamsRet,
};

/// A step takes as long as the guest is large.
const FOR_EVER: Duration = Duration::MAX;

/// Daemons of other hosts.
pub(crate) struct Peers;

#[async_trait]
impl Reach for Peers {
    async fn open(&self, uri: &str) -> Result<Box<dyn Far>, VirtError> {
        check(uri)?;
        let connection = Connection::open(uri).await.map_err(refusal)?;
        Ok(Box::new(Other(connection)))
    }
}

/// Nobody who may only name a place has the daemon run a command of his choice.
fn check(uri: &str) -> Result<(), VirtError> {
    let target = Target::parse(uri).map_err(|error| ErrorDomain::RPC.invalid_arg(error))?;
    match target.transport {
        Transport::Unix | Transport::Tcp | Transport::Tls => Ok(()),
        // A netcat is a command too, at the other end.
        Transport::Ssh if target.parameters.command.is_none() && target.parameters.netcat.is_none() => Ok(()),
        Transport::Ssh | Transport::Ext => {
            let text = format_args!("the daemon runs no command of a URI's: {uri}");
            Err(ErrorDomain::RPC.operation_denied(text))
        }
    }
}

fn refusal(error: Error) -> VirtError {
    match error {
        Error::Remote(error) => error,
        Error::Connect(place, error) => {
            let what = format_args!("Failed to connect socket to '{place}'");
            VirtError::system(ErrorDomain::RPC, &error, what)
        }
        Error::Closed => ErrorDomain::RPC.internal_error("client socket is closed"),
        other => ErrorDomain::RPC.rpc(other),
    }
}

/// A daemon of another host.
struct Other(Connection);

#[async_trait]
impl Far for Other {
    async fn supports(&self, feature: i32) -> Result<bool, VirtError> {
        self.0.supports_feature(feature).await.map_err(refusal)
    }

    async fn prepare(
        &self,
        args: DomainMigratePrepare3ParamsArgs,
    ) -> Result<DomainMigratePrepare3ParamsRet, VirtError> {
        self.0.domain_migrate_prepare3_params(&args).within(FOR_EVER).await.map_err(refusal)
    }

    async fn prepare_tunnel(
        &self,
        args: DomainMigratePrepareTunnel3ParamsArgs,
    ) -> Result<(DomainMigratePrepareTunnel3ParamsRet, Box<dyn Tunnel>), VirtError> {
        let call = self.0.domain_migrate_prepare_tunnel3_params(&args).within(FOR_EVER);
        let (prepared, stream) = call.await.map_err(refusal)?;
        Ok((prepared, Box::new(Way(stream))))
    }

    async fn finish(
        &self,
        args: DomainMigrateFinish3ParamsArgs,
    ) -> Result<DomainMigrateFinish3ParamsRet, VirtError> {
        self.0.domain_migrate_finish3_params(&args).within(FOR_EVER).await.map_err(refusal)
    }
}

/// A stream to a daemon of another host.
struct Way(Stream);

#[async_trait]
impl Tunnel for Way {
    async fn send(&self, bytes: &[u8]) -> Result<(), VirtError> {
        self.0.send(bytes).await.map_err(refusal)
    }

    async fn finish(self: Box<Self>) -> Result<(), VirtError> {
        self.0.finish().await.map_err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ways_without_commands_are_gone() {
        let uris = ["qemu+tcp://host/system", "qemu://host/system", "qemu+ssh://root@host/system"];
        uris.iter().for_each(|uri| check(uri).unwrap());
        for uri in [
            "qemu+ext:///system?command=/bin/sh",
            "qemu+ssh://host/system?command=/bin/sh",
            "qemu+ssh://host/system?netcat=/bin/sh",
            "nonsense",
        ] {
            assert!(check(uri).is_err(), "{uri}");
        }
    }
}
