//! Commands and events for whoever watches the daemon's work: spans and events with the target `virtwire::trace`. Where
//! nobody does, that is one look at `tracing`'s level.

use serde::Serialize;
use serde_json::value::RawValue;
use tracing::field::Empty;
use tracing::{Level, Span};

use crate::Event;

/// The span of a command, until its answer is there.
pub(crate) fn command<A: Serialize>(command: &str, arguments: &A) -> Span {
    let span = tracing::trace_span!(
        target: "virtwire::trace", "qmp", command, arguments = Empty, result = Empty, error = Empty
    );
    told(span, arguments)
}

/// A span with the arguments of its command.
fn told<A: Serialize>(span: Span, arguments: &A) -> Span {
    if !span.is_disabled() {
        let arguments = serde_json::to_string(arguments).unwrap_or_default();
        if arguments != "{}" && arguments != "null" {
            span.record("arguments", arguments.as_str());
        }
    }
    span
}

/// The span of a command to the guest's agent.
pub(crate) fn agent<A: Serialize>(command: &str, arguments: &A) -> Span {
    let span = tracing::trace_span!(
        target: "virtwire::trace", "agent", command, arguments = Empty, result = Empty, error = Empty
    );
    told(span, arguments)
}

/// What came of it.
pub(crate) fn result(span: &Span, result: &Result<Box<RawValue>, impl std::error::Error>) {
    if span.is_disabled() {
        return;
    }
    match result {
        Ok(value) => span.record("result", value.get()),
        Err(error) => span.record("error", error.to_string().as_str()),
    };
}

/// Something that the QEMU of this guest said by itself.
pub(crate) fn event(event: &Event, guest: Option<&str>) {
    let data = event.data.as_ref().map_or("", |data| data.get());
    let name = event.name.as_str();
    tracing::event!(name: "qmp-event", target: "virtwire::trace", Level::TRACE, event = name, guest, data);
}
