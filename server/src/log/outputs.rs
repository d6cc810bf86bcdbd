//! The outputs, open.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::SystemTime;

use virtwire_protocol::error::{ErrorDomain, VirtError};

use super::line::Message;
use super::spec::{Destination, Outputs};

/// Where syslog listens.
const SYSLOG: &str = "/dev/log";
/// Where the journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// `LOG_DAEMON`
const FACILITY: u8 = 3 << 3;

/// One sink per output, in their order.
#[derive(Debug, Default)]
pub(super) struct Sinks(Vec<Sink>);

#[derive(Debug)]
enum Sink {
    Stderr,
    File(File),
    Syslog(UnixDatagram, String),
    Journal(UnixDatagram),
}

impl Sinks {
    /// Opens all outputs, or says which cannot be opened. Log files are their owner's alone.
    pub(super) fn open(outputs: &Outputs) -> Result<Self, VirtError> {
        let datagram = |path: &str| {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path).map(|()| socket)
        };
        let open = |destination: &Destination| {
            let (path, sink) = match destination {
                Destination::Stderr => return Ok(Sink::Stderr),
                Destination::File(path) => {
                    let mut options = File::options();
                    let file = options.append(true).create(true).mode(0o600).open(path);
                    (path.as_path(), file.map(Sink::File))
                }
                Destination::Syslog(name) => {
                    (Path::new(SYSLOG), datagram(SYSLOG).map(|socket| Sink::Syslog(socket, name.clone())))
                }
                Destination::Journald => (Path::new(JOURNAL), datagram(JOURNAL).map(Sink::Journal)),
            };
            sink.map_err(|error| {
                let what = format!("failed to open {}", path.display());
                VirtError::system(ErrorDomain::NONE, &error, what)
            })
        };
        outputs.0.iter().map(|(_, destination)| open(destination)).collect::<Result<_, _>>().map(Self)
    }

    /// Gives a message to all outputs that want it. A log that cannot be written has nobody to tell.
    pub(super) fn write(&self, outputs: &Outputs, message: &Message) {
        let mut line = String::new();
        for ((priority, _), sink) in outputs.0.iter().zip(&self.0) {
            if message.priority < *priority {
                continue;
            }
            if line.is_empty() {
                line = message.line(SystemTime::now());
                line.push('\n');
            }
            let _ = sink.write(&line, message);
        }
    }
}

impl Sink {
    fn write(&self, line: &str, message: &Message) -> io::Result<()> {
        let priority = message.priority.syslog();
        match self {
            Self::Stderr => io::stderr().write_all(line.as_bytes()),
            Self::File(file) => (&*file).write_all(line.as_bytes()),
            Self::Syslog(socket, name) => {
                let (process, text) = (std::process::id(), &message.text);
                socket
                    .send(format!("<{}>{name}[{process}]: {text}", FACILITY | priority).as_bytes())
                    .map(drop)
            }
            Self::Journal(socket) => {
                let (source, text) = (message.source, &message.text);
                let entry = format!(
                    "MESSAGE={text}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=virtwired\nLIBVIRT_SOURCE={source}\n"
                );
                socket.send(entry.as_bytes()).map(drop)
            }
        }
    }
}
