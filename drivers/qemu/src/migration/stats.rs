//! How far a migration is, in QEMU's words, in libvirt's parameters, and in what two daemons tell each other.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use virtwire_conf::xml::{Node, Writer};
use virtwire_protocol::remote::{DomainGetJobInfoRet, TypedParam};

use super::mirrors;
use crate::error::{Result, monitor};
use crate::guest::{Guest, Live};

/// A figure: its names in cookies and as a parameter, where QEMU has it, what one there is worth here, and what it is
/// where QEMU has none.
struct Row(&'static str, &'static str, &'static str, u64, Option<u64>);

/// All figures, in libvirt's order.
const ROWS: [Row; 22] = [
    Row("setup_time", "setup_time", "/setup-time", 1, None),
    Row("memory_total", "memory_total", "/ram/total", 1, Some(0)),
    Row("memory_processed", "memory_processed", "/ram/transferred", 1, Some(0)),
    Row("memory_remaining", "memory_remaining", "/ram/remaining", 1, Some(0)),
    Row("memory_bps", "memory_bps", "/ram/mbps", MEGABIT, Some(0)),
    Row("memory_constant", "memory_constant", "/ram/duplicate", 1, Some(0)),
    Row("memory_normal", "memory_normal", "/ram/normal", 1, Some(0)),
    Row("memory_normal_bytes", "memory_normal_bytes", "/ram/normal-bytes", 1, Some(0)),
    Row("memory_dirty_rate", "memory_dirty_rate", "/ram/dirty-pages-rate", 1, Some(0)),
    Row("memory_iteration", "memory_iteration", "/ram/dirty-sync-count", 1, Some(0)),
    Row("memory_postcopy_requests", "memory_postcopy_requests", "/ram/postcopy-requests", 1, Some(0)),
    Row("memory_page_size", "memory_page_size", "/ram/page-size", 1, Some(0)),
    Row("disk_total", "disk_total", "", 1, Some(0)),
    Row("disk_processed", "disk_processed", "", 1, Some(0)),
    Row("disk_remaining", "disk_remaining", "", 1, Some(0)),
    Row("disk_bps", "disk_bps", "/disk/mbps", MEGABIT, Some(0)),
    Row("compression_cache", "compression_cache", "/xbzrle-cache/cache-size", 1, None),
    Row("compression_bytes", "compression_bytes", "/xbzrle-cache/bytes", 1, None),
    Row("compression_pages", "compression_pages", "/xbzrle-cache/pages", 1, None),
    Row("compression_cache_misses", "compression_cache_misses", "/xbzrle-cache/cache-miss", 1, None),
    Row("compression_overflow", "compression_overflow", "/xbzrle-cache/overflow", 1, None),
    Row(THROTTLE, THROTTLE, "/cpu-throttle-percentage", 1, Some(0)),
];

/// Bytes per second.
const MEGABIT: u64 = 1_000_000 / 8;
/// The one figure that is an `int`.
const THROTTLE: &str = "auto_converge_throttle";

/// Figures that are not shown while they are 0.
const OMITTED: [&str; 6] =
    ["memory_bps", "memory_constant", "memory_normal", "memory_normal_bytes", "memory_page_size", "disk_bps"];

/// What a figure is before QEMU has told of it.
fn default(name: &str) -> Option<u64> {
    ROWS.iter().find(|row| row.0 == name).and_then(|row| row.4)
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The times and figures of a migration. Times are milliseconds since 1970, by the clock of the host it leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(super) started: i64,
    /// The guest stood still there.
    pub(super) stopped: Option<i64>,
    /// All of it was on its way.
    sent: Option<i64>,
    /// How far the clock of this host is ahead, with the time that the last words took.
    delta: Option<i64>,
    /// Milliseconds, of a migration that is over.
    elapsed: Option<u64>,
    downtime: Option<u64>,
    figures: [Option<u64>; ROWS.len()],
}

impl Stats {
    /// Of a migration that begins now.
    pub(super) fn begin() -> Self {
        Self { started: now(), ..Self::default() }
    }

    /// With what QEMU says now.
    ///
    /// # Errors
    /// What QEMU says.
    pub(super) async fn ask(mut self, guest: &Guest, live: &Live) -> Result<Self> {
        let told = live.monitor.execute_raw("query-migrate", &Map::new()).await.map_err(monitor)?;
        let told: Value = serde_json::from_str(told.get()).unwrap_or_default();
        self.take(&told);
        if let Some(bytes) = mirrors::progress(guest, live).await? {
            self.disks(bytes);
        }
        Ok(self)
    }

    /// With how many bytes disks have, and how many of them have gone.
    pub(super) fn disks(&mut self, [total, gone]: [u64; 2]) {
        self.put("disk_total", total);
        self.put("disk_processed", gone);
        self.put("disk_remaining", total.saturating_sub(gone));
    }

    fn put(&mut self, name: &str, value: u64) {
        let mut all = ROWS.iter().zip(&mut self.figures);
        if let Some((_, figure)) = all.find(|(row, _)| row.0 == name) {
            *figure = Some(value);
        }
    }

    fn take(&mut self, told: &Value) {
        if told.get("ram").is_none() {
            return;
        }
        for (Row(.., place, worth, otherwise), figure) in ROWS.iter().zip(&mut self.figures) {
            let number = told.pointer(place).filter(|_| !place.is_empty());
            let exact = number.and_then(Value::as_u64).map(|number| number.saturating_mul(*worth));
            let rounded = number.and_then(Value::as_f64).map(|number| (number * *worth as f64) as u64);
            // Of disks QEMU tells elsewhere.
            *figure = exact.or(rounded).or(figure.filter(|_| place.is_empty())).or(*otherwise);
        }
        self.downtime = told["downtime"].as_u64().or(told["expected-downtime"].as_u64());
    }

    /// All has been sent.
    pub(super) fn sent(&mut self) {
        let now = now();
        self.sent = Some(now);
        self.elapsed = Some(between(self.started, now));
        self.downtime = self.stopped.map(|stopped| between(stopped, now)).or(self.downtime);
    }

    /// What the other host has said has just arrived.
    pub(super) fn arrived(&mut self) {
        self.delta = self.sent.map(|sent| now() - sent);
    }

    /// The guest runs here.
    pub(super) fn complete(&mut self) {
        let now = now() - self.delta.unwrap_or_default();
        self.elapsed = Some(between(self.started, now));
        self.downtime = self.stopped.map(|stopped| between(stopped, now)).or(self.downtime);
    }

    fn elapsed(&self) -> u64 {
        self.elapsed.unwrap_or_else(|| between(self.started, now()))
    }

    /// The parameters of `virDomainGetJobStats`, behind which operation it is.
    pub(super) fn params(&self, operation: i32) -> Vec<TypedParam> {
        let mut params =
            vec![TypedParam::new("operation", operation), TypedParam::new("time_elapsed", self.elapsed())];
        let net = |time: u64| self.delta.map(|delta| time.saturating_add_signed(-delta));
        let mut add = |name: &str, value: Option<u64>| {
            params.extend(value.map(|value| TypedParam::new(name, value)));
        };
        add("time_elapsed_net", net(self.elapsed()));
        add("downtime", self.downtime);
        add("downtime_net", self.downtime.and_then(net));
        let figure = |name: &str| {
            let at = ROWS.iter().position(|row| row.0 == name);
            at.and_then(|at| self.figures.get(at).copied().flatten())
        };
        add("setup_time", figure("setup_time"));
        for what in ["total", "processed", "remaining"] {
            let of = |kind: &str| figure(&format!("{kind}_{what}")).unwrap_or_default();
            add(&format!("data_{what}"), Some(of("memory") + of("disk")));
        }
        for (Row(_, name, ..), value) in ROWS.iter().zip(self.figures).skip(1) {
            let shown = !OMITTED.contains(name) || value.is_some_and(|value| value > 0);
            if shown && *name != THROTTLE {
                add(name, if OMITTED.contains(name) { value } else { value.or(default(name)) });
            }
        }
        let throttle = figure(THROTTLE).filter(|percent| *percent > 0);
        let throttle = throttle.and_then(|percent| i32::try_from(percent).ok());
        params.extend(throttle.map(|percent| TypedParam::new(THROTTLE, percent)));
        params
    }

    /// The answer of `virDomainGetJobInfo`; bytes of memory and of everything are the same.
    pub(super) fn info(&self, kind: i32) -> DomainGetJobInfoRet {
        let figure = |name: &str| {
            let at = ROWS.iter().position(|row| row.0 == name);
            at.and_then(|at| self.figures.get(at).copied().flatten()).unwrap_or_default()
        };
        let [total, processed, remaining] =
            ["memory_total", "memory_processed", "memory_remaining"].map(figure);
        DomainGetJobInfoRet {
            r#type: kind,
            time_elapsed: self.elapsed(),
            data_total: total,
            data_processed: processed,
            data_remaining: remaining,
            mem_total: total,
            mem_processed: processed,
            mem_remaining: remaining,
            ..DomainGetJobInfoRet::default()
        }
    }

    /// Writes them into a cookie.
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.open("statistics");
        let times = [
            ("started", Some(self.started)),
            ("stopped", self.stopped),
            ("sent", self.sent),
            ("delta", self.delta),
        ];
        for (name, time) in times {
            time.into_iter().for_each(|time| out.leaf(name, &time.to_string()));
        }
        out.leaf("time_elapsed", &self.elapsed().to_string());
        self.downtime.into_iter().for_each(|downtime| out.leaf("downtime", &downtime.to_string()));
        for (Row(name, ..), figure) in ROWS.iter().zip(self.figures) {
            figure.into_iter().for_each(|figure| out.leaf(name, &figure.to_string()));
        }
        out.close("statistics");
    }

    /// Reads them from a cookie; what is no number is left out.
    pub(super) fn read(node: Node<'_>) -> Self {
        let time = |name: &str| node.child(name).and_then(|child| child.text().parse::<i64>().ok());
        let figure = |name: &str| node.child(name).and_then(|child| child.text().parse::<u64>().ok());
        let mut stats = Self {
            started: time("started").unwrap_or_else(now),
            stopped: time("stopped"),
            sent: time("sent"),
            delta: time("delta"),
            elapsed: figure("time_elapsed"),
            downtime: figure("downtime"),
            ..Self::default()
        };
        for (row, place) in ROWS.iter().zip(&mut stats.figures) {
            *place = figure(row.0);
        }
        stats
    }
}

/// Milliseconds from one time to a later one.
fn between(begin: i64, end: i64) -> u64 {
    u64::try_from(end.saturating_sub(begin)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use virtwire_conf::FormatOptions;
    use virtwire_conf::xml::Document;
    use virtwire_protocol::error::ErrorDomain;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut stats = Stats { stopped: Some(1_700_000_000_000), ..Stats::begin() };
        stats.take(&json!({"setup-time": 3, "ram": {"total": 4096, "mbps": 8.5, "page-size": 4096}}));
        stats.sent();
        stats.arrived();
        stats.complete();
        let options = FormatOptions::default();
        let mut out = Writer::new(&options);
        stats.write(&mut out);
        let text = out.finish();
        assert!(text.contains("<memory_bps>1062500</memory_bps>"), "{text}");
        assert!(!text.contains("compression"), "{text}");
        let document = Document::parse(&text, ErrorDomain::QEMU).unwrap();
        assert_eq!(Stats::read(document.root()), stats);
    }
}
