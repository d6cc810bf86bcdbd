//! TCP that SASL encrypts once a login has agreed on it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::net::TcpStream;

/// The longest packet that is taken in, in bytes behind its length. Either end says in the login how much it takes, and
/// nobody says more than this.
pub const PACKET_MAX: usize = 64 << 10;

/// Encrypts and decrypts packets, as a login has agreed on.
pub trait Seal: Send {
    /// The most bytes that go into one packet.
    fn most(&self) -> usize;

    /// Encrypts a packet.
    fn seal(&mut self, plain: &[u8]) -> io::Result<Vec<u8>>;

    /// Decrypts a packet; one that has been changed or repeated is an error.
    fn open(&mut self, sealed: &[u8]) -> io::Result<Vec<u8>>;
}

/// A TCP socket: bytes as they are, and packets from the moment that it is [sealed](Self::seal).
pub struct TcpSocket {
    tcp: TcpStream,
    sealed: OnceLock<Box<Sealed>>,
}

struct Sealed {
    state: Mutex<State>,
    /// Bytes may be inside that have been decrypted and not read.
    unread: AtomicBool,
    /// Bytes are inside that have been encrypted and not sent.
    unsent: AtomicBool,
}

struct State {
    seal: Box<dyn Seal>,
    /// As they came.
    incoming: Vec<u8>,
    /// Decrypted, of which the first `read` bytes have been read.
    plain: Vec<u8>,
    read: usize,
    /// Encrypted, of which the first `sent` bytes have been sent.
    outgoing: Vec<u8>,
    sent: usize,
}

impl TcpSocket {
    /// Nothing is encrypted yet.
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp, sealed: OnceLock::new() }
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Everything that comes and goes from now on is encrypted. Once only: the first seal stays.
    pub fn seal(&self, seal: Box<dyn Seal>) {
        let state =
            State { seal, incoming: Vec::new(), plain: Vec::new(), read: 0, outgoing: Vec::new(), sent: 0 };
        let (unread, unsent) = (AtomicBool::new(false), AtomicBool::new(false));
        let _ = self.sealed.set(Box::new(Sealed { state: Mutex::new(state), unread, unsent }));
    }

    /// Whether it is sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealed.get().is_some()
    }

    /// Whether something can be read that the socket below has given already.
    pub(crate) fn has_unread(&self) -> bool {
        self.sealed.get().is_some_and(|sealed| sealed.unread.load(Ordering::Relaxed))
    }

    /// Reads what is there: the count of bytes, 0 at the end.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(sealed) = self.sealed.get() else { return self.tcp.try_read(buf) };
        let mut state = sealed.state();
        let read = state.receive(&self.tcp, buf);
        sealed.unread.store(state.read < state.plain.len() || state.packet().is_some(), Ordering::Relaxed);
        read
    }

    /// Sends; of what is encrypted, what does not fit waits inside, a few packets at most.
    pub(crate) fn transmit(&self, bytes: &[u8]) -> io::Result<usize> {
        const AT_ONCE: usize = 256 << 10;
        let Some(sealed) = self.sealed.get() else { return self.tcp.try_write(bytes) };
        let mut state = sealed.state();
        sealed.push(&mut state, &self.tcp)?;
        let bytes = &bytes[..bytes.len().min(AT_ONCE)];
        for part in bytes.chunks(state.seal.most().max(1)) {
            let packet = state.seal.seal(part)?;
            //= RFC 4422, section 3.7
            //# each buffer of protected data is transferred over the connection as a sequence of octets prepended
            //# with a four-octet field in network byte order that represents the length of the buffer
            let length = u32::try_from(packet.len()).map_err(io::Error::other)?;
            state.outgoing.extend(length.to_be_bytes());
            state.outgoing.extend(packet);
        }
        match sealed.push(&mut state, &self.tcp) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    pub(crate) fn holds_back(&self) -> bool {
        self.sealed.get().is_some_and(|sealed| sealed.unsent.load(Ordering::Relaxed))
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.sealed.get().map_or(Ok(()), |sealed| sealed.push(&mut sealed.state(), &self.tcp))
    }
}

impl Sealed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what has been encrypted.
    fn push(&self, state: &mut State, tcp: &TcpStream) -> io::Result<()> {
        let mut result = Ok(());
        while state.sent < state.outgoing.len() && result.is_ok() {
            result = tcp.try_write(&state.outgoing[state.sent..]).map(|count| state.sent += count);
        }
        if state.sent == state.outgoing.len() {
            (state.outgoing, state.sent) = (Vec::new(), 0);
        }
        self.unsent.store(!state.outgoing.is_empty(), Ordering::Relaxed);
        result
    }
}

impl State {
    /// The length of the first packet that has come, where all of it has; an error where nobody may send as much.
    fn packet(&self) -> Option<io::Result<usize>> {
        let length = u32::from_be_bytes(*self.incoming.first_chunk()?) as usize;
        if length > PACKET_MAX {
            let text = format!("a packet of {length} bytes, where {PACKET_MAX} were agreed on");
            return Some(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        (self.incoming.len() >= 4 + length).then_some(Ok(length))
    }

    fn receive(&mut self, tcp: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        let mut space = [0; 16 << 10];
        while self.read == self.plain.len() {
            if let Some(length) = self.packet() {
                let end = 4 + length?;
                self.plain = self.seal.open(&self.incoming[4..end])?;
                self.read = 0;
                self.incoming.drain(..end);
                // Who sends nothing in many packets has nothing to say.
                if self.plain.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "an empty packet"));
                }
                continue;
            }
            match tcp.try_read(&mut space)? {
                0 => return Ok(0),
                count => self.incoming.extend(&space[..count]),
            }
        }
        let rest = &self.plain[self.read..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        Ok(count)
    }
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpSocket").field("tcp", &self.tcp).field("sealed", &self.is_sealed()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns each bit, and puts the number of the packet before it.
    #[derive(Default)]
    struct Turned {
        sealed: u8,
        opened: u8,
    }

    impl Seal for Turned {
        fn most(&self) -> usize {
            1000
        }

        fn seal(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
            self.sealed += 1;
            Ok(std::iter::once(self.sealed).chain(plain.iter().map(|byte| !byte)).collect())
        }

        fn open(&mut self, sealed: &[u8]) -> io::Result<Vec<u8>> {
            self.opened += 1;
            match sealed {
                [number, rest @ ..] if *number == self.opened => Ok(rest.iter().map(|byte| !byte).collect()),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    async fn pair() -> (TcpSocket, TcpSocket) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (left, right) = tokio::join!(TcpStream::connect(address), listener.accept());
        (TcpSocket::new(left.unwrap()), TcpSocket::new(right.unwrap().0))
    }

    async fn receive(socket: &TcpSocket, count: usize) -> io::Result<Vec<u8>> {
        let (mut all, mut buf) = (Vec::new(), [0; 700]);
        while all.len() < count {
            if !socket.has_unread() {
                socket.tcp().readable().await?;
            }
            match socket.receive(&mut buf) {
                Ok(0) => break,
                Ok(count) => all.extend(&buf[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    #[tokio::test]
    async fn bytes_arrive_as_they_are_before_and_behind_the_seal() {
        let (left, right) = pair().await;
        assert_eq!(left.transmit(b"plain").unwrap(), 5);
        assert_eq!(receive(&right, 5).await.unwrap(), b"plain");
        left.seal(Box::<Turned>::default());
        right.seal(Box::<Turned>::default());
        let long: Vec<u8> = (0..3500_u32).map(|number| number as u8).collect();
        for _ in 0..2 {
            assert_eq!(left.transmit(&long).unwrap(), long.len());
            left.flush().unwrap();
            assert!(!left.holds_back());
            assert_eq!(receive(&right, long.len()).await.unwrap(), long);
            assert!(!right.has_unread());
        }
    }

    #[tokio::test]
    async fn what_is_no_packet_or_too_long_a_one_is_an_error() {
        for wrong in [&b"\0\0\0\x02\x07x"[..], b"\0\x01\0\x01", b"\0\0\0\0"] {
            let (left, right) = pair().await;
            left.transmit(wrong).unwrap();
            right.seal(Box::<Turned>::default());
            assert_eq!(receive(&right, 1).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong:?}");
        }
    }
}
