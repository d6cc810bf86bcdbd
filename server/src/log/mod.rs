//! What is logged, and where to: libvirt's filters and outputs, changed while the daemon runs.

mod line;
mod outputs;
mod spec;

use std::sync::{Arc, PoisonError, RwLock};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub use spec::{Filters, Outputs, Priority};

use outputs::Sinks;

/// The daemon's log. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    state: Arc<RwLock<State>>,
}

struct State {
    level: Priority,
    filters: Filters,
    outputs: Outputs,
    sinks: Sinks,
}

impl State {
    /// The least priority that is logged for a source.
    fn threshold(&self, source: &str) -> Priority {
        self.filters.priority(source).unwrap_or(self.level)
    }
}

impl Log {
    /// A log that writes warnings to standard error, or what `level` says.
    pub fn new(level: Option<Priority>) -> Self {
        let level = level.unwrap_or(Priority::Warning);
        let outputs = Outputs::stderr(level);
        let sinks = Sinks::open(&outputs).unwrap_or_default();
        Self { state: Arc::new(RwLock::new(State { level, filters: Filters::default(), outputs, sinks })) }
    }

    /// Takes all messages of the process.
    pub fn install(&self) {
        // A second log of a process is a test's; the first one stays.
        let _ = tracing_subscriber::registry().with(self.clone()).try_init();
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        // Call sites remember whether anybody wants them, so that what is not logged costs nothing.
        tracing::callsite::rebuild_interest_cache();
    }

    /// The filters.
    pub fn filters(&self) -> Filters {
        self.read(|state| state.filters.clone())
    }

    /// The outputs.
    pub fn outputs(&self) -> Outputs {
        self.read(|state| state.outputs.clone())
    }

    /// Replaces the filters.
    pub fn set_filters(&self, filters: Filters) {
        self.change(|state| state.filters = filters);
    }

    /// Replaces the outputs, if all of them can be opened. No outputs are the default one.
    pub fn set_outputs(&self, outputs: Outputs) -> std::io::Result<()> {
        let level = self.read(|state| state.level);
        let outputs = if outputs.is_empty() { Outputs::stderr(level) } else { outputs };
        let sinks = Sinks::open(&outputs)?;
        self.change(|state| (state.outputs, state.sinks) = (outputs, sinks));
        Ok(())
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let wanted = Priority::of(*metadata.level()) >= self.read(|state| state.threshold(metadata.target()));
        if wanted { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        Priority::of(*metadata.level()) >= self.read(|state| state.threshold(metadata.target()))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.read(|state| {
            Some(state.filters.least().map_or(state.level, |least| least.min(state.level)).level())
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let message = line::Message::new(event);
        self.read(|state| state.sinks.write(&state.outputs, &message));
    }
}
