//! I/O threads, and QEMU's main loop.

use virtwire_conf::Domain;
use virtwire_conf::domain::tune::DefaultIothread;

use super::Json;
use crate::command::CommandLine;

/// The threads by number, then what is said of the main loop.
pub(super) fn iothreads(line: &mut CommandLine, domain: &Domain) {
    for thread in domain.all_iothreads() {
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
    let said = |main: &&DefaultIothread| main.thread_pool_min.is_some() || main.thread_pool_max.is_some();
    if let Some(main) = domain.defaultiothread.as_ref().filter(said) {
        Json::object("main-loop", "main-loop")
            .with_if("thread-pool-min", main.thread_pool_min)
            .with_if("thread-pool-max", main.thread_pool_max)
            .add(line);
    }
}
