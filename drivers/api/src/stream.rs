//! The two ends of a stream inside the daemon: the session's and the driver's.

use tokio::sync::mpsc;
use virtwire_protocol::VirtError;

/// What a client sends on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// Bytes.
    Data(Vec<u8>),
    /// So many bytes of zeros.
    Hole(u64),
    /// All has been sent; the driver answers with [`ToClient::End`] when it is safe, or with an error.
    Finish,
    /// The client has given up. It closes the stream as well when its connection ends.
    Abort,
}

/// What a driver sends on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToClient {
    /// Bytes.
    Data(Vec<u8>),
    /// So many bytes of zeros; only if the client permits holes.
    Hole(u64),
    /// Nothing more will come. To an upload it says that all has been taken.
    End,
    /// The stream has failed.
    Error(VirtError),
}

/// The driver's end. Both channels hold few items: whoever is slow makes the other wait.
#[derive(Debug)]
pub struct StreamEnd {
    /// From the client; `None` when the stream is gone.
    pub incoming: mpsc::Receiver<FromClient>,
    /// To the client; an error when the stream is gone.
    pub outgoing: mpsc::Sender<ToClient>,
    /// Whether the client permits holes.
    pub sparse: bool,
}

/// The session's end.
#[derive(Debug)]
pub struct SessionEnd {
    /// To the driver.
    pub to_driver: mpsc::Sender<FromClient>,
    /// From the driver.
    pub from_driver: mpsc::Receiver<ToClient>,
}

/// Items that may wait in one direction.
const DEPTH: usize = 8;

/// Both ends of a new stream.
pub fn stream(sparse: bool) -> (SessionEnd, StreamEnd) {
    let (to_driver, incoming) = mpsc::channel(DEPTH);
    let (outgoing, from_driver) = mpsc::channel(DEPTH);
    (SessionEnd { to_driver, from_driver }, StreamEnd { incoming, outgoing, sparse })
}
