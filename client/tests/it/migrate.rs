//! A guest on its way from one real libvirtd to another.

use virtwire_client::*;

use crate::libvirtd::{Libvirtd, Setup};

/// Without disks, and so that it is found wherever it runs.
const GUEST: &str = "<domain type='qemu'><name>g</name><memory unit='MiB'>32</memory>
    <os><type arch='x86_64' machine='pc'>hvm</type></os></domain>";

/// Two hosts that share nothing but a directory; the hypervisors meet at a socket in it.
async fn hosts() -> Option<[Libvirtd; 2]> {
    let qemu = "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\n";
    let host = |number: u8| async move {
        let conf = format!("host_uuid = \"0000000{number}-1111-4222-8333-444444444444\"\n");
        let name = format!("host{number}");
        let setup = Setup { conf: &conf, qemu, hostname: Some(&name), arguments: &[] };
        Libvirtd::start(setup, |_| {}).await
    };
    Some([host(1).await?, host(2).await?])
}

/// The way that the hypervisors take.
fn by(uri: &str) -> MigrateParameters {
    let mut parameters = MigrateParameters::default();
    parameters.migrate_uri = Some(uri.to_owned());
    parameters
}

async fn names(connect: &Connect, which: DomainListFlags) -> Vec<String> {
    connect.domains(which).await.unwrap().iter().map(Domain::name).collect()
}

#[tokio::test]
async fn a_guest_goes_to_another_host_and_stays_where_that_fails() {
    let Some([here, there]) = hosts().await else { return };
    let (source, target) =
        (Connect::open(&here.uri()).await.unwrap(), Connect::open(&there.uri()).await.unwrap());
    let domain = source.define_domain(GUEST, DomainDefineFlags::empty()).await.unwrap();
    domain.start(DomainCreateFlags::empty()).await.unwrap();
    let active = DomainListFlags::ACTIVE;

    // The other side is ready, but nobody can send anything there.
    let lost = by("tcp:192.0.2.1:49152");
    let error = domain.migrate_to(&target, &lost, MigrateFlags::LIVE).await.unwrap_err();
    assert!(error.remote().is_some(), "{error:?}");
    assert_eq!(domain.state(0).await.unwrap().0, DomainState::Running, "after {error}");
    // Prepared there, and forgotten again.
    assert!(names(&target, DomainListFlags::empty()).await.is_empty());
    // It is free for the next attempt.
    let error =
        domain.migrate_to(&source, &MigrateParameters::default(), MigrateFlags::LIVE).await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, protocol::ErrorCode::INTERNAL_ERROR, "{error}");

    let mut events = target.lifecycle_events().await.unwrap();
    let socket = here.dir.join("migration");
    let to = by(&format!("unix://{}", socket.display()));
    let flags = MigrateFlags::LIVE | MigrateFlags::PERSIST_DEST | MigrateFlags::UNDEFINE_SOURCE;
    let moved = domain.migrate_to(&target, &to, flags).await.unwrap();
    assert_eq!((moved.name(), moved.uuid()), ("g".to_owned(), domain.uuid()));
    assert_eq!(moved.state(0).await.unwrap().0, DomainState::Running);
    assert!(moved.is_persistent().await.unwrap());
    assert!(names(&source, DomainListFlags::empty()).await.is_empty());
    assert_eq!(names(&target, active).await, ["g"]);
    let mut seen = Vec::new();
    while seen.last() != Some(&Lifecycle::Resumed) {
        seen.push(events.next().await.unwrap().what);
    }
    assert!(seen.contains(&Lifecycle::Started), "{seen:?}");

    let error =
        moved.migrate_to(&source, &to, MigrateFlags::LIVE | MigrateFlags::TUNNELLED).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
}

/// The caller leaves while the guest is being sent: it goes on where it was.
#[tokio::test]
async fn a_migration_that_is_dropped_is_undone() {
    let Some([here, there]) = hosts().await else { return };
    let (source, target) =
        (Connect::open(&here.uri()).await.unwrap(), Connect::open(&there.uri()).await.unwrap());
    let domain = source.define_domain(GUEST, DomainDefineFlags::empty()).await.unwrap();
    domain.start(DomainCreateFlags::empty()).await.unwrap();
    let socket = here.dir.join("migration");
    let mut slowly = by(&format!("unix://{}", socket.display()));
    // A MiB per second: it would take as long as the test may.
    slowly.bandwidth = Some(1);
    let (migrating, job) = (domain.clone(), domain.clone());
    tokio::select! {
        ended = migrating.migrate_to(&target, &slowly, MigrateFlags::LIVE) => panic!("{ended:?}"),
        () = async {
            let mut pause = tokio::time::interval(std::time::Duration::from_millis(20));
            // The job of a migration has figures once bytes are on their way.
            while job.job_stats(0).await.map_or(0, |stats| stats.data_processed.unwrap_or(0)) == 0 {
                pause.tick().await;
            }
        } => {}
    }
    // The other host is rid of its half when both have been told.
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(20));
    while !names(&target, DomainListFlags::empty()).await.is_empty() {
        pause.tick().await;
    }
    assert_eq!(domain.state(0).await.unwrap().0, DomainState::Running);
    domain.destroy(DomainDestroyFlags::empty()).await.unwrap();
}
