//! Bytes and descriptors over sockets, without waiting. Client and daemon share it.
//!
//! Each descriptor goes with a message of one byte of its own, behind its frame.

mod outgoing;
mod sealed;
mod socket;
pub mod tls;

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};

pub use outgoing::{Outgoing, Transmit};
pub use sealed::{PACKET_MAX, Seal, TcpSocket};
pub use socket::Socket;
pub use tls::TlsSocket;

/// The most descriptors taken in with one read; the kernel closes the rest.
const DESCRIPTORS: usize = 32;

/// What one read has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes; 0 is the end of the stream.
    pub bytes: usize,
    /// Whether nothing more is waiting: the read was short, and no descriptor cut it short.
    pub drained: bool,
}

/// Reads what is there; descriptors go to the end of `descriptors`.
pub fn receive(
    socket: impl AsFd,
    buf: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let room = buf.len();
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(socket, &mut [IoSliceMut::new(buf)], &mut control, flags)?;
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than a message may carry"));
    }
    let before = descriptors.len();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            descriptors.extend(rights);
        }
    }
    Ok(Received { bytes: message.bytes, drained: message.bytes < room && descriptors.len() == before })
}

/// Writes as much as fits.
pub fn transmit(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

/// Writes one carrier byte with a descriptor.
pub fn transmit_descriptor(socket: impl AsFd, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, flags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_carrier_byte() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = io::pipe().unwrap();
        assert_eq!(transmit(&left, b"frame").unwrap(), 5);
        transmit_descriptor(&left, writer.as_fd()).unwrap();
        writer.write_all(b"old").unwrap();
        drop(writer);

        let (mut buf, mut descriptors) = ([0; 64], VecDeque::new());
        let got = receive(&right, &mut buf, &mut descriptors).unwrap();
        assert_eq!((got.bytes, got.drained, descriptors.len()), (6, false, 1));
        let copy = descriptors.pop_front().unwrap();
        std::fs::File::from(copy).write_all(b"new").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "oldnew");
    }

    #[test]
    fn an_empty_socket_would_block_and_a_closed_one_ends() {
        let (left, right) = UnixStream::pair().unwrap();
        let mut descriptors = VecDeque::new();
        let error = receive(&right, &mut [0; 8], &mut descriptors).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(left);
        assert_eq!(receive(&right, &mut [0; 8], &mut descriptors).unwrap().bytes, 0);
    }
}
