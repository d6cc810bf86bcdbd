//! A client of the guest agent: one connection, one command at a time.
//!
//! The agent runs in the guest, so nothing that it says can be relied on, least of all that it says something. Before
//! each command both sides find each other (`guest-sync-delimited`): whatever an earlier command left behind is
//! skipped.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::{CommandError, ErrorClass, ProtocolError};
use crate::lines::LineReader;
use crate::message::excerpt;
use crate::watch;

/// What comes before the answer to `guest-sync-delimited`, and has no place in JSON.
const MARK: u8 = 0xff;

/// The longest answer accepted, in bytes; as long as libvirt accepts.
pub const ANSWER_MAX: usize = 10 << 20;

/// How much one read asks for, in bytes.
const READ_SIZE: usize = 16 << 10;

/// A connection to an agent.
pub struct Agent {
    stream: UnixStream,
    lines: LineReader,
    last_id: u64,
}

/// How long an agent may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To say that it is there.
    pub sync: Duration,
    /// To answer a command; `None` is however long it takes.
    pub answer: Option<Duration>,
}

/// Why an agent's command has no result. Only after [`Command`](Self::Command) and the two that tell of silence the
/// connection can be used again.
#[derive(Clone, Debug)]
pub enum AgentError {
    /// The agent refused the command.
    Command(CommandError),
    /// It has not said within this time that it is there.
    NotThere(Duration),
    /// It has not answered within this time; whether it does what was asked is not known.
    Silent(Duration),
    /// It has closed the connection.
    Closed,
    /// It does not speak the agent's protocol.
    Protocol(ProtocolError),
    /// The socket failed.
    Io(Arc<io::Error>),
}

/// A line of the agent's.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "return")]
    value: Option<&'a RawValue>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    class: String,
    #[serde(default)]
    desc: String,
}

impl Agent {
    /// Connects to the host's end of an agent's channel.
    ///
    /// # Errors
    /// The socket's.
    pub async fn connect(path: &Path) -> Result<Self, AgentError> {
        Ok(Self::on(UnixStream::connect(path).await?))
    }

    /// Speaks to an agent on a connection that is there already.
    pub fn on(stream: UnixStream) -> Self {
        Self { stream, lines: LineReader::with_limit(ANSWER_MAX), last_id: 0 }
    }

    /// Runs a command, `{"execute": …, "arguments": …}`, and waits for what it returns.
    ///
    /// # Errors
    /// The agent's refusal, or why there is no answer.
    pub async fn execute(
        &mut self,
        command: &Value,
        patience: Patience,
    ) -> Result<Box<RawValue>, AgentError> {
        let name = command["execute"].as_str().unwrap_or_default();
        let watched = watch::agent(name, &command["arguments"]);
        let result = self.ask(name, command, patience).await;
        watch::result(&watched, &result);
        result
    }

    async fn ask(
        &mut self,
        name: &str,
        command: &Value,
        patience: Patience,
    ) -> Result<Box<RawValue>, AgentError> {
        let there = timeout(patience.sync, self.find_each_other()).await;
        there.map_err(|_| AgentError::NotThere(patience.sync))??;
        let answer = async {
            self.say(&[], command).await?;
            self.answer(name).await
        };
        match patience.answer {
            None => answer.await,
            Some(limit) => timeout(limit, answer).await.map_err(|_| AgentError::Silent(limit))?,
        }
    }

    /// Skips everything up to the answer to a number that has not been said before.
    async fn find_each_other(&mut self) -> Result<(), AgentError> {
        self.last_id += 1;
        let id = self.last_id;
        // An agent that has half a command throws it away.
        self.say(&[MARK], &json!({"execute": "guest-sync-delimited", "arguments": {"id": id}})).await?;
        loop {
            let line = self.line().await?;
            let after = line.iter().rposition(|byte| *byte == MARK).map_or(0, |at| at + 1);
            let said = serde_json::from_slice::<Value>(line.get(after..).unwrap_or_default());
            if said.is_ok_and(|said| said["return"] == id) {
                return Ok(());
            }
        }
    }

    async fn answer(&mut self, name: &str) -> Result<Box<RawValue>, AgentError> {
        loop {
            let line = self.line().await?;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let wrong = |detail: String| ProtocolError::NotQmp { detail, line: excerpt(&line) };
            return match serde_json::from_slice(&line).map_err(|error| wrong(error.to_string()))? {
                Line { error: Some(Refusal { class, desc }), .. } => {
                    let class = ErrorClass::from_name(&class);
                    Err(AgentError::Command(CommandError { command: name.to_owned(), class, desc }))
                }
                Line { value: Some(value), .. } => Ok(value.to_owned()),
                Line { .. } => Err(wrong("neither return nor error".to_owned()).into()),
            };
        }
    }

    async fn say(&mut self, before: &[u8], command: &Value) -> Result<(), AgentError> {
        let mut line = before.to_vec();
        line.extend(command.to_string().bytes());
        line.push(b'\n');
        // A line cut short is thrown away by the mark before the next one.
        self.stream.write_all(&line).await?;
        Ok(())
    }

    async fn line(&mut self) -> Result<Vec<u8>, AgentError> {
        loop {
            if let Some(line) = self.lines.next()? {
                return Ok(line.to_vec());
            }
            self.stream.readable().await?;
            let buffer = self.lines.buffer();
            buffer.reserve(READ_SIZE);
            match self.stream.try_read_buf(buffer) {
                Ok(0) => return Err(AgentError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AgentError {
    /// Whether the connection can be used again.
    pub fn leaves_connection(&self) -> bool {
        matches!(self, Self::Command(_) | Self::NotThere(_) | Self::Silent(_))
    }
}

impl From<io::Error> for AgentError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

impl From<ProtocolError> for AgentError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(CommandError { command, desc, .. }) => write!(f, "{command}: {desc}"),
            Self::NotThere(limit) => {
                write!(f, "the agent has not said anything within {} s", limit.as_secs())
            }
            Self::Silent(limit) => write!(f, "the agent has not answered within {} s", limit.as_secs()),
            Self::Closed => f.write_str("the agent's channel is closed"),
            Self::Protocol(error) => error.fmt(f),
            Self::Io(error) => write!(f, "the agent's socket: {error}"),
        }
    }
}

impl std::error::Error for AgentError {}
