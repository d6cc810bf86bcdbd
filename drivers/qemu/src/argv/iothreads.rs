//! I/O threads, and QEMU's main loop.

use std::num::NonZeroU32;

use virtwire_conf::Domain;
use virtwire_conf::domain::tune::Iothread;
use virtwire_conf::table::Positive;

use super::Json;
use crate::command::CommandLine;

/// The threads by number, then what is said of the main loop.
pub(super) fn iothreads(line: &mut CommandLine, domain: &Domain) {
    for thread in threads(domain) {
        let object = Json::object("iothread", format!("iothread{}", thread.id.0));
        let poll = thread.poll.as_ref();
        object
            .with_if("thread-pool-min", thread.thread_pool_min)
            .with_if("thread-pool-max", thread.thread_pool_max)
            .with_if("poll-max-ns", poll.and_then(|poll| poll.max))
            .with_if("poll-grow", poll.and_then(|poll| poll.grow))
            .with_if("poll-shrink", poll.and_then(|poll| poll.shrink))
            .add(line);
    }
    if let Some(main) = &domain.defaultiothread {
        Json::object("main-loop", "main-loop")
            .with_if("thread-pool-min", main.thread_pool_min)
            .with_if("thread-pool-max", main.thread_pool_max)
            .add(line);
    }
}

/// Those that are described, and as many more as the count asks for, with the lowest free numbers.
fn threads(domain: &Domain) -> Vec<Iothread> {
    let mut all = domain.iothreadids.as_ref().map_or_else(Vec::new, |ids| ids.iothread.clone());
    let count = domain.iothreads.unwrap_or_default() as usize;
    let taken: Vec<_> = all.iter().map(|thread| thread.id).collect();
    let free = (1..).filter_map(NonZeroU32::new).map(Positive).filter(|id| !taken.contains(id));
    all.extend(free.take(count.saturating_sub(taken.len())).map(|id| Iothread { id, ..Iothread::default() }));
    all
}
