//! What QEMU says about itself.

use std::sync::Arc;

use virtwire_driver_qemu::CapsCache;
use virtwire_store::Scratch;

use crate::qemu;

#[tokio::test]
async fn what_is_installed_is_asked_once() {
    let Some(program) = qemu() else { return };
    let dir = Scratch::new();
    let cache = CapsCache::new(dir.path());
    let (first, second) = tokio::join!(cache.get(&program), cache.get(&program));
    let (caps, second) = (first.unwrap(), second.unwrap());
    assert!(Arc::ptr_eq(&caps, &second));

    assert_eq!(caps.arch, "x86_64");
    assert!(caps.version_number() >= 6_000_000, "{}", caps.version);
    let pc = caps.machine("pc").expect("the default machine");
    assert!(pc.is_default && pc.name.starts_with("pc-i440fx-"), "{pc:?}");
    assert_eq!(caps.machine(&pc.name).map(|machine| &machine.name), Some(&pc.name));
    assert!(caps.cpus.iter().any(|cpu| cpu.name == "qemu64"));
    assert!(caps.commands.contains("query-status"));
    assert!(caps.has_device("virtio-blk-pci") && !caps.has_device("nonsense"));
}

#[tokio::test]
async fn the_next_daemon_knows_it_already() {
    let Some(program) = qemu() else { return };
    let dir = Scratch::new();
    let first = CapsCache::new(dir.path()).get(&program).await.unwrap();
    let file = dir.path().join("virtwire-capabilities").read_dir().unwrap().next().unwrap().unwrap().path();

    // What is told now comes from the file: it says something that QEMU never would.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"query-status\"", "\"query-nonsense\"")).unwrap();
    let second = CapsCache::new(dir.path()).get(&program).await.unwrap();
    assert!(second.commands.contains("query-nonsense"));
    assert_eq!(second.machines.len(), first.machines.len());

    // A file that is cut short, or of another program, is no answer.
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    let third = CapsCache::new(dir.path()).get(&program).await.unwrap();
    assert!(third.commands.contains("query-status"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let other = text.replace("\"size\":", "\"size\":1").replace("query-status", "query-nonsense");
    std::fs::write(&file, other).unwrap();
    let fourth = CapsCache::new(dir.path()).get(&program).await.unwrap();
    assert!(fourth.commands.contains("query-status"));
}

#[tokio::test]
async fn a_program_that_is_no_qemu() {
    let dir = Scratch::new();
    let cache = CapsCache::new(dir.path());
    assert!(cache.get("/bin/true".as_ref()).await.is_err());
    assert!(cache.get("/nowhere".as_ref()).await.is_err());
}
