//! Shares and limits of guests: what clients read and change, and how they are put into force.

mod blkio;
mod force;
mod memory;
mod numa;
mod perf;
mod scheduler;

pub(crate) use blkio::{get as blkio, set as set_blkio};
pub(crate) use force::{force, pin_emulator, place_iothread, place_vcpu, settle};
pub(crate) use memory::{get as memory, set as set_memory};
pub(crate) use numa::{get as numa, set as set_numa};
pub(crate) use perf::{get as perf_events, set as set_perf_events};
pub(crate) use scheduler::{
    PARAMETERS as SCHEDULER_PARAMETERS, get as scheduler, get_flags as scheduler_flags, set as set_scheduler,
    set_flags as set_scheduler_flags,
};

use virtwire_protocol::remote::TypedParam;

use crate::affect::{CONFIG, LIVE};
use crate::guest::{Guest, Live};

/// Flags that all calls here know.
const KNOWN: u32 = LIVE | CONFIG;

/// All parameters where the client has room, their count otherwise.
fn sized(all: Vec<TypedParam>, room: i32) -> (Vec<TypedParam>, i32) {
    let count = all.len() as i32;
    let room = usize::try_from(room).unwrap_or_default();
    (all.into_iter().take(room).collect(), count)
}

/// The run, if that is what flags mean.
fn meant_live(guest: &Guest, flags: u32) -> Option<Live> {
    guest.lock().live.clone().filter(|_| flags & CONFIG == 0)
}
