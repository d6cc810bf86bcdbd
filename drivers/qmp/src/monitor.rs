//! One monitor connection: who waits for which reply, and the task that reads.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::{debug, trace};

use crate::Command;
use crate::commands::QmpCapabilities;
use crate::error::{CommandError, ErrorClass, ProtocolError, QmpError};
use crate::events::Event;
use crate::lines::LineReader;
use crate::message::{Greeting, Message, excerpt};
use crate::outgoing::{FDS_MAX, Outgoing};
use crate::watch;

/// How many events wait for their receiver before reading from QEMU pauses.
pub const EVENTS_MAX: usize = 1024;

/// How long QEMU may take to answer a command, where the caller has not said so.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Commands that take as long as disks and memory are large; they are waited for without a limit.
const LONG: &[&str] =
    &["blockdev-snapshot-sync", "dump-guest-memory", "human-monitor-command", "transaction"];

/// How much one read asks for, in bytes.
const READ_SIZE: usize = 64 << 10;

/// A monitor ready for commands. Clones share the connection; dropping the last one closes it.
///
/// Commands go out in the order in which [`execute`](Self::execute) was first polled. Dropping a command's future
/// forgets its reply; QEMU carries the command out all the same.
#[derive(Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
    limit: Duration,
    _reader: Arc<Reader>,
}

/// What callers and the reading task share. The lock is never held across a wait.
struct Shared {
    stream: UnixStream,
    /// Whose QEMU it is.
    guest: Option<String>,
    /// What QEMU said first.
    greeting: OnceLock<Greeting>,
    state: Mutex<State>,
    /// Wakes the reading task when a line could not be written at once.
    backlog: Notify,
}

#[derive(Default)]
struct State {
    outgoing: Outgoing,
    last_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// Why the connection ended.
    ended: Option<QmpError>,
}

/// A reply, not yet typed.
enum Answer {
    Return(Box<RawValue>),
    Error { class: String, desc: String },
}

/// Stops the reading task.
struct Reader(AbortHandle);

/// A command under way. Dropping it, as a timeout does, takes it out of the table.
struct Pending<'a> {
    id: u64,
    shared: &'a Shared,
    answer: oneshot::Receiver<Answer>,
}

#[derive(Serialize)]
struct Execute<'a, A> {
    execute: &'a str,
    arguments: &'a A,
    id: u64,
}

impl Monitor {
    /// Waits for QEMU's greeting, and enables no extra capabilities.
    ///
    /// Events come out of the receiver in QEMU's order; when [`EVENTS_MAX`] of them wait, reading pauses, so who takes
    /// events must not wait for a command in the same task. Dropping the receiver discards events. It ends when the
    /// connection does.
    ///
    /// The greeting is waited for without a limit; a command that is not answered within [`ANSWER_LIMIT`] ends in
    /// [`QmpError::Silent`].
    pub async fn connect(stream: UnixStream) -> Result<(Self, mpsc::Receiver<Event>), QmpError> {
        Self::begin(stream, None, ANSWER_LIMIT).await
    }

    /// Like [`connect`](Self::connect), to the QEMU of a guest and with another limit for each command. Whoever watches
    /// the daemon's work is told the guest's name with each event.
    pub async fn connect_to(
        guest: &str,
        stream: UnixStream,
        limit: Duration,
    ) -> Result<(Self, mpsc::Receiver<Event>), QmpError> {
        Self::begin(stream, Some(guest.to_owned()), limit).await
    }

    /// Like [`connect_to`](Self::connect_to), to a QEMU that may take its time to greet: commands are on their way at
    /// once, and answered when it does.
    pub fn resume(
        guest: &str,
        stream: UnixStream,
        limit: Duration,
    ) -> Result<(Self, mpsc::Receiver<Event>), QmpError> {
        let (monitor, events) = Self::on(stream, Some(guest.to_owned()), limit);
        // Nobody waits for its reply; where it is refused, so are all commands.
        drop(monitor.shared.begin(QmpCapabilities::NAME, &QmpCapabilities::default(), Vec::new())?);
        Ok((monitor, events))
    }

    async fn begin(
        stream: UnixStream,
        guest: Option<String>,
        limit: Duration,
    ) -> Result<(Self, mpsc::Receiver<Event>), QmpError> {
        let (monitor, events) = Self::on(stream, guest, limit);
        monitor.send(QmpCapabilities::NAME, &QmpCapabilities::default(), Vec::new()).await?;
        Ok((monitor, events))
    }

    fn on(stream: UnixStream, guest: Option<String>, limit: Duration) -> (Self, mpsc::Receiver<Event>) {
        let shared = Arc::new(Shared {
            stream,
            guest,
            greeting: OnceLock::new(),
            state: Mutex::default(),
            backlog: Notify::new(),
        });
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let task = tokio::spawn(run(Arc::clone(&shared), sender));
        (Self { shared, limit, _reader: Arc::new(Reader(task.abort_handle())) }, events)
    }

    /// Whether QEMU has left, or said what nobody could mean. A runtime that ends also ends the events, but QEMU runs on.
    pub fn is_over(&self) -> bool {
        match &self.shared.lock().ended {
            None => false,
            // tokio's own errors have no number.
            Some(QmpError::Io(error)) => error.raw_os_error().is_some(),
            Some(_) => true,
        }
    }

    /// What QEMU said first; `None` where it has not yet.
    pub fn greeting(&self) -> Option<&Greeting> {
        self.shared.greeting.get()
    }

    /// Whether it is known to be this version of QEMU, or a later one.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        self.greeting().is_some_and(|greeting| {
            let version = &greeting.version.qemu;
            (version.major, version.minor) >= (major, minor)
        })
    }

    /// Runs a command and waits for its reply, but no longer than the limit.
    pub async fn execute<C: Command>(&self, command: &C) -> Result<C::Return, QmpError> {
        self.execute_with_fds(command, Vec::new()).await
    }

    /// Like [`execute`](Self::execute), with descriptors (for `getfd` and `add-fd`), at most 16.
    pub async fn execute_with_fds<C: Command>(
        &self,
        command: &C,
        fds: Vec<OwnedFd>,
    ) -> Result<C::Return, QmpError> {
        let limit = if LONG.contains(&C::NAME) { Duration::MAX } else { self.limit };
        let answer = tokio::time::timeout(limit, self.send(C::NAME, command, fds)).await;
        let value = answer.map_err(|_| QmpError::Silent { command: C::NAME.to_owned(), limit })??;
        serde_json::from_str(value.get()).map_err(|error| bad_reply(C::NAME, &error))
    }

    /// Runs a command known only by name, however long QEMU takes; the result is JSON text.
    pub async fn execute_raw(
        &self,
        command: &str,
        arguments: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Box<RawValue>, QmpError> {
        self.execute_raw_with_fds(command, arguments, Vec::new()).await
    }

    /// Like [`execute_raw`](Self::execute_raw), with descriptors, at most 16.
    pub async fn execute_raw_with_fds(
        &self,
        command: &str,
        arguments: &serde_json::Map<String, serde_json::Value>,
        fds: Vec<OwnedFd>,
    ) -> Result<Box<RawValue>, QmpError> {
        self.send(command, arguments, fds).await
    }

    /// Why the connection ended, `None` while it lives.
    pub fn ended(&self) -> Option<QmpError> {
        self.shared.lock().ended.clone()
    }

    async fn send<A: Serialize>(
        &self,
        name: &str,
        arguments: &A,
        fds: Vec<OwnedFd>,
    ) -> Result<Box<RawValue>, QmpError> {
        let watched = watch::command(name, arguments);
        let mut pending = self.shared.begin(name, arguments, fds)?;
        let result = match (&mut pending.answer).await {
            Ok(Answer::Return(value)) => Ok(value),
            Ok(Answer::Error { class, desc }) => Err(QmpError::Command(CommandError {
                command: name.to_owned(),
                class: ErrorClass::from_name(&class),
                desc,
            })),
            Err(_) => Err(self.ended().unwrap_or(QmpError::Closed)),
        };
        watch::result(&watched, &result);
        result
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the command as far as the socket takes it now, and enters it in the table.
    fn begin<A: Serialize>(
        &self,
        name: &str,
        arguments: &A,
        fds: Vec<OwnedFd>,
    ) -> Result<Pending<'_>, QmpError> {
        let mut state = self.lock();
        if let Some(reason) = &state.ended {
            return Err(reason.clone());
        }
        if fds.len() > FDS_MAX {
            return Err(QmpError::TooManyFds { limit: FDS_MAX });
        }
        let id = state.last_id + 1;
        let mut line = serde_json::to_vec(&Execute { execute: name, arguments, id })
            .map_err(|error| QmpError::Arguments { command: name.to_owned(), detail: error.to_string() })?;
        trace!(line = %String::from_utf8_lossy(&line), "to QEMU");
        line.push(b'\n');
        state.last_id = id;
        let (sender, answer) = oneshot::channel();
        state.waiting.insert(id, sender);
        state.outgoing.push(line, fds);
        state.outgoing.flush(&self.stream);
        if !state.outgoing.is_empty() {
            self.backlog.notify_one();
        }
        Ok(Pending { id, shared: self, answer })
    }

    /// Takes what is there. An end of the stream is [`QmpError::Closed`].
    fn read(&self, lines: &mut LineReader) -> Result<(), QmpError> {
        let buffer = lines.buffer();
        buffer.reserve(READ_SIZE);
        match self.stream.try_read_buf(buffer) {
            Ok(0) => Err(QmpError::Closed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Err(QmpError::Closed),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands a message to whom it belongs.
    async fn route(
        &self,
        message: Message,
        line: &[u8],
        events: &mpsc::Sender<Event>,
    ) -> Result<(), QmpError> {
        let (id, answer) = match message {
            Message::Event(event) => {
                watch::event(&event, self.guest.as_deref());
                // Nobody listens any more: the event is lost, as wanted.
                let _ = events.send(event).await;
                return Ok(());
            }
            Message::Greeting(greeting) => {
                return self.greeting.set(greeting).map_err(|_| ProtocolError::SecondGreeting.into());
            }
            Message::Return { id, value } => (id, Answer::Return(value)),
            Message::Error { id, class, desc } => (id, Answer::Error { class, desc }),
        };
        let mut state = self.lock();
        match id {
            Some(id) if (1..=state.last_id).contains(&id) => {
                // Its caller may have left; then the reply is late, not wrong.
                if let Some(caller) = state.waiting.remove(&id) {
                    let _ = caller.send(answer);
                }
                Ok(())
            }
            _ => Err(ProtocolError::UnknownId { line: excerpt(line) }.into()),
        }
    }

    /// Routes the lines at hand, then reads or writes once.
    async fn turn(&self, lines: &mut LineReader, events: &mpsc::Sender<Event>) -> Result<(), QmpError> {
        while let Some(line) = lines.next()? {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            trace!(line = %excerpt(line), "from QEMU");
            let message = match Message::parse(line) {
                Ok(greeting @ Message::Greeting(_)) => greeting,
                _ if self.greeting.get().is_none() => {
                    return Err(ProtocolError::NoGreeting { line: excerpt(line) }.into());
                }
                message => message?,
            };
            self.route(message, line, events).await?;
        }
        let backlog = !self.lock().outgoing.is_empty();
        let interest = if backlog { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        tokio::select! {
            ready = self.stream.ready(interest) => {
                let ready = ready?;
                if ready.is_writable() {
                    self.lock().outgoing.flush(&self.stream);
                }
                if ready.is_readable() {
                    self.read(lines)?;
                }
            }
            () = self.backlog.notified(), if !backlog => {}
        }
        Ok(())
    }
}

/// The reading task: when it ends, every caller learns why.
async fn run(shared: Arc<Shared>, events: mpsc::Sender<Event>) {
    let mut lines = LineReader::default();
    let end = loop {
        if let Err(end) = shared.turn(&mut lines, &events).await {
            break end;
        }
    };
    debug!(%end, "monitor ended");
    let mut state = shared.lock();
    state.ended = Some(end);
    state.waiting.clear();
}

fn bad_reply(command: &str, error: &serde_json::Error) -> QmpError {
    QmpError::Reply { command: command.to_owned(), detail: error.to_string() }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.id);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}
