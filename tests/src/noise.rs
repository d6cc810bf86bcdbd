//! Arguments that nobody would send, from a seed: well-formed samples of the protocol, some with bytes changed, cut or
//! added.

use std::collections::HashMap;

use virtwire_conformance::generated::NOT_SENT;
use virtwire_conformance::peer::{Peer, PeerError};
use virtwire_protocol::procedures::{Direction, ProcedureInfo, Program};
use virtwire_protocol::sample::{self, Pick, Row};
use virtwire_protocol::{lxc, qemu, remote};

/// Makes calls from one seed.
#[derive(Debug)]
pub struct Noise {
    rows: HashMap<&'static str, Row>,
    calls: Vec<(&'static Program, &'static ProcedureInfo)>,
    pick: Pick,
}

impl Noise {
    /// The same seed gives the same calls.
    pub fn new(seed: u64) -> Self {
        let programs = [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM].into_iter();
        let calls =
            programs.flat_map(|program| program.procedures.iter().flatten().map(move |info| (program, info)));
        let sent = |info: &ProcedureInfo| {
            info.direction == Direction::Call
                && !info.name.starts_with("AUTH_")
                && !NOT_SENT.iter().any(|(name, _)| *name == info.name)
        };
        Self {
            rows: sample::all().into_iter().map(|row| (row.name, row)).collect(),
            calls: calls.filter(|(_, info)| sent(info)).collect(),
            pick: Pick::new(seed),
        }
    }

    /// The next call and its payload.
    pub fn next_call(&mut self) -> (&'static Program, &'static ProcedureInfo, Vec<u8>) {
        let at = self.pick.below(self.calls.len());
        let (program, info) = self.calls[at];
        let row = info.args.and_then(|args| self.rows.get(args.name));
        let mut payload = row.and_then(|row| (row.encode)(&mut self.pick).ok()).unwrap_or_default();
        match self.pick.below(4) {
            0 if !payload.is_empty() => {
                let at = self.pick.below(payload.len());
                payload[at] = self.pick.uchar();
            }
            1 if !payload.is_empty() => payload.truncate(self.pick.below(payload.len()) / 4 * 4),
            2 => payload.extend([0; 4]),
            _ => {}
        }
        (program, info, payload)
    }

    /// Makes the next call; any answer is fine.
    ///
    /// # Errors
    /// With the procedure's name, if none comes or the connection ends.
    pub fn call(&mut self, peer: &mut Peer) -> Result<(), String> {
        let (program, info, payload) = self.next_call();
        let reply = peer.call_raw(program, info.number, &payload);
        let named = |error: PeerError| format!("{} with {} bytes: {error}", info.name, payload.len());
        reply.map(drop).map_err(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_all_there_is_to_a_run() {
        let calls = |seed| {
            let mut noise = Noise::new(seed);
            (0..50)
                .map(|_| noise.next_call())
                .map(|(_, info, payload)| (info.name, payload))
                .collect::<Vec<_>>()
        };
        assert_eq!(calls(1), calls(1));
        assert_ne!(calls(1), calls(2));
    }
}
