//! `virtwire demo`: a daemon, a client and a guest's life between them, in one process.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use virtwire_client::{Call, Connection, Error, Event, EventStream};
use virtwire_protocol::XdrString;
use virtwire_protocol::remote::{
    self, ConnectListAllDomainsArgs, DomainCreateArgs, DomainDefineXmlArgs, DomainDestroyArgs,
    DomainGetInfoArgs, DomainLookupByNameArgs, DomainResumeArgs, DomainSnapshotCreateXmlArgs,
    DomainSnapshotDeleteArgs, DomainSuspendArgs, DomainUndefineArgs,
};
use virtwired::{Config, Daemon, drivers, log::Log};

use crate::failure::Failure;

/// The guest of the demonstration.
const GUEST: &str = "\
<domain type='test'>
  <name>demo</name>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>";

const SNAPSHOT: &str = "<domainsnapshot><name>before-lunch</name></domainsnapshot>";

/// `VIR_DOMAIN_EVENT_ID_LIFECYCLE`
const LIFECYCLE: i32 = 0;

/// `VIR_DOMAIN_EVENT_…`, by number.
const LIFE: &[&str] = &[
    "defined",
    "undefined",
    "started",
    "suspended",
    "resumed",
    "stopped",
    "shut down",
    "suspended by its own system",
    "crashed",
];

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) async fn run() -> Result<(), Failure> {
    let dir = Directory::create()?;
    let drivers = drivers::all(Some(&dir.0)).await?;
    let daemon = Daemon::bind(&Config::in_dir(dir.0.clone()), drivers, Log::new(None))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let daemon = tokio::spawn(daemon.run(async {
        let _ = stopped.await;
    }));
    let told = tell(&dir.0.join("libvirt-sock")).await;
    let _ = stop.send(());
    let _ = daemon.await;
    told
}

async fn tell(socket: &Path) -> Result<(), Failure> {
    println!("A daemon with the test hypervisor, a client generated from the protocol, and a unix socket");
    println!("between them: {}\n", socket.display());

    let before = Instant::now();
    let connection = Connection::open(&format!("test+unix:///default?socket={}", socket.display())).await?;
    line("open", "test:///default: five calls, in the order of libvirt's client", before.elapsed());
    let events =
        timed("events", "lifecycle events, please", connection.register_domain_event(LIFECYCLE, None));
    let events = &mut events.await?;

    let define = connection.domain_define_xml(&DomainDefineXmlArgs { xml: GUEST.into() });
    let dom = timed("domain_define_xml", "512 MiB, 2 processors", define).await?.dom;
    happened(events).await;
    let create = connection.domain_create(&DomainCreateArgs { dom: dom.clone() });
    timed("domain_create", "switched on", create).await?;
    happened(events).await;

    let before = Instant::now();
    let info = connection.domain_get_info(&DomainGetInfoArgs { dom: dom.clone() }).await?;
    let text = format!("{} KiB, {} processors, state {}", info.memory, info.nr_virt_cpu, info.state);
    line("domain_get_info", &text, before.elapsed());

    let suspend = connection.domain_suspend(&DomainSuspendArgs { dom: dom.clone() });
    timed("domain_suspend", "paused", suspend).await?;
    happened(events).await;
    let args = DomainSnapshotCreateXmlArgs { dom: dom.clone(), xml_desc: SNAPSHOT.into(), flags: 0 };
    let snapshot = connection.domain_snapshot_create_xml(&args);
    let snap = timed("domain_snapshot_create_xml", "snapshot before-lunch", snapshot).await?.snap;
    let resume = connection.domain_resume(&DomainResumeArgs { dom: dom.clone() });
    timed("domain_resume", "goes on", resume).await?;
    happened(events).await;

    let before = Instant::now();
    let again = connection.domain_create(&DomainCreateArgs { dom: dom.clone() }).await;
    line("domain_create", &refusal(again), before.elapsed());
    let before = Instant::now();
    let nobody = DomainLookupByNameArgs { name: XdrString::from("nobody") };
    line(
        "domain_lookup_by_name",
        &refusal(connection.domain_lookup_by_name(&nobody).await),
        before.elapsed(),
    );

    let destroy = connection.domain_destroy(&DomainDestroyArgs { dom: dom.clone() });
    timed("domain_destroy", "switched off", destroy).await?;
    happened(events).await;
    let delete = connection.domain_snapshot_delete(&DomainSnapshotDeleteArgs { snap, flags: 0 });
    timed("domain_snapshot_delete", "its snapshot is gone", delete).await?;
    let undefine = connection.domain_undefine(&DomainUndefineArgs { dom });
    timed("domain_undefine", "forgotten", undefine).await?;
    happened(events).await;
    let before = Instant::now();
    let all =
        connection.connect_list_all_domains(&ConnectListAllDomainsArgs { need_results: 1, flags: 0 }).await?;
    let names: Vec<_> = all.domains.iter().map(|dom| dom.name.to_string()).collect();
    line("connect_list_all_domains", &names.join(", "), before.elapsed());
    many(&connection).await?;
    connection.close().await?;
    println!("\nThe same daemon for virsh: virtwired, then virsh -c 'test+unix:///default?socket=…'");
    Ok(())
}

/// How long one call takes when nothing else does.
async fn many(connection: &Connection) -> Result<(), Error> {
    const ROUNDS: usize = 2000;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let before = Instant::now();
        connection.connect_get_lib_version().await?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    line("connect_get_lib_version", &format!("{ROUNDS} times, one after the other; median"), median);
    Ok(())
}

/// Awaits a call and writes its line.
async fn timed<T>(name: &str, what: &str, call: Call<T>) -> Result<T, Error> {
    let before = Instant::now();
    let answer = call.await?;
    line(name, what, before.elapsed());
    Ok(answer)
}

/// One line of the account.
fn line(name: &str, what: &str, took: Duration) {
    let micros = took.as_secs_f64() * 1e6;
    let time =
        if micros < 1000.0 { format!("{micros:.0} µs") } else { format!("{:.1} ms", micros / 1000.0) };
    println!("  {name:<27} {what:<67} {time:>8}");
}

/// The event that a call has caused.
async fn happened(events: &mut EventStream) {
    let text = match tokio::time::timeout(PATIENCE, events.next()).await {
        Ok(Some(Event::Remote(remote::Event::DomainLifecycle(event)))) => {
            let kind = usize::try_from(event.msg.event).ok().and_then(|kind| LIFE.get(kind));
            format!("{} {}", event.msg.dom.name, kind.copied().unwrap_or("did something new"))
        }
        Ok(Some(other)) => format!("{other:?}"),
        Ok(None) => "the connection has ended".to_owned(),
        Err(_) => "none came".to_owned(),
    };
    println!("  {:>27} {text}", "event:");
}

/// What the daemon answers to what cannot be.
fn refusal<T>(answer: Result<T, Error>) -> String {
    match answer {
        Ok(_) => "succeeded, and should not have".to_owned(),
        Err(Error::Remote(error)) => format!("{}: {error}", error.code.name().unwrap_or("?")),
        Err(error) => error.to_string(),
    }
}

/// A directory of the demonstration's own, for as long as it runs.
struct Directory(PathBuf);

impl Directory {
    fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("virtwire-demo-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(Failure::file(&path.display().to_string()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
