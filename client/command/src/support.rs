//! `virtwire support`: what our daemon and its drivers serve.

use std::io::{self, Write};

use clap::Args;

#[expect(unreachable_pub, reason = "it is written for any crate")]
mod table {
    include!(concat!(env!("OUT_DIR"), "/support.rs"));
}

use table::{COLUMNS, ROWS, Row};

/// Show what virtwired serves: procedures by driver
///
/// Without a word it sums up per family. The table is read from the sources when this command is built.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only procedures and events whose name, family or library function holds this; 'all' for every one
    word: Option<String>,

    /// Only what nobody serves
    #[arg(short, long)]
    missing: bool,
}

pub(crate) fn run(options: &Options) {
    let mut out = io::stdout().lock();
    // A reader that has seen enough, such as head, is no error.
    let _ = match (&options.word, options.missing) {
        (None, false) => summary(&mut out),
        (word, missing) => rows(&mut out, word.as_deref().unwrap_or("all"), missing),
    };
}

fn family(row: &Row) -> String {
    let family = row.family.replace('_', " ");
    if row.event { format!("{family} events") } else { family }
}

fn summary(out: &mut impl Write) -> io::Result<()> {
    let mut families: Vec<String> = Vec::new();
    for row in ROWS {
        let family = family(row);
        if !families.contains(&family) {
            families.push(family);
        }
    }
    let width = families.iter().map(String::len).max().unwrap_or(0);
    write!(out, "{:width$}  procedures", "")?;
    for column in COLUMNS {
        write!(out, "  {column:>7}")?;
    }
    writeln!(out)?;
    let count = |rows: &[&Row], column: usize| rows.iter().filter(|row| row.served[column]).count();
    let line = |out: &mut dyn Write, name: &str, rows: &[&Row]| -> io::Result<()> {
        write!(out, "{name:width$}  {:>10}", rows.len())?;
        for (at, column) in COLUMNS.iter().enumerate() {
            let text = match count(rows, at) {
                0 => "-".to_owned(),
                count => count.to_string(),
            };
            write!(out, "  {text:>width$}", width = column.len().max(7))?;
        }
        writeln!(out)
    };
    for name in &families {
        let rows: Vec<_> = ROWS.iter().filter(|row| family(row) == *name).collect();
        line(out, name, &rows)?;
    }
    line(out, "all", &ROWS.iter().collect::<Vec<_>>())?;
    writeln!(out, "\n'virtwire support all' lists them; 'virtwire support --missing' what nobody serves.")
}

fn rows(out: &mut impl Write, word: &str, missing: bool) -> io::Result<()> {
    let word = word.replace('-', "_").to_ascii_lowercase();
    let holds = |row: &Row| {
        let texts = [row.name, row.family, row.api].map(str::to_ascii_lowercase);
        word == "all" || texts.iter().any(|text| text.contains(&word))
    };
    let rows: Vec<_> =
        ROWS.iter().filter(|row| holds(row) && !(missing && row.served.contains(&true))).collect();
    let name = |row: &Row| {
        let name = row.name.to_ascii_lowercase();
        if row.program == "remote" { name } else { format!("{}_{name}", row.program) }
    };
    let width = rows.iter().map(|row| name(row).len()).max().unwrap_or(0);
    writeln!(out, "{:width$}  number  since   served by", "procedure")?;
    for row in rows {
        let mut served: Vec<_> =
            COLUMNS.iter().zip(row.served).filter(|(_, yes)| *yes).map(|(column, _)| *column).collect();
        if served.is_empty() {
            served.push("-");
        }
        let (name, served) = (name(row), served.join(", "));
        writeln!(out, "{name:width$}  {:>6}  {:<6}  {served}", row.number, row.since)?;
    }
    Ok(())
}
