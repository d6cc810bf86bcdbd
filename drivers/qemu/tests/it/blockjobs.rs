//! Work on a running guest's images: merged, copied, and gone on with by the daemon that comes next.

use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::*;

use crate::host::Host;
use crate::lives::daemon;
use crate::moments::{answers, destroy, files, images, keeping, snapshot, start};
use crate::qemu;

/// `VIR_DOMAIN_BLOCK_JOB_TYPE_…`
const PULL: i32 = 1;
const COPY: i32 = 2;
const COMMIT: i32 = 3;
const ACTIVE_COMMIT: i32 = 4;
/// `VIR_DOMAIN_BLOCK_JOB_…`
const COMPLETED: i32 = 0;
const CANCELED: i32 = 2;
const READY: i32 = 3;
/// `VIR_DOMAIN_BLOCK_COMMIT_ACTIVE`, `VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT`, `…_ASYNC`
const ACTIVE: u32 = 4;
const PIVOT: u32 = 2;
const ASYNC: u32 = 1;

async fn commit(host: &Host, dom: &NonnullDomain, top: Option<&str>, flags: u32) {
    let (disk, top) = ("vda".into(), top.map(Into::into));
    let args = DomainBlockCommitArgs { dom: dom.clone(), disk, base: None, top, bandwidth: 0, flags };
    host.driver.domain_block_commit(&CallCx::default(), args).await.unwrap();
}

async fn end(host: &Host, dom: &NonnullDomain, flags: u32) -> Result<(), String> {
    let args = DomainBlockJobAbortArgs { dom: dom.clone(), path: "vda".into(), flags };
    let ended = host.driver.domain_block_job_abort(&CallCx::default(), args).await;
    ended.map_err(|error| error.message)
}

async fn info(host: &Host, dom: &NonnullDomain) -> (i32, i32) {
    let args = DomainGetBlockJobInfoArgs { dom: dom.clone(), path: "vda".into(), flags: 0 };
    let info = host.driver.domain_get_block_job_info(&CallCx::default(), args).await.unwrap();
    (info.found, info.r#type)
}

/// A running guest whose disk has three images.
async fn layered(host: &Host, name: &str) -> Option<NonnullDomain> {
    let dom = keeping(host, name).await?;
    start(host, &dom).await;
    host.console(&dom).await.wake().await;
    for name in ["mid", "top"] {
        snapshot(host, &dom, name, 1 << 4 | 1 << 2).await;
    }
    assert_eq!(files(host), ["disk.mid", "disk.qcow2", "disk.top"]);
    Some(dom)
}

#[tokio::test]
async fn images_are_taken_in_and_merged_down() {
    let mut host = Host::new().await;
    let Some(dom) = layered(&host, "merges").await else { return };
    let cx = CallCx::default();
    let mid = host.dir.join("disk.mid").display().to_string();
    commit(&host, &dom, Some(&mid), 0).await;
    assert_eq!(host.block_job().await, (COMMIT, COMPLETED));
    let args = DomainBlockPullArgs { dom: dom.clone(), path: "vda".into(), bandwidth: 0, flags: 0 };
    host.driver.domain_block_pull(&cx, args).await.unwrap();
    assert_eq!(host.block_job().await, (PULL, COMPLETED));
    let xml = DomainGetXmlDescArgs { dom: dom.clone(), flags: 0 };
    let xml = host.driver.domain_get_xml_desc(&cx, xml).await.unwrap().xml.to_string();
    assert!(xml.contains("<backingStore/>") && !xml.contains("<backingStore "), "{xml}");
    assert_eq!(images(&host, &dom).await, ["disk.top", "disk.top"]);
    assert!(end(&host, &dom, 0).await.unwrap_err().contains("disk vda does not have an active block job"));
    answers(&host, &dom).await;
    destroy(&host, &dom).await;
    // All of it is in the one image.
    std::fs::remove_file(host.dir.join("disk.qcow2")).unwrap();
    start(&host, &dom).await;
    host.console(&dom).await.wake().await;
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn a_guest_goes_over_to_a_copy() {
    let mut host = Host::new().await;
    let Some(dom) = layered(&host, "moves").await else { return };
    let copy = host.dir.join("disk.copy");
    let destxml = format!("<disk type='file'><source file='{}'/></disk>", copy.display());
    // `VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB`
    let args = |flags| DomainBlockCopyArgs {
        dom: dom.clone(),
        path: "vda".into(),
        destxml: destxml.as_str().into(),
        params: Vec::new(),
        flags,
    };
    let cx = CallCx::default();
    let error = host.driver.domain_block_copy(&cx, args(0)).await.unwrap_err();
    assert_eq!(error.message, "Requested operation is not valid: domain is not transient");
    host.driver.domain_block_copy(&cx, args(4)).await.unwrap();
    assert_eq!((host.block_job().await, info(&host, &dom).await), ((COPY, READY), (1, COPY)));
    let error = host.driver.domain_block_copy(&cx, args(4)).await.unwrap_err();
    assert_eq!(error.code.0, 83, "{error}");
    let args = DomainSaveArgs { dom: dom.clone(), to: "/nowhere".into() };
    let error = host.driver.domain_save(&cx, args).await.unwrap_err();
    assert!(error.message.contains("domain has active block job"), "{error}");
    end(&host, &dom, PIVOT).await.unwrap();
    assert_eq!((host.block_job().await, info(&host, &dom).await), ((COPY, COMPLETED), (0, 0)));
    assert_eq!(images(&host, &dom).await, ["disk.copy", "disk.copy"]);
    answers(&host, &dom).await;
    destroy(&host, &dom).await;
    start(&host, &dom).await;
    host.console(&dom).await.wake().await;
    destroy(&host, &dom).await;
}

#[test]
fn a_job_goes_on_under_the_next_daemon() {
    if qemu().is_none() {
        return;
    }
    let left = daemon().block_on(async {
        let mut host = Host::new().await;
        let dom = layered(&host, "hands-over").await?;
        commit(&host, &dom, None, ACTIVE).await;
        assert_eq!(host.block_job().await, (ACTIVE_COMMIT, READY));
        Some((dom, host.leave()))
    });
    let Some((dom, dir)) = left else { return };
    daemon().block_on(async {
        let mut host = Host::at(dir).await;
        // Whoever would start it waits until the daemon has found it.
        let twice =
            host.driver.domain_create(&CallCx::default(), DomainCreateArgs { dom: dom.clone() }).await;
        assert!(twice.unwrap_err().message.contains("already running"));
        assert_eq!(info(&host, &dom).await, (1, ACTIVE_COMMIT));
        end(&host, &dom, ASYNC).await.unwrap();
        assert_eq!(host.block_job().await, (ACTIVE_COMMIT, CANCELED));
        assert_eq!(images(&host, &dom).await, ["disk.top", "disk.top"]);
        commit(&host, &dom, None, ACTIVE).await;
        assert_eq!(host.block_job().await, (ACTIVE_COMMIT, READY));
        end(&host, &dom, PIVOT).await.unwrap();
        assert_eq!(images(&host, &dom).await, ["disk.qcow2", "disk.qcow2"]);
        answers(&host, &dom).await;
        destroy(&host, &dom).await;
    });
}
