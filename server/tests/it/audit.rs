//! Audit records of guests that start, fail to start, get something and stop: those of the real libvirtd for the same
//! commands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::host::{Host, is_root, run};
use crate::network::programs;
use crate::real;

fn guest(name: &str, number: u8, disk: &Path) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><uuid>{number}1111111-2222-4333-8444-555555555555</uuid>\
         <memory unit='MiB'>32</memory><currentMemory unit='MiB'>24</currentMemory><vcpu current='1'>2</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>{}<disk type='file' device='cdrom'>\
         <target dev='hda' bus='ide'/></disk><interface type='user'><mac address='52:54:00:aa:bb:cc'/></interface>\
         <serial type='pty'/><console type='pty'/><rng model='virtio'><backend model='random'>/dev/urandom</backend>\
         </rng></devices></domain>",
        drive("vda", disk)
    )
}

fn drive(target: &str, file: &Path) -> String {
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
         <target dev='{target}' bus='virtio'/></disk>",
        file.display()
    )
}

/// The records of a log, without what differs from run to run, and without those of control groups, which
/// virtwired does not have, and of labels, which a daemon with a root of its own need not have.
fn records(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap();
    let records = text.lines().filter_map(|line| Some(&line[line.find("success=")?..]));
    let records = records.filter(|line| !line.contains("resrc=cgroup") && !line.contains("vm-ctx="));
    let cut = |line: &str, behind: &str| match line.split_once(behind) {
        Some((head, tail)) => {
            let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
            let number = if tail.starts_with('0') { "0" } else { "N" };
            format!("{head}{behind}{number}{rest}")
        }
        None => line.to_owned(),
    };
    records.map(|line| cut(&cut(line, "vm-pid="), "/dev/pts/").replace("/dev/pts/0", "/dev/pts/N")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn class_audit_records_are_those_of_libvirtd() {
    if !is_root() || !programs(&["virsh", "libvirtd", "unshare", "qemu-system-x86_64"]) {
        return;
    }
    let mut host = Host::new("audit");
    let dir = host.dir.clone();
    let path = |name: &str| dir.join(name);
    let open = |name: &str, mode| fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir_all(path("root")).unwrap();
    for name in ["", "root"] {
        open(name, 0o755);
    }
    for name in ["root/a.img", "root/b.img"] {
        fs::write(path(name), vec![0; 1 << 20]).unwrap();
        open(name, 0o666);
    }
    fs::write(path("good.xml"), guest("good", 1, &path("root/a.img"))).unwrap();
    fs::write(path("bad.xml"), guest("bad", 2, &path("root/none.img"))).unwrap();
    fs::write(path("disk.xml"), drive("vdb", &path("root/b.img"))).unwrap();
    let settings = |log: &str| {
        let log = path(log);
        format!(
            "audit_logging = 1\nauth_unix_rw = \"none\"\nlog_level = 2\nlog_outputs = \"2:file:{}\"\n",
            log.display()
        )
    };
    real::start(&mut host, &settings("real.log"), &[]);
    host.virtwired(&settings("own.log"), &[]);
    for (socket, log) in [("real/run/libvirt-sock", "real.log"), ("libvirt-sock", "own.log")] {
        let uri = format!("qemu+unix:///system?socket={}", path(socket).display());
        let virsh = async |command: &str| {
            let mut virsh = Command::new("virsh");
            virsh.args(["-q", "-c", &uri]).args(command.split(' ')).current_dir(&dir);
            run(virsh).await
        };
        for command in [
            "define good.xml",
            "start good",
            "attach-device good disk.xml",
            "setvcpus good 2",
            "destroy good",
        ] {
            virsh(command).await.unwrap_or_else(|error| panic!("{log}: {command}: {error}"));
        }
        virsh("define bad.xml").await.unwrap();
        virsh("start bad").await.unwrap_err();
        assert_eq!(records(&path(log)).last().unwrap().split(' ').next(), Some("success=no"), "{log}");
    }
    assert_eq!(records(&path("own.log")), records(&path("real.log")));
}
