//! Logins with Kerberos' tickets over plain TCP, with a realm of our own: the real virsh says of virtwired what it says
//! of the real libvirtd.
//!
//! Only with the feature `gssapi`. Besides libvirt it needs krb5-kdc, krb5-admin-server, krb5-user and
//! libsasl2-modules-gssapi-mit.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::host::{Host, is_root, run};
use crate::network::{programs, shell};
use crate::passwords::seen;
use crate::real::{self, Place};

/// A realm with its key distribution centre on a port of its own, users anna and bert, and the service's keys.
const REALM: &str = r#"
cat > krb5.conf <<END
[libdefaults]
default_realm = VIRTWIRE.TEST
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
ignore_acceptor_hostname = true
rdns = false
[realms]
VIRTWIRE.TEST = {
kdc = 127.0.0.1:$PORT
}
[logging]
kdc = STDERR
[domain_realm]
localhost = VIRTWIRE.TEST
END
cat > kdc.conf <<END
[realms]
VIRTWIRE.TEST = {
database_name = $PWD/principal
key_stash_file = $PWD/stash
acl_file = $PWD/acl
kdc_listen = 127.0.0.1:$PORT
kdc_tcp_listen = 127.0.0.1:$PORT
}
END
kdb5_util create -s -P master
for user in anna bert; do kadmin.local -q "addprinc -pw pencil $user"; done
for service in libvirt host; do kadmin.local -q "addprinc -randkey $service/localhost"; done
kadmin.local -q "ktadd -k keytab libvirt/localhost"
mkdir sasl
printf 'mech_list: gssapi\nkeytab: %s/keytab\n' $PWD > sasl/libvirt.conf
"#;

/// A document that takes many packets.
const LARGE: &str = "
{ printf '<domain type=\"test\"><name>large</name><memory>8192</memory><os><type>hvm</type></os><description>'
  head -c 1500000 /dev/zero | tr '\\0' x
  printf '</description></domain>'; } > large.xml
";

#[tokio::test(flavor = "multi_thread")]
async fn class_sasl_a_ticket_is_let_in_over_plain_tcp_and_what_follows_is_encrypted() {
    let needed =
        ["virsh", "virt-admin", "libvirtd", "unshare", "nsenter", "krb5kdc", "kadmin.local", "kinit", "kvno"];
    if !is_root() || !programs(&needed) {
        return;
    }
    let mut host = Host::new("gssapi");
    let dir = host.dir.clone();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let file = |name: &str| dir.join(name).display().to_string();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (config, profile) = (file("krb5.conf"), file("kdc.conf"));
    let kerberos = format!("export KRB5_CONFIG={config} KRB5_KDC_PROFILE={profile} PORT={port}\n");
    shell(&dir, &format!("{kerberos}{REALM}{LARGE}"));
    let mut kdc = Command::new("krb5kdc")
        .arg("-n")
        .env("KRB5_CONFIG", &config)
        .env("KRB5_KDC_PROFILE", &profile)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(kdc.stderr.take().unwrap()).lines();
    host.children.push(kdc);
    assert!(log.any(|line| line.unwrap().contains("commencing operation")));
    // The tickets are taken here: where the daemons are, there is nobody to give any.
    let tickets = "for user in anna bert; do
        export KRB5CCNAME=FILE:$PWD/$user; echo pencil | kinit $user; kvno libvirt/localhost; done";
    shell(&dir, &format!("{kerberos}{tickets}"));
    let settings = "listen_tcp = 1\nlisten_tls = 0\nauth_tcp = \"sasl\"\nlisten_addr = \"127.0.0.1\"\n\
                    auth_unix_rw = \"none\"\nsasl_mechanisms = [ \"GSSAPI\" ]\n\
                    sasl_allowed_username_list = [ \"anna@VIRTWIRE.TEST\", \"anna\" ]\n";
    let uri = "test+tcp://localhost/default";
    let mut said = Vec::new();
    for (folder, program) in [("real", "libvirtd"), ("own", env!("CARGO_BIN_EXE_virtwired"))] {
        let (sasl, keytab) = (file("sasl"), format!("FILE:{}", file("keytab")));
        let variables =
            [("SASL_CONF_PATH", sasl.as_str()), ("KRB5_CONFIG", &config), ("KRB5_KTNAME", &keytab)];
        let pid = real::start_program(&mut host, folder, &[program, "--listen"], settings, &variables);
        let place = Place { pid, dir: &dir };
        let mut answers = Vec::new();
        for (who, command) in [
            ("anna", "list --all --name"),
            ("bert", "list --all --name"),
            ("nobody", "list --all --name"),
            ("anna", &format!("define {}; dumpxml large; undefine large", file("large.xml"))),
        ] {
            let mut virsh = place.within("sh");
            virsh.args(["-c", "trap '' PIPE; exec virsh -q -c \"$0\" \"$1\"", uri, command]);
            virsh.env("KRB5_CONFIG", &config).env("KRB5CCNAME", format!("FILE:{}", file(who)));
            let uuid = |text: String| {
                let lines = text.lines().filter(|line| !line.contains("<uuid>"));
                lines.collect::<Vec<_>>().join("\n")
            };
            answers.push((who, command.to_owned(), run(virsh).await.map(uuid)));
        }
        let tickets = [("KRB5CCNAME", dir.join("anna")), ("KRB5_CONFIG", dir.join("krb5.conf"))];
        said.push((answers, seen(&place, uri, &tickets).await));
    }
    let good: Vec<_> = said[0].0.iter().map(|(.., said)| said.is_ok()).collect();
    assert_eq!(good, [true, false, false, true], "{:.2000?}", said[0]);
    assert!(said[0].0[3].2.as_ref().is_ok_and(|text| text.len() > 1_500_000));
    assert_eq!(said[1].1, said[0].1);
    assert!(said[1].0 == said[0].0, "libvirtd: {:.2000?}\nvirtwired: {:.2000?}", said[0].0, said[1].0);
}
