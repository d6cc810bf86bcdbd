//! Tables that grow as answers come.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::hosts::{Hosts, short};

/// A table on standard output: its head once, rows as they come. With several hosts the first column names them.
pub(crate) struct Table {
    head: Vec<String>,
    widths: Vec<usize>,
    many: bool,
    json: bool,
    begun: bool,
}

impl Table {
    pub(crate) fn new(hosts: &Hosts, columns: &[&str]) -> Self {
        let many = hosts.are_many();
        let host = many.then(|| "HOST".to_owned());
        let head = host.into_iter().chain(columns.iter().map(|column| (*column).to_owned())).collect();
        Self { head, widths: Vec::new(), many, json: hosts.json, begun: false }
    }

    /// Shows what a host has answered: each row as cells, and as JSON.
    pub(crate) fn show(&mut self, uri: &str, rows: Vec<(Vec<String>, Value)>) {
        let out = &mut io::stdout().lock();
        // Nobody is left to tell if standard output is closed.
        let _ = if self.json { self.show_json(out, uri, rows) } else { self.show_rows(out, uri, rows) };
    }

    fn show_json(&self, out: &mut impl Write, uri: &str, rows: Vec<(Vec<String>, Value)>) -> io::Result<()> {
        let rows: Value = rows.into_iter().map(|(_, value)| value).collect();
        if self.many {
            writeln!(out, "{}", json!({"uri": uri, "rows": rows}))
        } else {
            writeln!(out, "{rows:#}")
        }
    }

    fn show_rows(
        &mut self,
        out: &mut impl Write,
        uri: &str,
        rows: Vec<(Vec<String>, Value)>,
    ) -> io::Result<()> {
        let host = self.many.then(|| short(uri));
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(cells, _)| host.iter().cloned().chain(cells).collect()).collect();
        self.widths.resize(self.head.len(), 0);
        for row in std::iter::once(&self.head).chain(&rows) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !std::mem::replace(&mut self.begun, true) {
            line(out, &self.widths, &self.head)?;
        }
        rows.iter().try_for_each(|row| line(out, &self.widths, row))
    }
}

fn line(out: &mut impl Write, widths: &[usize], cells: &[String]) -> io::Result<()> {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        text += &format!("{cell:<width$}  ");
    }
    writeln!(out, "{}", text.trim_end())
}

/// `1.5 GiB`, from KiB.
pub(crate) fn kib(kib: u64) -> String {
    bytes(kib.saturating_mul(1024))
}

/// `1.5 GiB`
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 || value >= 100.0 || value.fract() < 0.05 {
        format!("{value:.0} {unit_name}")
    } else {
        format!("{value:.1} {unit_name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (size, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (8 << 30, "8 GiB")]
        {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(kib(u64::MAX), "16 EiB");
    }
}
