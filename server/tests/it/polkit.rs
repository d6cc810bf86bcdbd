//! polkit, with an authority of our own on a bus of our own: the real virsh, as a user who is not root.
//!
//! The real libvirtd asks the same authority beside it, and says the same.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use zbus::OwnedVariant;

use crate::host::{Host, is_root, run, uid};
use crate::network::programs;
use crate::real;

/// A host with the programs that are needed; `None`, with a word about it, where one is missing.
pub(crate) fn host(name: &str) -> Option<Host> {
    programs(&["virsh", "dbus-daemon", "setpriv"]).then(|| Host::new(name))
}

/// Starts a bus and returns its address.
pub(crate) fn start_bus(host: &mut Host) -> String {
    let address = format!("unix:path={}", host.dir.join("bus").display());
    let config = host.dir.join("bus.conf");
    let text = format!(
        "<busconfig><type>custom</type><listen>{address}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
         <allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\"/>\
         <allow receive_sender=\"*\"/></policy></busconfig>"
    );
    std::fs::write(&config, text).unwrap();
    let mut bus = Command::new("dbus-daemon")
        .arg(format!("--config-file={}", config.display()))
        .args(["--nofork", "--print-address"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It prints its address once it listens.
    let mut line = String::new();
    BufReader::new(bus.stdout.take().unwrap()).read_line(&mut line).unwrap();
    host.children.push(bus);
    address
}

/// What virsh says, run by somebody who is not root; by root itself where asked for.
async fn virsh(host: &Host, socket: &str, options: &[&str], as_root: bool) -> Result<String, String> {
    let uri = format!("test+unix:///default?socket={}", host.dir.join(socket).display());
    let mut virsh = if as_root || !is_root() {
        Command::new("virsh")
    } else {
        let mut other = Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "virsh"]);
        other
    };
    virsh.args(["-q", "-c", &uri]).args(options).args(["list", "--name"]);
    run(virsh).await
}

/// What an authority answers.
type Answer = (bool, bool, HashMap<String, String>);

/// What it was asked.
pub(crate) struct Question {
    pub(crate) kind: String,
    pub(crate) subject: HashMap<String, OwnedVariant>,
    pub(crate) action: String,
    pub(crate) details: BTreeMap<String, String>,
    pub(crate) flags: u32,
}

/// An authority that says what it is told to.
#[derive(Clone, Default)]
pub(crate) struct Authority {
    answer: Arc<Mutex<Option<Answer>>>,
    /// What is refused all the same: the end of an action, and a detail's value that must be there unless it is empty.
    pub(crate) refused: Arc<Mutex<Option<(&'static str, &'static str)>>>,
    pub(crate) asked: Arc<Mutex<Vec<Question>>>,
}

#[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Authority {
    fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action: String,
        details: BTreeMap<String, String>,
        flags: u32,
        cancellation: String,
    ) -> zbus::fdo::Result<(Answer,)> {
        assert!(cancellation.is_empty());
        let refused = self.refused.lock().unwrap().is_some_and(|(end, value)| {
            action.ends_with(end) && (value.is_empty() || details.values().any(|known| known == value))
        });
        let question = Question { kind: subject.0, subject: subject.1, action, details, flags };
        self.asked.lock().unwrap().push(question);
        if refused {
            return Ok(((false, false, HashMap::new()),));
        }
        let answer = self.answer.lock().unwrap().clone();
        // One value that is a structure, as polkit has it.
        answer.map(|answer| (answer,)).ok_or_else(|| zbus::fdo::Error::Failed("No such action".into()))
    }
}

impl Authority {
    pub(crate) async fn on(&self, bus: &str) -> zbus::Connection {
        zbus::connection::Builder::address(bus)
            .name("org.freedesktop.PolicyKit1")
            .serve_at("/org/freedesktop/PolicyKit1/Authority", self.clone())
            .build()
            .await
            .unwrap()
    }

    pub(crate) fn answers(&self, authorized: bool, challenge: bool, dismissed: bool) {
        let details = dismissed.then(|| ("polkit.dismissed".to_owned(), "true".to_owned()));
        *self.answer.lock().unwrap() = Some((authorized, challenge, details.into_iter().collect()));
        self.asked.lock().unwrap().clear();
    }
}

fn failed(reason: &str) -> Result<String, String> {
    Err(format!("error: failed to connect to the hypervisor\nerror: {reason}"))
}

const POLKIT: &str = "auth_unix_rw = \"polkit\"\nauth_unix_ro = \"polkit\"\n";

/// Starts virtwired, and the real libvirtd where it is and may be run; returns where their sockets are.
fn daemons(host: &mut Host, settings: &str, bus: &str) -> Vec<&'static str> {
    let variables = [("DBUS_SYSTEM_BUS_ADDRESS", bus)];
    host.virtwired(settings, &variables);
    if !is_root() || !programs(&["libvirtd", "unshare"]) {
        return vec!["."];
    }
    real::start(host, settings, &variables);
    vec![".", "real/run"]
}

#[tokio::test(flavor = "multi_thread")]
async fn class_polkit_the_authority_decides_and_the_texts_are_the_real_daemons() {
    let Some(mut host) = host("polkit") else { return };
    let bus = start_bus(&mut host);
    let daemons = daemons(&mut host, POLKIT, &bus);
    let refused = async |text: &str| {
        for dir in &daemons {
            let said = virsh(&host, &format!("{dir}/libvirt-sock"), &[], false).await;
            assert_eq!(said, failed(text), "{dir}");
        }
    };
    refused(
        "error from service: GDBus.Error:org.freedesktop.DBus.Error.ServiceUnknown: The name \
         org.freedesktop.PolicyKit1 was not provided by any .service files",
    )
    .await;

    let authority = Authority::default();
    let _bus = authority.on(&bus).await;
    refused("error from service: GDBus.Error:org.freedesktop.DBus.Error.Failed: No such action").await;
    authority.answers(false, false, false);
    refused("authentication failed: access denied by policy").await;
    authority.answers(false, true, false);
    refused(
        "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
    )
    .await;
    authority.answers(false, true, true);
    refused("authentication cancelled: user cancelled authentication process").await;

    let me = if is_root() { 65534 } else { uid() as i32 };
    for dir in &daemons {
        for (socket, options, action) in [
            ("libvirt-sock", &[][..], "org.libvirt.unix.manage"),
            ("libvirt-sock-ro", &["-r"], "org.libvirt.unix.monitor"),
        ] {
            authority.answers(true, false, false);
            let said = virsh(&host, &format!("{dir}/{socket}"), options, false).await;
            assert_eq!(said, Ok("test".into()), "{dir}/{socket}");
            let asked = std::mem::take(&mut *authority.asked.lock().unwrap());
            let [question] = &asked[..] else { panic!("{dir}/{socket}: asked {} times", asked.len()) };
            assert_eq!((question.kind.as_str(), question.action.as_str()), ("unix-process", action));
            assert_eq!((question.flags, &question.details), (1, &BTreeMap::new()), "{dir}/{socket}");
            let subject = &question.subject;
            assert_eq!(i32::try_from(&*subject["uid"]), Ok(me));
            assert!(u32::try_from(&*subject["pid"]).unwrap() > 1);
            assert!(u64::try_from(&*subject["start-time"]).unwrap() > 0);
        }

        // Root is not asked for.
        authority.answers(false, false, false);
        if is_root() {
            assert_eq!(virsh(&host, &format!("{dir}/libvirt-sock"), &[], true).await, Ok("test".into()));
            assert!(authority.asked.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class_polkit_without_a_bus_or_with_a_mute_one_nobody_is_let_in_and_nobody_waits() {
    let Some(mut host) = host("polkit-no-bus") else { return };
    let path = host.dir.join("bus");
    let bus = format!("unix:path={}", path.display());
    let text =
        "internal error: Unable to get system bus connection: Could not connect: No such file or directory";
    for dir in daemons(&mut host, &format!("{POLKIT}auth_timeout = 1\n"), &bus) {
        assert_eq!(virsh(&host, &format!("{dir}/libvirt-sock"), &[], false).await, failed(text), "{dir}");
    }
    // One that takes connections and says nothing.
    let _mute = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let before = std::time::Instant::now();
    assert!(virsh(&host, "libvirt-sock", &[], false).await.is_err());
    assert!(before.elapsed() < std::time::Duration::from_secs(4), "{:?}", before.elapsed());
}
