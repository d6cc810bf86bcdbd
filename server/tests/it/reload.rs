//! What a daemon reads again while it runs: certificates, and what its drivers store, as the real libvirtd reads it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::host::{Host, is_root, run};
use crate::network::{PKI, programs, shell};
use crate::real::{self, Place};

/// A second certificate of the daemon's, from the other authority.
const SECOND: &str = r#"
issue second "/O=Test/CN=localhost" other "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth"
mkdir -p pki/CA pki/libvirt/private
"#;

/// Puts a certificate with its key and authority where the daemon has its own.
fn put(dir: &Path, name: &str, authority: &str) {
    let own =
        format!("cp {name}.pem pki/libvirt/servercert.pem; cp {name}.key pki/libvirt/private/serverkey.pem");
    shell(dir, &format!("{own}; cp {authority}.pem pki/CA/cacert.pem"));
}

/// Who of the two authorities' clients is let in.
async fn let_in(place: &Place<'_>) -> Vec<&'static str> {
    let mut good = Vec::new();
    for client in ["anna", "mallory"] {
        let uri = format!("test+tls://localhost/default?pkipath={}", place.dir.join(client).display());
        let mut virsh = place.within("virsh");
        virsh.args(["-q", "-c", &uri, "list", "--name"]);
        if run(virsh).await.is_ok() {
            good.push(client);
        }
    }
    good
}

fn hang_up(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::HUP).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_exchanged_on_disk_are_used_when_the_daemon_is_told() {
    if !is_root() || !programs(&["virsh", "virt-admin", "libvirtd", "openssl", "unshare", "nsenter"]) {
        return;
    }
    let mut host = Host::new("exchange");
    let dir = host.dir.clone();
    shell(&dir, &format!("{PKI}{SECOND}"));
    let file = |name: &str| dir.join(name).display().to_string();
    let log = file("own.log");
    let settings = "listen_addr = \"127.0.0.1\"\nauth_unix_rw = \"none\"\n";
    // Wherever libvirtd has been told to find them at its start, it reads those in the usual places again.
    let places = format!("mkdir -p /etc/pki; mount --bind '{}' /etc/pki; exec \"$@\"", file("pki"));
    let mut said = Vec::new();
    for (folder, program) in [("real", "libvirtd"), ("own", env!("CARGO_BIN_EXE_virtwired"))] {
        put(&dir, "server", "ca");
        let outputs = [("LIBVIRT_LOG_OUTPUTS", format!("3:file:{}", file(&format!("{folder}.log"))))];
        let outputs = outputs.each_ref().map(|(name, value)| (*name, value.as_str()));
        let pid = real::start_program(
            &mut host,
            folder,
            &["sh", "-ec", &places, "sh", program, "--listen"],
            settings,
            &outputs,
        );
        let place = Place { pid, dir: &dir };
        let update = async || {
            let mut admin = place.within("virt-admin");
            admin.args(["-c", "libvirtd:///system", "server-update-tls", "libvirtd"]);
            run(admin).await
        };
        let mut steps = vec![(let_in(&place).await, Ok(String::new()))];
        put(&dir, "second", "other");
        steps.push((let_in(&place).await, Ok("only on disk".into())));
        let told = update().await;
        steps.push((let_in(&place).await, told));
        // What cannot work changes nothing.
        shell(&dir, "echo nonsense > pki/libvirt/servercert.pem");
        steps.push((let_in(&place).await, update().await.map_err(|_| "refused".into())));
        steps.push((let_in(&place).await, Ok("as before".into())));
        if folder == "own" {
            // libvirtd reads certificates again for virt-admin only.
            hang_up(pid);
            let refusal = "the certificates are not read again";
            while !fs::read_to_string(&log).unwrap_or_default().contains(refusal) {
                tokio::task::yield_now().await;
            }
            assert_eq!(let_in(&place).await, ["mallory"]);
            put(&dir, "server", "ca");
            hang_up(pid);
            while let_in(&place).await != ["anna"] {}
        }
        said.push(steps);
    }
    let who: Vec<_> = said[0].iter().map(|(who, _)| who.concat()).collect();
    assert_eq!(who, ["anna", "anna", "mallory", "mallory", "mallory"], "{:?}", said[0]);
    assert_eq!(said[1], said[0]);
}

/// An object of each kind; `NAME` is its name.
const OBJECTS: [(&str, &str); 5] = [
    (
        "define",
        "<domain type='qemu'><name>NAME</name><title>old</title><memory>8192</memory><os><type arch='x86_64'>hvm\
         </type></os></domain>",
    ),
    (
        "net-define",
        "<network><name>NAME</name><title>old</title><forward mode='bridge'/><bridge name='br0'/></network>",
    ),
    (
        "nwfilter-define",
        "<filter name='NAME' chain='root'><rule action='drop' direction='in' priority='500'/></filter>",
    ),
    (
        "secret-define",
        "<secret ephemeral='no'><description>old</description><uuid>22222222-1111-4111-8111-NAME00000001</uuid>\
         <usage type='volume'><volume>/NAME</volume></usage></secret>",
    ),
    (
        "pool-define",
        "<pool type='dir'><name>NAME</name><target><path>/var/lib/libvirt/NAME</path></target></pool>",
    ),
];

/// Changes files below `etc` as an administrator might: `aaaa` becomes another, `bbbb` is new and starts by itself,
/// `cccc` is gone, `dddd` runs, and there is nonsense.
const CHANGES: &str = r#"
cd etc
id=22222222-1111-4111-8111
other() { sed "s/aaaa/bbbb/g; s/old/new/; s/<uuid>.*-/<uuid>3$1333333-1111-4111-8111-/" $2/$3aaaa$4.xml > $2/$3bbbb$4.xml; }
other 1 qemu; other 2 qemu/networks; other 3 nwfilter; other 5 storage
sed "s/aaaa/bbbb/g; s/old/new/" secrets/$id-aaaa00000001.xml > secrets/$id-bbbb00000001.xml
echo d29ybGQ= > secrets/$id-bbbb00000001.base64
echo d29ybGQ= > secrets/$id-aaaa00000001.base64
mkdir -p qemu/autostart qemu/networks/autostart storage/autostart
ln -s /etc/libvirt/qemu/aaaa.xml qemu/autostart/aaaa.xml
ln -s /etc/libvirt/qemu/networks/bbbb.xml qemu/networks/autostart/bbbb.xml
ln -s /etc/libvirt/storage/bbbb.xml storage/autostart/bbbb.xml
for folder in qemu qemu/networks nwfilter storage; do echo '<nonsense' > $folder/bad.xml; done
cp qemu/aaaa.xml qemu/misnamed.xml
sed -i s/old/changed/ qemu/aaaa.xml qemu/networks/aaaa.xml qemu/networks/dddd.xml secrets/$id-aaaa00000001.xml
sed -i s/500/600/ nwfilter/aaaa.xml
sed -i 's#libvirt/aaaa#libvirt/changed#' storage/aaaa.xml
sed -i 's#libvirt/dddd#libvirt/changed#' storage/dddd.xml
rm qemu/cccc.xml qemu/networks/cccc.xml nwfilter/cccc.xml secrets/$id-cccc00000001.xml storage/cccc.xml
"#;

/// What is looked at behind the reload.
const LOOKS: &str = "
list --all --title
dominfo aaaa
net-list --all
net-dumpxml aaaa
net-dumpxml bbbb
net-dumpxml dddd
net-dumpxml --inactive dddd
nwfilter-list
nwfilter-dumpxml aaaa
nwfilter-dumpxml bbbb
secret-list
secret-dumpxml 22222222-1111-4111-8111-aaaa00000001
secret-get-value 22222222-1111-4111-8111-aaaa00000001
secret-get-value 22222222-1111-4111-8111-bbbb00000001
pool-list --all
pool-dumpxml aaaa
pool-dumpxml dddd
pool-dumpxml --inactive dddd
";

async fn virsh(place: &Place<'_>, words: &[&str]) -> Result<String, String> {
    let mut virsh = place.within("virsh");
    virsh.args(["-q", "-c", "qemu:///system"]).args(words);
    run(virsh).await
}

/// A text without UUIDs that were made here, and the room on the disk.
fn masked(text: &str) -> String {
    let is_uuid = |word: &&str| word.len() == 36 && word.matches('-').count() == 4;
    let line = |line: &str| {
        if ["uuid", "UUID", "allocation", "available", "capacity"].iter().any(|what| line.contains(what)) {
            return "…".to_owned();
        }
        line.split_whitespace().find(is_uuid).map_or(line.to_owned(), |uuid| line.replace(uuid, "UUID"))
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_drivers_store_is_read_again_as_by_libvirtd() {
    if !is_root() || !programs(&["virsh", "libvirtd", "unshare", "nsenter"]) {
        return;
    }
    let mut host = Host::new("stored");
    let dir = host.dir.clone();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let mut said = Vec::new();
    for (folder, program) in [("real", "libvirtd"), ("own", env!("CARGO_BIN_EXE_virtwired"))] {
        let pid = real::start_program(&mut host, folder, &[program], "auth_unix_rw = \"none\"\n", &[]);
        let place = Place { pid, dir: &dir };
        for (command, xml) in OBJECTS {
            for name in ["aaaa", "cccc", "dddd"] {
                let file = dir.join("object.xml");
                fs::write(&file, xml.replace("NAME", name)).unwrap();
                virsh(&place, &[command, &file.display().to_string()]).await.unwrap();
            }
        }
        shell(&dir.join(folder), "mkdir -p var/lib/bbbb var/lib/dddd");
        virsh(&place, &["net-start", "dddd"]).await.unwrap();
        virsh(&place, &["pool-start", "dddd"]).await.unwrap();
        shell(&dir.join(folder), CHANGES);
        hang_up(pid);
        // A guest is the last that is read.
        while !virsh(&place, &["list", "--all", "--name"]).await.unwrap().contains("bbbb") {}
        let mut answers = Vec::new();
        for look in LOOKS.lines().filter(|line| !line.is_empty()) {
            let words: Vec<_> = look.split(' ').collect();
            answers.push((look, virsh(&place, &words).await.map(|text| masked(&text))));
        }
        said.push(answers);
    }
    assert!(said[0].iter().all(|(_, answer)| answer.is_ok()), "{:#?}", said[0]);
    for (own, real) in said[1].iter().zip(&said[0]) {
        assert_eq!(own, real);
    }
}
