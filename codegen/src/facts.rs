//! The table beside the definition files: what is known of a procedure that XDR has no place for.
//!
//! `facts.txt` has a line per procedure (`remote DOMAIN_OPEN_GRAPHICS_FD readonly=refused fds-reply=1`) and lines
//! that give the values of the flags which annotations name (`flag VIR_DOMAIN_XML_SECURE 1`).

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Position, Result};
use crate::model::{Descriptors, EventKind, ReadOnly};

/// All facts of a table.
#[derive(Default, Debug)]
pub struct Facts {
    /// By program module and procedure name.
    pub procedures: HashMap<(String, String), ProcedureFacts>,
    /// Flag values by name.
    pub flags: HashMap<String, i64>,
}

/// What the table says of one procedure.
#[derive(Clone, Debug)]
pub struct ProcedureFacts {
    /// Where it says so.
    pub position: Position,
    /// What a read-only connection gets.
    pub readonly: ReadOnly,
    /// The error domain of a read-only refusal.
    pub denied_by: Option<i32>,
    /// Served before authentication.
    pub before_auth: bool,
    /// Descriptors with the call.
    pub fds_call: Descriptors,
    /// Descriptors with the reply.
    pub fds_reply: Descriptors,
    /// Sent unasked.
    pub message: bool,
    /// The event it carries.
    pub event: Option<EventKind>,
    /// The libvirt release that introduced it.
    pub since: Option<String>,
    /// The public function of libvirt's library.
    pub api: Option<String>,
}

impl ProcedureFacts {
    fn new(position: Position) -> Self {
        Self {
            position,
            readonly: ReadOnly::Served,
            denied_by: None,
            before_auth: false,
            fds_call: Descriptors::NONE,
            fds_reply: Descriptors::NONE,
            message: false,
            event: None,
            since: None,
            api: None,
        }
    }
}

impl Facts {
    /// Reads a table.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let file: Arc<str> = file.into();
        let mut facts = Self::default();
        for (index, line) in text.lines().enumerate() {
            let position = Position { file: Arc::clone(&file), line: index as u32 + 1, column: 1 };
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            if first.starts_with('#') {
                continue;
            }
            let Some(name) = words.next() else {
                return Err(Diagnostic::new(&position, "expected a name after the program"));
            };
            if first == "flag" {
                let value = words.next().and_then(|word| word.parse().ok());
                let value = value.ok_or_else(|| Diagnostic::new(&position, "expected the flag's value"))?;
                facts.flags.insert(name.to_owned(), value);
                continue;
            }
            let mut row = ProcedureFacts::new(position.clone());
            for word in words {
                row.set(word).map_err(|expected| {
                    Diagnostic::new(&position, format!("expected {expected}, found '{word}'")).within(name)
                })?;
            }
            if facts.procedures.insert((first.to_owned(), name.to_owned()), row).is_some() {
                return Err(Diagnostic::new(
                    &position,
                    format!("expected one line for {name}, found a second"),
                ));
            }
        }
        Ok(facts)
    }
}

impl ProcedureFacts {
    /// Takes one `key=value`; the error says what was expected.
    fn set(&mut self, word: &str) -> Result<(), &'static str> {
        let (key, value) = word.split_once('=').ok_or("key=value")?;
        match key {
            "readonly" => self.readonly = readonly(value).ok_or("refused, flags:BITS or FIELD:VALUE")?,
            "denied-by" => self.denied_by = Some(value.parse().map_err(|_| "an error domain's number")?),
            "auth" if value == "none" => self.before_auth = true,
            "fds-call" => self.fds_call = descriptors(value).ok_or("a number or a range")?,
            "fds-reply" => self.fds_reply = descriptors(value).ok_or("a number or a range")?,
            "event" => {
                self.message = true;
                self.event =
                    if value == "none" { None } else { Some(event(value).ok_or("CLASS, CLASS:ID or none")?) };
            }
            "legacy" if value == "yes" => match &mut self.event {
                Some(event) => event.legacy = true,
                None => return Err("event= before legacy="),
            },
            "since" => self.since = Some(value.to_owned()),
            "since-between" => {}
            "api" => self.api = Some(value.to_owned()),
            _ => return Err("a key that the head of the file explains"),
        }
        Ok(())
    }
}

fn readonly(value: &str) -> Option<ReadOnly> {
    if value == "refused" {
        return Some(ReadOnly::Refused);
    }
    let (field, number) = value.split_once(':')?;
    Some(match field {
        "flags" => ReadOnly::IfFlags(number.parse().ok()?),
        _ => ReadOnly::IfField(field.to_owned(), number.parse().ok()?),
    })
}

fn descriptors(value: &str) -> Option<Descriptors> {
    let (min, max) = value.split_once("..").unwrap_or((value, value));
    Some(Descriptors { min: min.parse().ok()?, max: max.parse().ok()? })
}

fn event(value: &str) -> Option<EventKind> {
    let (class, id) = match value.split_once(':') {
        Some((class, id)) => (class, Some(id.parse().ok()?)),
        None => (value, None),
    };
    Some(EventKind { class: class.to_owned(), id, legacy: false })
}
