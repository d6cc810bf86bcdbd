//! Backups: what is in them is what was on the disk, also under the daemon that comes next.

use std::path::{Path, PathBuf};
use std::process::Command;

use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::*;

use crate::host::Host;
use crate::lives::daemon;
use crate::moments::{destroy, keeping, start};

/// `VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP`
const BACKUP: i32 = 5;
/// `VIR_DOMAIN_BLOCK_JOB_…`
const COMPLETED: i32 = 0;
const CANCELED: i32 = 2;
/// `VIR_DOMAIN_JOB_…`
const NONE: i32 = 0;
const UNBOUNDED: i32 = 2;
const ENDED: i32 = 3;

async fn begin(host: &Host, dom: &NonnullDomain, xml: &str, checkpoint: Option<&str>) -> Result<(), String> {
    let checkpoint =
        checkpoint.map(|name| format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>"));
    let args = DomainBackupBeginArgs {
        dom: dom.clone(),
        backup_xml: xml.into(),
        checkpoint_xml: checkpoint.map(|xml| xml.as_str().into()),
        flags: 0,
    };
    let begun = host.driver.domain_backup_begin(&CallCx::default(), args).await;
    begun.map_err(|error| error.message)
}

/// What goes into a file.
fn push(file: &Path, format: &str, since: Option<&str>) -> String {
    let since = since.map(|name| format!("<incremental>{name}</incremental>")).unwrap_or_default();
    format!(
        "<domainbackup>{since}<disks><disk name='vda' type='file'><driver type='{format}'/>\
         <target file='{}'/></disk></disks></domainbackup>",
        file.display()
    )
}

/// What a client reads at a socket.
fn pull(socket: &Path, since: Option<&str>) -> String {
    let since = since.map(|name| format!("<incremental>{name}</incremental>")).unwrap_or_default();
    format!(
        "<domainbackup mode='pull'>{since}<server transport='unix' socket='{}'/></domainbackup>",
        socket.display()
    )
}

/// Where QEMU may listen.
fn socket(host: &Host) -> PathBuf {
    host.dir.join("var/lib/libvirt/qemu/nbd")
}

async fn abort(host: &Host, dom: &NonnullDomain) -> Result<(), String> {
    let args = DomainAbortJobArgs { dom: dom.clone() };
    host.driver.domain_abort_job(&CallCx::default(), args).await.map_err(|error| error.message)
}

/// The kind of the guest's job, or of the last one that ended.
async fn job(host: &Host, dom: &NonnullDomain, completed: bool) -> (i32, Vec<TypedParam>) {
    let args = DomainGetJobStatsArgs { dom: dom.clone(), flags: if completed { 1 | 2 } else { 0 } };
    let told = host.driver.domain_get_job_stats(&CallCx::default(), args).await.unwrap();
    (told.r#type, told.params)
}

/// Has the guest's disk written to, as the guest would.
async fn write(host: &Host, dom: &NonnullDomain, pattern: u8, place: &str) {
    let line =
        format!("qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \"write -P {pattern} {place}\"");
    let arguments =
        serde_json::json!({"execute": "human-monitor-command", "arguments": {"command-line": line}});
    let args = virtwire_protocol::qemu::DomainMonitorCommandArgs {
        dom: dom.clone(),
        cmd: arguments.to_string().as_str().into(),
        flags: 0,
    };
    host.driver.qemu_domain_monitor_command(&CallCx::default(), args).await.unwrap();
}

fn run(dir: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Whether two images hold the same.
fn same(dir: &Path, [a, format_a]: [&str; 2], [b, format_b]: [&str; 2]) {
    run(dir, "qemu-img", &["compare", "-U", "-f", format_a, "-F", format_b, a, b]);
}

fn qemu_io(dir: &Path, image: &str, command: &str) {
    run(dir, "qemu-io", &["-U", "-f", "qcow2", "-r", "-c", command, image]);
}

#[tokio::test]
async fn a_disk_is_carried_into_files() {
    let mut host = Host::new().await;
    let Some(dom) = keeping(&host, "carried").await else { return };
    let dir: PathBuf = host.dir.clone();
    let (full, raw, more) = (dir.join("full"), dir.join("raw"), dir.join("more"));
    let off = begin(&host, &dom, &push(&full, "qcow2", None), None).await.unwrap_err();
    assert_eq!(off, "Operation not supported: cannot perform disk backup for inactive domain");
    start(&host, &dom).await;
    host.console(&dom).await.wake().await;

    begin(&host, &dom, &push(&full, "qcow2", None), Some("one")).await.unwrap();
    assert_eq!(host.block_job().await, (BACKUP, COMPLETED));
    assert_eq!((job(&host, &dom, false).await.0, job(&host, &dom, true).await.0), (NONE, ENDED));
    let again = begin(&host, &dom, &push(&full, "qcow2", None), None).await.unwrap_err();
    assert!(again.ends_with("for backup of 'vda' exists"), "{again}");

    write(&host, &dom, 7, "0 64k").await;
    begin(&host, &dom, &push(&raw, "raw", None), None).await.unwrap();
    assert_eq!(host.block_job().await, (BACKUP, COMPLETED));
    begin(&host, &dom, &push(&more, "qcow2", Some("one")), None).await.unwrap();
    assert_eq!(host.block_job().await, (BACKUP, COMPLETED));
    let (_, figures) = job(&host, &dom, true).await;
    assert!(figures.contains(&TypedParam::new("disk_total", 65536_u64)), "{figures:?}");
    let unknown = begin(&host, &dom, &push(&dir.join("x"), "qcow2", Some("nosuch")), None).await.unwrap_err();
    assert!(
        unknown.ends_with("Checkpoint 'nosuch' for incremental backup of disk 'vda' not found"),
        "{unknown}"
    );
    assert_eq!(
        abort(&host, &dom).await.unwrap_err(),
        "Requested operation is not valid: no job is active on the domain"
    );
    destroy(&host, &dom).await;

    same(&dir, ["disk.qcow2", "qcow2"], ["raw", "raw"]);
    same(&dir, ["disk.qcow2", "qcow2"], ["more", "qcow2"]);
    // What was carried away first is as it was then, and the rest comes upon it.
    run(&dir, "qemu-img", &["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "full", "more"]);
    same(&dir, ["disk.qcow2", "qcow2"], ["more", "qcow2"]);
    assert!(
        !Command::new("qemu-img")
            .args(["compare", "disk.qcow2", "full"])
            .current_dir(&dir)
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn a_client_reads_a_disk_as_it_was() {
    let mut host = Host::new().await;
    let Some(dom) = keeping(&host, "read").await else { return };
    let dir: PathBuf = host.dir.clone();
    std::fs::copy(dir.join("disk.qcow2"), dir.join("before")).unwrap();
    start(&host, &dom).await;
    host.console(&dom).await.wake().await;
    let socket = socket(&host);
    begin(&host, &dom, &pull(&socket, None), Some("one")).await.unwrap();
    assert_eq!(job(&host, &dom, false).await.0, UNBOUNDED);
    let other = push(&dir.join("x"), "qcow2", None);
    let other = begin(&host, &dom, &other, None);
    assert!(tokio::time::timeout(std::time::Duration::ZERO, other).await.is_err(), "one backup at a time");
    write(&host, &dom, 7, "0 64k").await;
    let uri = |export: &str| format!("nbd+unix:///{export}?socket={}", socket.display());
    same(&dir, [&uri("vda"), "raw"], ["before", "qcow2"]);
    abort(&host, &dom).await.unwrap();
    assert_eq!(host.block_job().await, (BACKUP, CANCELED));
    assert!(!dir.join("disk.qcow2.one").exists(), "what only the backup needed is gone");

    let shown = DomainBackupGetXmlDescArgs { dom: dom.clone(), flags: 0 };
    let none = host.driver.domain_backup_get_xml_desc(&CallCx::default(), shown.clone()).await.unwrap_err();
    assert_eq!(none.code.0, 104);
    begin(&host, &dom, &pull(&socket, Some("one")), None).await.unwrap();
    let xml =
        host.driver.domain_backup_get_xml_desc(&CallCx::default(), shown).await.unwrap().xml.to_string();
    assert!(xml.contains("incremental='one' exportname='vda'") && !xml.contains("state="), "{xml}");
    let changed = format!(
        "driver=nbd,export=vda,server.type=unix,server.path={},x-dirty-bitmap=qemu:dirty-bitmap:backup-vda",
        socket.display()
    );
    let map = run(&dir, "qemu-img", &["map", "--output=json", "--image-opts", &changed]);
    let first = serde_json::from_str::<serde_json::Value>(&map).unwrap()[0].clone();
    assert_eq!(
        (&first["start"], &first["length"], &first["data"]),
        (&0.into(), &65536.into(), &false.into()),
        "{map}"
    );
    destroy(&host, &dom).await;
    assert_eq!(job(&host, &dom, true).await.0, 5, "its end was the end of its backup");
    qemu_io(&dir, "disk.qcow2", "read -P 7 0 64k");
}

#[test]
fn a_backup_goes_on_under_the_next_daemon() {
    let left = daemon().block_on(async {
        let host = Host::new().await;
        let dom = keeping(&host, "still-read").await?;
        start(&host, &dom).await;
        host.console(&dom).await.wake().await;
        begin(&host, &dom, &pull(&socket(&host), None), None).await.unwrap();
        Some((dom, host.leave()))
    });
    let Some((dom, dir)) = left else { return };
    daemon().block_on(async {
        let mut host = Host::at(dir).await;
        let twice =
            host.driver.domain_create(&CallCx::default(), DomainCreateArgs { dom: dom.clone() }).await;
        assert!(twice.unwrap_err().message.contains("already running"));
        assert_eq!(job(&host, &dom, false).await.0, UNBOUNDED);
        let uri = format!("nbd+unix:///vda?socket={}", socket(&host).display());
        same(&host.dir, [&uri, "raw"], ["disk.qcow2", "qcow2"]);
        abort(&host, &dom).await.unwrap();
        assert_eq!(host.block_job().await, (BACKUP, CANCELED));
        assert_eq!((job(&host, &dom, false).await.0, job(&host, &dom, true).await.0), (NONE, ENDED));
        destroy(&host, &dom).await;
    });
}
