//! The examples, as a reader runs them: each on virtwired and on the real libvirtd.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use virtwire_client::*;

use crate::daemon::Daemon;
use crate::libvirtd::{Libvirtd, Setup};

/// Its firmware speaks on its serial console.
const GUEST: &str = "<domain type='qemu'><name>g</name><memory unit='MiB'>64</memory>
    <os><type arch='x86_64'>hvm</type><bios useserial='yes'/></os><devices><serial type='pty'/></devices></domain>";

#[tokio::test]
async fn examples_run_on_virtwired() {
    if std::process::Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        return virtwire_skip::without_program("no qemu-system-x86_64");
    }
    let daemon = Daemon::complete().await;
    let pool = daemon.dir.join("pool");
    all(&daemon.socket(), &daemon.dir, &pool, &pool, Ends::WithTheGuest).await;
}

#[tokio::test]
async fn examples_run_on_libvirtd() {
    let Some(daemon) = Libvirtd::start(Setup::default(), |_| {}).await else { return };
    let (pool, seen) = (daemon.dir.join("lib/pool"), Path::new("/var/lib/libvirt/pool"));
    all(Path::new(&daemon.socket("libvirt-sock")), &daemon.dir, &pool, seen, Ends::WithItsInput).await;
}

/// How a console comes to its end.
#[derive(PartialEq)]
enum Ends {
    WithTheGuest,
    WithItsInput,
}

/// A directory for files, and one for a pool: here, and as the daemon sees it.
async fn all(socket: &Path, dir: &Path, pool: &Path, seen: &Path, ends: Ends) {
    let uri = |kind: &str, path: &str| format!("{kind}+unix:///{path}?socket={}", socket.display());
    let (test, system) = (uri("test", "default"), uri("qemu", "system"));
    let list = says(&["list", &test]).await;
    assert!(list.contains("test                 running"), "{list}");
    let life = says(&["lifecycle", &test]).await;
    assert!(life.contains("example Started\nexample is running\n"), "{life}");

    let connect = Connect::open(&system).await.unwrap();
    let (mut watching, watched) = starts(&["events", &system]);
    let mut watched = BufReader::new(watched).lines();
    assert_eq!(watched.next_line().await.unwrap().unwrap(), "watching");
    let domain = connect.create_domain(GUEST, DomainCreateFlags::PAUSED).await.unwrap();
    while !watched.next_line().await.unwrap().unwrap().contains("g Started") {}

    let mut console = command(&["console", &system, "g"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut shown = console.stdout.take().unwrap();
    // What a guest says before that, QEMU says to nobody.
    until(console.stderr.as_mut().unwrap(), "connected to g").await;
    domain.resume().await.unwrap();
    until(&mut shown, "SeaBIOS").await;
    // To wait for a program closes its input, so that is held here.
    let typed = console.stdin.take();
    if ends == Ends::WithItsInput {
        drop(typed);
        assert!(console.wait().await.unwrap().success());
        domain.destroy(DomainDestroyFlags::empty()).await.unwrap();
    } else {
        domain.destroy(DomainDestroyFlags::empty()).await.unwrap();
        assert!(console.wait().await.unwrap().success(), "the guest's end is the console's");
        drop(typed);
    }
    while !watched.next_line().await.unwrap().unwrap().contains("g Stopped") {}
    watching.kill().await.unwrap();

    std::fs::create_dir_all(pool).unwrap();
    let xml =
        format!("<pool type='dir'><name>p</name><target><path>{}</path></target></pool>", seen.display());
    let made = connect.create_storage_pool(&xml, StoragePoolCreateFlags::empty()).await.unwrap();
    let content = [vec![0; 1 << 20], vec![7; 1 << 20], vec![0; 1 << 20]].concat();
    std::fs::write(pool.join("v"), &content).unwrap();
    made.refresh(0).await.unwrap();
    let copy = dir.join("copy").display().to_string();
    says(&["download", &system, &format!("{}/v", seen.display()), &copy]).await;
    assert!(std::fs::read(copy).unwrap() == content, "the copy differs");
    connect.close().await.unwrap();
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(built(words[0]));
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs an example to its end; what it prints.
async fn says(words: &[&str]) -> String {
    let output = command(words).stderr(Stdio::piped()).output().await.unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An example that goes on. What is typed to it stays open for as long as it runs.
fn starts(words: &[&str]) -> (Child, ChildStdout) {
    let mut child = command(words).spawn().unwrap();
    let shown = child.stdout.take().unwrap();
    (child, shown)
}

async fn until(from: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains(text) {
        let count = from.read_buf(&mut shown).await.unwrap();
        assert!(count > 0, "{text} is missing: {}", String::from_utf8_lossy(&shown));
    }
}

/// README's example is one that compiles.
#[test]
fn readme_shows_an_example() {
    let example = include_str!("../../examples/readme.rs");
    let (_, code) = example.split_once("\n\n").unwrap();
    assert!(include_str!("../../../README.md").contains(code));
}

/// An example's program, which the test runner has built.
pub(crate) fn built(example: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.parent().unwrap().parent().unwrap().join("examples").join(example)
}
