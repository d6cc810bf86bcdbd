//! The counts as Prometheus reads them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::guests::Guests;
use super::{CLASSES, Metrics, PROGRAMS, Tally, upper_end};
use crate::listener::Shared;

/// What the answer is, in HTTP's terms.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a daemon at this moment, as text.
pub(super) fn text(shared: &Arc<Shared>, guests: Vec<Guests>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("virtwired");
    registry.register_collector(Box::new(Moment { shared: Arc::clone(shared), guests }));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Moment {
    shared: Arc<Shared>,
    guests: Vec<Guests>,
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment").finish_non_exhaustive()
    }
}

impl Collector for Moment {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(metrics) = &self.shared.metrics {
            metrics.calls(&mut encoder)?;
        }
        self.clients(&mut encoder)?;
        self.guests(&mut encoder)
    }
}

impl Metrics {
    /// The procedures that have been called, each with its program's name and its own.
    fn called(&self) -> impl Iterator<Item = ([(&'static str, &'static str); 2], &Tally)> {
        let rows = PROGRAMS.iter().zip(&self.tallies).flat_map(|((name, program), tallies)| {
            let infos = program.procedures.iter().zip(tallies);
            infos.filter_map(move |(info, tally)| {
                Some(([("program", *name), ("procedure", info.as_ref()?.name)], tally))
            })
        });
        rows.filter(|(_, tally)| tally.classes.iter().any(|class| class.load(Ordering::Relaxed) > 0))
    }

    fn calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Calls by the time from the call to its answer";
        let mut family =
            encoder.encode_descriptor("call_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, tally) in self.called() {
            let classes: [u64; CLASSES + 1] =
                std::array::from_fn(|class| tally.classes[class].load(Ordering::Relaxed));
            // The rest is what the count has more than these.
            let buckets: [(f64, u64); CLASSES] =
                std::array::from_fn(|class| (upper_end(class), classes[class]));
            let seconds = tally.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
            let mut row = family.encode_family(&labels)?;
            row.encode_histogram::<NoLabelSet>(seconds, classes.iter().sum(), &buckets, None)?;
        }
        let help = "Calls that were answered with an error";
        let mut family = encoder.encode_descriptor("call_errors", help, None, MetricType::Counter)?;
        for (labels, tally) in self.called() {
            let errors = tally.errors.load(Ordering::Relaxed);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&errors, None)?;
        }
        for (name, help, count) in [
            ("events", "Events sent to clients", &self.events),
            ("logins_refused", "Clients that were not let in", &self.refused),
        ] {
            let count = count.load(Ordering::Relaxed);
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            family.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}

impl Moment {
    fn clients(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        use crate::config::Program;
        let servers = [("libvirtd", Program::Remote), ("admin", Program::Admin)];
        let mut gauge = |name: &str, help: &str, value: &dyn Fn(Program) -> usize| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (server, program) in servers {
                let value = i64::try_from(value(program)).unwrap_or(i64::MAX);
                family.encode_family(&[("server", server)])?.encode_gauge(&value)?;
            }
            fmt::Result::Ok(())
        };
        let clients = |program| self.shared.clients(program);
        gauge("clients", "Clients that are connected", &|program| clients(program).counts().0)?;
        gauge("clients_unauthenticated", "Clients that have not authenticated yet", &|program| {
            clients(program).counts().1
        })?;
        gauge("clients_max", "Clients that may be connected", &|program| clients(program).maxima().0)?;
        gauge(
            "backlog_bytes",
            "Bytes of events, replies and streams that clients have not taken yet",
            &|program| clients(program).all().iter().map(|session| session.backlog()).sum(),
        )?;
        let help = "How often a client was at a limit";
        let mut family = encoder.encode_descriptor("limit_reached", help, None, MetricType::Counter)?;
        for (server, program) in servers {
            for (limit, count) in clients(program).reached().counts() {
                let labels = [("server", server), ("limit", limit)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn guests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor("domains", "Guests by state", None, MetricType::Gauge)?;
        for Guests { driver, states } in &self.guests {
            for (state, count) in states {
                let labels = [("driver", driver.as_str()), ("state", state)];
                family.encode_family(&labels)?.encode_gauge(count)?;
            }
        }
        Ok(())
    }
}
