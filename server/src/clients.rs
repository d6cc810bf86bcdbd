//! The clients of one server: who is there, who has not authenticated yet, and how many there may be.
//!
//! Clients that do not authenticate cannot keep others out: where too many are there, the oldest goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::config::Limits;
use crate::reached::{Limit, Reached};
use crate::session::Session;

/// All clients of a server.
pub(crate) struct Clients {
    limits: Limits,
    reached: Reached,
    max: AtomicUsize,
    max_anonymous: AtomicUsize,
    next_id: AtomicU64,
    table: Mutex<Table>,
    /// Told whenever there may be room, or a client has gone.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    all: BTreeMap<u64, Weak<Session>>,
    anonymous: BTreeSet<u64>,
}

impl Clients {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicUsize::new(limits.clients),
            max_anonymous: AtomicUsize::new(limits.anonymous_clients),
            limits,
            reached: Reached::default(),
            next_id: AtomicU64::new(1),
            table: Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How often clients were at each limit.
    pub(crate) fn reached(&self) -> &Reached {
        &self.reached
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients, and those of them that have not authenticated.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = self.table();
        (table.all.len(), table.anonymous.len())
    }

    /// The most clients, and the most that have not authenticated.
    pub(crate) fn maxima(&self) -> (usize, usize) {
        (self.max.load(Ordering::Relaxed), self.max_anonymous.load(Ordering::Relaxed))
    }

    /// Sets what [`maxima`](Self::maxima) says.
    pub(crate) fn set_maxima(&self, max: usize, max_anonymous: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.max_anonymous.store(max_anonymous, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// All clients, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.table().all.values().filter_map(Weak::upgrade).collect()
    }

    /// The client of this id.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Session>> {
        self.table().all.get(&id)?.upgrade()
    }

    /// Waits until there is room for a client, beside `reserve` that others may need.
    pub(crate) async fn room(&self, reserve: usize) {
        let has_room = |clients: &Self| clients.counts().0 + reserve < clients.maxima().0;
        if !has_room(self) {
            self.reached.count(Limit::Clients);
            self.wait(has_room).await;
        }
    }

    /// Waits until all have gone.
    pub(crate) async fn gone(&self) {
        self.wait(|clients| clients.counts().0 == 0).await;
    }

    async fn wait(&self, until: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if until(self) {
                return;
            }
            changed.await;
        }
    }

    /// Waits for the next change.
    pub(crate) async fn change(&self) {
        self.changed.notified().await;
    }

    /// Takes a client in.
    pub(crate) fn enter(&self, make: impl FnOnce(u64) -> Arc<Session>) -> Arc<Session> {
        let session = make(self.next_id.fetch_add(1, Ordering::Relaxed));
        let mut table = self.table();
        table.all.insert(session.id, Arc::downgrade(&session));
        let surplus = if session.is_authenticated() {
            None
        } else {
            let (_, most) = self.maxima();
            let surplus = (most > 0 && table.anonymous.len() >= most).then(|| table.surplus()).flatten();
            table.anonymous.insert(session.id);
            surplus
        };
        drop(table);
        if let Some(surplus) = surplus {
            tracing::info!(
                client = surplus.id,
                "too many clients have not authenticated; the oldest is dropped"
            );
            self.reached.count(Limit::Anonymous);
            self.authenticated(surplus.id);
            surplus.abort();
        }
        session
    }

    /// A client is no longer counted among the unauthenticated.
    pub(crate) fn authenticated(&self, id: u64) {
        self.table().anonymous.remove(&id);
    }

    /// A client has gone.
    pub(crate) fn leave(&self, id: u64) {
        let mut table = self.table();
        table.all.remove(&id);
        table.anonymous.remove(&id);
        drop(table);
        self.changed.notify_waiters();
    }
}

impl Table {
    /// Who has to go: the oldest that has not authenticated, root's own last.
    fn surplus(&self) -> Option<Arc<Session>> {
        let mut waiting = self.anonymous.iter().filter_map(|id| self.all.get(id)?.upgrade());
        let first = waiting.next()?;
        let of_root = |session: &Session| session.peer.is_some_and(|peer| peer.uid == 0);
        if of_root(&first) {
            Some(waiting.find(|session| !of_root(session)).unwrap_or(first))
        } else {
            Some(first)
        }
    }
}
