//! Reading a file of operations.
//!
//! `= category/title` begins a session; `#` begins a comment line. An operation is a line: `name = function arguments`,
//! the name only if later operations use the object. An argument is JSON, or `$name`. A line that is indented goes on
//! with the one before it.

use serde_json::Value;

use super::{Argument, Session, Step};

/// All sessions of a text.
///
/// # Errors
/// The number of the line that is not understood, and why.
pub fn parse(text: &str) -> Result<Vec<Session>, String> {
    let mut sessions: Vec<Session> = Vec::new();
    for (number, line) in logical_lines(text) {
        if let Some(title) = line.strip_prefix("= ") {
            sessions.push(Session { title: title.trim().to_owned(), steps: Vec::new() });
            continue;
        }
        let step = step(&line).map_err(|why| format!("line {number}: {why}"))?;
        let Some(session) = sessions.last_mut() else { return Err(format!("line {number}: no session yet")) };
        session.steps.push(step);
    }
    Ok(sessions)
}

fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match lines.last_mut() {
            _ if line.trim().is_empty() || line.starts_with('#') => {}
            Some((_, last)) if line.starts_with(' ') => *last += line,
            _ => lines.push((number + 1, line.trim_end().to_owned())),
        }
    }
    lines
}

fn step(line: &str) -> Result<Step, String> {
    let (bind, call) = match line.split_once(" = ") {
        Some((name, call)) if !name.contains(' ') => (Some(name.to_owned()), call.trim()),
        _ => (None, line),
    };
    let (api, mut rest) = call.split_once(' ').unwrap_or((call, ""));
    let mut args = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(Step { bind, api: api.to_owned(), args });
        }
        if let Some(name) = rest.strip_prefix('$') {
            let end = name.find(' ').unwrap_or(name.len());
            args.push(Argument::Object(name[..end].to_owned()));
            rest = &name[end..];
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => args.push(Argument::Value(value)),
            Some(Err(error)) => return Err(format!("{error} in {rest}")),
            None => return Ok(Step { bind, api: api.to_owned(), args }),
        }
        rest = &rest[values.byte_offset()..];
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sessions_operations_and_arguments() {
        let text = "# life\n= domain/life\ndom = virDomainDefineXML \"<domain type='a = b'>\n  </domain>\"\n\
                    virDomainSetX $dom 1 {\"a:uint\": 2} null\n";
        let sessions = parse(text).unwrap();
        let [define, set] = &sessions[0].steps[..] else { panic!("{sessions:?}") };
        assert_eq!((define.bind.as_deref(), define.api.as_str()), (Some("dom"), "virDomainDefineXML"));
        assert_eq!(define.args, [Argument::Value(json!("<domain type='a = b'>  </domain>"))]);
        let value = Argument::Value;
        let args = [
            Argument::Object("dom".into()),
            value(json!(1)),
            value(json!({"a:uint": 2})),
            value(json!(null)),
        ];
        assert_eq!((set.bind.clone(), &set.args[..]), (None, &args[..]));
    }

    #[test]
    fn a_mistake_is_found_by_its_line() {
        assert!(parse("= a\n\nvirConnectClose {").unwrap_err().starts_with("line 3: "));
        assert_eq!(parse("virConnectClose").unwrap_err(), "line 1: no session yet");
    }
}
