//! Images behind images, found in the files and known to QEMU.

use std::path::Path;
use std::process::Command;

use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::*;

use crate::host::Host;
use crate::qemu;

/// An overlay in qcow2; whether there is a `qemu-img` to make it.
fn overlay(dir: &Path, name: &str, base: &str, format: &str) -> bool {
    let args = ["create", "-q", "-f", "qcow2", "-b", base, "-F", format, name];
    let made = Command::new("qemu-img").args(args).current_dir(dir).status();
    if made.is_err() {
        virtwire_skip::without_program("no qemu-img");
    }
    made.is_ok_and(|status| status.success())
}

async fn xml(host: &Host, dom: &NonnullDomain) -> String {
    let args = DomainGetXmlDescArgs { dom: dom.clone(), flags: 0 };
    host.driver.domain_get_xml_desc(&CallCx::default(), args).await.unwrap().xml.to_string()
}

fn disk(path: &Path, target: &str) -> String {
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>\
         <target dev='{target}' bus='virtio'/></disk>",
        path.display()
    )
}

#[tokio::test]
async fn a_running_guest_shows_what_is_behind_its_disks() {
    if qemu().is_none() {
        return;
    }
    let (mut host, cx) = (Host::new().await, CallCx::default());
    let dir = host.dir.clone();
    if !overlay(&dir, "middle.qcow2", "disk.img", "raw")
        || !overlay(&dir, "top.qcow2", "middle.qcow2", "qcow2")
    {
        return;
    }
    assert!(overlay(&dir, "plugged.qcow2", "disk.img", "raw"));
    let dom = host.define("chain", &disk(&dir.join("top.qcow2"), "vda")).await;
    host.start_paused(&dom).await;
    let shown = xml(&host, &dom).await;
    let (middle, base) = (dir.join("middle.qcow2"), dir.join("disk.img"));
    for part in [
        "<backingStore type='file' index='2'>\n        <format type='qcow2'/>".to_owned(),
        format!("<source file='{}'/>", middle.display()),
        "<backingStore type='file' index='3'>\n          <format type='raw'/>".to_owned(),
        format!("<source file='{}'/>\n          <backingStore/>", base.display()),
    ] {
        assert!(shown.contains(&part), "no {part} in {shown}");
    }
    // What is stored leaves it to the files.
    let args = DomainGetXmlDescArgs { dom: dom.clone(), flags: 2 };
    let stored = host.driver.domain_get_xml_desc(&cx, args).await.unwrap().xml.to_string();
    assert!(!stored.contains("backingStore"), "{stored}");

    // Twice: nothing of the first is left in QEMU.
    for first in ["4", "6"] {
        let new = disk(&dir.join("plugged.qcow2"), "vdb");
        let args = DomainAttachDeviceArgs { dom: dom.clone(), xml: new.as_str().into() };
        host.driver.domain_attach_device(&cx, args).await.unwrap();
        let shown = xml(&host, &dom).await;
        assert!(shown.contains(&format!("plugged.qcow2' index='{first}'/>")), "{shown}");
        let args = DomainDetachDeviceArgs { dom: dom.clone(), xml: new.as_str().into() };
        host.driver.domain_detach_device(&cx, args).await.unwrap();
        // Nobody in this guest answers the request; a reset does.
        host.driver.domain_reset(&cx, DomainResetArgs { dom: dom.clone(), flags: 0 }).await.unwrap();
        assert_eq!(host.device_removed().await, "virtio-disk1");
    }
    let cmd = r#"{"execute":"query-named-block-nodes","arguments":{"flat":true}}"#;
    let args =
        virtwire_protocol::qemu::DomainMonitorCommandArgs { dom: dom.clone(), cmd: cmd.into(), flags: 0 };
    let nodes = host.driver.qemu_domain_monitor_command(&cx, args).await.unwrap().result.to_string();
    assert!(nodes.contains("libvirt-3-storage") && !nodes.contains("libvirt-5-storage"), "{nodes}");
    host.driver.domain_destroy(&cx, DomainDestroyArgs { dom }).await.unwrap();
}

#[tokio::test]
async fn a_format_that_nobody_says_is_not_guessed() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    if !overlay(&host.dir, "middle.qcow2", "disk.img", "raw") {
        return;
    }
    assert!(overlay(&host.dir, "top.qcow2", "middle.qcow2", "qcow2"));
    // The header's extension for the format becomes one that nobody knows.
    let path = host.dir.join("top.qcow2");
    let mut image = std::fs::read(&path).unwrap();
    let at = image.windows(4).position(|word| word == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
    image[at] = 0;
    std::fs::write(&path, image).unwrap();
    let dom = host.define("guess", &disk(&path, "vda")).await;
    let error = host.driver.domain_create(&cx, DomainCreateArgs { dom }).await.unwrap_err();
    assert_eq!(error.code.0, 55, "{error}");
    assert!(error.message.contains("backing image 'middle.qcow2'"), "{error}");
}
