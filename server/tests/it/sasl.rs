//! Logins: the real virsh with the right password and wrong ones, and messages that no client would send.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use virtwire_protocol::remote::*;
use virtwired::auth::{PasswordFile, Verifier};
use virtwired::config::{Auth, Settings};
use virtwired::log::Log;
use virtwired::{Access, Config, Program, Service};

use crate::limits::Running;
use crate::network::{Networked, programs, virsh};
use crate::peer::Peer;
use crate::toy::Toy;

/// What the real daemon says, whatever the reason.
const REFUSED: &str =
    "error: failed to connect to the hypervisor\nerror: authentication failed: authentication failed";

/// A users file with anna, whose password is `pencil`, and a file of passwords as virsh reads it.
struct Users {
    dir: PathBuf,
}

impl Users {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("virtwired-{}-users-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut users = PasswordFile::default();
        assert!(users.set("anna", Verifier::new("pencil").unwrap()));
        users.write(&dir.join("users")).unwrap();
        Self { dir }
    }

    fn settings(&self, mechanisms: &[&str]) -> Settings {
        Settings {
            auth_unix_rw: Auth::Sasl,
            auth_tls: Auth::Sasl,
            auth_tcp: Auth::Sasl,
            sasl_mechanisms: mechanisms.iter().map(|&name| name.to_owned()).collect(),
            sasl_users_file: self.dir.join("users").display().to_string(),
            ..Settings::default()
        }
    }

    fn knows(&self, name: &str, password: &str) -> PathBuf {
        let path = self.dir.join("auth.conf");
        let credentials = format!("[credentials-x]\nauthname={name}\npassword={password}\n");
        std::fs::write(&path, format!("{credentials}[auth-libvirt-default]\ncredentials=x\n")).unwrap();
        path
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn running(name: &str, settings: Settings) -> Running {
    Running::with(name, |config| config.with(settings).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn class_sasl_virsh_logs_in_with_the_right_password_only() {
    if !programs(&["virsh"]) {
        return;
    }
    let users = Users::new("scram");
    let daemon = running("scram", users.settings(&["SCRAM-SHA-256"]));
    let uri = format!("toy+unix:///?socket={}", daemon.dir.join("libvirt-sock").display());
    assert_eq!(virsh(uri.clone(), &users.knows("anna", "pencil")).await, Ok("a\nb\nc".into()));
    for (name, password) in [("anna", "pen"), ("bert", "pencil"), ("anna", "")] {
        assert_eq!(virsh(uri.clone(), &users.knows(name, password)).await, Err(REFUSED.into()), "{name}");
    }
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn class_sasl_the_list_of_names_decides_where_there_is_one() {
    if !programs(&["virsh"]) {
        return;
    }
    let users = Users::new("list");
    for (name, list, good) in
        [("sasl-none", &[][..], false), ("sasl-other", &["bert*"], false), ("sasl-fits", &["x", "a*"], true)]
    {
        let list = Some(list.iter().map(|&name| name.to_owned()).collect());
        let settings = Settings { sasl_allowed_username_list: list, ..users.settings(&["SCRAM-SHA-256"]) };
        let daemon = running(name, settings);
        let uri = format!("toy+unix:///?socket={}", daemon.dir.join("libvirt-sock").display());
        let said = virsh(uri, &users.knows("anna", "pencil")).await;
        assert_eq!(said, if good { Ok("a\nb\nc".into()) } else { Err(REFUSED.into()) }, "{name}");
        daemon.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class_sasl_no_mechanism_is_strong_enough_for_plain_tcp_and_plain_is_for_tls() {
    let users = Users::new("net");
    for mechanism in ["SCRAM-SHA-256", "PLAIN"] {
        let settings = users.settings(&[mechanism]);
        let change = |into: &mut Settings| {
            into.auth_tcp = Auth::Sasl;
            into.auth_tls = Auth::Sasl;
            into.sasl_mechanisms = settings.sasl_mechanisms;
            into.sasl_users_file = settings.sasl_users_file;
        };
        let Some(daemon) = Networked::new(&format!("sasl-{mechanism}"), change) else { return };
        let pki = daemon.dir.join("anna");
        let tls = format!("toy+tls://localhost:{}/?pkipath={}", daemon.ports[1], pki.display());
        let tcp = format!("toy+tcp://localhost:{}/", daemon.ports[0]);
        let right = users.knows("anna", "pencil");
        assert_eq!(virsh(tls.clone(), &right).await, Ok("a\nb\nc".into()), "{mechanism}");
        assert_eq!(virsh(tcp, &right).await, Err(REFUSED.into()), "{mechanism}");
        assert_eq!(virsh(tls, &users.knows("anna", "wrong")).await, Err(REFUSED.into()), "{mechanism}");
        daemon.end();
    }
}

/// A daemon that wants a login, over a socket pair.
fn service(settings: Settings) -> Service {
    let config = Config::default().with(settings).unwrap();
    Service::with(vec![Toy::new()], &config, Log::new(None)).unwrap()
}

fn peer(service: &Service) -> Peer {
    let (socket, other) = tokio::net::UnixStream::pair().unwrap();
    let service = service.clone();
    tokio::spawn(async move { service.serve(other, Program::Remote, Access::ReadWrite).await });
    Peer::on(socket)
}

fn start(mech: &str, data: &[u8]) -> AuthSaslStartArgs {
    AuthSaslStartArgs { mech: mech.into(), nil: 0, data: data.to_vec() }
}

const FAILED: (i32, i32, &str) = (45, 7, "authentication failed: authentication failed");

#[tokio::test(flavor = "multi_thread")]
async fn class_sasl_calls_out_of_turn_and_nonsense_end_the_connection() {
    let users = Users::new("hostile");
    let service = service(users.settings(&["SCRAM-SHA-256"]));
    let good = start("SCRAM-SHA-256", b"n,,n=anna,r=abc");
    let step = AuthSaslStepArgs { nil: 0, data: b"c=biws,r=abc,p=YQ==".to_vec() };
    enum Do {
        Init,
        Start(AuthSaslStartArgs),
        Step(AuthSaslStepArgs),
        Polkit,
    }
    use Do::*;
    for (what, calls) in [
        ("start without init", vec![Start(good.clone())]),
        ("step without init", vec![Step(step.clone())]),
        ("step without start", vec![Init, Step(step.clone())]),
        ("init twice", vec![Init, Init]),
        ("start twice", vec![Init, Start(good.clone()), Start(good.clone())]),
        ("polkit", vec![Polkit]),
        ("a mechanism that is not offered", vec![Init, Start(start("PLAIN", b"\0anna\0pencil"))]),
        ("a mechanism that nobody knows", vec![Init, Start(start("", b""))]),
        ("no data", vec![Init, Start(AuthSaslStartArgs { nil: 1, ..good.clone() })]),
        ("a short message", vec![Init, Start(start("SCRAM-SHA-256", b"n,,"))]),
        ("a short attribute", vec![Init, Start(start("SCRAM-SHA-256", b"n,a,n=anna,r=x"))]),
        ("no text", vec![Init, Start(start("SCRAM-SHA-256", &[0xff; 16_000]))]),
        ("a proof of nothing", vec![Init, Start(good.clone()), Step(step.clone())]),
        ("an empty proof", vec![Init, Start(good.clone()), Step(AuthSaslStepArgs { nil: 1, data: vec![] })]),
    ] {
        let mut peer = peer(&service);
        let auth: AuthListRet = peer.call(Procedure::AUTH_LIST, &()).await.decode();
        assert_eq!(auth.types, [AuthType::SASL]);
        let last = calls.len() - 1;
        for (index, call) in calls.iter().enumerate() {
            let reply = match call {
                Init => peer.call(Procedure::AUTH_SASL_INIT, &()).await,
                Start(args) => peer.call(Procedure::AUTH_SASL_START, args).await,
                Step(args) => peer.call(Procedure::AUTH_SASL_STEP, args).await,
                Polkit => peer.call(Procedure::AUTH_POLKIT, &()).await,
            };
            if index == last {
                let (code, domain, text) = reply.error();
                assert_eq!((code, domain, text.as_str()), FAILED, "{what}");
            } else {
                assert_eq!(reply.header.status, virtwire_protocol::net::MessageStatus::OK, "{what}");
            }
        }
        assert!(peer.receive().await.is_none(), "{what}: the connection goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_served_before_the_login_and_who_is_known_is_not_told() {
    let users = Users::new("secret");
    let service = service(users.settings(&["SCRAM-SHA-256"]));
    let mut answers = Vec::new();
    for name in ["anna", "bert", "bert"] {
        let mut peer = peer(&service);
        peer.call(Procedure::AUTH_LIST, &()).await.decode::<AuthListRet>();
        let open = ConnectOpenArgs { name: Some("toy:///".into()), flags: 0 };
        let refused = peer.call(Procedure::CONNECT_OPEN, &open).await.error();
        assert_eq!((refused.0, refused.2.as_str()), (39, "authentication required"));
        peer.call(Procedure::AUTH_SASL_INIT, &()).await.decode::<AuthSaslInitRet>();
        let first = start("SCRAM-SHA-256", format!("n,,n={name},r=").into_bytes().as_slice());
        let first = AuthSaslStartArgs { data: [first.data, b"abc".to_vec()].concat(), ..first };
        let challenge: AuthSaslStartRet = peer.call(Procedure::AUTH_SASL_START, &first).await.decode();
        assert_eq!((challenge.complete, challenge.nil), (0, 0));
        let text = String::from_utf8(challenge.data).unwrap();
        let (nonce, salt) = text.split_once(",s=").unwrap();
        answers.push((nonce.len(), salt.len(), salt.to_owned()));
    }
    // Of one length, and the same salt each time, as for a user that is known.
    assert_eq!(answers[0].0, answers[1].0);
    assert_eq!(answers[0].1, answers[1].1);
    assert_eq!(answers[1].2, answers[2].2);
}

#[tokio::test(flavor = "multi_thread")]
async fn external_is_the_user_of_the_socket_and_nobody_else() {
    let users = Users::new("external");
    let service = service(users.settings(&["EXTERNAL"]));
    let me = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    for (data, good) in [(&b""[..], true), (me.trim().as_bytes(), true), (b"somebody", false)] {
        let mut peer = peer(&service);
        let offer: AuthSaslInitRet = peer.call(Procedure::AUTH_SASL_INIT, &()).await.decode();
        assert_eq!(offer.mechlist.to_string(), "EXTERNAL");
        let reply = peer.call(Procedure::AUTH_SASL_START, &start("EXTERNAL", data)).await;
        if good {
            let done: AuthSaslStartRet = reply.decode();
            assert_eq!((done.complete, done.nil), (1, 1));
            let open = ConnectOpenArgs { name: Some("toy:///".into()), flags: 0 };
            peer.call(Procedure::CONNECT_OPEN, &open).await.decode::<()>();
        } else {
            assert_eq!(reply.error().0, 45);
        }
    }
}

/// Runs virtwired-passwd with a line of input.
fn passwd(file: &Path, args: &[&str], input: &str) -> (bool, String) {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_virtwired-passwd"))
        .arg("--file")
        .arg(file)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may not read it at all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn users_are_managed_by_virtwired_passwd() {
    let users = Users::new("passwd");
    let file = users.dir.join("users");
    assert_eq!(passwd(&file, &["bert"], "secret\n"), (true, String::new()));
    assert_eq!(passwd(&file, &["--list"], ""), (true, "anna\nbert\n".into()));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("secret"));
    assert_eq!(passwd(&file, &["--delete", "anna"], ""), (true, String::new()));
    assert_eq!(
        passwd(&file, &["--delete", "anna"], ""),
        (false, "virtwired-passwd: there is no user 'anna'\n".into())
    );
    assert!(!passwd(&file, &["a:b"], "secret").0 && !passwd(&file, &["carl"], "\n").0);
    assert_eq!(PasswordFile::read(&file).unwrap().names().collect::<Vec<_>>(), ["bert"]);
}
