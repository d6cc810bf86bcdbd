//! For a terminal: a line per happening, details below it.

use std::fmt::Write;

use serde_json::Value;

use super::duration;
use crate::relay::Side;
use crate::story::{Answer, Entry, Happening};

/// How long a value may be on one line.
const WIDTH: usize = 96;

/// The lines of an entry, ending in a line break.
pub fn tree(entry: &Entry) -> String {
    let mut text = String::new();
    let head = format!("{:>11.3} ms  #{}", entry.at_us as f64 / 1000.0, entry.connection);
    let _ = match &entry.what {
        Happening::Connected { pid, uid } => {
            let number = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let (pid, uid) = (number(pid.map(i64::from)), number(uid.map(i64::from)));
            writeln!(text, "{head}  client connected (pid {pid}, uid {uid})")
        }
        Happening::Call { procedure, args, took_us, answer, descriptors, .. } => {
            let _ = writeln!(text, "{head}  {procedure}  {}", duration(*took_us));
            value(&mut text, "args", args);
            if descriptors.0 + descriptors.1 > 0 {
                let _ = writeln!(
                    text,
                    "{:18}├ descriptors: {} sent, {} received",
                    "", descriptors.0, descriptors.1
                );
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
        Happening::Event { procedure, content, .. } => {
            writeln!(text, "{head}  ⚡ {procedure}  {}", short(content))
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

fn value(text: &mut String, name: &str, value: &Value) {
    if !value.is_null() {
        let _ = writeln!(text, "{:18}├ {name}: {}", "", short(value));
    }
}

/// JSON on one line, cut at a width.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}
