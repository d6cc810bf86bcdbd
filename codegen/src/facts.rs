//! The table beside the definition files: what is known of a procedure that XDR has no place for.
//!
//! `facts.txt` has a line per procedure (`remote DOMAIN_OPEN_GRAPHICS_FD readonly=refused fds-reply=1`) and lines
//! that give the values of the flags which annotations name (`flag VIR_DOMAIN_XML_SECURE 1`). `checks.txt` goes on with
//! rules on arguments (`check remote DOMAIN_RENAME new_name nonnull`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::checks::Check;
use crate::diagnostic::{Diagnostic, Name, Position, Result};
use crate::model::{Descriptors, EventKind, Model, ReadOnly, Stream, StreamMode};

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
    /// The stream that it opens, where no annotation says so.
    pub stream: Option<Stream>,
    /// Sent unasked.
    pub message: bool,
    /// The event it carries.
    pub event: Option<EventKind>,
    /// The libvirt release that introduced it.
    pub since: Option<String>,
    /// The public function of libvirt's library.
    pub api: Option<String>,
    /// What the arguments must be.
    pub checks: Vec<Check>,
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
            stream: None,
            message: false,
            event: None,
            since: None,
            api: None,
            checks: Vec::new(),
        }
    }
}

impl Facts {
    /// Reads a table.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut facts = Self::default();
        facts.read(file, text)?;
        Ok(facts)
    }

    /// Reads a table that goes on where another ended.
    pub fn read(&mut self, file: &str, text: &str) -> Result<()> {
        let file: Arc<str> = file.into();
        for (line, text) in (1..).zip(text.lines()) {
            let position = |column| Position { file: Arc::clone(&file), line, column };
            let mut words = text.split_whitespace().map(|word| {
                let column = word.as_ptr() as usize - text.as_ptr() as usize + 1;
                Name { text: word.to_owned(), position: position(column as u32) }
            });
            let Some(program) = words.next().filter(|word| !word.text.starts_with('#')) else { continue };
            let end = position(text.len() as u32 + 1);
            let name = words.next().ok_or_else(|| Diagnostic::new(&end, "a name", "the end of the line"))?;
            if program.text == "flag" {
                self.flag(&name, words.next())?;
            } else if program.text == "check" {
                self.check(&name, words, &end)?;
            } else {
                let row = ProcedureFacts::parse(&name, words).map_err(|e| e.within(&name.text))?;
                if self.procedures.insert((program.text, name.text.clone()), row).is_some() {
                    return Err(Diagnostic::second(&name));
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, program: &Name, mut words: impl Iterator<Item = Name>, end: &Position) -> Result<()> {
        let name = words.next().ok_or_else(|| Diagnostic::new(end, "a procedure", "the end of the line"))?;
        let check = Check::parse(&self.flags, words, end).map_err(|e| e.within(&name.text))?;
        let row = self.procedures.get_mut(&(program.text.clone(), name.text.clone()));
        let expected = "a procedure that has a line";
        let row = row.ok_or_else(|| Diagnostic::new(&name.position, expected, format!("'{}'", name.text)))?;
        row.checks.push(check);
        Ok(())
    }

    fn flag(&mut self, name: &Name, value: Option<Name>) -> Result<()> {
        let parsed = value.as_ref().and_then(|value| value.text.parse().ok());
        let parsed = parsed.ok_or_else(|| match &value {
            Some(value) => Diagnostic::new(&value.position, "a number", format!("'{}'", value.text)),
            None => Diagnostic::new(&name.position, "a flag and its number", format!("'{}'", name.text)),
        })?;
        if self.flags.insert(name.text.clone(), parsed).is_some() {
            return Err(Diagnostic::second(name));
        }
        Ok(())
    }

    /// An error where the table speaks of a procedure that `model` does not have.
    pub fn all_known(&self, model: &Model) -> Result<()> {
        let known: HashSet<(&str, &str)> =
            model.procedures().map(|(module, p)| (module.naming.module, p.name.as_str())).collect();
        let mut unknown: Vec<_> = self
            .procedures
            .iter()
            .filter(|((program, name), _)| !known.contains(&(program.as_str(), name.as_str())))
            .collect();
        unknown.sort_by_key(|(_, facts)| facts.position.line);
        match unknown.first() {
            Some(((program, name), facts)) => {
                let expected = format!("a procedure of the program '{program}'");
                Err(Diagnostic::new(&facts.position, expected, format!("'{name}'")))
            }
            None => Ok(()),
        }
    }
}

impl ProcedureFacts {
    fn parse(name: &Name, words: impl Iterator<Item = Name>) -> Result<Self> {
        let mut facts = Self::new(name.position.clone());
        for word in words {
            facts
                .set(&word.text)
                .map_err(|expected| Diagnostic::new(&word.position, expected, format!("'{}'", word.text)))?;
        }
        Ok(facts)
    }

    /// Takes one `key=value`; the error says what was expected.
    fn set(&mut self, word: &str) -> Result<(), &'static str> {
        let (key, value) = word.split_once('=').ok_or("key=value")?;
        match key {
            "readonly" => self.readonly = readonly(value).ok_or("refused, flags:BITS or FIELD:VALUE")?,
            "denied-by" => self.denied_by = Some(value.parse().map_err(|_| "an error domain's number")?),
            "auth" if value == "none" => self.before_auth = true,
            "fds-call" => self.fds_call = descriptors(value).ok_or("a number or a range")?,
            "fds-reply" => self.fds_reply = descriptors(value).ok_or("a number or a range")?,
            "stream" => self.stream = Some(stream(value).ok_or("read:PLACE or write:PLACE")?),
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

fn stream(value: &str) -> Option<Stream> {
    let (mode, place) = value.split_once(':')?;
    let mode = match mode {
        "read" => StreamMode::Read,
        "write" => StreamMode::Write,
        _ => return None,
    };
    Some(Stream { mode, param_index: place.parse().ok()?, sparse_flag: None })
}

fn event(value: &str) -> Option<EventKind> {
    let (class, id) = match value.split_once(':') {
        Some((class, id)) => (class, Some(id.parse().ok()?)),
        None => (value, None),
    };
    Some(EventKind { class: class.to_owned(), id, legacy: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key() {
        let text = "# a comment\nflag F 8\n\n\
            remote A readonly=flags:9 denied-by=20 auth=none fds-call=1 fds-reply=0..32 since=1.2.3 api=virA\n\
            remote B event=domain:3 legacy=yes\nremote C readonly=source:1 since-between=1,2\nremote D event=none\n\
            remote E stream=write:2";
        let facts = Facts::parse("f", text).unwrap();
        assert_eq!(facts.flags["F"], 8);
        let row = |name: &str| &facts.procedures[&("remote".to_owned(), name.to_owned())];
        let a = row("A");
        assert_eq!((&a.readonly, a.denied_by, a.before_auth), (&ReadOnly::IfFlags(9), Some(20), true));
        assert_eq!(
            (a.fds_call, a.fds_reply),
            (Descriptors { min: 1, max: 1 }, Descriptors { min: 0, max: 32 })
        );
        assert_eq!((a.since.as_deref(), a.api.as_deref(), a.message), (Some("1.2.3"), Some("virA"), false));
        let event = EventKind { class: "domain".into(), id: Some(3), legacy: true };
        assert_eq!((row("B").event.as_ref(), row("B").message), (Some(&event), true));
        assert_eq!(row("C").readonly, ReadOnly::IfField("source".into(), 1));
        assert_eq!((row("D").event.as_ref(), row("D").message), (None, true));
        let stream = Stream { mode: StreamMode::Write, param_index: 2, sparse_flag: None };
        assert_eq!(row("E").stream, Some(stream));
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        for (text, wrong) in [
            ("remote", "f:1:7: expected a name, found the end of the line"),
            ("flag F", "f:1:6: expected a flag and its number, found 'F'"),
            ("flag F x", "f:1:8: expected a number, found 'x'"),
            ("flag F 1\nflag F 1", "f:2:6: expected a new name, found a second 'F'"),
            ("remote A\n  remote A", "f:2:10: expected a new name, found a second 'A'"),
            ("remote A api=x since", "f:1:16: in A: expected key=value, found 'since'"),
            (
                "remote A readonly=no",
                "f:1:10: in A: expected refused, flags:BITS or FIELD:VALUE, found 'readonly=no'",
            ),
            ("remote A fds-call=x", "f:1:10: in A: expected a number or a range, found 'fds-call=x'"),
            (
                "remote A stream=write",
                "f:1:10: in A: expected read:PLACE or write:PLACE, found 'stream=write'",
            ),
            ("remote A legacy=yes", "f:1:10: in A: expected event= before legacy=, found 'legacy=yes'"),
            (
                "remote A colour=red",
                "f:1:10: in A: expected a key that the head of the file explains, found 'colour=red'",
            ),
        ] {
            assert_eq!(Facts::parse("f", text).unwrap_err().to_string(), wrong);
        }
    }
}
