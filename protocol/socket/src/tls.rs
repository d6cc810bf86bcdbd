//! TLS at either end: the handshake, a socket that never waits, and what GnuTLS's priority strings mean here.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use rustls::crypto::CryptoProvider;
use rustls::{Connection, SupportedCipherSuite, SupportedProtocolVersion};
use tokio::net::TcpStream;

/// Shakes hands. An error of kind `InvalidData` holds rustls's own; the peer has been sent the alert that says why.
pub async fn handshake(tcp: &TcpStream, connection: &mut Connection) -> io::Result<()> {
    while connection.is_handshaking() {
        if connection.wants_write() {
            tcp.writable().await?;
            ready(connection.write_tls(&mut Wire(tcp)))?;
            continue;
        }
        take_in(tcp, connection).await?;
    }
    send_all(tcp, connection).await
}

/// Waits for bytes and decrypts them; the end of the stream is an error of kind `UnexpectedEof`.
pub async fn take_in(tcp: &TcpStream, connection: &mut Connection) -> io::Result<()> {
    tcp.readable().await?;
    match ready(connection.read_tls(&mut Wire(tcp)))? {
        Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => process(connection, tcp),
        None => Ok(()),
    }
}

/// Sends all that TLS has to send.
pub async fn send_all(tcp: &TcpStream, connection: &mut Connection) -> io::Result<()> {
    while connection.wants_write() {
        tcp.writable().await?;
        ready(connection.write_tls(&mut Wire(tcp)))?;
    }
    Ok(())
}

fn process(connection: &mut Connection, tcp: &TcpStream) -> io::Result<()> {
    connection.process_new_packets().map(drop).map_err(|error| {
        // The alert that says why.
        let _ = connection.write_tls(&mut Wire(tcp));
        io::Error::new(io::ErrorKind::InvalidData, error)
    })
}

/// `None` where it would block.
fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Versions and suites, as a priority string chooses them.
pub type Choice = (Vec<&'static SupportedProtocolVersion>, CryptoProvider);

/// GnuTLS's priority strings, as far as they say what can be had here. What cannot is refused, with its reason: a
/// string that was meant to forbid something must not be passed over.
pub fn priority(text: Option<&str>) -> Result<Choice, String> {
    let (mut newest, mut older) = (true, true);
    let mut provider = rustls::crypto::ring::default_provider();
    for word in text.unwrap_or("NORMAL").split(':') {
        match word.to_ascii_uppercase().as_str() {
            // All suites here have 128 bits at least, and forward secrecy.
            "NORMAL" | "SECURE128" | "PFS" | "@SYSTEM" | "@LIBVIRT,SYSTEM" | "%SERVER_PRECEDENCE" => {}
            "SECURE192" | "SECURE256" => {
                let strong = |suite: &SupportedCipherSuite| {
                    let name = format!("{:?}", suite.suite());
                    name.contains("AES_256") || name.contains("CHACHA20")
                };
                provider.cipher_suites.retain(strong);
            }
            "-VERS-TLS1.2" => older = false,
            "-VERS-TLS1.3" => newest = false,
            "-VERS-TLS1.0" | "-VERS-TLS1.1" | "-VERS-SSL3.0" | "-VERS-DTLS-ALL" => {}
            _ => return Err(format!("tls_priority: '{word}' cannot be kept here")),
        }
    }
    let mut versions = Vec::new();
    if newest {
        versions.push(&rustls::version::TLS13);
    }
    if older {
        versions.push(&rustls::version::TLS12);
    }
    if versions.is_empty() {
        Err("tls_priority: no version is left".into())
    } else {
        Ok((versions, provider))
    }
}

/// A TCP socket with TLS on it, after the handshake.
pub struct TlsSocket {
    tcp: TcpStream,
    connection: Mutex<Connection>,
    /// Bytes may be inside that have been decrypted and not read.
    unread: AtomicBool,
    /// Bytes are inside that have been encrypted and not sent.
    unsent: AtomicBool,
    peer_name: Option<String>,
}

impl TlsSocket {
    /// After the handshake. `peer_name` is how the peer's certificate names it, for whoever asks later.
    pub fn new(tcp: TcpStream, mut connection: Connection, peer_name: Option<String>) -> Self {
        // Frames are as large as they are; how much may wait is decided outside.
        connection.set_buffer_limit(None);
        let (unread, unsent) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { tcp, connection: Mutex::new(connection), unread, unsent, peer_name }
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The name given with [`new`](Self::new).
    pub fn peer_name(&self) -> Option<&str> {
        self.peer_name.as_deref()
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when something can be read.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread.load(Ordering::Relaxed) { Poll::Ready(Ok(())) } else { self.tcp.poll_read_ready(cx) }
    }

    /// Reads what is there: the count of bytes, 0 at the end.
    pub fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut connection = self.connection();
        let read = loop {
            match connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read,
            }
            match connection.read_tls(&mut Wire(&self.tcp)) {
                Ok(0) => break Ok(0),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
            let done = connection.process_new_packets();
            if let Err(error) = done {
                let _ = self.push(&mut connection);
                break Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        let full = read.as_ref().is_ok_and(|count| *count == buf.len());
        self.unread.store(full, Ordering::Relaxed);
        read
    }

    /// Encrypts and sends; what does not fit waits inside, a few records at most.
    pub(crate) fn transmit(&self, bytes: &[u8]) -> io::Result<usize> {
        const AT_ONCE: usize = 256 << 10;
        let mut connection = self.connection();
        self.push(&mut connection)?;
        let taken = connection.writer().write(&bytes[..bytes.len().min(AT_ONCE)])?;
        match self.push(&mut connection) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    pub(crate) fn holds_back(&self) -> bool {
        self.unsent.load(Ordering::Relaxed)
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.push(&mut self.connection())
    }

    fn push(&self, connection: &mut Connection) -> io::Result<()> {
        let mut result = Ok(());
        while connection.wants_write() && result.is_ok() {
            result = connection.write_tls(&mut Wire(&self.tcp)).map(drop);
        }
        self.unsent.store(connection.wants_write(), Ordering::Relaxed);
        result
    }
}

impl TlsSocket {
    /// Says that nothing more will come; once is enough.
    pub(crate) fn say_goodbye(&self) {
        let mut connection = self.connection();
        connection.send_close_notify();
        // Who is not there any more need not know.
        let _ = connection.write_tls(&mut Wire(&self.tcp));
    }
}

impl Drop for TlsSocket {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}

impl fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSocket").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

/// The bytes below TLS.
struct Wire<'a>(&'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_that_cannot_be_kept_is_refused() {
        for (text, versions) in [
            (None, 2),
            (Some("NORMAL"), 2),
            (Some("SECURE256"), 2),
            (Some("NORMAL:-VERS-TLS1.2"), 1),
            (Some("SECURE128:-VERS-TLS1.0:-VERS-TLS1.3"), 1),
        ] {
            assert_eq!(priority(text).unwrap().0.len(), versions, "{text:?}");
        }
        for text in ["NORMAL:-AES-256-GCM", "NORMAL:-VERS-TLS1.2:-VERS-TLS1.3", "LEGACY", ""] {
            assert!(priority(Some(text)).is_err(), "{text}");
        }
    }
}
