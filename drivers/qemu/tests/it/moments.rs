//! What a guest was comes back: from snapshots within its images, from images upon others, from files. And what it had
//! goes back to whom it belonged.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::*;

use crate::host::{GREETING, Host};
use crate::lives::daemon;
use crate::qemu;

/// A guest whose image keeps snapshots.
async fn keeping(host: &Host, name: &str) -> Option<NonnullDomain> {
    qemu()?;
    let convert = ["convert", "-f", "raw", "-O", "qcow2", "disk.img", "disk.qcow2"];
    let converted = Command::new("qemu-img").args(convert).current_dir(&host.dir).status();
    if !converted.is_ok_and(|status| status.success()) {
        virtwire_skip::without_program("no qemu-img");
        return None;
    }
    let devices = host.talking().replace("disk.img", "disk.qcow2").replace("'raw'", "'qcow2'");
    Some(host.define(name, &devices).await)
}

async fn snapshot(host: &Host, dom: &NonnullDomain, name: &str, flags: u32) -> NonnullDomainSnapshot {
    let xml_desc = format!("<domainsnapshot><name>{name}</name></domainsnapshot>").as_str().into();
    let args = DomainSnapshotCreateXmlArgs { dom: dom.clone(), xml_desc, flags };
    host.driver.domain_snapshot_create_xml(&CallCx::default(), args).await.unwrap().snap
}

async fn names(host: &Host, dom: &NonnullDomain, flags: u32) -> Vec<String> {
    let args = DomainListAllSnapshotsArgs { dom: dom.clone(), need_results: 1, flags };
    let all = host.driver.domain_list_all_snapshots(&CallCx::default(), args).await.unwrap().snapshots;
    all.iter().map(|snap| snap.name.to_string()).collect()
}

async fn start(host: &Host, dom: &NonnullDomain) {
    host.driver.domain_create(&CallCx::default(), DomainCreateArgs { dom: dom.clone() }).await.unwrap();
}

async fn destroy(host: &Host, dom: &NonnullDomain) {
    host.driver.domain_destroy(&CallCx::default(), DomainDestroyArgs { dom: dom.clone() }).await.unwrap();
}

/// The guest answers as one that has booted long ago.
async fn answers(host: &Host, dom: &NonnullDomain) {
    let mut console = host.console(dom).await;
    console.say("x").await;
    console.hear("x").await;
}

#[tokio::test]
async fn memory_comes_back_from_a_snapshot() {
    let (host, cx) = (Host::new().await, CallCx::default());
    let Some(dom) = keeping(&host, "returns").await else { return };
    let off = snapshot(&host, &dom, "off", 0).await;
    start(&host, &dom).await;
    host.console(&dom).await.hear(GREETING).await;
    let on = snapshot(&host, &dom, "on", 0).await;
    assert_eq!((host.state(&dom).await.0, names(&host, &dom, 1 << 6).await), (1, vec!["on".to_owned()]));
    destroy(&host, &dom).await;
    let revert =
        |snap: &NonnullDomainSnapshot, flags| DomainRevertToSnapshotArgs { snap: snap.clone(), flags };
    host.driver.domain_revert_to_snapshot(&cx, revert(&on, 0)).await.unwrap();
    assert_eq!(host.state(&dom).await, (1, 4));
    answers(&host, &dom).await;
    host.driver.domain_revert_to_snapshot(&cx, revert(&off, 0)).await.unwrap();
    assert_eq!(host.state(&dom).await, (5, 7));
    let current = DomainSnapshotCurrentArgs { dom: dom.clone(), flags: 0 };
    assert_eq!(host.driver.domain_snapshot_current(&cx, current).await.unwrap().snap.name, "off");

    // What comes after this daemon finds them as they are.
    let next = Host::at(host.leave()).await;
    assert_eq!(names(&next, &dom, 1).await, ["off"], "the roots");
    assert_eq!(names(&next, &dom, 1 << 2).await, ["on"], "the leaves");
    let gone = DomainUndefineArgs { dom: dom.clone() };
    assert_eq!(next.driver.domain_undefine(&cx, gone).await.unwrap_err().code.0, 55);
    let args = DomainSnapshotDeleteArgs { snap: off, flags: 1 };
    next.driver.domain_snapshot_delete(&cx, args).await.unwrap();
    assert!(names(&next, &dom, 0).await.is_empty());
    let list =
        Command::new("qemu-img").args(["snapshot", "-l", "disk.qcow2"]).current_dir(&next.dir).output();
    assert_eq!(String::from_utf8_lossy(&list.unwrap().stdout), "", "nor are there any in the image");
    next.driver.domain_undefine(&cx, DomainUndefineArgs { dom }).await.unwrap();
}

#[tokio::test]
async fn a_running_guest_writes_to_a_new_image_from_a_snapshot_on() {
    let host = Host::new().await;
    let Some(dom) = keeping(&host, "grows").await else { return };
    start(&host, &dom).await;
    snapshot(&host, &dom, "top", 1 << 4).await;
    let top = host.dir.join("disk.top");
    for flags in [0, 2] {
        let args = DomainGetXmlDescArgs { dom: dom.clone(), flags };
        let xml = host.driver.domain_get_xml_desc(&CallCx::default(), args).await.unwrap().xml.to_string();
        assert!(xml.contains(&format!("<source file='{}'", top.display())), "{xml}");
    }
    destroy(&host, &dom).await;
    start(&host, &dom).await;
    host.console(&dom).await.hear(GREETING).await;
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn memory_comes_back_from_a_file() {
    let (host, cx) = (Host::new().await, CallCx::default());
    let Some(dom) = keeping(&host, "sleeps").await else { return };
    start(&host, &dom).await;
    host.console(&dom).await.hear(GREETING).await;
    let path = host.dir.join("memory").display().to_string();
    let to = path.as_str().into();
    host.driver.domain_save(&cx, DomainSaveArgs { dom: dom.clone(), to }).await.unwrap();
    assert_eq!(host.state(&dom).await, (5, 5));
    let from = path.as_str().into();
    host.driver.domain_restore(&cx, DomainRestoreArgs { from }).await.unwrap();
    assert_eq!(host.state(&dom).await, (1, 3));
    answers(&host, &dom).await;

    host.driver.domain_managed_save(&cx, DomainManagedSaveArgs { dom: dom.clone(), flags: 4 }).await.unwrap();
    let next = Host::at(host.leave()).await;
    let has = DomainHasManagedSaveImageArgs { dom: dom.clone(), flags: 0 };
    assert_eq!(next.driver.domain_has_managed_save_image(&cx, has.clone()).await.unwrap().result, 1);
    start(&next, &dom).await;
    assert_eq!(next.state(&dom).await.0, 3, "it was to be paused");
    next.driver.domain_resume(&cx, DomainResumeArgs { dom: dom.clone() }).await.unwrap();
    answers(&next, &dom).await;
    assert_eq!(next.driver.domain_has_managed_save_image(&cx, has).await.unwrap().result, 0);
    destroy(&next, &dom).await;
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = path.metadata().unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn files_go_back_to_whom_they_belonged() {
    if qemu().is_none() || !rustix::process::geteuid().is_root() {
        return virtwire_skip::without_program("not root");
    }
    let (dom, dir) = daemon().block_on(async {
        let host = Host::new().await;
        // Whoever these are: names are the matter of others.
        std::fs::create_dir_all(host.dir.join("etc/libvirt")).unwrap();
        std::fs::write(host.dir.join("etc/libvirt/qemu.conf"), "user = \"+7\"\ngroup = \"+8\"\n").unwrap();
        let host = Host::at(host.leave()).await;
        let image = host.dir.join("disk.img");
        chown(&image, Some(5), Some(6)).unwrap();
        let dom = host.define("owner", &host.talking()).await;
        start(&host, &dom).await;
        assert_eq!(owner(&image), (7, 8));
        let pid = std::fs::read_to_string(host.dir.join("run/libvirt/qemu/owner.pid")).unwrap();
        assert_eq!(owner(&Path::new("/proc").join(pid.trim())), (7, 8), "and so is its QEMU");
        (dom, host.leave())
    });
    // Another daemon gives back what that one gave.
    daemon().block_on(async {
        let host = Host::at(dir).await;
        let image = host.dir.join("disk.img");
        destroy(&host, &dom).await;
        assert_eq!(owner(&image), (5, 6));
        let dom = host.define("never", &host.talking().replace("'raw'", "'qcow2'")).await;
        host.driver.domain_create(&CallCx::default(), DomainCreateArgs { dom }).await.unwrap_err();
        assert_eq!(owner(&image), (5, 6), "nor does one keep them that could not be started");
    });
}
