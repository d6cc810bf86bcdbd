//! Figures of guests, `virConnectGetAllDomainStats`: typed parameters with nested names, as structs and lists.

use virtwire_protocol::codec::Encode;
use virtwire_protocol::remote::{DomainStatsRecord, TypedParam, TypedParamValue};

use super::Domain;
use super::parameters::{parameters, show};
use super::table::object;
use crate::Connection;

parameters! {
    /// Whether a guest runs, and why: `virDomainState`, `virDomain…Reason`.
    StateStats {
        state: i32 = "state",
        reason: i32 = "reason",
    }

    /// The time that a guest has run, in nanoseconds.
    CpuStats {
        time: u64 = "time",
        user: u64 = "user",
        system: u64 = "system",
    }

    /// A guest's memory, in KiB.
    BalloonStats {
        current: u64 = "current",
        maximum: u64 = "maximum",
        swap_in: u64 = "swap_in",
        swap_out: u64 = "swap_out",
        major_fault: u64 = "major_fault",
        minor_fault: u64 = "minor_fault",
        unused: u64 = "unused",
        available: u64 = "available",
        usable: u64 = "usable",
        rss: u64 = "rss",
        disk_caches: u64 = "disk_caches",
        /// Seconds since 1970.
        last_update: u64 = "last-update",
    }

    /// A guest's CPU. Times are nanoseconds.
    VcpuStats {
        /// `virVcpuState`
        state: i32 = "state",
        time: u64 = "time",
        wait: u64 = "wait",
        delay: u64 = "delay",
        halted: bool = "halted",
    }

    /// A guest's network interface.
    InterfaceStats {
        name: String = "name",
        rx_bytes: u64 = "rx.bytes",
        rx_packets: u64 = "rx.pkts",
        rx_errors: u64 = "rx.errs",
        rx_dropped: u64 = "rx.drop",
        tx_bytes: u64 = "tx.bytes",
        tx_packets: u64 = "tx.pkts",
        tx_errors: u64 = "tx.errs",
        tx_dropped: u64 = "tx.drop",
    }

    /// A guest's disk. Times are nanoseconds, sizes bytes.
    BlockStats {
        name: String = "name",
        path: String = "path",
        backing_index: u32 = "backingIndex",
        rd_requests: u64 = "rd.reqs",
        rd_bytes: u64 = "rd.bytes",
        rd_time: u64 = "rd.times",
        wr_requests: u64 = "wr.reqs",
        wr_bytes: u64 = "wr.bytes",
        wr_time: u64 = "wr.times",
        flush_requests: u64 = "fl.reqs",
        flush_time: u64 = "fl.times",
        allocation: u64 = "allocation",
        capacity: u64 = "capacity",
        physical: u64 = "physical",
        threshold: u64 = "threshold",
    }
}

/// Figures of one guest. What was not asked for, or is not known, is empty.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DomainStats {
    /// The guest.
    pub domain: Domain,
    /// Whether it runs.
    pub state: StateStats,
    /// The time that it has run.
    pub cpu: CpuStats,
    /// Its memory.
    pub balloon: BalloonStats,
    /// Its CPUs.
    pub vcpus: Vec<VcpuStats>,
    /// Its network interfaces.
    pub interfaces: Vec<InterfaceStats>,
    /// Its disks.
    pub blocks: Vec<BlockStats>,
    /// What has no field here, by its name on the wire.
    pub others: Vec<(String, String)>,
}

impl DomainStats {
    /// What the records say, in the order in which they were sent.
    pub(super) fn all(connection: &Connection, records: Vec<DomainStatsRecord>) -> Vec<Self> {
        let sent: usize = records.iter().map(Encode::encoded_len).sum();
        let mut room = ROOM + ROOM_PER_BYTE * sent;
        records.into_iter().map(|record| Self::new(connection, record, &mut room)).collect()
    }

    fn new(connection: &Connection, record: DomainStatsRecord, room: &mut usize) -> Self {
        let mut this = Self {
            domain: object(connection, record.dom),
            state: StateStats::default(),
            cpu: CpuStats::default(),
            balloon: BalloonStats::default(),
            vcpus: Vec::new(),
            interfaces: Vec::new(),
            blocks: Vec::new(),
            others: Vec::new(),
        };
        for param in &record.params {
            if !this.set(param, room) {
                this.others.push(show(param));
            }
        }
        this
    }

    fn set(&mut self, TypedParam { field, value }: &TypedParam, room: &mut usize) -> bool {
        let field = field.to_str_lossy();
        let Some((group, name)) = field.split_once('.') else { return false };
        match group {
            "state" => self.state.set(name, value),
            "cpu" => self.cpu.set(name, value),
            "balloon" => self.balloon.set(name, value),
            "vcpu" => item(&mut self.vcpus, name, value, room, VcpuStats::set),
            "net" => item(&mut self.interfaces, name, value, room, InterfaceStats::set),
            "block" => item(&mut self.blocks, name, value, room, BlockStats::set),
            _ => false,
        }
    }
}

/// Bytes that the items of lists may take in memory, whatever was sent: a daemon says with few bytes that there is a
/// hundredth disk.
const ROOM: usize = 64 << 10;
/// What they may take beyond that, for each byte that was sent. What finds no room is kept by its name.
const ROOM_PER_BYTE: usize = 4;

/// `0.state`: a figure of one item of a list. How many items there are is seen from the list.
fn item<T: Default>(
    list: &mut Vec<T>,
    name: &str,
    value: &TypedParamValue,
    room: &mut usize,
    set: fn(&mut T, &str, &TypedParamValue) -> bool,
) -> bool {
    let Some((index, name)) = name.split_once('.') else { return name == "count" };
    let Ok(index) = index.parse::<usize>() else { return false };
    if index >= list.len() {
        let more = (index - list.len()).saturating_add(1).saturating_mul(size_of::<T>());
        let Some(left) = room.checked_sub(more) else { return false };
        *room = left;
        list.resize_with(index + 1, T::default);
    }
    list.get_mut(index).is_some_and(|item| set(item, name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(params: &[(&str, u64)]) -> (Vec<VcpuStats>, usize) {
        let (mut list, mut room) = (Vec::new(), 1 << 20);
        let passed_over = params
            .iter()
            .filter(|(name, value)| !item(&mut list, name, &(*value).into(), &mut room, VcpuStats::set));
        let passed_over = passed_over.count();
        (list, passed_over)
    }

    #[test]
    fn items_are_put_in_their_places() {
        let (vcpus, passed_over) =
            list(&[("count", 2), ("1.time", 9), ("0.time", 5), ("0.halted", 1), ("0.unheard", 1)]);
        assert_eq!(vcpus.iter().map(|vcpu| vcpu.time).collect::<Vec<_>>(), [Some(5), Some(9)]);
        assert_eq!((vcpus[0].halted, passed_over), (Some(true), 1));
    }

    #[test]
    fn a_count_that_cannot_be_takes_no_memory() {
        assert_eq!(list(&[("4000000000.time", 1), ("x.time", 1), ("-1.time", 1)]), (vec![], 3));
    }
}
