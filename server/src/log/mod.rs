//! What is logged, and where to: libvirt's filters and outputs, changed while the daemon runs.

mod line;
mod outputs;
mod spec;

use std::sync::{Arc, PoisonError, RwLock};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use virtwire_protocol::error::VirtError;

pub use spec::{Filters, Outputs, Priority};

use crate::trace::{Tracer, is_step};
use outputs::Sinks;

/// The daemon's log. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    state: Arc<RwLock<State>>,
    tracer: Arc<Tracer>,
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
        let state = State { level, filters: Filters::default(), outputs, sinks };
        Self { state: Arc::new(RwLock::new(state)), tracer: Arc::default() }
    }

    /// Takes all messages of the process.
    pub fn install(&self) {
        // A second log of a process is a test's; the first one stays.
        let _ = tracing_subscriber::registry().with(self.clone()).try_init();
    }

    /// Whom the daemon tells what it does: they see what the log leaves out.
    pub(crate) fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Whether anybody wants to know.
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if is_step(metadata) {
            return self.tracer.is_on();
        }
        Priority::of(*metadata.level()) >= self.read(|state| state.threshold(metadata.target()))
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
    pub fn set_outputs(&self, outputs: Outputs) -> Result<(), VirtError> {
        let level = self.read(|state| state.level);
        let outputs = if outputs.is_empty() { Outputs::stderr(level) } else { outputs };
        let sinks = Sinks::open(&outputs)?;
        self.change(|state| (state.outputs, state.sinks) = (outputs, sinks));
        Ok(())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        if self.tracer.is_on() {
            return Some(LevelFilter::TRACE);
        }
        self.read(|state| {
            Some(state.filters.least().map_or(state.level, |least| least.min(state.level)).level())
        })
    }

    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        if is_step(event.metadata()) {
            return self.tracer.on_event(event, &cx);
        }
        let message = line::Message::new(event);
        self.read(|state| state.sinks.write(&state.outputs, &message));
    }

    // The spans of this program are all the trace's; those of libraries are let go by.
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        if is_step(attributes.metadata()) {
            self.tracer.on_new_span(attributes, id, &cx);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        self.tracer.on_record(id, values, &cx);
    }

    fn on_close(&self, id: Id, cx: Context<'_, S>) {
        self.tracer.on_close(&id, &cx);
    }
}
