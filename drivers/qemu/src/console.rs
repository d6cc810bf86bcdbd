//! A guest's console as a stream, both ways.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use virtwire_conf::Domain;
use virtwire_conf::domain::chardev::{Channel, CharMode, CharType, Chardev};
use virtwire_driver_api::{FromClient, StreamEnd, ToClient};
use virtwire_protocol::remote::{DomainOpenChannelArgs, DomainOpenConsoleArgs};

use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, file};

/// `VIR_DOMAIN_CONSOLE_FORCE` and `…_SAFE`: a new client takes the console over, or only if nobody has it.
const FORCE: u32 = 1;
const SAFE: u32 = 2;

/// How much is read at a time.
const CHUNK: usize = 16 << 10;

pub(crate) async fn open(driver: &Qemu, args: DomainOpenConsoleArgs, stream: StreamEnd) -> Result<()> {
    check_flags(args.flags, FORCE | SAFE, "qemuDomainOpenConsole")?;
    let guest = driver.guest(&args.dom)?;
    let live = guest.live()?;
    let wanted = args.dev_name.map(|name| name.to_string());
    let (alias, chardev) = find(&live.domain, wanted.as_deref())?;
    let path = chardev.source.first().and_then(|source| source.path.clone());
    let path =
        path.ok_or_else(|| QEMU.internal_error(format_args!("character device {alias} is not using a PTY")))?;
    connect(driver, chardev, &alias, &path, stream, args.flags & FORCE != 0, "console session").await
}

/// `VIR_DOMAIN_CHANNEL_FORCE`
const CHANNEL_FORCE: u32 = 1;

/// A channel's other end on the host as a stream.
pub(crate) async fn open_channel(
    driver: &Qemu,
    args: DomainOpenChannelArgs,
    stream: StreamEnd,
) -> Result<()> {
    check_flags(args.flags, CHANNEL_FORCE, "qemuDomainOpenChannel")?;
    let live = driver.guest(&args.dom)?.live()?;
    let wanted = args.name.map(|name| name.to_string());
    let shown = wanted.as_deref().unwrap_or("<null>");
    let is = |channel: &&Channel| match &wanted {
        None => true,
        Some(_) => {
            let alias = channel.info.alias.as_ref().map(|alias| &alias.name);
            let name = channel.target.as_ref().and_then(|target| target.name.as_ref());
            alias == wanted.as_ref() || name == wanted.as_ref()
        }
    };
    let channel = live.domain.devices.channels.iter().find(is);
    let channel = channel.ok_or_else(|| QEMU.internal_error(format_args!("cannot find channel {shown}")))?;
    let path = channel.chardev.source.first().and_then(|source| source.path.clone());
    let no_socket = || QEMU.internal_error(format_args!("channel {shown} is not using a UNIX socket"));
    let path = path.filter(|_| channel.chardev.type_ == CharType::Unix).ok_or_else(no_socket)?;
    let force = args.flags & CHANNEL_FORCE != 0;
    connect(driver, &channel.chardev, shown, &path, stream, force, "channel stream").await
}

/// Connects a stream to a device of QEMU's; one client at a time has it.
async fn connect(
    driver: &Qemu,
    chardev: &Chardev,
    alias: &str,
    path: &str,
    stream: StreamEnd,
    force: bool,
    what: &str,
) -> Result<()> {
    let cannot = |e: io::Error| file(&e, format_args!("unable to open console '{path}'"));
    match chardev.type_ {
        CharType::Pty => {
            let console = Console::pty(Path::new(path)).map_err(cannot)?;
            driver.hold_console(path, force, what, |gone| tokio::spawn(pump(console, stream, gone)))
        }
        CharType::Unix if chardev.source.first().and_then(|s| s.mode) != Some(CharMode::Connect) => {
            let socket = UnixStream::connect(path).await.map_err(cannot)?;
            let console = Console::socket(socket).map_err(cannot)?;
            driver.hold_console(path, force, what, |gone| tokio::spawn(pump(console, stream, gone)))
        }
        _ => Err(QEMU.internal_error(format_args!("character device {alias} is not using a PTY"))),
    }
}

/// The device that a client means; without a name the first console, or the first serial port.
fn find<'a>(domain: &'a Domain, wanted: Option<&str>) -> Result<(String, &'a Chardev)> {
    let devices = &domain.devices;
    let name = |info: &virtwire_conf::domain::device::DeviceInfo| {
        info.alias.as_ref().map(|alias| alias.name.clone()).unwrap_or_default()
    };
    let consoles = devices.consoles.iter().map(|console| (name(&console.info), &console.chardev));
    let serials = devices.serials.iter().map(|serial| (name(&serial.info), &serial.chardev));
    let channels = devices.channels.iter().map(|channel| (name(&channel.info), &channel.chardev));
    let mut all = serials.chain(consoles).chain(channels);
    let found = match wanted {
        Some(wanted) => all.find(|(alias, _)| alias == wanted),
        None => all.next(),
    };
    found.ok_or_else(|| match wanted {
        Some(wanted) => QEMU.internal_error(format_args!("cannot find console device '{wanted}'")),
        None => QEMU.internal_error("cannot find console device '<default>'"),
    })
}

/// QEMU's end of a character device, polled.
struct Console(AsyncFd<File>);

impl Console {
    fn pty(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path)?;
        Self::new(file)
    }

    fn socket(socket: UnixStream) -> io::Result<Self> {
        Self::new(OwnedFd::from(socket.into_std()?).into())
    }

    /// The file must not block.
    fn new(file: File) -> io::Result<Self> {
        #[expect(deprecated, reason = "its successor is unsafe; a File keeps its descriptor for life")]
        Ok(Self(AsyncFd::new(file)?))
    }

    async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|file| io::Read::read(&mut file.get_ref(), buf)) {
                Ok(result) => return result,
                Err(_) => continue,
            }
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|file| io::Write::write(&mut file.get_ref(), bytes)) {
                Ok(written) => bytes = bytes.get(written?..).unwrap_or_default(),
                Err(_) => continue,
            }
        }
        Ok(())
    }
}

/// Told to let the console go, for another client.
pub(crate) type Gone = tokio::sync::oneshot::Receiver<()>;

async fn pump(console: Console, mut stream: StreamEnd, mut gone: Gone) {
    let mut buf = vec![0; CHUNK];
    loop {
        tokio::select! {
            read = console.read(&mut buf) => match read {
                Ok(count) if count > 0 => {
                    let data = buf.get(..count).unwrap_or_default().to_vec();
                    if stream.outgoing.send(ToClient::Data(data)).await.is_err() {
                        return;
                    }
                }
                // QEMU has closed its side: the guest is gone.
                _ => break,
            },
            item = stream.incoming.recv() => match item {
                Some(FromClient::Data(bytes)) => if console.write_all(&bytes).await.is_err() { break },
                Some(FromClient::Hole(_)) => {}
                Some(FromClient::Finish) => break,
                Some(FromClient::Abort) | None => return,
            },
            _ = &mut gone => break,
        }
    }
    let _ = stream.outgoing.send(ToClient::End).await;
}

impl Qemu {
    /// One client at a time has a console. A forced one takes it from the other, whose stream ends.
    fn hold_console(
        &self,
        path: &str,
        force: bool,
        what: &str,
        pump: impl FnOnce(Gone) -> tokio::task::JoinHandle<()>,
    ) -> Result<()> {
        let mut consoles = self.consoles();
        consoles.retain(|_, holder| !holder.is_closed());
        if consoles.contains_key(path) && !force {
            return Err(QEMU.operation_failed(format_args!("Active {what} exists for this domain")));
        }
        let (release, gone) = tokio::sync::oneshot::channel();
        if let Some(other) = consoles.insert(path.to_owned(), release) {
            let _ = other.send(());
        }
        pump(gone);
        Ok(())
    }
}
