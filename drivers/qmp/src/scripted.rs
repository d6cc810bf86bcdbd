//! A peer that plays QEMU from a script: it says what it expects and what it answers, and fails on anything else.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use serde_json::json;
//! use virtwire_qmp::{commands::SystemPowerdown, scripted::ScriptedQmp};
//!
//! let mut qemu = ScriptedQmp::new()
//!     .expect("system_powerdown", json!({}))
//!     .reply(json!({}))
//!     .event("POWERDOWN", json!({}))
//!     .run()
//!     .await;
//!
//! qemu.monitor.execute(&SystemPowerdown {}).await.unwrap();
//! assert_eq!(qemu.events.recv().await.unwrap().name, "POWERDOWN");
//! qemu.finish().await;
//! # }
//! ```

use std::collections::VecDeque;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Event, Monitor, QmpError};

/// The script, in the order in which it is played.
#[derive(Default)]
pub struct ScriptedQmp {
    steps: VecDeque<Step>,
}

/// A script being played, and the monitor that speaks to it.
pub struct Scripted {
    /// Our end.
    pub monitor: Monitor,
    /// The events of the script.
    pub events: mpsc::Receiver<Event>,
    peer: Peer,
}

/// A script being played.
pub struct Peer(JoinHandle<Result<(), String>>);

enum Step {
    Expect {
        command: String,
        arguments: Value,
    },
    /// Answers the command expected `back` commands before the last.
    Answer {
        back: usize,
        member: &'static str,
        value: Value,
    },
    Send(Vec<u8>),
    Hangup,
}

impl ScriptedQmp {
    /// Begins with QEMU's greeting and the negotiation.
    pub fn new() -> Self {
        let version = json!({"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "scripted"});
        Self::silent()
            .say(json!({"QMP": {"version": version, "capabilities": ["oob"]}}))
            .expect("qmp_capabilities", json!({}))
            .reply(json!({}))
    }

    /// Begins with nothing, not even the greeting.
    pub fn silent() -> Self {
        Self::default()
    }

    /// The next command must be this one.
    pub fn expect(self, command: &str, arguments: Value) -> Self {
        self.step(Step::Expect { command: command.to_owned(), arguments })
    }

    /// Answers the last expected command.
    pub fn reply(self, value: Value) -> Self {
        self.reply_back(0, value)
    }

    /// Answers the command expected `back` commands before the last.
    pub fn reply_back(self, back: usize, value: Value) -> Self {
        self.step(Step::Answer { back, member: "return", value })
    }

    /// Refuses the last expected command.
    pub fn refuse(self, class: &str, desc: &str) -> Self {
        self.step(Step::Answer { back: 0, member: "error", value: json!({"class": class, "desc": desc}) })
    }

    /// An event, at one microsecond past 1970.
    pub fn event(self, name: &str, data: Value) -> Self {
        self.say(json!({"timestamp": {"seconds": 0, "microseconds": 1}, "event": name, "data": data}))
    }

    /// Any message.
    pub fn say(self, message: Value) -> Self {
        self.bytes(format!("{message}\r\n").into_bytes())
    }

    /// Any bytes.
    pub fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Send(bytes.into()))
    }

    /// Closes the connection.
    pub fn hangup(self) -> Self {
        self.step(Step::Hangup)
    }

    /// Plays it against a monitor that is ready for commands.
    ///
    /// # Panics
    /// If the monitor does not get ready.
    pub async fn run(self) -> Scripted {
        let (stream, peer) = self.play();
        let (monitor, events) = Monitor::connect(stream).await.expect("the script greets and negotiates");
        Scripted { monitor, events, peer }
    }

    /// Plays it against a monitor that is not expected to get ready.
    pub async fn run_to_error(self) -> QmpError {
        let (stream, _peer) = self.play();
        match Monitor::connect(stream).await {
            Ok(_) => panic!("the monitor got ready"),
            Err(error) => error,
        }
    }

    /// Plays it; the other end of the connection is returned.
    ///
    /// # Panics
    /// If no socket pair can be had.
    pub fn play(self) -> (UnixStream, Peer) {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        (ours, Peer(tokio::spawn(self.serve(theirs))))
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    async fn serve(self, stream: UnixStream) -> Result<(), String> {
        let mut stream = BufReader::new(stream);
        let mut ids = Vec::new();
        for step in self.steps {
            let bytes = match step {
                Step::Expect { command, arguments } => {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.map_err(|error| error.to_string())?;
                    ids.push(check(&line, &command, &arguments)?);
                    continue;
                }
                Step::Answer { back, member, value } => {
                    let id = ids.iter().rev().nth(back).ok_or("an answer before its command")?;
                    format!("{}\r\n", json!({member: value, "id": id})).into_bytes()
                }
                Step::Send(bytes) => bytes,
                Step::Hangup => return Ok(()),
            };
            // The monitor may hang up in the middle of what it can't accept.
            if stream.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let mut rest = String::new();
        match stream.read_line(&mut rest).await {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(format!("the script is over, but there came {rest}")),
        }
    }
}

/// The id of a line that must be this command.
fn check(line: &str, command: &str, arguments: &Value) -> Result<Value, String> {
    let sent: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
    if sent["execute"] == command && sent["arguments"] == *arguments {
        Ok(sent["id"].clone())
    } else {
        Err(format!("expected {command} {arguments}, got {line}"))
    }
}

impl Scripted {
    /// Closes our end and waits for the script's end.
    ///
    /// # Panics
    /// If something else came than was expected.
    pub async fn finish(self) {
        drop(self.monitor);
        drop(self.events);
        self.peer.finish().await;
    }
}

impl Peer {
    /// Waits for the script's end.
    ///
    /// # Panics
    /// If something else came than was expected.
    pub async fn finish(self) {
        if let Err(failure) = self.0.await.expect("the script does not panic") {
            panic!("{failure}");
        }
    }
}
