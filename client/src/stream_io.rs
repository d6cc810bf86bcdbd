//! A stream as bytes to read and to write, for everything that takes tokio's [`AsyncRead`] and [`AsyncWrite`].

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Error;
use crate::stream::{Chunk, Stream};

/// A [`Stream`] to read from and to write to; [`Stream::into_io`] makes it.
///
/// Holes are read as zeros. Shutting down says that all is written and waits until the daemon has confirmed it; dropping
/// without it gives the stream up.
pub struct StreamIo {
    stream: Arc<Stream>,
    /// What has come and was not read: bytes, or so many zeros.
    rest: Rest,
    reading: Option<Work<Option<Chunk>>>,
    writing: Option<Work<usize>>,
    ending: Option<Work<()>>,
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

enum Rest {
    Bytes(Vec<u8>, usize),
    Zeros(u64),
}

/// Bytes that one write takes at most.
const WRITE: usize = 256 << 10;

impl StreamIo {
    pub(crate) fn new(stream: Stream) -> Self {
        let rest = Rest::Zeros(0);
        Self { stream: Arc::new(stream), rest, reading: None, writing: None, ending: None }
    }
}

impl Rest {
    /// Gives what fits; says whether there was anything.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        match self {
            Self::Bytes(bytes, taken) => {
                let left = bytes.get(*taken..).unwrap_or_default();
                let now = left.get(..left.len().min(buf.remaining())).unwrap_or_default();
                buf.put_slice(now);
                *taken += now.len();
                !now.is_empty()
            }
            Self::Zeros(count) => {
                let now = usize::try_from(*count).unwrap_or(usize::MAX).min(buf.remaining());
                buf.initialize_unfilled_to(now).fill(0);
                buf.advance(now);
                *count -= now as u64;
                now > 0
            }
        }
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => io::Error::new(error.kind(), error),
        Error::Closed => io::ErrorKind::ConnectionAborted.into(),
        other => io::Error::other(other),
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if buf.remaining() == 0 || self.rest.give(buf) {
                return Poll::Ready(Ok(()));
            }
            let stream = Arc::clone(&self.stream);
            let reading = self.reading.get_or_insert_with(|| Box::pin(async move { stream.recv().await }));
            let chunk = ready!(reading.as_mut().poll(cx));
            self.reading = None;
            self.rest = match chunk.map_err(io_error)? {
                None => return Poll::Ready(Ok(())),
                Some(Chunk::Data(bytes)) => Rest::Bytes(bytes, 0),
                Some(Chunk::Hole(length)) => Rest::Zeros(length),
            };
        }
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // What was begun is of the same bytes: that is the contract of a write that was pending.
        let stream = Arc::clone(&self.stream);
        let writing = self.writing.get_or_insert_with(|| {
            let part = bytes.get(..bytes.len().min(WRITE)).unwrap_or_default().to_vec();
            Box::pin(async move { stream.send(&part).await.map(|()| part.len()) })
        });
        let written = ready!(writing.as_mut().poll(cx));
        self.writing = None;
        Poll::Ready(written.map_err(io_error))
    }

    /// What was written is on its way already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = Arc::clone(&self.stream);
        let ending = self.ending.get_or_insert_with(|| Box::pin(async move { stream.finished().await }));
        let ended = ready!(ending.as_mut().poll(cx));
        // A second shutdown finds the stream ended.
        self.ending = Some(Box::pin(async { Ok(()) }));
        Poll::Ready(ended.map_err(io_error))
    }
}

impl fmt::Debug for StreamIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamIo").field("stream", &self.stream).finish_non_exhaustive()
    }
}
