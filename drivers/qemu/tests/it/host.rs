//! A driver with directories of its own, the events it raises, and a guest that says something.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;
use virtwire_driver_api::{
    CallCx, Event, EventHub, EventSink, FromClient, HypervisorDriver, StreamEnd, ToClient, stream,
};
use virtwire_driver_qemu::Qemu;
use virtwire_protocol::remote::{self, *};

/// Emulation takes its time; a test that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(60);

/// A boot sector that greets on the first serial port, echoes what comes, powers off at `q` and resets at `r`.
///
/// ```text
/// 7c00  cli; xor ax,ax; mov ds,ax; mov sp,0x7c00; mov si,msg
/// 7c0b  next: lodsb; test al,al; jz wait; call put; jmp next
/// 7c15  wait: mov dx,0x3fd; in al,dx; test al,1; jz wait
///             mov dx,0x3f8; in al,dx; cmp al,'q'; je off; cmp al,'r'; je reset; call put; jmp wait
/// 7c2e  put:  mov ah,al; mov dx,0x3fd; 1: in al,dx; test al,0x20; jz 1b; mov al,ah; mov dx,0x3f8; out dx,al; ret
/// 7c3f  off:  mov dx,0x604; mov ax,0x2000; out dx,ax; hlt        (PM1a control of the PIIX4)
/// 7c47  reset: mov al,0xfe; out 0x64,al; hlt                     (keyboard controller)
/// ```
const CODE: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xbc, 0x00, 0x7c, 0xbe, 0x4c, 0x7c, 0xac, 0x84, 0xc0, 0x74, 0x05, 0xe8,
    0x1b, 0x00, 0xeb, 0xf6, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0xec, 0x3c,
    0x71, 0x74, 0x1a, 0x3c, 0x72, 0x74, 0x1e, 0xe8, 0x02, 0x00, 0xeb, 0xe7, 0x88, 0xc4, 0xba, 0xfd, 0x03,
    0xec, 0xa8, 0x20, 0x74, 0xfb, 0x88, 0xe0, 0xba, 0xf8, 0x03, 0xee, 0xc3, 0xba, 0x04, 0x06, 0xb8, 0x00,
    0x20, 0xef, 0xf4, 0xb0, 0xfe, 0xe6, 0x64, 0xf4,
];

/// What the guest says first.
pub(crate) const GREETING: &str = "virtwire guest is up\r\n";

fn disk() -> Vec<u8> {
    let mut sector = CODE.to_vec();
    sector.extend(GREETING.bytes());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    // Firmware does not boot from disks that are too small to have a geometry.
    sector.resize(1 << 20, 0);
    sector
}

pub(crate) struct Host {
    pub(crate) driver: Qemu,
    pub(crate) dir: PathBuf,
    events: mpsc::UnboundedReceiver<Event>,
    _sink: Arc<dyn EventSink>,
}

struct Sink(Mutex<mpsc::UnboundedSender<Event>>);

impl EventSink for Sink {
    fn deliver(&self, event: &Event) {
        let _ = self.0.lock().unwrap().send(event.clone());
    }
}

/// A directory with a disk in it.
fn directory() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("vw-{}", Uuid::new_v4().simple()));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("disk.img"), disk()).unwrap();
    dir
}

impl Host {
    pub(crate) async fn new() -> Self {
        Self::at(directory()).await
    }

    /// A driver that takes its host for another one, with ports of its own for guests that come in.
    pub(crate) async fn known_as(uuid: Uuid) -> Self {
        const PORTS: u16 = 4;
        static NEXT: AtomicU16 = AtomicU16::new(49152);
        let (dir, first) = (directory(), NEXT.fetch_add(PORTS, Ordering::Relaxed));
        let ports = format!("migration_port_min = {first}\nmigration_port_max = {}\n", first + PORTS - 1);
        let etc = dir.join("etc/libvirt");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::write(etc.join("qemu.conf"), ports).unwrap();
        let driver = Qemu::system_within(&dir, PATIENCE, Some(uuid)).await.unwrap();
        Self::with(driver, dir)
    }

    /// A driver on directories that may hold something.
    pub(crate) async fn at(dir: PathBuf) -> Self {
        Self::with(Qemu::system(&dir).await.unwrap(), dir)
    }

    fn with(driver: Qemu, dir: PathBuf) -> Self {
        driver.autostart();
        let (sender, events) = mpsc::unbounded_channel();
        let sink: Arc<dyn EventSink> = Arc::new(Sink(Mutex::new(sender)));
        let hub: Arc<EventHub> = driver.events();
        hub.subscribe(&sink);
        Self { driver, dir, events, _sink: sink }
    }

    /// Leaves the directories, and whatever runs, to a driver that comes later.
    pub(crate) fn leave(mut self) -> PathBuf {
        std::mem::take(&mut self.dir)
    }

    /// The next events about the life of guests: event and detail; a reboot is `(-1, 0)`.
    pub(crate) async fn lives<const N: usize>(&mut self) -> [(i32, i32); N] {
        let mut lives = [(0, 0); N];
        for life in &mut lives {
            *life = tokio::time::timeout(PATIENCE, self.life()).await.expect("an event");
        }
        lives
    }

    /// Starts a guest whose CPUs stand still, for tests that reset it again and again: QEMU can lose one that is reset
    /// too soon after the last time.
    pub(crate) async fn start_paused(&self, dom: &NonnullDomain) {
        const PAUSED: u32 = 1;
        let args = DomainCreateWithFlagsArgs { dom: dom.clone(), flags: PAUSED };
        self.driver.domain_create_with_flags(&CallCx::default(), args).await.unwrap();
    }

    /// Waits until a device has left a guest; its alias.
    pub(crate) async fn device_removed(&mut self) -> String {
        let removed = async {
            loop {
                if let Event::Remote(remote::Event::DomainDeviceRemoved(event)) =
                    self.events.recv().await.unwrap()
                {
                    return event.msg.dev_alias.to_string();
                }
            }
        };
        tokio::time::timeout(PATIENCE, removed).await.expect("a device that leaves")
    }

    /// What a client of a screen does next.
    pub(crate) async fn screen(&mut self) -> i32 {
        let told = async {
            loop {
                if let Event::Remote(remote::Event::DomainGraphics(event)) = self.events.recv().await.unwrap()
                {
                    return event.msg.phase;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("a client of a screen")
    }

    /// What is next told of a block job: its kind, and how it is.
    pub(crate) async fn block_job(&mut self) -> (i32, i32) {
        let told = async {
            loop {
                if let Event::Remote(remote::Event::DomainBlockJob2(event)) =
                    self.events.recv().await.unwrap()
                {
                    return (event.r#type, event.status);
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("a job that ends")
    }

    async fn life(&mut self) -> (i32, i32) {
        loop {
            match self.events.recv().await.unwrap() {
                Event::Remote(remote::Event::DomainLifecycle(event)) => {
                    return (event.msg.event, event.msg.detail);
                }
                Event::Remote(remote::Event::DomainReboot(_)) => return (-1, 0),
                _ => {}
            }
        }
    }

    pub(crate) async fn define(&self, name: &str, devices: &str) -> NonnullDomain {
        let args = DomainDefineXmlArgs { xml: self.xml(name, devices).into() };
        self.driver.domain_define_xml(&CallCx::default(), args).await.unwrap().dom
    }

    pub(crate) fn xml(&self, name: &str, devices: &str) -> String {
        format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>\
             <devices>{devices}<memballoon model='none'/></devices></domain>"
        )
    }

    /// A disk that boots, and a serial port.
    pub(crate) fn talking(&self) -> String {
        let path = self.dir.join("disk.img");
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
             <target dev='vda' bus='virtio'/></disk><serial type='pty'/><console type='pty'/>",
            path.display()
        )
    }

    pub(crate) async fn state(&self, dom: &NonnullDomain) -> (i32, i32) {
        let args = DomainGetStateArgs { dom: dom.clone(), flags: 0 };
        let got = self.driver.domain_get_state(&CallCx::default(), args).await.unwrap();
        (got.state, got.reason)
    }

    pub(crate) async fn console(&self, dom: &NonnullDomain) -> Console {
        let (session, driver_end): (_, StreamEnd) = stream(false);
        let args = DomainOpenConsoleArgs { dom: dom.clone(), dev_name: None, flags: 0 };
        self.driver.domain_open_console(&CallCx::default(), args, driver_end).await.unwrap();
        Console { to: session.to_driver, from: session.from_driver, seen: String::new() }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The client's end of a guest's console.
pub(crate) struct Console {
    to: mpsc::Sender<FromClient>,
    from: mpsc::Receiver<ToClient>,
    seen: String,
}

impl Console {
    pub(crate) async fn say(&self, text: &str) {
        self.to.send(FromClient::Data(text.as_bytes().to_vec())).await.unwrap();
    }

    /// Waits until the guest has said `text`, and forgets everything up to it.
    pub(crate) async fn hear(&mut self, text: &str) {
        tokio::time::timeout(PATIENCE, self.heard(text)).await.expect("words from the guest");
    }

    /// Types until the guest answers: what it says before QEMU has seen that the console is open is lost, and so is what
    /// is typed before the guest listens.
    pub(crate) async fn wake(&mut self) {
        let wake = async {
            self.say("x").await;
            while tokio::time::timeout(Duration::from_millis(200), self.heard("x")).await.is_err() {
                self.say("x").await;
            }
        };
        tokio::time::timeout(PATIENCE, wake).await.expect("an answer of the guest");
    }

    async fn heard(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            match self.from.recv().await {
                Some(ToClient::Data(bytes)) => self.seen += &String::from_utf8_lossy(&bytes),
                other => panic!("waited for {text:?}, got {other:?} after {:?}", self.seen),
            }
        }
    }
}
