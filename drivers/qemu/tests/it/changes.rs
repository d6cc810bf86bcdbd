//! What clients change of a guest beside its life: its name, what follows its ends, whose connection it needs.

use std::fs;

use virtwire_driver_api::{CallCx, Driver, HypervisorDriver};
use virtwire_driver_qemu::QemuDriver;
use virtwire_protocol::remote::*;

use crate::host::Host;
use crate::qemu;

#[tokio::test]
async fn a_renamed_guest_is_the_same_guest() {
    if qemu().is_none() {
        return;
    }
    let (mut host, cx) = (Host::new().await, CallCx::default());
    let dom = host.define("before", "").await;
    host.define("taken", "").await;
    assert_eq!(host.lives().await, [(0, 0), (0, 0)]);
    let rename = |name: &str| DomainRenameArgs { dom: dom.clone(), new_name: Some(name.into()), flags: 0 };
    for (name, code) in [("taken", 55), ("before", 55), ("a/b", 27), ("a\nb", 35), (&"x".repeat(255), 38)] {
        let error = host.driver.domain_rename(&cx, rename(name)).await.unwrap_err();
        assert_eq!(error.code.0, code, "{error}");
    }
    host.driver.domain_rename(&cx, rename("after")).await.unwrap();
    assert_eq!(host.lives().await, [(1, 1), (0, 2)]);
    let found = DomainLookupByUuidArgs { uuid: dom.uuid };
    assert_eq!(host.driver.domain_lookup_by_uuid(&cx, found).await.unwrap().dom.name, "after");
    let config = host.dir.join("etc/libvirt/qemu");
    assert!(!config.join("before.xml").exists());
    assert!(fs::read_to_string(config.join("after.xml")).unwrap().contains("<name>after</name>"));
}

#[tokio::test]
async fn names_that_files_cannot_have_are_refused() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    let define = async |name: &str| {
        let args = DomainDefineXmlArgs { xml: host.xml(name, "").into() };
        host.driver.domain_define_xml(&cx, args).await.unwrap_err()
    };
    for name in [".", ".."] {
        assert_eq!(define(name).await.code.0, 38, "it would have the directory of others");
    }
    for (name, code) in [("a/b", 27), ("a&#10;b", 35), (&"x".repeat(252), 38)] {
        let error = define(name).await;
        assert_eq!(error.code.0, code, "{error}");
        let args = DomainCreateXmlArgs { xml_desc: host.xml(name, "").into(), flags: 0 };
        let error = host.driver.domain_create_xml(&cx, args).await.unwrap_err();
        assert_eq!(error.code.0, code, "{error}");
    }
    let all = ConnectListAllDomainsArgs { need_results: 1, flags: 0 };
    assert_eq!(host.driver.connect_list_all_domains(&cx, all).await.unwrap().ret, 0);
}

#[tokio::test]
async fn a_guest_bound_to_its_client_ends_with_it() {
    if qemu().is_none() {
        return;
    }
    let host = Host::new().await;
    let (mine, other) =
        (CallCx { client: 1, ..CallCx::default() }, CallCx { client: 2, ..CallCx::default() });
    let driver = QemuDriver::new(host.dir.join("bound"));
    let Ok(connection) = driver.open(&mine, "qemu:///system").await else {
        return virtwire_skip::without_program("not root");
    };
    let others = driver.open(&other, "qemu:///system").await.unwrap();
    let args = DomainCreateXmlArgs { xml_desc: host.xml("bound", "").into(), flags: 1 | 2 };
    connection.hypervisor.domain_create_xml(&mine, args).await.unwrap();
    let pid = fs::read_to_string(host.dir.join("bound/run/libvirt/qemu/bound.pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    drop(connection);
    let ended = tokio::task::spawn_blocking(move || {
        let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        let mut fds = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&limit)).unwrap()
    });
    assert_eq!(ended.await.unwrap(), 1);
    drop(others);
}

#[tokio::test]
async fn a_disk_comes_and_goes_while_the_guest_runs() {
    if qemu().is_none() {
        return;
    }
    let (mut host, cx) = (Host::new().await, CallCx::default());
    let dom = host.define("plugs", "").await;
    host.start_paused(&dom).await;
    let xml = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
         <target dev='vdb' bus='virtio'/></disk>",
        host.dir.join("disk.img").display()
    );
    for _ in 0..2 {
        let args = DomainAttachDeviceArgs { dom: dom.clone(), xml: xml.as_str().into() };
        host.driver.domain_attach_device(&cx, args).await.unwrap();
        let args = DomainDetachDeviceArgs { dom: dom.clone(), xml: xml.as_str().into() };
        host.driver.domain_detach_device(&cx, args).await.unwrap();
        // Nobody in this guest answers the request; a reset does.
        host.driver.domain_reset(&cx, DomainResetArgs { dom: dom.clone(), flags: 0 }).await.unwrap();
        assert_eq!(host.device_removed().await, "virtio-disk1");
        let args = DomainGetXmlDescArgs { dom: dom.clone(), flags: 0 };
        let xml = host.driver.domain_get_xml_desc(&cx, args).await.unwrap().xml.to_string();
        assert!(!xml.contains("vdb"), "{xml}");
    }
    host.driver.domain_destroy(&cx, DomainDestroyArgs { dom }).await.unwrap();
}
