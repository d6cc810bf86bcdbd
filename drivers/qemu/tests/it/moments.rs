//! What a guest was comes back: from snapshots within its images, from images upon others, from files. And what it had
//! goes back to whom it belonged.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::*;

use crate::host::Host;
use crate::lives::daemon;
use crate::qemu;

/// A guest whose image keeps snapshots.
pub(crate) async fn keeping(host: &Host, name: &str) -> Option<NonnullDomain> {
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

pub(crate) async fn snapshot(
    host: &Host,
    dom: &NonnullDomain,
    name: &str,
    flags: u32,
) -> NonnullDomainSnapshot {
    let xml_desc = format!("<domainsnapshot><name>{name}</name></domainsnapshot>").as_str().into();
    let args = DomainSnapshotCreateXmlArgs { dom: dom.clone(), xml_desc, flags };
    host.driver.domain_snapshot_create_xml(&CallCx::default(), args).await.unwrap().snap
}

async fn names(host: &Host, dom: &NonnullDomain, flags: u32) -> Vec<String> {
    let args = DomainListAllSnapshotsArgs { dom: dom.clone(), need_results: 1, flags };
    let all = host.driver.domain_list_all_snapshots(&CallCx::default(), args).await.unwrap().snapshots;
    all.iter().map(|snap| snap.name.to_string()).collect()
}

pub(crate) async fn start(host: &Host, dom: &NonnullDomain) {
    host.driver.domain_create(&CallCx::default(), DomainCreateArgs { dom: dom.clone() }).await.unwrap();
}

pub(crate) async fn destroy(host: &Host, dom: &NonnullDomain) {
    host.driver.domain_destroy(&CallCx::default(), DomainDestroyArgs { dom: dom.clone() }).await.unwrap();
}

/// The guest answers as one that has booted long ago.
pub(crate) async fn answers(host: &Host, dom: &NonnullDomain) {
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
    host.console(&dom).await.wake().await;
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
    host.console(&dom).await.wake().await;
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn memory_comes_back_from_a_file() {
    let (host, cx) = (Host::new().await, CallCx::default());
    let Some(dom) = keeping(&host, "sleeps").await else { return };
    start(&host, &dom).await;
    host.console(&dom).await.wake().await;
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

/// Where a guest's disk is, in what runs and in what is stored.
pub(crate) async fn images(host: &Host, dom: &NonnullDomain) -> [String; 2] {
    let mut found = [String::new(), String::new()];
    for (found, flags) in found.iter_mut().zip([0, 2]) {
        let args = DomainGetXmlDescArgs { dom: dom.clone(), flags };
        let xml = host.driver.domain_get_xml_desc(&CallCx::default(), args).await.unwrap().xml.to_string();
        let source = xml.split_once("<source file='").unwrap().1.split_once('\'').unwrap().0;
        *found = source.rsplit('/').next().unwrap().to_owned();
    }
    found
}

/// The images of a guest's disk.
pub(crate) fn files(host: &Host) -> Vec<String> {
    let all = std::fs::read_dir(&host.dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = all.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("disk.") && name != "disk.img");
    names.sort();
    names
}

#[tokio::test]
async fn images_are_gone_back_to_and_merged_while_the_guest_runs() {
    let (host, cx) = (Host::new().await, CallCx::default());
    let Some(dom) = keeping(&host, "branches").await else { return };
    start(&host, &dom).await;
    host.console(&dom).await.wake().await;
    let memory = host.dir.join("memory");
    let xml = format!(
        "<domainsnapshot><name>whole</name><memory snapshot='external' file='{}'/></domainsnapshot>",
        memory.display()
    );
    let args = DomainSnapshotCreateXmlArgs { dom: dom.clone(), xml_desc: xml.as_str().into(), flags: 0 };
    let whole = host.driver.domain_snapshot_create_xml(&cx, args).await.unwrap().snap;
    assert_eq!(host.state(&dom).await.0, 1, "it runs on");
    answers(&host, &dom).await;
    let top = snapshot(&host, &dom, "top", 1 << 4).await;
    assert_eq!(files(&host), ["disk.qcow2", "disk.top", "disk.whole"]);

    let args = DomainRevertToSnapshotArgs { snap: whole.clone(), flags: 0 };
    host.driver.domain_revert_to_snapshot(&cx, args).await.unwrap();
    assert_eq!(host.state(&dom).await, (1, 4));
    answers(&host, &dom).await;
    let [now, stored] = images(&host, &dom).await;
    assert_eq!(now, stored);
    assert!(!files(&host).contains(&"disk.top".to_owned()) && files(&host).contains(&now));

    let delete = |snap: &NonnullDomainSnapshot| DomainSnapshotDeleteArgs { snap: snap.clone(), flags: 0 };
    let error = host.driver.domain_snapshot_delete(&cx, delete(&whole)).await.unwrap_err();
    assert!(error.message.contains("not a leaf snapshot"), "{error}");
    host.driver.domain_snapshot_delete(&cx, delete(&top)).await.unwrap();
    host.driver.domain_snapshot_delete(&cx, delete(&whole)).await.unwrap();
    assert_eq!(images(&host, &dom).await, ["disk.qcow2", "disk.qcow2"]);
    assert_eq!((files(&host), memory.exists()), (vec!["disk.qcow2".to_owned()], false));
    answers(&host, &dom).await;
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn images_are_merged_while_the_guest_is_off() {
    let (host, cx) = (Host::new().await, CallCx::default());
    let Some(dom) = keeping(&host, "shrinks").await else { return };
    start(&host, &dom).await;
    let mut all = Vec::new();
    for name in ["a", "b", "c"] {
        all.push(snapshot(&host, &dom, name, 1 << 4).await);
    }
    let delete = |n: usize| DomainSnapshotDeleteArgs { snap: all[n].clone(), flags: 0 };
    // One below others while it runs, the others afterwards.
    host.driver.domain_snapshot_delete(&cx, delete(1)).await.unwrap();
    assert_eq!(files(&host), ["disk.a", "disk.c", "disk.qcow2"]);
    destroy(&host, &dom).await;
    host.driver.domain_snapshot_delete(&cx, delete(0)).await.unwrap();
    assert_eq!(files(&host), ["disk.c", "disk.qcow2"]);
    host.driver.domain_snapshot_delete(&cx, delete(2)).await.unwrap();
    assert_eq!(files(&host), ["disk.qcow2"]);
    assert_eq!(images(&host, &dom).await, ["disk.qcow2", "disk.qcow2"]);
    start(&host, &dom).await;
    host.console(&dom).await.wake().await;
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn a_raw_image_gets_back_what_was_written_upon_it() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    let dom = host.define("raw", &host.talking()).await;
    start(&host, &dom).await;
    let top = snapshot(&host, &dom, "top", 1 << 4).await;
    assert_eq!(images(&host, &dom).await, ["disk.top", "disk.top"]);
    let delete = DomainSnapshotDeleteArgs { snap: top, flags: 0 };
    host.driver.domain_snapshot_delete(&cx, delete).await.unwrap();
    assert_eq!(images(&host, &dom).await, ["disk.img", "disk.img"]);
    destroy(&host, &dom).await;
}

async fn checkpoint(host: &Host, dom: &NonnullDomain, name: &str) -> NonnullDomainCheckpoint {
    let xml_desc = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>").as_str().into();
    let args = DomainCheckpointCreateXmlArgs { dom: dom.clone(), xml_desc, flags: 0 };
    host.driver.domain_checkpoint_create_xml(&CallCx::default(), args).await.unwrap().checkpoint
}

#[tokio::test]
async fn what_changes_since_a_checkpoint_is_known_in_later_images_too() {
    let (host, cx) = (Host::new().await, CallCx::default());
    let Some(dom) = keeping(&host, "remembers").await else { return };
    start(&host, &dom).await;
    let first = checkpoint(&host, &dom, "first").await;
    let second = checkpoint(&host, &dom, "second").await;
    snapshot(&host, &dom, "top", 1 << 4).await;
    let xml = DomainCheckpointGetXmlDescArgs { checkpoint: second.clone(), flags: 2 | 4 };
    let xml = host.driver.domain_checkpoint_get_xml_desc(&cx, xml).await.unwrap().xml.to_string();
    assert!(xml.contains("<name>first</name>") && xml.contains("bitmap='second' size='0'"), "{xml}");
    let bitmaps = |image: &str| {
        let info = ["info", "-U", image];
        let output = Command::new("qemu-img").args(info).current_dir(&host.dir).output().unwrap();
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|line| line.trim().starts_with("name: "))
            .count()
    };
    let delete = DomainCheckpointDeleteArgs { checkpoint: first, flags: 0 };
    host.driver.domain_checkpoint_delete(&cx, delete).await.unwrap();
    destroy(&host, &dom).await;
    assert_eq!((bitmaps("disk.qcow2"), bitmaps("disk.top")), (2, 1), "what is below stays as it is");

    // They outlive the daemon, and can be deleted only while the guest runs.
    let next = Host::at(host.leave()).await;
    let list = DomainListAllCheckpointsArgs { dom: dom.clone(), need_results: 1, flags: 0 };
    let all = next.driver.domain_list_all_checkpoints(&cx, list).await.unwrap().checkpoints;
    assert_eq!(all.iter().map(|it| it.name.to_string()).collect::<Vec<_>>(), ["second"]);
    let delete = |flags| DomainCheckpointDeleteArgs { checkpoint: second.clone(), flags };
    assert_eq!(next.driver.domain_checkpoint_delete(&cx, delete(0)).await.unwrap_err().code.0, 84);
    start(&next, &dom).await;
    let third = checkpoint(&next, &dom, "third").await;
    let parent = DomainCheckpointGetParentArgs { checkpoint: third, flags: 0 };
    let parent = next.driver.domain_checkpoint_get_parent(&cx, parent).await.unwrap().parent;
    assert_eq!(parent.name, "second");
    next.driver.domain_checkpoint_delete(&cx, delete(1)).await.unwrap();
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
