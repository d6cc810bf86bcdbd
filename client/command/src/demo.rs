//! `virtwire demo`: a daemon, a client and a guest's life, with what each call takes on the wire.

mod daemon;

use std::time::{Duration, Instant};

use virtwire_client::{Call, Connection, Event, EventStream};
use virtwire_protocol::remote::{
    ConnectGetAllDomainStatsArgs, DomainCreateWithFlagsArgs, DomainDefineXmlFlagsArgs,
    DomainDestroyFlagsArgs, DomainGetInfoArgs, DomainGetInfoRet, DomainResumeArgs,
    DomainSnapshotCreateXmlArgs, DomainSnapshotDeleteArgs, DomainSuspendArgs, DomainUndefineFlagsArgs,
    Event as RemoteEvent,
};

use crate::failure::Failure;
use daemon::Daemon;

const GUEST: &str = "\
<domain type='test'>
  <name>demo</name>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>";

/// `VIR_DOMAIN_EVENT_ID_LIFECYCLE`
const LIFECYCLE: i32 = 0;
/// How long an event that belongs to a call may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Round trips for the figure at the end.
const ROUNDS: usize = 5000;

pub(crate) async fn run() -> Result<(), Failure> {
    let daemon = Daemon::start()?;
    println!("A daemon with the test hypervisor listens on {}", daemon.socket().display());
    println!("and a client talks to it in libvirt's protocol.\n");
    let uri = format!("test+unix:///default?socket={}", daemon.socket().display());
    let connection = Connection::open(&uri).await?;
    let events = connection.register_domain_event(LIFECYCLE, None).await?;
    println!("  {:<28}  {:>9}  answer", "call", "wire time");
    let mut account = Account { events };
    life(&connection, &mut account).await?;
    let median = median(&connection).await?;
    println!("\nMedian of {ROUNDS} round trips of connect_get_lib_version: {:.1} µs", micros(median));
    drop(account);
    connection.close().await?;
    daemon.stop();
    println!("Connection, daemon and socket are gone again.");
    Ok(())
}

/// A guest from its definition to its end.
async fn life(connection: &Connection, account: &mut Account) -> Result<(), Failure> {
    let version = connection.connect_get_lib_version();
    account.tell("connect_get_lib_version", version, 0, |ret| version_text(ret.lib_ver)).await?;
    let args = DomainDefineXmlFlagsArgs { xml: GUEST.into(), flags: 0 };
    let call = connection.domain_define_xml_flags(&args);
    let defined = account
        .tell("domain_define_xml_flags", call, 1, |ret| format!("a guest of the name {}", ret.dom.name));
    let dom = defined.await?.dom;
    let call = connection.domain_create_with_flags(&DomainCreateWithFlagsArgs { dom: dom.clone(), flags: 0 });
    let started = account.tell("domain_create_with_flags", call, 1, |ret| format!("runs, id {}", ret.dom.id));
    let dom = started.await?.dom;
    let info = || connection.domain_get_info(&DomainGetInfoArgs { dom: dom.clone() });
    account.tell("domain_get_info", info(), 0, info_text).await?;
    let call = connection.domain_suspend(&DomainSuspendArgs { dom: dom.clone() });
    account.tell("domain_suspend", call, 1, done).await?;
    account.tell("domain_get_info", info(), 0, info_text).await?;
    let call = connection.domain_resume(&DomainResumeArgs { dom: dom.clone() });
    account.tell("domain_resume", call, 1, done).await?;
    let args = DomainSnapshotCreateXmlArgs {
        dom: dom.clone(),
        xml_desc: "<domainsnapshot><name>fresh</name></domainsnapshot>".into(),
        flags: 0,
    };
    let call = connection.domain_snapshot_create_xml(&args);
    let taken = account.tell("domain_snapshot_create_xml", call, 0, |ret| {
        format!("a snapshot of the name {}", ret.snap.name)
    });
    let snap = taken.await?.snap;
    let args = ConnectGetAllDomainStatsArgs { doms: vec![dom.clone()], stats: 0, flags: 0 };
    let call = connection.connect_get_all_domain_stats(&args);
    let stats = account.tell("connect_get_all_domain_stats", call, 0, |ret| {
        let values: usize = ret.ret_stats.iter().map(|record| record.params.len()).sum();
        format!("{values} values of {} guest", ret.ret_stats.len())
    });
    for param in stats.await?.ret_stats.into_iter().flat_map(|record| record.params).take(4) {
        println!("  {:41}  · {} = {}", "", param.field, value_text(&param.value));
    }
    let call = connection.domain_snapshot_delete(&DomainSnapshotDeleteArgs { snap, flags: 0 });
    account.tell("domain_snapshot_delete", call, 0, done).await?;
    let call = connection.domain_destroy_flags(&DomainDestroyFlagsArgs { dom: dom.clone(), flags: 0 });
    account.tell("domain_destroy_flags", call, 1, done).await?;
    let call = connection.domain_undefine_flags(&DomainUndefineFlagsArgs { dom: dom.clone(), flags: 0 });
    account.tell("domain_undefine_flags", call, 1, done).await?;
    // What is gone is refused in libvirt's words, with libvirt's code.
    let began = Instant::now();
    if let Err(virtwire_client::Error::Remote(error)) = info().await {
        let code = error.code.name().unwrap_or("unknown");
        line("domain_get_info", began.elapsed(), &format!("VIR_ERR_{code}, as it has to be"));
    }
    Ok(())
}

/// Prints calls, and the events that belong to them.
struct Account {
    events: EventStream,
}

impl Account {
    async fn tell<T>(
        &mut self,
        name: &str,
        call: Call<T>,
        events: usize,
        answer: impl FnOnce(&T) -> String,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let got = call.await?;
        line(name, began.elapsed(), &answer(&got));
        for _ in 0..events {
            let Ok(Some(event)) = tokio::time::timeout(PATIENCE, self.events.next()).await else { break };
            if let Event::Remote(RemoteEvent::DomainLifecycle(event)) = event {
                let (name, what) = (&event.msg.dom.name, happening(event.msg.event));
                println!("  {:41}  ⚡ {name} {what}", "");
            }
        }
        Ok(got)
    }
}

fn line(name: &str, took: Duration, answer: &str) {
    println!("  {name:<28}  {:>6.0} µs  {answer}", micros(took));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn done((): &()) -> String {
    "done".to_owned()
}

fn info_text(info: &DomainGetInfoRet) -> String {
    let state = ["no state", "running", "blocked", "paused", "shutting down", "shut off", "crashed"];
    let state = state.get(usize::from(info.state)).unwrap_or(&"in an unknown state");
    format!("{state}, {} MiB, {} CPUs", info.memory / 1024, info.nr_virt_cpu)
}

/// `11003000` is 11.3.0.
fn version_text(number: u64) -> String {
    format!("libvirt {}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000)
}

fn value_text(value: &virtwire_protocol::remote::TypedParamValue) -> String {
    use virtwire_protocol::remote::TypedParamValue as Value;
    match value {
        Value::Int(value) | Value::Boolean(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Llong(value) => value.to_string(),
        Value::Ullong(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::String(value) => value.to_string(),
    }
}

/// `virDomainEventType`
fn happening(event: i32) -> &'static str {
    const NAMES: [&str; 9] = [
        "defined",
        "undefined",
        "started",
        "suspended",
        "resumed",
        "stopped",
        "shut down",
        "suspended by its own power management",
        "crashed",
    ];
    usize::try_from(event).ok().and_then(|event| NAMES.get(event).copied()).unwrap_or("changed")
}

async fn median(connection: &Connection) -> Result<Duration, Failure> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        connection.connect_get_lib_version().await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(ROUNDS / 2).copied().unwrap_or_default())
}
