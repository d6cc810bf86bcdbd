//! `virtwire trace`: what clients and a daemon say to each other.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use virtwire_trace::view::{self, Page};
use virtwire_trace::{Attachment, Relay, Seen, Story};

use crate::failure::Failure;

/// Show what clients and a daemon say to each other
///
/// Attached to virtwired, it shows each call of every client: who called, arguments, the access decision, each command
/// to QEMU with its time, the answer, and the events that followed. With --listen it stands before any libvirt daemon
/// instead and passes everything on, descriptors too. Passwords, keys and secret values never appear. Ctrl-C ends it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// virtwired's administration socket
    #[arg(short, long, value_name = "SOCKET", default_value = "/run/libvirt/libvirt-admin-sock")]
    attach: PathBuf,

    /// Stand before a daemon: the socket to create, for clients
    #[arg(short, long, value_name = "SOCKET", conflicts_with = "attach")]
    listen: Option<PathBuf>,

    /// The socket of the daemon to stand before
    #[arg(
        short,
        long,
        value_name = "SOCKET",
        requires = "listen",
        default_value = "/run/libvirt/libvirt-sock"
    )]
    connect: PathBuf,

    /// Write a line of JSON per happening; - is standard output, in the place of the tree
    #[arg(long, value_name = "FILE")]
    json: Option<String>,

    /// Write a page with a timeline when the trace ends
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Every call to the virtwired of this host:
  virtwire trace

Before any daemon, in two terminals:
  virtwire trace --listen /tmp/trace-sock --html trace.html
  virsh -c 'qemu+unix:///system?socket=/tmp/trace-sock' list --all";

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    match &options.listen {
        Some(listen) => relay(&options, listen).await,
        None => attach(&options).await,
    }
}

/// Resolves when the trace is to end.
fn ended() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// What virtwired tells of itself.
async fn attach(options: &Options) -> Result<(), Failure> {
    let name = options.attach.display().to_string();
    let ended = ended()?;
    let mut daemon = Attachment::open(&options.attach).await.map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => Failure::Usage(format!(
            "{name}: only virtwired tells what it does ({error}); --listen SOCKET shows the calls to any daemon"
        )),
        _ => Failure::file(&name)(error),
    })?;
    let mut output = Output::create(options, &name)?;
    eprintln!("attached to {name}; Ctrl-C ends it");
    tokio::pin!(ended);
    loop {
        tokio::select! {
            seen = daemon.next() => match seen? {
                Some(seen) => output.take(seen)?,
                None => break,
            },
            () = &mut ended => break,
        }
    }
    output.end(options)
}

/// What goes by between clients and a daemon.
async fn relay(options: &Options, listen: &PathBuf) -> Result<(), Failure> {
    let ended = ended()?;
    let (name, target) = (listen.display().to_string(), options.connect.display().to_string());
    let mut output = Output::create(options, &target)?;
    let relay = Relay::bind(listen, options.connect.clone()).map_err(Failure::file(&name))?;
    let _socket = Socket(listen);
    eprintln!("{name} → {target}; Ctrl-C ends it");
    let (observer, mut seen) = mpsc::unbounded_channel();
    let relaying = relay.run(observer);
    tokio::pin!(relaying, ended);
    loop {
        tokio::select! {
            result = &mut relaying => {
                result?;
                break;
            }
            Some(observed) = seen.recv() => output.take(observed.decode())?,
            () = &mut ended => break,
        }
    }
    while let Ok(observed) = seen.try_recv() {
        output.take(observed.decode())?;
    }
    output.end(options)
}

/// The socket's file, removed at the end however it comes.
struct Socket<'a>(&'a PathBuf);

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

/// Where the story goes.
struct Output {
    story: Story,
    tree: bool,
    json: Option<Box<dyn Write>>,
    page: Option<Page<BufWriter<File>>>,
}

impl Output {
    fn create(options: &Options, of: &str) -> Result<Self, Failure> {
        let json: Option<Box<dyn Write>> = match options.json.as_deref() {
            None => None,
            Some("-") => Some(Box::new(io::stdout())),
            Some(path) => Some(Box::new(File::create(path).map_err(Failure::file(path))?)),
        };
        let tree = options.json.as_deref() != Some("-");
        let page = options.html.as_ref().map(|path| {
            let file = File::create(path).map_err(Failure::file(&path.display().to_string()))?;
            Ok::<_, Failure>(Page::begin(BufWriter::new(file), &format!("Calls to {of}"))?)
        });
        Ok(Self { story: Story::default(), tree, json, page: page.transpose()? })
    }

    fn take(&mut self, seen: Seen) -> io::Result<()> {
        for entry in self.story.observe(seen) {
            if self.tree {
                let mut out = io::stdout().lock();
                out.write_all(view::tree(&entry).as_bytes())?;
                out.flush()?;
            }
            if let Some(json) = &mut self.json {
                writeln!(json, "{}", view::json(&entry))?;
            }
            if let Some(page) = &mut self.page {
                page.add(&entry)?;
            }
        }
        Ok(())
    }

    fn end(self, options: &Options) -> Result<(), Failure> {
        if let (Some(path), Some(page)) = (&options.html, self.page) {
            let (entries, left_out) = page.end()?;
            let more = match left_out {
                0 => String::new(),
                more => format!("; {more} more are not on it, --json has them all"),
            };
            eprintln!("{}: {entries} entries{more}", path.display());
        }
        Ok(())
    }
}
