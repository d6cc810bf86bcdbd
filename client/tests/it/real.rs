//! The same client against the real libvirtd, where it is installed and may be run.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use virtwire_client::*;

use crate::daemon::Daemon;
use crate::examples::built;
use crate::libvirtd::{Libvirtd, Setup, succeeds};

/// libvirtd with a login by SASL on its read-write socket; `None` where something is missing.
async fn with_login() -> Option<Libvirtd> {
    if Command::new("saslpasswd2").arg("-v").output().is_err() {
        virtwire_skip::without_program("no saslpasswd2");
        return None;
    }
    let prepare = |dir: &Path| {
        std::fs::create_dir_all(dir.join("sasl")).unwrap();
        let users = dir.join("run/users.db");
        let sasl = format!("mech_list: scram-sha-256\nsasldb_path: {}\n", users.display());
        std::fs::write(dir.join("sasl/libvirt.conf"), sasl).unwrap();
        let add = "printf %s pencil | saslpasswd2 -p -a libvirt -f \"$0\" anna";
        assert!(succeeds(Command::new("sh").args(["-c", add]).arg(&users)));
    };
    Libvirtd::start(Setup { conf: "auth_unix_rw = \"sasl\"\n", ..Setup::default() }, prepare).await
}

async fn open(daemon: &Libvirtd, password: &str) -> Result<Connect, Error> {
    let credentials = Some(Credentials::fixed("anna", password));
    let deadline = Some(Duration::from_secs(60));
    Connect::open_with(&daemon.uri(), Options { credentials, deadline, ..Options::default() }).await
}

/// One daemon for all of it: it takes seconds to start.
#[tokio::test]
async fn the_real_libvirtd() {
    let Some(daemon) = with_login().await else { return };
    let refused = open(&daemon, "pen").await.unwrap_err();
    assert_eq!(refused.remote().unwrap().code, protocol::ErrorCode::AUTH_FAILED);
    let connect = open(&daemon, "pencil").await.unwrap();
    assert_eq!(connect.hypervisor().await.unwrap(), "QEMU");
    a_guest(&connect).await;
    a_secret(&connect).await;
    // The daemon sees its own directory where libvirt has its libraries.
    let (pool, seen) = (daemon.dir.join("lib/pool"), Path::new("/var/lib/libvirt/pool"));
    let volume = a_volume(&connect, &pool, seen).await;
    its_holes(&volume).await;
    example(&connect, &daemon.dir).await;
    volume.delete(StorageVolDeleteFlags::empty()).await.unwrap();
    through_a_program(&daemon).await;
    connect.close().await.unwrap();
}

/// The same objects, of our own daemon.
#[tokio::test]
async fn virtwired_beside_it() {
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        return virtwire_skip::without_program("no qemu-system-x86_64");
    }
    let daemon = Daemon::complete().await;
    let uri = format!("qemu+unix:///system?socket={}", daemon.socket().display());
    let connect = Connect::open(&uri).await.unwrap();
    a_guest(&connect).await;
    a_secret(&connect).await;
    let pool = daemon.dir.join("pool");
    let volume = a_volume(&connect, &pool, &pool).await;
    its_holes(&volume).await;
    volume.delete(StorageVolDeleteFlags::empty()).await.unwrap();
    connect.close().await.unwrap();
}

/// A secret, with a value that comes back.
async fn a_secret(connect: &Connect) {
    let xml = "<secret ephemeral='no' private='no'><usage type='volume'><volume>/v</volume></usage></secret>";
    let secret = connect.define_secret(xml, 0).await.unwrap();
    secret.set_value(b"s3cret", 0).await.unwrap();
    assert_eq!(secret.value(0).await.unwrap(), b"s3cret");
    assert_eq!(connect.secret_by_uuid(secret.uuid()).await.unwrap().uuid(), secret.uuid());
    secret.undefine().await.unwrap();
    let error = secret.value(0).await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, protocol::ErrorCode::NO_SECRET);
}

/// A guest whose firmware speaks on its serial console.
async fn a_guest(connect: &Connect) {
    let xml = "<domain type='qemu'><name>g</name><memory unit='MiB'>64</memory>
        <os><type arch='x86_64'>hvm</type><bios useserial='yes'/></os><devices><serial type='pty'/></devices></domain>";
    let domain = connect.define_domain(xml, DomainDefineFlags::empty()).await.unwrap();
    let mut events = domain.lifecycle_events().await.unwrap();
    domain.start(DomainCreateFlags::PAUSED).await.unwrap();
    let console = domain.console(None, DomainConsoleFlags::empty()).await.unwrap();
    domain.resume().await.unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("SeaBIOS") {
        match console.recv().await.unwrap() {
            Some(Chunk::Data(bytes)) => said.extend(bytes),
            other => panic!("{other:?} after {}", String::from_utf8_lossy(&said)),
        }
    }
    console.abort().await.unwrap();
    let wanted = DomainStatsTypes::STATE | DomainStatsTypes::VCPU | DomainStatsTypes::CPU_TOTAL;
    let figures =
        connect.domain_stats(std::slice::from_ref(&domain), wanted, DomainStatsFlags::empty()).await.unwrap();
    assert_eq!((figures[0].vcpus.len(), figures[0].state.state), (1, Some(1)));
    assert!(figures[0].cpu.time.unwrap() > 0);
    domain.destroy(DomainDestroyFlags::empty()).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&Lifecycle::Stopped) {
        seen.push(events.next().await.unwrap().what);
    }
    assert!(seen.contains(&Lifecycle::Started) && seen.contains(&Lifecycle::Resumed), "{seen:?}");
    domain.undefine(DomainUndefineFlags::empty()).await.unwrap();
}

/// What the volume holds.
fn content() -> Vec<u8> {
    (0..1 << 20).map(|at| (at % 251) as u8).collect()
}

/// Content up, and down again, with its holes. The directory is here and, to the daemon, at another place.
async fn a_volume(connect: &Connect, dir: &Path, seen: &Path) -> StorageVol {
    std::fs::create_dir_all(dir).unwrap();
    let xml =
        format!("<pool type='dir'><name>p</name><target><path>{}</path></target></pool>", seen.display());
    let pool = connect.create_storage_pool(&xml, StoragePoolCreateFlags::empty()).await.unwrap();
    let xml = "<volume><name>v</name><capacity>3145728</capacity><allocation>0</allocation></volume>";
    let volume = pool.create_volume(xml, StorageVolCreateFlags::empty()).await.unwrap();
    let content = content();
    let mut up = volume.upload(1 << 20, 1 << 20, StorageVolUploadFlags::empty()).await.unwrap().into_io();
    up.write_all(&content).await.unwrap();
    up.shutdown().await.unwrap();

    let mut whole = Vec::new();
    let down = volume.download(0, 0, StorageVolDownloadFlags::empty()).await.unwrap();
    down.into_io().read_to_end(&mut whole).await.unwrap();
    assert_eq!(whole.len(), 3 << 20);
    assert!(whole[1 << 20..2 << 20] == content && whole[..1 << 20].iter().all(|byte| *byte == 0));
    volume
}

/// The same with its holes.
async fn its_holes(volume: &StorageVol) {
    let sparse = volume.download(0, 0, StorageVolDownloadFlags::SPARSE_STREAM).await.unwrap();
    let (mut holes, mut data) = (0, Vec::new());
    while let Some(chunk) = sparse.recv().await.unwrap() {
        match chunk {
            Chunk::Data(bytes) => data.extend(bytes),
            Chunk::Hole(length) => holes += length,
        }
    }
    sparse.finish().await.unwrap();
    assert!(data == content() && holes == 2 << 20, "{} bytes and {holes} of holes", data.len());
}

/// The example that copies a volume, with its login from a file.
async fn example(connect: &Connect, dir: &Path) {
    let login = "[credentials-a]\nauthname=anna\npassword=pencil\n[auth-libvirt-localhost]\ncredentials=a\n";
    std::fs::write(dir.join("auth.conf"), login).unwrap();
    let copy = dir.join("copy");
    let mut command = Command::new(built("download"));
    command.arg(connect.uri()).arg("/var/lib/libvirt/pool/v").arg(&copy);
    command.env("LIBVIRT_AUTH_FILE", dir.join("auth.conf"));
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let copied = std::fs::read(copy).unwrap();
    assert!(copied.len() == 3 << 20 && copied[1 << 20..2 << 20] == content(), "{} bytes", copied.len());
}

/// libvirt's own helper, as `ssh` would run it.
async fn through_a_program(daemon: &Libvirtd) {
    if Command::new("virt-ssh-helper").arg("--version").output().is_err() {
        return virtwire_skip::without_program("no virt-ssh-helper");
    }
    let helper = daemon.dir.join("helper");
    let socket = daemon.socket("libvirt-sock-ro");
    let text = format!("#!/bin/sh\nexec virt-ssh-helper -r 'qemu:///system?socket={socket}'\n");
    std::fs::write(&helper, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&helper, mode).unwrap();
    let connect = Connect::open(&format!("qemu+ext:///system?command={}", helper.display())).await.unwrap();
    assert_eq!(connect.hypervisor().await.unwrap(), "QEMU");
    connect.close().await.unwrap();
}
