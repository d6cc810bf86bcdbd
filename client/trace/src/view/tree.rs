//! For a terminal: a line per happening, details below it.

use std::fmt::Write;

use serde_json::Value;

use super::duration;
use crate::seen::{Client, Side, Step};
use crate::story::{Answer, Entry, Happening};

/// How long a value may be on one line.
const WIDTH: usize = 96;

/// The lines of an entry, ending in a line break.
pub fn tree(entry: &Entry) -> String {
    let mut text = String::new();
    let head = format!("{:>11.3} ms  #{}", entry.at_us as f64 / 1000.0, entry.connection);
    let _ = match &entry.what {
        Happening::Connected(client) => writeln!(text, "{head}  client connected ({})", who(client)),
        Happening::Identified { name } => writeln!(text, "{head}  client logged in as {name}"),
        Happening::Call { procedure, args, took_us, answer, descriptors, steps, .. } => {
            let _ = writeln!(text, "{head}  {procedure}  {}", duration(*took_us));
            value(&mut text, "args", args);
            if descriptors.0 + descriptors.1 > 0 {
                let _ = writeln!(
                    text,
                    "{:18}├ descriptors: {} sent, {} received",
                    "", descriptors.0, descriptors.1
                );
            }
            for step in steps {
                let _ = writeln!(text, "{:18}├ {}", "", line(step, entry.at_us));
            }
            match answer {
                Answer::Result { result } if result.is_null() => writeln!(text, "{:18}└ done", ""),
                Answer::Result { result } => writeln!(text, "{:18}└ {}", "", short(result)),
                Answer::Error { code, domain, message } => {
                    writeln!(text, "{:18}└ error {code} from {domain}: {message}", "")
                }
                Answer::None { .. } => writeln!(text, "{:18}└ never answered", ""),
            }
        }
        Happening::Event { procedure, content, cause, .. } => {
            let from = cause.as_ref().map_or_else(String::new, |cause| {
                let word = if cause.certain { "by" } else { "after" };
                format!("  ({word} {} #{}/{})", cause.procedure, cause.call.connection, cause.call.serial)
            });
            writeln!(text, "{head}  ⚡ {procedure}{from}  {}", short(content))
        }
        Happening::Step(step) => writeln!(text, "{head}  ○ {}", line(step, entry.at_us)),
        Happening::Lost { records } => {
            writeln!(text, "{head}  {records} records are lost: they came faster than they were taken")
        }
        Happening::Stream { procedure, serial, bytes, took_us, end } => writeln!(
            text,
            "{head}  stream of {procedure} (call {serial}): {} bytes to the daemon, {} to the client in {}; {end}",
            bytes.0,
            bytes.1,
            duration(*took_us)
        ),
        Happening::Other { from, procedure } => {
            let arrow = if *from == Side::Client { "→" } else { "←" };
            writeln!(text, "{head}  {arrow} {procedure}")
        }
        Happening::Ended { reason: None } => writeln!(text, "{head}  connection closed"),
        Happening::Ended { reason: Some(reason) } => writeln!(text, "{head}  connection broken: {reason}"),
    };
    text
}

/// `pid 7, uid 0, as anna, read-only`
fn who(client: &Client) -> String {
    let number = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let (pid, uid) = (number(client.pid.map(i64::from)), number(client.uid.map(i64::from)));
    let name = client.name.as_ref().map_or_else(String::new, |name| format!(", as {name}"));
    format!("pid {pid}, uid {uid}{name}{}", if client.read_only { ", read-only" } else { "" })
}

/// `qmp +120 µs, took 34 µs: stop {…}`
fn line(step: &Step, since: u64) -> String {
    let Step { step: name, began_us, took_us, detail } = step;
    let took = took_us.map_or_else(String::new, |took| format!(", took {}", duration(took)));
    let values = detail.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        value => format!("{name}={value}"),
    });
    let values = short_text(&values.collect::<Vec<_>>().join(" "));
    format!("{name} +{}{took}: {values}", duration(began_us.saturating_sub(since)))
}

fn value(text: &mut String, name: &str, value: &Value) {
    if !value.is_null() {
        let _ = writeln!(text, "{:18}├ {name}: {}", "", short(value));
    }
}

/// JSON on one line, cut at a width.
fn short(value: &Value) -> String {
    short_text(&value.to_string())
}

fn short_text(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}
