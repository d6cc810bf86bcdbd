//! What `qemu.conf` says of guests, seen at real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::*;

use crate::host::Host;
use crate::qemu;

/// A host whose `qemu.conf` says this.
async fn host(settings: &str) -> Host {
    let host = Host::new().await;
    let etc = host.dir.join("etc/libvirt");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("qemu.conf"), settings).unwrap();
    Host::at(host.leave()).await
}

async fn destroy(host: &Host, dom: &NonnullDomain) {
    host.driver.domain_destroy(&CallCx::default(), DomainDestroyArgs { dom: dom.clone() }).await.unwrap();
}

async fn shown(host: &Host, dom: &NonnullDomain) -> String {
    let args = DomainGetXmlDescArgs { dom: dom.clone(), flags: 0 };
    host.driver.domain_get_xml_desc(&CallCx::default(), args).await.unwrap().xml.to_string()
}

/// The directory of a running guest's QEMU below `/proc`.
fn process(host: &Host, name: &str) -> std::path::PathBuf {
    let pid = fs::read_to_string(host.dir.join("run/libvirt/qemu").join(format!("{name}.pid"))).unwrap();
    Path::new("/proc").join(pid.trim())
}

fn words(host: &Host, name: &str) -> Vec<String> {
    let line = fs::read_to_string(process(host, name).join("cmdline")).unwrap();
    line.split('\0').map(str::to_owned).collect()
}

#[tokio::test]
async fn qemu_is_started_as_the_settings_say() {
    if qemu().is_none() {
        return;
    }
    let host = host(
        "set_process_name = 1\nlog_timestamp = 0\nseccomp_sandbox = 0\ndump_guest_core = 1\nmax_core = 4096\n\
         max_files = 900\nvnc_listen = \"127.0.0.2\"\nvnc_password = \"usual\"\nremote_display_port_min = 15900\n\
         remote_display_port_max = 15999\nremote_websocket_port_min = 15700\n",
    )
    .await;
    let dom = host.define("set", "<graphics type='vnc' websocket='-1'/>").await;
    host.start_paused(&dom).await;
    let line = words(&host, "set");
    let is_said = |option: &str, value: &str| line.windows(2).any(|pair| pair == [option, value]);
    assert!(is_said("-name", "guest=set,process=qemu:set,debug-threads=on"), "{line:?}");
    assert!(is_said("-msg", "timestamp=off") && is_said("-sandbox", "off"), "{line:?}");
    assert!(line.iter().any(|word| word.contains("dump-guest-core=on")), "{line:?}");
    let screen = line.iter().skip_while(|word| *word != "-vnc").nth(1).unwrap();
    assert!(screen.starts_with("127.0.0.2:10") && screen.contains("password=on"), "{screen}");
    let limits = fs::read_to_string(process(&host, "set").join("limits")).unwrap();
    let limit = |what: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((limit("Max core file size"), limit("Max open files")), ("4096".into(), "901".into()));
    let xml = shown(&host, &dom).await;
    assert!(xml.contains("<listen type='address' address='127.0.0.2'/>"), "{xml}");
    assert!(xml.contains("port='159") && xml.contains("websocket='157"), "{xml}");
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn no_two_guests_have_one_port() {
    if qemu().is_none() {
        return;
    }
    let host = host("remote_display_port_min = 16900\nremote_display_port_max = 16901\n").await;
    let screen = "<graphics type='vnc'/>";
    let (a, b, c) =
        (host.define("a", screen).await, host.define("b", screen).await, host.define("c", screen).await);
    tokio::join!(host.start_paused(&a), host.start_paused(&b));
    let (at_a, at_b) = (shown(&host, &a).await, shown(&host, &b).await);
    assert_ne!(at_a.contains("port='16900'"), at_b.contains("port='16900'"), "{at_a}{at_b}");
    let args = DomainCreateArgs { dom: c.clone() };
    let error = host.driver.domain_create(&CallCx::default(), args.clone()).await.unwrap_err();
    let text = "internal error: Unable to find an unused port in range 'vnc' (16900-16901)";
    assert_eq!(error.message, text);
    destroy(&host, &a).await;
    host.driver.domain_create(&CallCx::default(), args).await.unwrap();
    destroy(&host, &b).await;
    destroy(&host, &c).await;
}

#[tokio::test]
async fn a_guest_that_is_only_described_takes_no_port() {
    if qemu().is_none() {
        return;
    }
    let host = host(
        "remote_display_port_min = 17900\nremote_display_port_max = 17900\nremote_websocket_port_min = 17700\n\
         remote_websocket_port_max = 17700\n",
    )
    .await;
    let screen = "<graphics type='vnc' websocket='-1'/>";
    for _ in 0..2 {
        let args = ConnectDomainXmlToNativeArgs {
            native_format: "qemu-argv".into(),
            domain_xml: host.xml("described", screen).into(),
            flags: 0,
        };
        let line = host.driver.connect_domain_xml_to_native(&CallCx::default(), args).await.unwrap();
        let line = line.native_config.to_string();
        assert!(line.contains("-vnc 127.0.0.1:0,websocket=-1"), "{line}");
    }
    let dom = host.define("seen", screen).await;
    host.start_paused(&dom).await;
    let xml = shown(&host, &dom).await;
    assert!(xml.contains("port='17900'") && xml.contains("websocket='17700'"), "{xml}");
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn screens_are_seen_in_sockets_where_the_settings_say_so() {
    if qemu().is_none() {
        return;
    }
    let host = host("vnc_auto_unix_socket = 1\n").await;
    let dom = host.define("socket", "<graphics type='vnc'/>").await;
    host.start_paused(&dom).await;
    let xml = shown(&host, &dom).await;
    assert!(xml.contains("<listen type='socket' socket='") && xml.contains("vnc.sock'"), "{xml}");
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn what_stands_behind_a_shared_folder_goes_with_a_start_that_fails() {
    if qemu().is_none() {
        return;
    }
    let host = Host::new().await;
    let (program, said) = (host.dir.join("shares"), host.dir.join("said"));
    let text = format!(
        "#!/bin/sh\n[ $1 != --print-capabilities ] || {{ echo '{{\"type\":\"fs\"}}'; exit; }}\necho $@ > {}\n",
        said.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let shared = |dir: &Path| {
        format!(
            "<filesystem type='mount'><driver type='virtiofs'/><binary path='{}'/><source dir='{}'/>\
             <target dir='t'/></filesystem>",
            program.display(),
            dir.display()
        )
    };
    let define = async |name: &str, dir: &Path| {
        let xml = host.xml(name, &shared(dir)).replace(
            "<vcpu>",
            "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking><vcpu>",
        );
        let args = DomainDefineXmlArgs { xml: xml.into() };
        let dom = host.driver.domain_define_xml(&CallCx::default(), args).await.unwrap().dom;
        host.driver.domain_create(&CallCx::default(), DomainCreateArgs { dom }).await.unwrap_err().message
    };
    let missing = host.dir.join("nosuch");
    let text =
        format!("internal error: the virtiofs export directory '{}' does not exist", missing.display());
    assert_eq!(define("missing", &missing).await, text);
    assert!(!said.exists());
    define("shared", &host.dir).await;
    let line = fs::read_to_string(&said).unwrap();
    assert!(line.ends_with(&format!(" -o source={}\n", host.dir.display())), "{line}");
    let left = |dir: &str| {
        let all = fs::read_dir(host.dir.join(dir)).unwrap().flatten();
        all.map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains("shared"))
            .collect::<Vec<_>>()
    };
    assert_eq!((left("run/libvirt/qemu"), left("var/lib/libvirt/qemu")), (vec![], vec![]));
}

#[tokio::test]
async fn guests_start_with_the_host_and_not_with_each_daemon() {
    if qemu().is_none() {
        return;
    }
    let host = Host::new().await;
    let dom = host.define("auto", "").await;
    let args = DomainSetAutostartArgs { dom: dom.clone(), autostart: 1 };
    host.driver.domain_set_autostart(&CallCx::default(), args).await.unwrap();
    let mut host = Host::at(host.leave()).await;
    assert_eq!(host.state(&dom).await.0, 5, "this host has been up for a while");
    fs::remove_file(host.dir.join("run/libvirt/qemu/autostarted")).unwrap();
    host.driver.autostart();
    // Resumed and started, in this order.
    host.lives::<2>().await;
    destroy(&host, &dom).await;
}

/// Writes a disk whose first sector does nothing but this.
fn write_boot_sector(path: &Path, code: &[u8]) {
    let mut disk = vec![0; 1 << 20];
    disk[..code.len()].copy_from_slice(code);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(path, disk).unwrap();
}

/// `mov dx, PORT; mov al, VALUE; out dx, al; hlt`
fn writes_to(port: u16, value: u8) -> [u8; 7] {
    let [low, high] = port.to_le_bytes();
    [0xba, low, high, 0xb0, value, 0xee, 0xf4]
}

#[tokio::test]
async fn what_was_in_the_memory_of_guests_that_gave_up_is_kept_where_the_settings_say() {
    if qemu().is_none() {
        return;
    }
    let dumps = virtwire_store::Scratch::new();
    let dumps = dumps.path();
    let mut host =
        host(&format!("auto_dump_path = \"{}\"\nauto_dump_bypass_cache = 1\n", dumps.display())).await;
    // The registers of QEMU's panic device, and of the watchdog, which runs out at once with this value.
    let (panic, watchdog) = (writes_to(0x505, 1), writes_to(0x443, 0xf));
    let pauses = "<watchdog model='ib700' action='dump'/>";
    let gives_up = "<panic model='isa'/>";
    const CRASHED: (i32, i32) = (8, 0);
    for (name, code, device, on_crash, lives, state) in [
        ("barks", watchdog, pauses, "destroy", &[(3, 3), (4, 0)][..], (1, 5)),
        ("ends", panic, gives_up, "coredump-destroy", &[CRASHED, (5, 2)], (5, 3)),
        ("goes-on", panic, gives_up, "coredump-restart", &[CRASHED, (-1, 0), (4, 0)], (1, 9)),
    ] {
        let image = host.dir.join(format!("{name}.img"));
        write_boot_sector(&image, &code);
        let disk = host.talking().replace("disk.img", &format!("{name}.img"));
        let xml = host.xml(name, &format!("{disk}{device}"));
        let xml = xml.replace("<devices>", &format!("<on_crash>{on_crash}</on_crash><devices>"));
        let cx = CallCx::default();
        let dom = host.driver.domain_create_xml(&cx, DomainCreateXmlArgs { xml_desc: xml.into(), flags: 0 });
        let dom = dom.await.unwrap().dom;
        assert_eq!(host.lives().await, [(4, 0), (2, 0)]);
        for life in lives {
            // Firmware resets the machine on its way.
            let mut next = host.lives::<1>().await[0];
            while next == (-1, 0) && *life != next {
                next = host.lives::<1>().await[0];
            }
            assert_eq!(next, *life, "{name}");
        }
        if state.0 == 1 {
            assert_eq!(host.state(&dom).await, state, "{name}");
            destroy(&host, &dom).await;
            while host.lives::<1>().await[0] != (5, 1) {}
        }
        let kept = fs::read_dir(dumps).unwrap().map(|entry| entry.unwrap().path());
        let kept = kept.filter(|path| path.to_string_lossy().contains(name)).min().expect("a dump");
        assert!(fs::read(&kept).unwrap().starts_with(b"\x7fELF"), "{}", kept.display());
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn huge_pages_are_where_the_settings_say_or_nowhere() {
    if qemu().is_none() {
        return;
    }
    let host = host("hugetlbfs_mount = \"\"\n").await;
    let xml = host.xml("large", "").replace("<os>", "<memoryBacking><hugepages/></memoryBacking><os>");
    let args = DomainCreateXmlArgs { xml_desc: xml.into(), flags: 0 };
    let error = host.driver.domain_create_xml(&CallCx::default(), args).await.unwrap_err();
    let text = "internal error: hugetlbfs filesystem is not mounted or disabled by administrator config";
    assert_eq!(error.message, text);
}
