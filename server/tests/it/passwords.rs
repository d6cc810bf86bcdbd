//! Logins with a password over every transport: the real virsh says of virtwired what it says of the real libvirtd, and
//! so does virt-admin of whoever is in.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use virtwired::auth::{PasswordFile, Verifier};

use crate::host::{Host, is_root, run};
use crate::network::{PKI, programs, shell};
use crate::real::{self, Place};

/// libvirtd's users. It knows them by the host's name as well.
const USERS: &str = "
mkdir sasl
printf 'mech_list: scram-sha-256\\nsasldb_path: %s/sasl/db\\n' $PWD > sasl/libvirt.conf
for user in anna bert; do printf pencil | saslpasswd2 -p -a libvirt -f sasl/db $user; done
";

/// A name and a password that virsh knows; without a name it knows none.
const KNOWN: [(&str, &str); 5] =
    [("anna", "pencil"), ("anna", "pen"), ("carl", "pencil"), ("bert", "pencil"), ("", "")];

/// What virt-admin says of the one client that is in, without what is another's each time. The client finds its secrets
/// where these variables say.
pub(crate) async fn seen(place: &Place<'_>, uri: &str, variables: &[(&str, PathBuf)]) -> String {
    let mut virsh = place.within("virsh");
    virsh.args(["-q", "-c", uri]).envs(variables.iter().cloned());
    let mut virsh = virsh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    virsh.stdin.as_mut().unwrap().write_all(b"echo in\n").unwrap();
    let mut lines = BufReader::new(virsh.stdout.take().unwrap()).lines();
    // It repeats what it reads once it is connected.
    assert!(lines.any(|line| line.unwrap().ends_with("echo in")), "{uri}: not let in");
    let admin = |arguments: &[&str]| {
        let mut admin = place.within("virt-admin");
        admin.args(["-q", "-c", "libvirtd:///system"]).args(arguments);
        run(admin)
    };
    let list = admin(&["client-list", "libvirtd"]).await.unwrap();
    let client = list.split_whitespace().next().unwrap().to_owned();
    let info = admin(&["client-info", "libvirtd", &client]).await.unwrap();
    assert_eq!(virsh.stdin.take().unwrap().write(b"quit\n").unwrap(), 5);
    virsh.wait().unwrap();
    let list = list.replacen(&client, "N", 1);
    let (list, _since) = list.split_at(list.find("20").unwrap_or(list.len()));
    let mask = |line: &str| match line.split_once(':') {
        Some((what @ ("id             " | "connection_time" | "unix_process_id"), _)) => format!("{what}: N"),
        Some((what, address)) if what.starts_with("sock_addr") => {
            format!("{what}:{}", address.rsplit_once(':').unwrap().0)
        }
        _ => line.to_owned(),
    };
    format!("{list}\n{}", info.lines().map(mask).collect::<Vec<_>>().join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn class_sasl_every_login_ends_and_says_the_same_as_with_libvirtd() {
    let needed = ["virsh", "virt-admin", "libvirtd", "openssl", "unshare", "nsenter", "saslpasswd2"];
    if !is_root() || !programs(&needed) {
        return;
    }
    let mut host = Host::new("passwords");
    let dir = host.dir.clone();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    shell(&dir, &format!("{PKI}{USERS}"));
    let mut users = PasswordFile::default();
    for name in ["anna", "bert"] {
        assert!(users.set(name, Verifier::new("pencil").unwrap()));
    }
    users.write(&dir.join("users")).unwrap();
    for (number, (name, password)) in KNOWN.into_iter().enumerate() {
        let credentials = format!("[credentials-x]\nauthname={name}\npassword={password}\n");
        let text = format!("{credentials}[auth-libvirt-default]\ncredentials=x\n");
        let text = if name.is_empty() { String::new() } else { text };
        fs::write(dir.join(format!("auth-{number}")), text).unwrap();
    }
    let file = |name: &str| dir.join(name).display().to_string();
    let settings = format!(
        "listen_tcp = 1\nauth_tcp = \"sasl\"\nauth_tls = \"sasl\"\nauth_unix_rw = \"sasl\"\nauth_unix_ro = \"sasl\"\n\
         listen_addr = \"127.0.0.1\"\nkey_file = \"{}\"\ncert_file = \"{}\"\nca_file = \"{}\"\nsasl_users_file = \"{}\"\n\
         sasl_allowed_username_list = [ \"anna*\" ]\n",
        file("server.key"),
        file("server.pem"),
        file("ca.pem"),
        file("users"),
    );
    let tls = format!("test+tls://localhost/default?pkipath={}", file("anna"));
    let ways: [(&str, &[&str]); 4] = [
        ("test+unix:///default", &[]),
        ("test+unix:///default", &["-r"]),
        (&tls, &[]),
        ("test+tcp://localhost/default", &[]),
    ];
    let mut said = Vec::new();
    for (folder, program) in [("real", "libvirtd"), ("own", env!("CARGO_BIN_EXE_virtwired"))] {
        let sasl = file("sasl");
        let variables = [("SASL_CONF_PATH", sasl.as_str())];
        let pid = real::start_program(&mut host, folder, &[program, "--listen"], &settings, &variables);
        let place = Place { pid, dir: &dir };
        let mut answers = Vec::new();
        for (uri, options) in ways {
            for (number, who) in KNOWN.into_iter().enumerate() {
                let mut virsh = place.within("sh");
                virsh.args(["-c", "trap '' PIPE; exec virsh -q -c \"$0\" \"$@\" list --all --name", uri]);
                virsh.args(options).env("LIBVIRT_AUTH_FILE", file(&format!("auth-{number}")));
                answers.push((uri, options, who, run(virsh).await));
            }
        }
        let mut inside = Vec::new();
        for uri in [ways[0].0, ways[2].0] {
            inside.push(seen(&place, uri, &[("LIBVIRT_AUTH_FILE", dir.join("auth-0"))]).await);
        }
        said.push((answers, inside));
    }
    let [(real, inside), (own, ours)] = &said[..] else { panic!("two daemons") };
    let good: Vec<_> =
        real.iter().filter(|(.., said)| said.is_ok()).map(|(uri, _, who, _)| (*uri, *who)).collect();
    let unix = ("test+unix:///default", KNOWN[0]);
    assert_eq!(good, [unix, unix, (tls.as_str(), KNOWN[0])], "{real:#?}");
    for (own, real) in own.iter().zip(real) {
        assert_eq!(own, real);
    }
    assert_eq!(ours, inside);
}
