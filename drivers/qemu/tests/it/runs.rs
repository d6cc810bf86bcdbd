//! What is there for one run of a guest, and gone with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::*;

use crate::host::Host;
use crate::qemu;

#[tokio::test]
async fn what_a_disk_forgets_is_gone_with_the_run() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    let image = host.dir.join("disk.img");
    let before = fs::read(&image).unwrap();
    let disk = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>
        <target dev='vdb' bus='virtio'/><transient/></disk>",
        image.display()
    );
    let dom = host.define("forgets", &disk).await;
    host.start_paused(&dom).await;
    let forgotten = host.dir.join("disk.img.TRANSIENT-forgets");
    assert_eq!(fs::metadata(&forgotten).unwrap().permissions().mode() & 0o777, 0o600);
    let args = DomainGetXmlDescArgs { dom: dom.clone(), flags: 0 };
    let shown = host.driver.domain_get_xml_desc(&cx, args).await.unwrap().xml.to_string();
    let top = format!(
        "<source file='{}' index='2'/>\n      <backingStore type='file' index='1'>",
        forgotten.display()
    );
    assert!(shown.contains(&top), "no {top} in {shown}");
    let args = DomainManagedSaveArgs { dom: dom.clone(), flags: 0 };
    let error = host.driver.domain_managed_save(&cx, args).await.unwrap_err();
    let text = "Requested operation is not valid: migration with transient disk is not supported";
    assert_eq!(error.message, text);
    let args = DomainBlockPullArgs { dom: dom.clone(), path: "vdb".into(), bandwidth: 0, flags: 0 };
    let error = host.driver.domain_block_pull(&cx, args).await.unwrap_err();
    let text = "Operation not supported: block jobs are not supported on transient disk 'vdb'";
    assert_eq!(error.message, text);
    let xml_desc = "<domainsnapshot><disks><disk name='vdb' snapshot='external'/></disks></domainsnapshot>";
    let disk_only = 1 << 4;
    let args = DomainSnapshotCreateXmlArgs { dom: dom.clone(), xml_desc: xml_desc.into(), flags: disk_only };
    assert_eq!(host.driver.domain_snapshot_create_xml(&cx, args).await.unwrap_err().message, text);

    host.driver.domain_destroy(&cx, DomainDestroyArgs { dom: dom.clone() }).await.unwrap();
    assert!(!forgotten.exists());
    assert_eq!(fs::read(&image).unwrap(), before);
    // What a run left whose end nobody saw is in nobody's way.
    fs::write(&forgotten, "left").unwrap();
    host.start_paused(&dom).await;
    host.driver.domain_destroy(&cx, DomainDestroyArgs { dom }).await.unwrap();
    assert!(!forgotten.exists());
}

#[tokio::test]
async fn a_disk_that_forgets_is_a_file() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    let disk = "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/null'/>
        <target dev='vdb' bus='virtio'/><transient/></disk>";
    let args = DomainDefineXmlArgs { xml: host.xml("forgets", disk).into() };
    let error = host.driver.domain_define_xml(&cx, args).await.unwrap_err();
    let text = "unsupported configuration: transient disk supported only with 'file' type (vdb)";
    assert_eq!(error.message, text);
}

#[tokio::test]
async fn the_log_of_a_port_goes_on_unless_it_is_to_begin_anew() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    for (append, left) in [("on", "before"), ("off", "")] {
        let log = host.dir.join(format!("{append}.log"));
        fs::write(&log, "before").unwrap();
        let port = format!("<serial type='null'><log file='{}' append='{append}'/></serial>", log.display());
        let dom = host.define(append, &port).await;
        host.start_paused(&dom).await;
        assert_eq!(fs::read_to_string(&log).unwrap(), left);
        host.driver.domain_destroy(&cx, DomainDestroyArgs { dom }).await.unwrap();
    }
}
