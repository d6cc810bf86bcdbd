//! What QEMU says about itself.

use std::sync::Arc;

use virtwire_driver_qemu::probe::CapsCache;

use crate::qemu;

#[tokio::test]
async fn what_is_installed_is_asked_once() {
    let Some(program) = qemu() else { return };
    let cache = CapsCache::default();
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
async fn a_program_that_is_no_qemu() {
    let cache = CapsCache::default();
    assert!(cache.get("/bin/true".as_ref()).await.is_err());
    assert!(cache.get("/nowhere".as_ref()).await.is_err());
}
