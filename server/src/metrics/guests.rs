//! The guests of all drivers, by state.

use std::collections::BTreeMap;
use std::time::Duration;

use virtwire_driver_api::{CallCx, Driver};
use virtwire_protocol::remote::{ConnectGetAllDomainStatsArgs, DomainStatsRecord, TypedParamValue};

use crate::listener::Shared;

/// How many guests of a driver are in which state.
pub(super) struct Guests {
    pub(super) driver: String,
    pub(super) states: BTreeMap<&'static str, i64>,
}

/// `VIR_DOMAIN_STATS_STATE`.
const STATS_STATE: u32 = 1;

/// libvirt's names of states (`VIR_DOMAIN_…`), by number.
const STATES: [&str; 8] =
    ["no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended"];

/// What a driver may take to say how its guests are.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks each driver that serves clients who name no URI. One that does not answer in time is left out.
pub(super) async fn all(shared: &Shared) -> Vec<Guests> {
    let mut guests = Vec::new();
    for driver in shared.drivers() {
        match tokio::time::timeout(PATIENCE, of(driver.as_ref())).await {
            Ok(found) => guests.extend(found),
            Err(_) => tracing::warn!(driver = driver.name(), "the driver does not say how its guests are"),
        }
    }
    guests
}

async fn of(driver: &dyn Driver) -> Option<Guests> {
    let cx = CallCx { read_only: true, ..CallCx::default() };
    let hypervisor = driver.open(&cx, &driver.default_uri()?).await.ok()?.hypervisor;
    let args = ConnectGetAllDomainStatsArgs { doms: Vec::new(), stats: STATS_STATE, flags: 0 };
    let records = hypervisor.connect_get_all_domain_stats(&cx, args).await.ok()?.ret_stats;
    let mut states: BTreeMap<_, _> = STATES.iter().map(|state| (*state, 0)).collect();
    for record in records {
        *states.entry(state(&record)).or_default() += 1;
    }
    Some(Guests { driver: driver.name().to_owned(), states })
}

fn state(record: &DomainStatsRecord) -> &'static str {
    let value = record.params.iter().find(|param| param.field == "state.state").map(|param| &param.value);
    let number = match value {
        Some(TypedParamValue::Int(number)) => usize::try_from(*number).ok(),
        _ => None,
    };
    number.and_then(|number| STATES.get(number)).copied().unwrap_or(STATES[0])
}
