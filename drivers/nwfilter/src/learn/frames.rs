//! What a frame tells of the address that its port has. No I/O.

use std::net::Ipv4Addr;

/// `DHCPOFFER`, `DHCPDECLINE`, `DHCPACK`, `DHCPRELEASE` (RFC 2132, 9.6).
const OFFER: u8 = 2;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const RELEASE: u8 = 7;

/// What goes before the options of DHCP (RFC 2131, 3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// A packet of DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dhcp {
    kind: u8,
    /// The hardware address that it is about.
    client: [u8; 6],
    /// The address that is given, or that the client has.
    address: Ipv4Addr,
    /// Seconds.
    lease: Option<u32>,
    /// Who gives it.
    server: Ipv4Addr,
    /// From the server's port to the client's.
    is_answer: bool,
}

/// What becomes of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// It is given for so many seconds; for ever, if the server does not say.
    Given { address: Ipv4Addr, seconds: Option<u32>, server: Ipv4Addr },
    /// It is given back.
    Ended(Ipv4Addr),
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    array::<4>(bytes, at).map(Ipv4Addr::from)
}

/// The IPv4 packet of a frame.
fn packet(frame: &[u8]) -> Option<&[u8]> {
    (word(frame, 12)? == 0x800)
        .then(|| frame.get(14..))
        .flatten()
        .filter(|packet| packet.first().is_some_and(|byte| byte >> 4 == 4))
}

/// The address that a frame, which comes from the port or goes to it, says the port has.
pub(super) fn any(frame: &[u8], mac: [u8; 6]) -> Option<Ipv4Addr> {
    if let Some(dhcp) = dhcp(frame) {
        let is_given = dhcp.is_answer && matches!(dhcp.kind, OFFER | ACK) && dhcp.client == mac;
        return is_given.then_some(dhcp.address).filter(is_a_hosts);
    }
    if array::<6>(frame, 6)? != mac {
        return None;
    }
    address(packet(frame)?, 12).filter(is_a_hosts)
}

fn is_a_hosts(address: &Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast()
}

/// What becomes of a lease of the port.
pub(super) fn lease(frame: &[u8], mac: [u8; 6], is_to_guest: bool) -> Option<Lease> {
    let dhcp = dhcp(frame).filter(|dhcp| dhcp.client == mac && dhcp.is_answer == is_to_guest)?;
    if !is_a_hosts(&dhcp.address) {
        return None;
    }
    let Dhcp { address, lease: seconds, server, .. } = dhcp;
    match (is_to_guest, dhcp.kind) {
        (true, ACK) => Some(Lease::Given { address, seconds, server }),
        (false, DECLINE | RELEASE) => Some(Lease::Ended(address)),
        _ => None,
    }
}

fn dhcp(frame: &[u8]) -> Option<Dhcp> {
    let packet = packet(frame)?;
    // The first fragment has all that matters.
    if packet.get(9) != Some(&17) || word(packet, 6)? & 0x1fff != 0 {
        return None;
    }
    let udp = packet.get(usize::from(packet.first()? & 0xf) * 4..)?;
    let is_answer = match (word(udp, 0)?, word(udp, 2)?) {
        (67, 68) => true,
        (68, 67) => false,
        _ => return None,
    };
    let message = udp.get(8..)?;
    if array(message, 236)? != COOKIE {
        return None;
    }
    let (given, own) = (address(message, 16)?, address(message, 12)?);
    let mut dhcp = Dhcp {
        kind: 0,
        client: array(message, 28)?,
        address: if is_answer { given } else { own },
        lease: None,
        server: address(message, 20)?,
        is_answer,
    };
    let mut options = message.get(240..)?;
    while let [code, rest @ ..] = options {
        options = match code {
            0 => rest,
            255 => break,
            _ => {
                let (length, rest) = rest.split_first()?;
                let (value, rest) = rest.split_at_checked((*length).into())?;
                match code {
                    53 => dhcp.kind = *value.first()?,
                    51 => dhcp.lease = array(value, 0).map(u32::from_be_bytes),
                    // A client that declines has no address yet, and names what it means here.
                    50 if !is_answer && own.is_unspecified() => dhcp.address = address(value, 0)?,
                    _ => {}
                }
                rest
            }
        };
    }
    Some(dhcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

    fn frame(source: [u8; 6], ip: [u8; 4], ports: (u16, u16), data: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 9];
        frame.extend(source);
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0]);
        frame.extend(ip);
        frame.extend([10, 0, 0, 1]);
        frame.extend(ports.0.to_be_bytes());
        frame.extend(ports.1.to_be_bytes());
        frame.extend([0, 0, 0, 0]);
        frame.extend(data);
        frame
    }

    fn message(kind: u8, given: [u8; 4], own: [u8; 4]) -> Vec<u8> {
        let mut message = vec![2, 1, 6, 0, 0, 0, 0, 7, 0, 0, 0, 0];
        message.extend(own);
        message.extend(given);
        message.extend([0; 8]);
        message.extend(MAC);
        message.resize(236, 0);
        message.extend(COOKIE);
        message.extend([0, 53, 1, kind, 51, 4, 0, 0, 0, 60, 255]);
        message
    }

    #[test]
    fn a_packet_of_the_guest_tells_its_address_if_it_can_be_one() {
        let of = |source, ip| any(&frame(source, ip, (1, 2), b"hello"), MAC);
        assert_eq!(of(MAC, [10, 0, 0, 5]), Some(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(of([2, 0, 0, 0, 0, 1], [10, 0, 0, 5]), None);
        for ip in [[0; 4], [255; 4], [224, 0, 0, 1]] {
            assert_eq!(of(MAC, ip), None);
        }
    }

    #[test]
    fn a_server_tells_what_it_gives() {
        let server = [2, 0, 0, 0, 0, 1];
        let answer = |kind| frame(server, [10, 0, 0, 1], (67, 68), &message(kind, [10, 0, 0, 7], [0; 4]));
        let (address, none) = (Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::UNSPECIFIED);
        assert_eq!(any(&answer(OFFER), MAC), Some(address));
        assert_eq!(any(&answer(6), MAC), None);
        let given = Lease::Given { address, seconds: Some(60), server: none };
        assert_eq!(lease(&answer(ACK), MAC, true), Some(given));
        assert_eq!(lease(&answer(OFFER), MAC, true), None);
        assert_eq!(lease(&answer(ACK), MAC, false), None, "a guest gives itself nothing");
        assert_eq!(lease(&answer(ACK), server, true), None);
        let back = frame(MAC, [10, 0, 0, 7], (68, 67), &message(RELEASE, [0; 4], [10, 0, 0, 7]));
        assert_eq!(lease(&back, MAC, false), Some(Lease::Ended(address)));
    }

    #[test]
    fn no_frame_is_too_short() {
        let whole = frame(MAC, [10, 0, 0, 1], (67, 68), &message(ACK, [10, 0, 0, 7], [0; 4]));
        for length in 0..whole.len() {
            let _ = (any(&whole[..length], MAC), lease(&whole[..length], MAC, true));
        }
    }
}
