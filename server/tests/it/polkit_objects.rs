//! polkit asked about each object: by virtwired and by the real libvirtd, with one authority, for the same commands of
//! the real virsh.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::host::{is_root, run};
use crate::network::programs;
use crate::polkit::{Authority, host, start_bus};
use crate::real;

const SETTINGS: &str = "access_drivers = [ \"polkit\" ]\nunix_sock_rw_perms = \"0777\"\nauth_unix_rw = \"none\"\n\
                        auth_unix_ro = \"none\"\n";

const DEFINITIONS: [(&str, &str); 4] = [
    (
        "guest.xml",
        "<domain type='qemu'><name>guest</name><uuid>11111111-2222-4333-8444-555555555555</uuid>\
         <memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>",
    ),
    ("net.xml", "<network><name>net</name><uuid>21111111-2222-4333-8444-555555555555</uuid></network>"),
    (
        "pool.xml",
        "<pool type='dir'><name>pool</name><uuid>31111111-2222-4333-8444-555555555555</uuid><target>\
         <path>/var/lib/libvirt/images</path></target></pool>",
    ),
    (
        "secret.xml",
        "<secret ephemeral='no' private='yes'><uuid>41111111-2222-4333-8444-555555555555</uuid><usage type='ceph'>\
         <name>key</name></usage></secret>",
    ),
];

/// What is asked for: the command of virsh, and what is refused meanwhile.
const COMMANDS: [(&str, Option<(&str, &str)>); 27] = [
    ("hostname", None),
    ("capabilities", None),
    ("list --all", None),
    ("list", Some(("connect.getattr", ""))),
    ("list", Some(("connect.search-domains", ""))),
    ("define guest.xml", Some(("domain.write", ""))),
    ("define guest.xml", Some(("domain.save", ""))),
    ("define guest.xml", None),
    ("list --all --name", None),
    ("list --all --name", Some(("domain.getattr", "guest"))),
    ("dumpxml guest", Some(("domain.read", "guest"))),
    ("dumpxml guest", Some(("domain.getattr", "guest"))),
    ("dumpxml guest --security-info", Some(("domain.read-secure", "guest"))),
    ("start guest", Some(("domain.start", "guest"))),
    ("start guest --autodestroy", Some(("domain.start", "guest"))),
    ("autostart guest", None),
    ("undefine guest", Some(("domain.delete", "guest"))),
    ("undefine guest", None),
    ("net-define net.xml", None),
    ("net-list --all --name", None),
    ("net-dumpxml net", Some(("network.read", ""))),
    ("net-undefine net", None),
    ("pool-define pool.xml", None),
    ("pool-info pool", None),
    ("secret-define secret.xml", None),
    ("secret-list", None),
    ("secret-dumpxml 41111111-2222-4333-8444-555555555555", Some(("secret.read", ""))),
];

/// What virsh said to a command, and what polkit was asked meanwhile.
#[derive(Debug, PartialEq)]
struct Answered {
    said: Result<String, String>,
    asked: Vec<(String, BTreeMap<String, String>)>,
}

async fn ask(authority: &Authority, dir: &Path, socket: &Path, number: usize) -> Answered {
    let (command, refused) = COMMANDS[number];
    authority.answers(true, false, false);
    *authority.refused.lock().unwrap() = refused;
    let mut virsh = Command::new("setpriv");
    virsh.args(["--reuid=65534", "--regid=65534", "--clear-groups", "virsh", "-q", "-c"]);
    virsh.arg(format!("qemu+unix:///system?socket={}", socket.display())).args(command.split(' '));
    virsh.current_dir(dir);
    let said = run(virsh).await;
    let asked = std::mem::take(&mut *authority.asked.lock().unwrap());
    // The real daemon asks for itself, too.
    let asked = asked.into_iter().filter(|question| {
        assert_eq!((question.kind.as_str(), question.flags), ("unix-process", 0));
        i32::try_from(&*question.subject["uid"]) == Ok(65534)
    });
    Answered { said, asked: asked.map(|question| (question.action, question.details)).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn class_acl_polkit_is_asked_what_libvirtd_asks_and_decides_on_each_object() {
    if !is_root() || !programs(&["libvirtd", "unshare"]) {
        return;
    }
    let Some(mut host) = host("polkit-objects") else { return };
    fs::set_permissions(&host.dir, fs::Permissions::from_mode(0o755)).unwrap();
    let bus = start_bus(&mut host);
    let authority = Authority::default();
    let _bus = authority.on(&bus).await;
    authority.answers(true, false, false);
    for (file, text) in DEFINITIONS {
        fs::write(host.dir.join(file), text).unwrap();
        fs::set_permissions(host.dir.join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    real::start(&mut host, SETTINGS, &[("DBUS_SYSTEM_BUS_ADDRESS", &bus)]);
    host.virtwired(SETTINGS, &[("DBUS_SYSTEM_BUS_ADDRESS", &bus)]);
    let (real, own) = (host.dir.join("real/run/libvirt-sock"), host.dir.join("libvirt-sock"));
    for (number, (command, _)) in COMMANDS.iter().enumerate() {
        let mut expected = ask(&authority, &host.dir, &real, number).await;
        if command.contains("define ") && command.ends_with(".xml") {
            // The real daemon has read the definition before it asks, which is what is not done here.
            for (action, details) in &mut expected.asked {
                if !action.contains(".connect.") {
                    details.retain(|name, _| name == "connect_driver");
                }
            }
        }
        let mut got = ask(&authority, &host.dir, &own, number).await;
        if *command == "capabilities" {
            (got.said, expected.said) = (Ok(String::new()), Ok(String::new()));
        }
        assert_eq!(got, expected, "{command}");
    }
}
