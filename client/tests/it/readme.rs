//! README's example, as a reader tries it: pasted into a crate that has nothing else, run beside a real libvirtd.

use std::path::Path;
use std::process::Command;

use virtwire_client::*;

use crate::daemon::directory;
use crate::examples::built;
use crate::libvirtd::{Libvirtd, Setup};

const GUEST: &str = "<domain type='qemu'><name>g</name><memory unit='MiB'>32</memory>
    <os><type arch='x86_64'>hvm</type></os></domain>";

/// The block of README that is a program.
fn example() -> &'static str {
    let (_, after) = include_str!("../../../README.md").split_once("```rust\n").unwrap();
    after.split_once("```").unwrap().0
}

/// What README says a crate needs.
fn manifest() -> String {
    let client = env!("CARGO_MANIFEST_DIR");
    format!(
        "[package]\nname = \"empty\"\nedition = \"2024\"\n\n[dependencies]\nvirtwire-client = {{ path = \"{client}\" }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt\"] }}\n\n[workspace]\n"
    )
}

#[tokio::test]
async fn the_example_works_in_an_empty_crate() {
    let Some(daemon) = Libvirtd::start(Setup::default(), |_| {}).await else { return };
    let connect = Connect::open(&daemon.uri()).await.unwrap();
    let domain = connect.define_domain(GUEST, DomainDefineFlags::empty()).await.unwrap();
    domain.start(DomainCreateFlags::empty()).await.unwrap();

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = directory();
    std::fs::create_dir_all(dir.join("src")).unwrap();
    std::fs::write(dir.join("src/main.rs"), example()).unwrap();
    std::fs::write(dir.join("Cargo.toml"), manifest()).unwrap();
    // The versions that are here already.
    std::fs::copy(root.join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    let target = built("").parent().unwrap().parent().unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "--target-dir"]).arg(&target).current_dir(&dir);
    let output = tokio::task::spawn_blocking(move || cargo.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut program = daemon.beside(&target.join("debug/empty"));
    let ran = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "g: running, 32 MiB\n", "{ran:?}");
    domain.destroy(DomainDestroyFlags::empty()).await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}
