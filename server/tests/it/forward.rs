//! virtproxyd's role: the real virsh at one daemon's socket, its guests at the other's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use tokio::net::UnixStream;
use virtwire_protocol::remote::*;

use crate::host::{Host, is_root, run};
use crate::network::programs;
use crate::peer::Peer;
use crate::{polkit, real};

const GUEST: &str = "<domain type='qemu'><name>behind</name><memory unit='MiB'>32</memory>\
                     <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>";

async fn virsh(host: &Host, options: &[&str], uri: &str, words: &[&str]) -> Result<String, String> {
    let socket = if options.contains(&"-r") { "libvirt-sock-ro" } else { "libvirt-sock" };
    let uri = uri.replace(":///", "+unix:///") + &format!("?socket={}", host.dir.join(socket).display());
    let mut virsh = Command::new("virsh");
    virsh.args(options).args(["-q", "-c", &uri]).args(words);
    run(virsh).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_carried_to_the_daemon_of_their_hypervisor() {
    if !programs(&["virsh", "qemu-system-x86_64"]) {
        return;
    }
    let mut host = Host::new("proxy");
    host.start("libvirt", &["--proxy"], "", &[]);
    let qemu = if is_root() { "qemu:///system" } else { "qemu:///session" };
    let dir = host.dir.clone();
    let path = |socket: &str| dir.join(socket).display().to_string();
    let absent = format!(
        "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '{}': No such file or directory",
        path("virtqemud-sock")
    );
    assert_eq!(virsh(&host, &[], qemu, &["list"]).await, Err(absent));

    let xml = path("guest.xml");
    std::fs::write(&xml, GUEST).unwrap();
    host.start("virtqemud", &[], "", &[]);
    virsh(&host, &[], qemu, &["create", &xml]).await.unwrap();
    assert_eq!(virsh(&host, &[], qemu, &["list", "--name"]).await, Ok("behind".into()));
    let error = virsh(&host, &[], qemu, &["domstate", "nobody"]).await.unwrap_err();
    assert_eq!(error, "error: failed to get domain 'nobody'");
    // Looking goes to the socket for looking.
    assert_eq!(virsh(&host, &["-r"], qemu, &["domstate", "behind"]).await, Ok("running".into()));
    let refused = virsh(&host, &["-r"], qemu, &["destroy", "behind"]).await.unwrap_err();
    assert!(refused.contains("read only access prevents virDomainDestroy"), "{refused}");
    // An event comes back on the connection that asked for it.
    let mut peer = Peer::on(UnixStream::connect(path("libvirt-sock")).await.unwrap());
    peer.authenticate().await;
    let open = ConnectOpenArgs { name: Some(qemu.into()), flags: 0 };
    peer.call(Procedure::CONNECT_OPEN, &open).await.decode::<()>();
    let register = ConnectDomainEventCallbackRegisterAnyArgs { event_id: 0, dom: None };
    peer.call(Procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, &register)
        .await
        .decode::<ConnectDomainEventCallbackRegisterAnyRet>();
    virsh(&host, &[], qemu, &["destroy", "behind"]).await.unwrap();
    // `VIR_DOMAIN_EVENT_STOPPED`, perhaps behind others.
    loop {
        let event: DomainEventCallbackLifecycleMsg = peer.receive().await.expect("an event").decode();
        assert_eq!(event.msg.dom.name.to_string(), "behind");
        if event.msg.event == 5 {
            break;
        }
    }
    // Who is carried goes with the daemon behind.
    let behind = host.children.last_mut().unwrap();
    behind.kill().unwrap();
    behind.wait().unwrap();
    assert!(peer.receive().await.is_none());
    assert!(virsh(&host, &[], qemu, &["list"]).await.is_err());
}

const OBJECTS: &str =
    "access_drivers = [ \"polkit\" ]\nauth_unix_rw = \"none\"\nunix_sock_rw_perms = \"0777\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn class_identity_the_daemon_behind_a_proxy_asks_about_the_client() {
    if !is_root() || !programs(&["libvirtd", "unshare"]) {
        return;
    }
    let Some(mut host) = polkit::host("proxy-identity") else { return };
    fs::set_permissions(&host.dir, fs::Permissions::from_mode(0o755)).unwrap();
    let bus = polkit::start_bus(&mut host);
    let authority = polkit::Authority::default();
    let _bus = authority.on(&bus).await;
    let variables = [("DBUS_SYSTEM_BUS_ADDRESS", &*bus)];
    authority.answers(true, false, false);
    real::start(&mut host, OBJECTS, &variables);
    host.start("own", &[], OBJECTS, &variables);
    host.start("libvirt", &["--proxy"], "unix_sock_rw_perms = \"0777\"\n", &[]);
    let behind = host.dir.join("virtqemud-sock");
    let mut asked = Vec::new();
    for socket in ["real/run/libvirt-sock", "own-sock"] {
        let _ = fs::remove_file(&behind);
        symlink(host.dir.join(socket), &behind).unwrap();
        authority.answers(true, false, false);
        let uri = format!("qemu+unix:///system?socket={}", host.dir.join("libvirt-sock").display());
        let mut virsh = Command::new("setpriv");
        virsh.args(["--reuid=65534", "--regid=65534", "--clear-groups", "virsh", "-q", "-c", &uri, "list"]);
        assert_eq!(run(virsh).await, Ok(String::new()), "{socket}");
        let questions = std::mem::take(&mut *authority.asked.lock().unwrap());
        let about =
            |question: polkit::Question| (question.action, i32::try_from(&*question.subject["uid"]).unwrap());
        asked.push(questions.into_iter().map(about).collect::<Vec<_>>());
    }
    assert_eq!(asked[0].last(), Some(&("org.libvirt.api.connect.search-domains".to_owned(), 65534)));
    assert_eq!(asked[0], asked[1]);
}
