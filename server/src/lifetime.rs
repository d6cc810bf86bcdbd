//! When the daemon ends by itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How often an idle daemon looks whether it still is.
const LOOK: Duration = Duration::from_millis(500);

/// The time-out, and whether an administrator has ended the daemon.
#[derive(Default)]
pub(crate) struct Lifetime {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    timeout: Option<Duration>,
    stopped: bool,
}

impl Lifetime {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the daemon when it has been idle for so long.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) {
        self.state().timeout = timeout;
        self.changed.notify_one();
    }

    /// Ends the daemon.
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_one();
    }

    /// Ready when the daemon is to end.
    pub(crate) async fn ended(&self, idle: impl Fn() -> bool) {
        let mut since = Instant::now();
        loop {
            let (timeout, stopped) = {
                let state = self.state();
                (state.timeout, state.stopped)
            };
            if stopped {
                return;
            }
            let Some(timeout) = timeout else {
                self.changed.notified().await;
                since = Instant::now();
                continue;
            };
            if !idle() {
                since = Instant::now();
            } else if since.elapsed() >= timeout {
                return;
            }
            let _ = tokio::time::timeout(LOOK.min(timeout), self.changed.notified()).await;
        }
    }
}
