//! Connections that are made again when they end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::{Call, Connection, Error, Event, EventStream, Options};

/// How often it is tried to connect again, and how long is waited in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause; each is twice the one before.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How many tries; after the last, its error is given.
    pub tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(10), tries: 10 }
    }
}

/// A connection that is made again when it has ended. Clones share it.
///
/// Nothing is repeated: a call that was on its way when the connection ended fails, since nobody knows whether the
/// daemon has done it.
#[derive(Clone, Debug)]
pub struct Reconnecting {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    uri: String,
    options: Options,
    backoff: Backoff,
    current: Mutex<Connection>,
}

impl Reconnecting {
    /// Opens a connection; that must succeed at the first try.
    pub async fn open(uri: &str, options: Options, backoff: Backoff) -> Result<Self, Error> {
        let current = Mutex::new(Connection::open_with(uri, options.clone()).await?);
        Ok(Self { shared: Arc::new(Shared { uri: uri.to_owned(), options, backoff, current }) })
    }

    /// The connection that lives, made again first if the last has ended.
    pub async fn connection(&self) -> Result<Connection, Error> {
        let Shared { uri, options, backoff, current } = &*self.shared;
        let mut current = current.lock().await;
        let mut pause = backoff.first;
        let mut tries = 0;
        while !current.is_open() {
            tries += 1;
            match Connection::open_with(uri, options.clone()).await {
                Ok(connection) => *current = connection,
                Err(error) if tries >= backoff.tries => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, tries, "cannot connect again yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(backoff.longest);
                }
            }
        }
        Ok(current.clone())
    }

    /// Events, registered for again on each new connection; `register` says which.
    pub fn events(&self, register: fn(&Connection) -> Call<EventStream>) -> ReconnectingEvents {
        ReconnectingEvents { connection: self.clone(), register, stream: None, seen: false }
    }
}

/// Events over all connections that follow each other.
#[derive(Debug)]
pub struct ReconnectingEvents {
    connection: Reconnecting,
    register: fn(&Connection) -> Call<EventStream>,
    stream: Option<EventStream>,
    seen: bool,
}

/// What a [`ReconnectingEvents`] gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// An event.
    Event(Box<Event>),
    /// The connection had ended and there is a new one: events may have been missed, look at the state again.
    Reconnected,
}

impl ReconnectingEvents {
    /// The next event, or the word that some may be missing. An error when it is given up to connect again.
    pub async fn next(&mut self) -> Result<Happening, Error> {
        loop {
            if let Some(stream) = &mut self.stream {
                match stream.next().await {
                    Some(event) => return Ok(Happening::Event(Box::new(event))),
                    None => self.stream = None,
                }
            }
            self.stream().await?;
            if std::mem::replace(&mut self.seen, true) {
                return Ok(Happening::Reconnected);
            }
        }
    }

    /// Registers on the connection that lives.
    async fn stream(&mut self) -> Result<(), Error> {
        loop {
            let connection = self.connection.connection().await?;
            match (self.register)(&connection).await {
                Ok(stream) => {
                    self.stream = Some(stream);
                    return Ok(());
                }
                // It has ended again meanwhile.
                Err(_) if !connection.is_open() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Registers now, so that nothing from here on is missed. Without it the first [`next`](Self::next) does.
    pub async fn ready(&mut self) -> Result<(), Error> {
        self.stream().await?;
        self.seen = true;
        Ok(())
    }
}
