//! `virtwire stats`: what guests use, once or again and again.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use virtwire_client::{Connect, Domain, DomainState, DomainStats, DomainStatsFlags, DomainStatsTypes};

use crate::failure::Failure;
use crate::guests;
use crate::hosts::Hosts;
use crate::table::{Table, bytes, kib};

/// Show what guests use: CPU, memory, network, disks
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Guests by name, UUID or id; all that run if none is named
    #[arg(value_name = "GUEST")]
    guests: Vec<String>,

    /// Show it again every so many seconds, with what was used in between
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    watch: Option<f64>,

    /// Stop after so many times
    #[arg(long, value_name = "COUNT", requires = "watch")]
    count: Option<u32>,

    #[command(flatten)]
    hosts: Hosts,
}

const COLUMNS: &[&str] = &["NAME", "STATE", "CPU", "MEMORY", "RX", "TX", "READ", "WRITTEN"];

/// Figures that grow, and when they were seen.
#[derive(Clone, Copy)]
struct Sums {
    at: Instant,
    /// Nanoseconds.
    cpu: u64,
    rx: u64,
    tx: u64,
    read: u64,
    written: u64,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let Options { guests, watch, count, mut hosts } = options;
    hosts.keep();
    let pause = watch.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.1)).unwrap_or(Duration::MAX));
    let mut before: HashMap<(String, String), Sums> = HashMap::new();
    let mut times = 0;
    loop {
        let begun = Instant::now();
        let names = guests.clone();
        let work = move |connect: Connect| {
            let names = names.clone();
            async move { figures(&connect, &names).await }
        };
        let mut table = Table::new(&hosts, COLUMNS);
        if pause.is_some() && !hosts.json && std::io::stdout().is_terminal() {
            // Back to the top of an empty screen.
            print!("\x1b[H\x1b[2J");
            let _ = std::io::stdout().flush();
        }
        hosts
            .each(work, |uri, all: Vec<DomainStats>| {
                let rows = all.iter().map(|stats| {
                    let key = (uri.to_owned(), stats.domain.uuid().to_string());
                    let now = sums(stats);
                    row(stats, now, before.insert(key, now))
                });
                table.show(uri, rows.collect());
            })
            .await?;
        times += 1;
        let Some(pause) = pause else { return Ok(()) };
        if count.is_some_and(|count| times >= count) {
            return Ok(());
        }
        tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
    }
}

async fn figures(connect: &Connect, names: &[String]) -> Result<Vec<DomainStats>, Failure> {
    let mut domains: Vec<Domain> = Vec::new();
    for name in names {
        domains.push(guests::find(connect, name).await?);
    }
    let flags = if domains.is_empty() { DomainStatsFlags::ACTIVE } else { DomainStatsFlags::empty() };
    let mut all = connect.domain_stats(&domains, DomainStatsTypes::empty(), flags).await?;
    all.sort_by_key(|stats| stats.domain.name());
    Ok(all)
}

fn sums(stats: &DomainStats) -> Sums {
    let sum = |values: &mut dyn Iterator<Item = Option<u64>>| values.flatten().fold(0, u64::saturating_add);
    Sums {
        at: Instant::now(),
        cpu: stats.cpu.time.unwrap_or_default(),
        rx: sum(&mut stats.interfaces.iter().map(|interface| interface.rx_bytes)),
        tx: sum(&mut stats.interfaces.iter().map(|interface| interface.tx_bytes)),
        read: sum(&mut stats.blocks.iter().map(|block| block.rd_bytes)),
        written: sum(&mut stats.blocks.iter().map(|block| block.wr_bytes)),
    }
}

fn row(stats: &DomainStats, now: Sums, before: Option<Sums>) -> (Vec<String>, Value) {
    let state: DomainState = stats.state.state.unwrap_or_default().into();
    let memory = stats.balloon.current;
    let mut json = json!({"name": stats.domain.name(), "state": state.to_string(), "cpu_ns": now.cpu,
        "memory_kib": memory, "rx_bytes": now.rx, "tx_bytes": now.tx, "read_bytes": now.read,
        "written_bytes": now.written});
    let mut cells = vec![stats.domain.name(), state.to_string()];
    let memory = memory.map_or_else(|| "-".to_owned(), kib);
    match before {
        None => {
            cells.extend([format!("{:.1} s", now.cpu as f64 / 1e9), memory]);
            cells.extend([now.rx, now.tx, now.read, now.written].map(bytes));
        }
        Some(before) => {
            let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-3);
            let percent = now.cpu.saturating_sub(before.cpu) as f64 / 1e7 / seconds;
            let rate = |now: u64, before: u64| {
                format!("{}/s", bytes((now.saturating_sub(before) as f64 / seconds) as u64))
            };
            cells.extend([format!("{percent:.1} %"), memory]);
            cells.extend([
                rate(now.rx, before.rx),
                rate(now.tx, before.tx),
                rate(now.read, before.read),
                rate(now.written, before.written),
            ]);
            json["cpu_percent"] = json!((percent * 10.0).round() / 10.0);
        }
    }
    (cells, json)
}
