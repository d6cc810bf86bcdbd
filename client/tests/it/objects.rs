//! The objects, against the test hypervisor.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use virtwire_client::blocking::Wait;
use virtwire_client::protocol::error::ErrorCode;
use virtwire_client::protocol::net::{MessageHeader, MessageStatus, MessageType, StreamHole};
use virtwire_client::protocol::remote::{NonnullStorageVol, Procedure};
use virtwire_client::*;

use crate::daemon::Daemon;
use crate::libvirtd::{Libvirtd, Setup};
use crate::peer::connected;

const GUEST: &str = "<domain type='test'><name>new</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>
  <os><type>hvm</type></os></domain>";

/// Each case against virtwired and against the real libvirtd, with a test hypervisor of its own: it is forgotten with its
/// last connection.
macro_rules! on_both {
    ($($case:ident)*) => {
        #[tokio::test]
        async fn objects_of_virtwired() {
            let daemon = Daemon::start();
            $(alone(&daemon.uri(), async |connect| $case(connect).await).await;)*
        }

        #[tokio::test]
        async fn objects_of_libvirtd() {
            let Some(daemon) = Libvirtd::start(Setup::default(), |_| {}).await else { return };
            let uri = format!("test+unix:///default?socket={}", daemon.socket("libvirt-sock"));
            $(alone(&uri, async |connect| $case(connect).await).await;)*
        }
    };
}

on_both! {
    a_guests_life lists_and_lookups_find_the_same snapshots_and_parameters figures_have_their_places
    what_a_guest_has_and_does the_host_and_its_cpus
}

async fn alone(uri: &str, case: impl AsyncFnOnce(&Connect)) {
    let connect = Connect::open(uri).await.unwrap();
    case(&connect).await;
    connect.close().await.unwrap();
}

async fn a_guests_life(connect: &Connect) {
    let mut events = connect.lifecycle_events().await.unwrap();
    let domain = connect.define_domain(GUEST, DomainDefineFlags::empty()).await.unwrap();
    assert_eq!((domain.name().as_str(), domain.id()), ("new", None));
    domain.start(DomainCreateFlags::empty()).await.unwrap();
    let info = domain.info().await.unwrap();
    assert_eq!((info.state, info.memory_kib, info.vcpus), (DomainState::Running, 65_536, 2));
    assert!(domain.is_active().await.unwrap() && domain.is_persistent().await.unwrap());
    domain.suspend().await.unwrap();
    assert_eq!(domain.state(0).await.unwrap().0, DomainState::Paused);
    domain.resume().await.unwrap();
    assert!(!domain.autostart().await.unwrap());
    domain.set_autostart(true).await.unwrap();
    assert!(domain.autostart().await.unwrap());
    let xml = domain.xml(DomainXmlFlags::INACTIVE).await.unwrap();
    assert!(xml.contains("<name>new</name>"), "{xml}");
    domain.destroy(DomainDestroyFlags::empty()).await.unwrap();
    domain.undefine(DomainUndefineFlags::empty()).await.unwrap();
    let error = connect.domain_by_uuid(domain.uuid()).await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, ErrorCode::NO_DOMAIN);
    use Lifecycle::*;
    for expected in [Defined, Started, Suspended, Resumed, Stopped, Undefined] {
        let event = events.next().await.unwrap();
        assert_eq!((event.what, event.domain.name().as_str()), (expected, "new"));
    }
    assert_eq!(events.lost(), 0);
}

async fn lists_and_lookups_find_the_same(connect: &Connect) {
    let domains = connect.domains(DomainListFlags::ACTIVE).await.unwrap();
    let domain = &domains[0];
    assert_eq!((domains.len(), domain.name().as_str(), domain.id()), (1, "test", Some(1)));
    assert_eq!(connect.domain_by_name("test").await.unwrap().uuid(), domain.uuid());
    assert_eq!(connect.domain_by_id(1).await.unwrap().uuid(), domain.uuid());
    assert!(connect.domains(DomainListFlags::INACTIVE).await.unwrap().is_empty());

    let network = &connect.networks(NetworkListFlags::empty()).await.unwrap()[0];
    assert_eq!(connect.network_by_name(&network.name()).await.unwrap().uuid(), network.uuid());
    assert!(network.is_active().await.unwrap());
    network.destroy().await.unwrap();
    assert!(!network.is_active().await.unwrap());

    let pool = &connect.storage_pools(StoragePoolListFlags::empty()).await.unwrap()[0];
    assert_eq!(pool.info().await.unwrap().state, PoolState::Running);
    let xml = "<volume><name>v</name><capacity unit='MiB'>1</capacity></volume>";
    let volume = pool.create_volume(xml, StorageVolCreateFlags::empty()).await.unwrap();
    assert_eq!(volume.info().await.unwrap().capacity, 1 << 20);
    assert_eq!(volume.pool().await.unwrap().name(), pool.name());
    let path = volume.path().await.unwrap();
    assert_eq!(connect.storage_vol_by_path(&path).await.unwrap().name(), "v");
    volume.delete(StorageVolDeleteFlags::empty()).await.unwrap();
    assert!(pool.volumes(0).await.unwrap().iter().all(|volume| volume.name() != "v"));

    let device = &connect.node_devices(NodeDeviceListFlags::empty()).await.unwrap()[0];
    assert!(device.xml(0).await.unwrap().contains(&device.name()));
    let interface = &connect.interfaces(InterfaceListFlags::empty()).await.unwrap()[0];
    assert_eq!(connect.interface_by_name(&interface.name()).await.unwrap().mac(), interface.mac());
    assert!(connect.node_info().await.unwrap().memory_kib > 0);
    assert_eq!(connect.hypervisor().await.unwrap(), "TEST");
}

async fn snapshots_and_parameters(connect: &Connect) {
    let domain = connect.domain_by_name("test").await.unwrap();
    let xml = "<domainsnapshot><name>a</name></domainsnapshot>";
    let snapshot = domain.create_snapshot(xml, SnapshotCreateFlags::empty()).await.unwrap();
    assert_eq!((snapshot.name().as_str(), snapshot.domain().name().as_str()), ("a", "test"));
    assert!(snapshot.is_current(0).await.unwrap());
    snapshot.revert(SnapshotRevertFlags::empty()).await.unwrap();
    assert_eq!(domain.snapshots(SnapshotListFlags::empty()).await.unwrap().len(), 1);
    snapshot.delete(SnapshotDeleteFlags::empty()).await.unwrap();
    assert!(domain.snapshots(SnapshotListFlags::empty()).await.unwrap().is_empty());

    let scheduler = domain.scheduler_parameters(DomainImpact::empty()).await.unwrap();
    assert!(scheduler != SchedulerParameters::default(), "no parameter was read");
    let mut limits = MemoryParameters::default();
    limits.hard_limit = Some(4 << 20);
    domain.set_memory_parameters(&limits, DomainImpact::empty()).await.unwrap();
    let got = domain.memory_parameters(DomainImpact::empty()).await.unwrap();
    assert_eq!(got.hard_limit, Some(4 << 20));
}

async fn figures_have_their_places(connect: &Connect) {
    let all = connect.domain_stats(&[], DomainStatsTypes::empty(), DomainStatsFlags::empty()).await.unwrap();
    let stats = &all[0];
    assert_eq!((all.len(), stats.domain.name().as_str(), stats.state.state), (1, "test", Some(1)));
    let only = connect.domain_stats(
        std::slice::from_ref(&stats.domain),
        DomainStatsTypes::STATE,
        DomainStatsFlags::empty(),
    );
    assert_eq!(only.await.unwrap()[0].state, stats.state);
}

async fn what_a_guest_has_and_does(connect: &Connect) {
    let domain = connect.domain_by_name("test").await.unwrap();
    assert_eq!((domain.max_memory().await.unwrap(), domain.max_vcpus().await.unwrap()), (8 << 20, 2));
    assert!(!domain.is_updated().await.unwrap());
    assert!(domain.memory_stats().await.unwrap().actual_balloon.is_some());
    let error = domain.block_stats("nobody").await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, ErrorCode::INVALID_ARG);
    domain.send_key(0, 0, &[1], 0).await.unwrap();
    domain.inject_nmi(0).await.unwrap();
    assert_eq!(domain.fs_freeze(&[], 0).await.unwrap(), 2);
    assert_eq!(domain.fs_thaw(&[], 0).await.unwrap(), 2);
    let given = domain.time().await.unwrap();
    assert!(given.as_secs() > 0, "{given:?}");
    let mut numa = NumaParameters::default();
    numa.numa_mode = Some(0);
    let error = domain.set_numa_parameters(&numa, DomainImpact::empty()).await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, ErrorCode::CONFIG_UNSUPPORTED);
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = domain.open_graphics(0, ours.into(), OpenGraphicsFlags::empty()).await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, ErrorCode::NO_SUPPORT);
}

async fn the_host_and_its_cpus(connect: &Connect) {
    assert!(connect.is_secure().await.unwrap());
    assert_eq!(connect.max_vcpus(Some("test")).await.unwrap(), 32);
    assert!(connect.cpu_models("x86_64").await.unwrap().contains(&"qemu64".to_owned()));
    let cpu = "<cpu><arch>x86_64</arch><model>qemu64</model></cpu>";
    assert!(connect.baseline_cpu(&[cpu], 0).await.unwrap().contains("<model"));
    let error = connect.storage_pool_capabilities(0).await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, ErrorCode::NO_SUPPORT);
    let interface = connect.interface_by_name("eth1").await.unwrap();
    assert_eq!(connect.interface_by_mac(&interface.mac()).await.unwrap().name(), "eth1");
}

#[test]
fn without_async() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let daemon = {
        let _entered = runtime.enter();
        Daemon::start()
    };
    let connect = Connect::open(&daemon.uri()).wait().unwrap();
    let domain = connect.domain_by_name("test").wait().unwrap();
    assert_eq!(domain.info().wait().unwrap().state, DomainState::Running);
    connect.close().wait().unwrap();
}

#[tokio::test]
async fn a_stream_is_bytes_to_read_and_to_write() {
    let (connection, mut peer) = connected().await;
    let volume = StorageVol::from_raw(&connection, NonnullStorageVol::default());
    let daemon = async {
        let call = peer.expect(Procedure::STORAGE_VOL_DOWNLOAD).await;
        peer.reply(&call, &()).await;
        peer.data(&call, b"begin").await;
        let hole = MessageHeader {
            r#type: MessageType::STREAM_HOLE,
            status: MessageStatus::CONTINUE,
            ..call.header.clone()
        };
        let hole = virtwire_client::protocol::frame::encode(&hole, 0, &StreamHole { length: 3, flags: 0 });
        peer.raw(&hole.unwrap()).await;
        peer.data(&call, b"end").await;
        peer.data(&call, b"").await;
        assert_eq!(peer.expect_stream().await.1, MessageStatus::OK);
        peer.confirm(&call).await;

        let call = peer.expect(Procedure::STORAGE_VOL_UPLOAD).await;
        peer.reply(&call, &()).await;
        assert_eq!(peer.expect_stream().await.2, b"content");
        assert_eq!(peer.expect_stream().await.1, MessageStatus::OK);
        peer.confirm(&call).await;
    };
    let client = async {
        let stream = volume.download(0, 0, StorageVolDownloadFlags::SPARSE_STREAM).await.unwrap();
        let mut bytes = Vec::new();
        stream.into_io().read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"begin\0\0\0end");
        let mut io = volume.upload(0, 0, StorageVolUploadFlags::empty()).await.unwrap().into_io();
        io.write_all(b"content").await.unwrap();
        io.shutdown().await.unwrap();
    };
    tokio::join!(client, daemon);
}
