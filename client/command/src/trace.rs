//! `virtwire trace`: what clients and a daemon say to each other.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use virtwire_trace::{Entry, Observed, Relay, Story, view};

use crate::failure::Failure;

/// Show what clients and a daemon say to each other
///
/// Stands before any libvirt daemon and passes everything on, descriptors too. Each call is shown with its arguments,
/// its time and its answer; events and streams are shown as they come. Passwords, keys and secret values never appear.
/// Ctrl-C ends it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The socket to create, for clients
    #[arg(short, long, value_name = "SOCKET")]
    listen: PathBuf,

    /// The daemon's socket
    #[arg(short, long, value_name = "SOCKET", default_value = "/run/libvirt/libvirt-sock")]
    connect: PathBuf,

    /// Write a line of JSON per happening; - is standard output, in the place of the tree
    #[arg(long, value_name = "FILE")]
    json: Option<String>,

    /// Write a page with a timeline when the trace ends
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Example, in two terminals:
  virtwire trace --listen /tmp/trace-sock --html trace.html
  virsh -c 'qemu+unix:///system?socket=/tmp/trace-sock' list --all";

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut output = Output::create(&options)?;
    let relay = Relay::bind(&options.listen, options.connect.clone())
        .map_err(Failure::file(&options.listen.display().to_string()))?;
    let _socket = Socket(&options.listen);
    eprintln!("{} → {}; Ctrl-C ends it", options.listen.display(), options.connect.display());
    let (observer, mut seen) = mpsc::unbounded_channel();
    let relaying = relay.run(observer);
    tokio::pin!(relaying);
    loop {
        tokio::select! {
            result = &mut relaying => {
                result?;
                break;
            }
            Some(observed) = seen.recv() => output.take(&observed)?,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    while let Ok(observed) = seen.try_recv() {
        output.take(&observed)?;
    }
    output.end(&options)
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
    /// All of it, if a page is to be written.
    page: Option<Vec<Entry>>,
}

impl Output {
    fn create(options: &Options) -> Result<Self, Failure> {
        let json: Option<Box<dyn Write>> = match options.json.as_deref() {
            None => None,
            Some("-") => Some(Box::new(io::stdout())),
            Some(path) => Some(Box::new(File::create(path).map_err(Failure::file(path))?)),
        };
        let tree = options.json.as_deref() != Some("-");
        Ok(Self { story: Story::default(), tree, json, page: options.html.as_ref().map(|_| Vec::new()) })
    }

    fn take(&mut self, seen: &Observed) -> io::Result<()> {
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
                page.push(entry);
            }
        }
        Ok(())
    }

    fn end(self, options: &Options) -> Result<(), Failure> {
        if let (Some(path), Some(entries)) = (&options.html, self.page) {
            let title = format!("Calls to {}", options.connect.display());
            let name = path.display().to_string();
            std::fs::write(path, view::page(&title, &entries)).map_err(Failure::file(&name))?;
            eprintln!("{name}: {} entries", entries.len());
        }
        Ok(())
    }
}
