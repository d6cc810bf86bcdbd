//! The drivers of this daemon.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use virtwire_conf::schemas::{self, Schemas};
use virtwire_driver_api::{Driver, async_trait};
use virtwire_driver_network::{Networks, Places};
use virtwire_driver_nodedev::NodeDevices;
use virtwire_driver_nwfilter::{Nwfilters, Places as Filters};
use virtwire_driver_qemu::{Companions, OpenCompanions, Place, QemuDriver};
use virtwire_driver_secret::Secrets;
use virtwire_driver_storage::Pools;
use virtwire_driver_test::TestDriver;

use crate::family;
use crate::reach::Peers;

/// Where libvirt's own schemas are, where they are installed.
const SCHEMAS: &str = "/usr/share/libvirt/schemas";

/// What connections to QEMU have besides guests.
struct Beside;

#[async_trait]
impl OpenCompanions for Beside {
    async fn open(&self, place: Place) -> io::Result<Companions> {
        let Place { config, run, state, host_uuid, events } = place;
        let secrets = Secrets::open(config.join("secrets"), Arc::clone(&events))?;
        let networks = Places {
            config: config.join("qemu/networks"),
            run: run.join("network"),
            state: state.join("dnsmasq"),
        };
        let networks = Networks::open(networks, Arc::clone(&events)).await?;
        let devices =
            NodeDevices::new(virtwire_driver_nodedev::Places::default(), host_uuid, Arc::clone(&events));
        devices.follow();
        let filters = Nwfilters::open(Filters {
            config: config.join("nwfilter"),
            bindings: run.join("nwfilter-binding"),
            leases: run.join("network/nwfilter.leases"),
        })?;
        filters.enforce().await;
        let (secrets, networks) = (Arc::new(secrets), Arc::new(networks));
        let pools = Pools::open(config.join("storage"), run.join("storage"), events).await?;
        let pools = pools.with_secrets(secrets.clone());
        let pools = Arc::new(pools);
        Ok(Companions {
            kept: vec![secrets.clone(), filters.clone(), networks.clone(), pools.clone()],
            network: Some(networks),
            storage: Some(pools),
            secret: Some(secrets),
            nwfilter: Some(filters),
            node_device: Some(Arc::new(devices)),
        })
    }
}

/// The host among others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host {
    /// Its UUID, where it is not to be the firmware's.
    pub uuid: Option<Uuid>,
    /// Whether the daemon connects to those of other hosts, where a client asks for a migration between peers.
    pub peers: bool,
}

/// All drivers; clients that name no URI get the first that has a default. The QEMU driver keeps its files below
/// `root`, gives up on a QEMU that does not answer within `answer_limit`, takes the host for what `host` says, and finds
/// the guests that an earlier daemon left running before anybody can ask.
pub async fn all(
    root: Option<&Path>,
    answer_limit: Duration,
    host: Host,
) -> io::Result<Vec<Arc<dyn Driver>>> {
    schemas::provide(Schemas::new(|file| std::fs::read_to_string(Path::new(SCHEMAS).join(file)).ok()));
    let qemu = QemuDriver::new(root.unwrap_or(Path::new("/")).to_owned()).with(Box::new(Beside));
    let qemu = qemu.answers_within(answer_limit).known_as(host.uuid);
    let qemu = if host.peers { qemu.reaching(Arc::new(Peers)) } else { qemu };
    qemu.load().await?;
    let qemu = Arc::new(qemu);
    let first: [Arc<dyn Driver>; 2] = [qemu.clone(), Arc::new(TestDriver::new())];
    Ok(first.into_iter().chain(family::all(&qemu)).collect())
}
