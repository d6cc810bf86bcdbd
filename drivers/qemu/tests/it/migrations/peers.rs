//! Guests that a driver gives to another by itself: from hypervisor to hypervisor, or through a tunnel.

use std::sync::Arc;

use tokio::sync::Mutex;
use virtwire_driver_api::{
    CallCx, Far, FromClient, HypervisorDriver, Reach, SessionEnd, ToClient, Tunnel, async_trait, stream,
};
use virtwire_driver_qemu::Qemu;
use virtwire_protocol::remote::*;
use virtwire_protocol::{ErrorDomain, VirtError};

use super::{
    LIVE, NON_SHARED_DISK, OFFLINE, PERSIST_DEST, Pair, RESUMED_MIGRATED, RUNNING_MIGRATED, SHUTDOWN,
    STARTED_MIGRATED, STOPPED_FAILED, STOPPED_MIGRATED, SUSPENDED_MIGRATED, UNDEFINE_SOURCE, destroy,
    kill_emulator, stays,
};
use crate::qemu;

/// `VIR_MIGRATE_…`
const PEER2PEER: u32 = 2;
const TUNNELLED: u32 = 4;
const POSTCOPY: u32 = 1 << 15;

/// The way to the target's driver.
#[derive(Clone)]
struct Across(Qemu);

#[async_trait]
impl Reach for Across {
    async fn open(&self, uri: &str) -> Result<Box<dyn Far>, VirtError> {
        match uri {
            "qemu://there/system" => Ok(Box::new(self.clone())),
            _ => Err(ErrorDomain::RPC.rpc("no way there")),
        }
    }
}

#[async_trait]
impl Far for Across {
    async fn supports(&self, _: i32) -> Result<bool, VirtError> {
        Ok(true)
    }

    async fn prepare(
        &self,
        args: DomainMigratePrepare3ParamsArgs,
    ) -> Result<DomainMigratePrepare3ParamsRet, VirtError> {
        self.0.domain_migrate_prepare3_params(&CallCx::default(), args).await
    }

    async fn prepare_tunnel(
        &self,
        args: DomainMigratePrepareTunnel3ParamsArgs,
    ) -> Result<(DomainMigratePrepareTunnel3ParamsRet, Box<dyn Tunnel>), VirtError> {
        let (ours, theirs) = stream(false);
        let cx = CallCx::default();
        let prepared = self.0.domain_migrate_prepare_tunnel3_params(&cx, args, theirs).await?;
        Ok((prepared, Box::new(Beneath(ours.into()))))
    }

    async fn finish(
        &self,
        args: DomainMigrateFinish3ParamsArgs,
    ) -> Result<DomainMigrateFinish3ParamsRet, VirtError> {
        self.0.domain_migrate_finish3_params(&CallCx::default(), args).await
    }
}

/// A stream to the target's driver.
struct Beneath(Mutex<SessionEnd>);

#[async_trait]
impl Tunnel for Beneath {
    async fn send(&self, bytes: &[u8]) -> Result<(), VirtError> {
        let mut end = self.0.lock().await;
        let SessionEnd { to_driver, from_driver } = &mut *end;
        tokio::select! {
            // Whoever takes nothing more has said why.
            biased;
            Some(ToClient::Error(error)) = from_driver.recv() => Err(error),
            sent = to_driver.send(FromClient::Data(bytes.to_vec())) => {
                sent.map_err(|_| ErrorDomain::STREAMS.rpc("nobody takes it"))
            }
        }
    }

    async fn finish(self: Box<Self>) -> Result<(), VirtError> {
        let mut end = self.0.lock().await;
        let _ = end.to_driver.send(FromClient::Finish).await;
        match end.from_driver.recv().await {
            Some(ToClient::End) => Ok(()),
            other => Err(ErrorDomain::STREAMS.rpc(format_args!("{other:?}"))),
        }
    }
}

impl Pair {
    /// Has the source's driver see to all steps.
    async fn by_peers(
        &self,
        dom: &NonnullDomain,
        uri: &str,
        params: &[TypedParam],
        flags: u32,
    ) -> Result<(), VirtError> {
        let args = DomainMigratePerform3ParamsArgs {
            dom: dom.clone(),
            dconnuri: Some(uri.into()),
            params: params.to_vec(),
            cookie_in: Vec::new(),
            flags,
        };
        self.source.driver.domain_migrate_perform3_params(&self.cx, args).await.map(drop)
    }

    fn introduce(&self) {
        self.source.driver.set_reach(Arc::new(Across(self.target.driver.clone())));
    }
}

/// Where [`Across`] leads.
const THERE: &str = "qemu://there/system";

#[tokio::test]
async fn peers_give_a_guest_to_each_other() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let dom = pair.talking().await;
    let place = [TypedParam::new("migrate_uri", "tcp://127.0.0.1")];
    let flags = LIVE | PEER2PEER | UNDEFINE_SOURCE;
    let error = pair.by_peers(&dom, THERE, &place, flags).await.unwrap_err();
    assert!(error.message.contains("switched off"), "{error}");
    pair.introduce();
    let error = pair.by_peers(&dom, "qemu://nowhere/system", &place, flags).await.unwrap_err();
    assert_eq!(error.message, "no way there");
    pair.by_peers(&dom, THERE, &place, flags).await.unwrap();
    assert_eq!(pair.source.lives().await, [SUSPENDED_MIGRATED, SHUTDOWN, STOPPED_MIGRATED]);
    assert_eq!(pair.target.lives().await, [STARTED_MIGRATED, RESUMED_MIGRATED]);
    let there = DomainLookupByUuidArgs { uuid: dom.uuid };
    let there = pair.target.driver.domain_lookup_by_uuid(&pair.cx, there).await.unwrap().dom;
    assert_eq!(pair.target.state(&there).await, RUNNING_MIGRATED);
    pair.destroy_there(there).await;
}

#[tokio::test]
async fn a_guest_goes_through_a_tunnel() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let dom = pair.talking().await;
    pair.introduce();
    pair.by_peers(&dom, THERE, &[], LIVE | PEER2PEER | TUNNELLED).await.unwrap();
    assert_eq!(pair.source.lives().await, [SUSPENDED_MIGRATED, SHUTDOWN, STOPPED_MIGRATED]);
    assert_eq!(pair.target.lives().await, [STARTED_MIGRATED, RESUMED_MIGRATED]);
    let there = DomainLookupByUuidArgs { uuid: dom.uuid };
    let there = pair.target.driver.domain_lookup_by_uuid(&pair.cx, there).await.unwrap().dom;
    assert_eq!(pair.target.state(&there).await, RUNNING_MIGRATED);
    let mut console = pair.target.console(&there).await;
    console.say("x").await;
    console.hear("x").await;
    pair.destroy_there(there).await;
}

/// Sends a guest slowly through a tunnel, and does something meanwhile. Returns what the source said.
async fn tunnel_cut_short(
    what: impl AsyncFnOnce(&Pair, &NonnullDomain),
) -> Option<(Pair, NonnullDomain, VirtError)> {
    qemu()?;
    let mut pair = Pair::new().await;
    let dom = pair.talking().await;
    pair.introduce();
    pair.slow_down(&dom).await;
    let meanwhile = async {
        pair.sending(&dom).await;
        what(&pair, &dom).await;
    };
    let by_peers = pair.by_peers(&dom, THERE, &[], LIVE | PEER2PEER | TUNNELLED);
    let (sent, ()) = tokio::join!(by_peers, meanwhile);
    Some((pair, dom, sent.unwrap_err()))
}

#[tokio::test]
async fn a_guest_that_is_called_back_from_a_tunnel_stays() {
    let abort = async |pair: &Pair, dom: &NonnullDomain| {
        let args = DomainAbortJobArgs { dom: dom.clone() };
        pair.source.driver.domain_abort_job(&pair.cx, args).await.unwrap();
    };
    let Some((mut pair, dom, error)) = tunnel_cut_short(abort).await else { return };
    assert_eq!(pair.target.lives().await, [STARTED_MIGRATED, SHUTDOWN, STOPPED_FAILED]);
    assert_eq!(error.message, "operation aborted: job 'migration out' canceled by client");
    stays(&mut pair, &dom).await;
    destroy(&pair.source, dom).await;
}

#[tokio::test]
async fn a_guest_stays_whose_tunnel_leads_nowhere() {
    let kill = async |pair: &Pair, _: &NonnullDomain| kill_emulator(&pair.target, "speaks");
    let Some((mut pair, dom, error)) = tunnel_cut_short(kill).await else { return };
    assert_eq!(error.message, "tunnel between a guest and its daemon: Broken pipe");
    stays(&mut pair, &dom).await;
    destroy(&pair.source, dom).await;
}

#[tokio::test]
async fn not_everything_goes_through_a_tunnel() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let dom = pair.talking().await;
    pair.introduce();
    let none: &[TypedParam] = &[];
    let text = |name: &str| vec![TypedParam::new(name, "tcp://127.0.0.1")];
    let (uri, address) = (text("migrate_uri"), text("listen_address"));
    let port = [TypedParam { field: "disks_port".into(), value: TypedParamValue::Int(5) }];
    for (params, flags, message) in [
        (&uri[..], LIVE, "argument unsupported: migration URI is not supported by tunnelled migration"),
        (&address, LIVE, "argument unsupported: listen address is not supported by tunnelled migration"),
        (&port, LIVE, "argument unsupported: disk port address is not supported by tunnelled migration"),
        (none, LIVE | POSTCOPY, "argument unsupported: post-copy is not supported with tunnelled migration"),
        (
            none,
            POSTCOPY,
            "argument unsupported: post-copy migration is not supported with non-live or paused migration",
        ),
        (
            none,
            LIVE | NON_SHARED_DISK,
            "Operation not supported: migration of non-shared storage is not supported with tunnelled migration \
             and this QEMU",
        ),
        (
            none,
            OFFLINE | PERSIST_DEST,
            "Requested operation is not valid: tunnelled offline migration does not make sense",
        ),
        (
            none,
            OFFLINE | PERSIST_DEST | NON_SHARED_DISK,
            "Requested operation is not valid: offline migration cannot handle non-shared storage",
        ),
    ] {
        let refused = pair.by_peers(&dom, THERE, params, flags | PEER2PEER | TUNNELLED).await;
        assert_eq!(refused.unwrap_err().message, message);
    }
    let begun = pair.begin(&dom, LIVE).await.unwrap();
    let refused = pair.prepare(&begun, LIVE | TUNNELLED).await;
    let message = "internal error: Tunnelled migration requested but invalid RPC method called";
    assert_eq!(refused.unwrap_err().message, message);
    let args = DomainMigratePrepareTunnel3ParamsArgs {
        params: vec![TypedParam::new("destination_xml", &*begun.xml)],
        cookie_in: begun.cookie,
        flags: LIVE,
    };
    let (_ours, theirs) = stream(false);
    let refused = pair.target.driver.domain_migrate_prepare_tunnel3_params(&pair.cx, args, theirs).await;
    let message = "internal error: PrepareTunnel called but no TUNNELLED flag set";
    assert_eq!(refused.unwrap_err().message, message);
    pair.confirm(&dom, Vec::new(), LIVE, true).await.unwrap();
    stays(&mut pair, &dom).await;
    destroy(&pair.source, dom).await;
}
