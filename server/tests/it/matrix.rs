//! Ways in: TLS with good and bad certificates, plain TCP, ssh. The real virsh says of virtwired what it says of the real
//! libvirtd.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::host::{Host, is_root, run};
use crate::network::{PKI, programs, shell};
use crate::real::{self, Place};

/// A client whose certificate has expired, and one whose name is in no list.
const MORE: &str = "
openssl req $key -keyout expired.key -out expired.csr -subj /C=GB/O=Virtwire/CN=expired
openssl x509 -req -in expired.csr -CA ca.pem -CAkey ca.key -out expired.pem -days -1
openssl req $key -keyout unlisted.key -out unlisted.csr -subj /C=GB/O=Virtwire/CN=unlisted
openssl x509 -req -in unlisted.csr -CA ca.pem -CAkey ca.key -out unlisted.pem -days 1
for c in expired unlisted; do
    mkdir -p $c; cp $c.key $c/clientkey.pem; cp $c.pem $c/clientcert.pem; cp ca.pem $c/cacert.pem
done
ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f key
";

const SSHD: &str =
    "ListenAddress 127.0.0.1:2222\nPermitRootLogin yes\nStrictModes no\nUsePAM no\nPidFile none\n";

async fn virsh(place: &Place<'_>, uri: &str) -> Result<String, String> {
    let mut virsh = place.within("sh");
    // A goodbye to a daemon that has left must not end virsh before it says why.
    virsh.args(["-c", "trap '' PIPE; exec virsh -q -c \"$0\" list --all --name", uri]);
    virsh.env("LIBVIRT_AUTH_FILE", "/dev/null").env("HOME", place.dir);
    run(virsh).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_is_as_open_and_says_the_same_as_libvirtds() {
    let needed = ["virsh", "libvirtd", "openssl", "unshare", "nsenter", "ssh-keygen", "/usr/sbin/sshd", "nc"];
    if !is_root() || !programs(&needed) {
        return;
    }
    let mut host = Host::new("matrix");
    let dir = host.dir.clone();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    shell(&dir, &format!("{PKI}{MORE}"));
    let file = |name: &str| dir.join(name).display().to_string();
    let sshd = format!("{SSHD}HostKey {}\nAuthorizedKeysFile {}\n", file("host"), file("key.pub"));
    fs::write(dir.join("sshd.conf"), sshd).unwrap();
    // The ssh daemon is at the other end of a pipe, and listens nowhere.
    let ssh = format!(
        "#!/bin/sh\nmkdir -p /run/sshd\nexec ssh -o ProxyCommand='/usr/sbin/sshd -i -f {}' \"$@\"\n",
        file("sshd.conf")
    );
    fs::write(dir.join("ssh"), ssh).unwrap();
    fs::set_permissions(dir.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let settings = format!(
        "listen_tcp = 1\nauth_tcp = \"none\"\nlisten_addr = \"127.0.0.1\"\nkey_file = \"{}\"\ncert_file = \"{}\"\n\
         ca_file = \"{}\"\ncrl_file = \"{}\"\ntls_allowed_dn_list = [ \"*CN=anna*\", \"*CN=expired*\" ]\n\
         auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n",
        file("server.key"),
        file("server.pem"),
        file("ca.pem"),
        file("crl.pem"),
    );
    let mut said = Vec::new();
    for (folder, program) in [("real", "libvirtd"), ("own", env!("CARGO_BIN_EXE_virtwired"))] {
        let pid = real::start_program(&mut host, folder, &[program, "--listen"], &settings, &[]);
        let place = Place { pid, dir: &dir };
        let mut answers = Vec::new();
        for client in ["anna", "expired", "mallory", "gone", "unlisted", "nobody"] {
            let uri = format!("test+tls://localhost/default?pkipath={}", file(client));
            answers.push((client, virsh(&place, &uri).await));
        }
        answers.push(("tcp", virsh(&place, "test+tcp://127.0.0.1/default").await));
        let ssh = format!(
            "root@localhost/default?command={}&keyfile={}&no_verify=1&no_tty=1",
            file("ssh"),
            file("key")
        );
        answers.push(("ssh", virsh(&place, &format!("test+ssh://{ssh}&proxy=native")).await));
        answers
            .push(("ssh, nobody's guests", virsh(&place, &format!("nosuch+ssh://{ssh}&proxy=native")).await));
        answers.push(("ssh, nc", virsh(&place, &format!("test+ssh://{ssh}&proxy=netcat")).await));
        answers.push(("unix", virsh(&place, "test+unix:///default").await));
        answers.push(("nothing of that name", virsh(&place, "nosuch+unix:///default").await));
        said.push(answers);
    }
    let ssh = &said[0][7];
    assert!(ssh.1.is_ok(), "{ssh:?}");
    let good: Vec<_> = said[0].iter().filter(|(_, answer)| answer.is_ok()).map(|(way, _)| *way).collect();
    assert_eq!(good, ["anna", "tcp", "ssh", "ssh, nc", "unix"]);
    assert_eq!(said[1], said[0]);
}
