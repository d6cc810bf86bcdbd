//! The packets of one interface, as packet(7) gives them, of which the kernel hands over only those that tell an address.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket};
use socket2::{SockFilter, SockRef};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Longer frames of DHCP do not come, and of others the beginning is enough.
const LONGEST: usize = 1600;

/// `PACKET_OUTGOING`: the host sends it, to the guest.
const OUTGOING: u8 = 4;

/// Classic BPF (bpf(2), `linux/filter.h`).
mod bpf {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_HALF: u16 = 0x28;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const LOAD_HALF_INDEXED: u16 = 0x48;
    /// Four times the lower half of a byte: the length of IPv4's header.
    pub(super) const LOAD_LENGTH: u16 = 0xb1;
    pub(super) const IF_EQUAL: u16 = 0x15;
    pub(super) const IF_SET: u16 = 0x45;
    pub(super) const RETURN: u16 = 0x06;
}

/// An interface that is listened to.
pub(super) struct Frames {
    /// Nothing is asked of it but its descriptor and when there is something to receive.
    socket: UnixDatagram,
    index: usize,
}

impl Frames {
    /// Frames with DHCP, and all of IPv4 that come from `mac`, if it is given.
    ///
    /// # Errors
    /// There is no such interface, or nobody may listen.
    pub(super) fn of(interface: &str, mac: Option<[u8; 6]>) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let address = link_address(interface)?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        SockRef::from(&socket).attach_filter(&program(mac))?;
        bind(socket.as_raw_fd(), &address)?;
        let socket = UnixDatagram::from_std(socket.into())?;
        Ok(Self { socket, index: address.ifindex() })
    }

    /// The next frame, and whether it goes to the guest.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) async fn next(&self, buffer: &mut [u8; LONGEST]) -> io::Result<(usize, bool)> {
        loop {
            let receive = || Ok(recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer)?);
            match self.socket.async_io(Interest::READABLE, receive).await {
                // Before it was bound, it heard others as well.
                Ok((_, Some(from))) if from.ifindex() != self.index => {}
                Ok((length, from)) => {
                    return Ok((length, from.is_some_and(|from| from.pkttype() == OUTGOING)));
                }
                // It is not up yet, or was taken down.
                Err(error) if error.raw_os_error() == Some(Errno::ENETDOWN as i32) => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn buffer() -> [u8; LONGEST] {
        [0; LONGEST]
    }
}

fn link_address(interface: &str) -> io::Result<LinkAddr> {
    let own = getifaddrs()?.filter(|own| own.interface_name == interface);
    let address = own.filter_map(|own| own.address?.as_link_addr().copied()).next();
    address.ok_or_else(|| Errno::ENODEV.into())
}

fn program(mac: Option<[u8; 6]>) -> Vec<SockFilter> {
    use bpf::*;
    let op = |code, jump_true, jump_false, value| SockFilter::new(code, jump_true, jump_false, value);
    let [a, b, c, d, e, f] = mac.unwrap_or_default();
    // Without an address, the comparison with it is jumped over.
    let over = if mac.is_some() { 0 } else { 4 };
    vec![
        op(LOAD_HALF, 0, 0, 12),
        op(IF_EQUAL, over, 15, 0x800),
        op(LOAD_WORD, 0, 0, 6),
        op(IF_EQUAL, 0, 2, u32::from_be_bytes([a, b, c, d])),
        op(LOAD_HALF, 0, 0, 10),
        op(IF_EQUAL, 12, 0, u32::from_be_bytes([0, 0, e, f])),
        op(LOAD_BYTE, 0, 0, 23),
        op(IF_EQUAL, 0, 9, 17),
        op(LOAD_HALF, 0, 0, 20),
        op(IF_SET, 7, 0, 0x1fff),
        op(LOAD_LENGTH, 0, 0, 14),
        op(LOAD_HALF_INDEXED, 0, 0, 14),
        op(IF_EQUAL, 1, 0, 67),
        op(IF_EQUAL, 0, 3, 68),
        op(LOAD_HALF_INDEXED, 0, 0, 16),
        op(IF_EQUAL, 2, 0, 68),
        op(IF_EQUAL, 1, 0, 67),
        op(RETURN, 0, 0, 0),
        op(RETURN, 0, 0, u32::MAX),
    ]
}
