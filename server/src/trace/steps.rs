//! From spans and events to steps.

use std::fmt;
use std::time::Instant;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};
use virtwire_trace::{Origin, Seen, Step, What, micros, secrets};

use super::{TARGET, Tracer};

/// Texts that are longer are told by their length.
const TEXT_MAX: usize = 16 << 10;

/// A span that is open: a call, or a step.
enum Open {
    Call(Origin),
    Step { began: Instant, detail: Map<String, Value> },
}

/// The call in whose span something happens.
pub(super) fn origin(span: &Span) -> Option<Origin> {
    let find =
        |(id, dispatch): (&Id, &tracing::Dispatch)| call(dispatch.downcast_ref::<Registry>()?.span(id));
    span.with_subscriber(find).flatten()
}

fn call<'a, S: LookupSpan<'a>>(span: Option<SpanRef<'a, S>>) -> Option<Origin> {
    span?.scope().find_map(|span| match span.extensions().get() {
        Some(Open::Call(origin)) => Some(*origin),
        _ => None,
    })
}

/// What the log hands on, where the target is [`TARGET`].
impl Tracer {
    pub(crate) fn on_new_span<S>(&self, attributes: &Attributes<'_>, id: &Id, cx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = cx.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let number = |name| fields.0.get(name).and_then(Value::as_u64);
        let call = number("client").zip(number("serial").and_then(|serial| u32::try_from(serial).ok()));
        let open = match call {
            Some((connection, serial)) if span.name() == "call" => Open::Call(Origin { connection, serial }),
            _ => Open::Step { began: Instant::now(), detail: fields.0 },
        };
        span.extensions_mut().insert(open);
    }

    pub(crate) fn on_record<S>(&self, id: &Id, values: &Record<'_>, cx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = cx.span(id) else { return };
        if let Some(Open::Step { detail, .. }) = span.extensions_mut().get_mut() {
            let mut fields = Fields(std::mem::take(detail));
            values.record(&mut fields);
            *detail = fields.0;
        }
    }

    pub(crate) fn on_close<S>(&self, id: &Id, cx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = cx.span(id) else { return };
        let Some(Open::Step { began, detail }) = span.extensions_mut().remove() else { return };
        let origin = call(Some(span));
        let name = cx.metadata(id).map_or("", |metadata| metadata.name());
        self.step(origin, name, began, Some(micros(began.elapsed())), detail);
    }

    pub(crate) fn on_event<S>(&self, event: &Event<'_>, cx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.step(call(cx.event_span(event)), event.metadata().name(), Instant::now(), None, fields.0);
    }

    fn step(
        &self,
        origin: Option<Origin>,
        name: &str,
        began: Instant,
        took_us: Option<u64>,
        mut detail: Map<String, Value>,
    ) {
        secrets::hide_in_step(&mut detail);
        let began_us = micros(began.saturating_duration_since(self.since));
        let step = Step { step: name.to_owned(), began_us, took_us, detail };
        let connection = origin.map_or(0, |origin| origin.connection);
        let what = What::Step { serial: origin.map(|origin| origin.serial), step };
        self.tell(&Seen { connection, at_us: self.now(), what });
    }
}

/// Whether a span or an event is the trace's.
pub(crate) fn is_step(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.target() == TARGET
}

/// Fields as JSON. Texts that are JSON themselves become what they say.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, text: &str) {
        if text.len() > TEXT_MAX {
            return self.put(field, format!("({} bytes)", text.len()));
        }
        let json = if text.starts_with(['{', '[']) { serde_json::from_str::<Value>(text).ok() } else { None };
        self.put(field, json.unwrap_or_else(|| text.into()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
