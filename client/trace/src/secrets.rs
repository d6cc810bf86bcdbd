//! What must never be shown: passwords, keys, values of secrets.

use serde_json::{Map, Value};

/// What stands in a secret's place.
pub const HIDDEN: &str = "(hidden)";

/// Fields that are secret whatever they hold, by procedure; `*` is any procedure of the program.
const FIELDS: &[(&str, &str)] = &[
    ("SECRET_SET_VALUE", "value"),
    ("SECRET_GET_VALUE", "value"),
    ("AUTH_SASL_START", "data"),
    ("AUTH_SASL_STEP", "data"),
    ("DOMAIN_SET_USER_PASSWORD", "password"),
    ("DOMAIN_AUTHORIZED_SSH_KEYS_SET", "keys"),
    ("DOMAIN_AUTHORIZED_SSH_KEYS_GET", "keys"),
    ("DOMAIN_SET_LAUNCH_SECURITY_STATE", "params"),
    ("DOMAIN_GET_LAUNCH_SECURITY_INFO", "params"),
    ("DOMAIN_SEND_KEY", "keycodes"),
    ("DOMAIN_MEMORY_PEEK", "buffer"),
    ("DOMAIN_BLOCK_PEEK", "buffer"),
];

/// The same for commands of QEMU's monitor and of the guest's agent.
const ARGUMENTS: &[(&str, &str)] =
    &[("send-key", "keys"), ("input-send-event", "events"), ("guest-ssh-add-authorized-keys", "keys")];

/// Attributes of XML, and members of JSON, that hold secrets.
const NAMES: &[&str] =
    &["passwd", "password", "secret", "key", "data", "input-data", "out-data", "err-data", "buf-b64"];
/// Of these, the ones that XML uses as well, and for nothing else.
const IN_XML: &[&str] = &["passwd", "password"];

/// How monitor commands of the human kind begin that hold secrets.
const HUMAN: &[&str] = &["set_password", "change vnc", "object_add secret", "sendkey"];

/// Hides what is secret in the arguments or the result of a procedure.
pub fn hide(procedure: &str, value: &mut Value) {
    if let Value::Object(object) = value {
        for (name, field) in object.iter_mut() {
            if FIELDS.iter().any(|(secret, of)| *secret == procedure && of == name) {
                *field = Value::from(HIDDEN);
            }
        }
    }
    texts(value);
}

/// Hides what is secret in a step that the daemon took: the arguments of a command, and its result.
pub fn hide_in_step(detail: &mut Map<String, Value>) {
    let command = detail.get("command").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (_, value) in detail.iter_mut().filter(|(name, _)| *name != "command") {
        arguments(&command, value);
        texts(value);
    }
}

/// Looks into every string: XML and monitor commands carry secrets of their own.
fn texts(value: &mut Value) {
    match value {
        Value::String(text) if text.trim_start().starts_with('<') => hide_in_xml(text),
        Value::String(text) if text.trim_start().starts_with('{') => hide_in_command(text),
        Value::String(text) if HUMAN.iter().any(|begin| text.trim_start().starts_with(begin)) => {
            *text = HIDDEN.to_owned();
        }
        Value::Array(items) => items.iter_mut().for_each(texts),
        Value::Object(object) => object.values_mut().for_each(texts),
        _ => {}
    }
}

/// Replaces the values of attributes that hold passwords.
fn hide_in_xml(text: &mut String) {
    for name in IN_XML {
        let mut from = 0;
        while let Some((start, end)) = attribute(text, name, from) {
            text.replace_range(start..end, HIDDEN);
            from = start + HIDDEN.len();
        }
    }
}

/// Where the value of the attribute `name` stands, from `from` on.
fn attribute(text: &str, name: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        at += text.get(at..)?.find(name)?;
        let rest = text.get(at + name.len()..)?;
        let value = rest.trim_start().strip_prefix('=').map(str::trim_start);
        let quote = value.and_then(|value| value.chars().next()).filter(|c| "'\"".contains(*c));
        if let (Some(value), Some(quote)) = (value, quote) {
            let start = text.len() - value.len() + 1;
            let end = start + text.get(start..)?.find(quote)?;
            return Some((start, end));
        }
        at += name.len();
    }
}

/// Replaces the members that hold secrets in the arguments of a command.
fn arguments(command: &str, value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (name, member) in object.iter_mut() {
                let whole = ARGUMENTS.iter().any(|(of, secret)| *of == command && secret == name);
                if whole || (member.is_string() && NAMES.contains(&name.as_str())) {
                    *member = Value::from(HIDDEN);
                } else {
                    arguments(command, member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| arguments(command, item)),
        _ => {}
    }
}

/// Replaces what is secret in the text of a monitor command.
fn hide_in_command(text: &mut String) {
    match serde_json::from_str::<Value>(text) {
        Ok(mut command) => {
            let name = command.get("execute").and_then(Value::as_str).unwrap_or_default().to_owned();
            arguments(&name, &mut command);
            *text = command.to_string();
        }
        // Not quite JSON: nobody can say what is secret in it.
        Err(_) => *text = HIDDEN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(procedure: &str, mut value: Value, expected: Value) {
        hide(procedure, &mut value);
        assert_eq!(value, expected);
    }

    #[test]
    fn values_of_secrets_are_hidden() {
        let secret = json!({"value": {"hex": "6162"}, "flags": 0});
        check("SECRET_SET_VALUE", secret.clone(), json!({"value": HIDDEN, "flags": 0}));
        check("SECRET_GET_XML_DESC", secret.clone(), secret);
    }

    #[test]
    fn passwords_in_xml_are_hidden() {
        let xml = "<graphics type='vnc' passwd='s3cret' port='-1' passwdValidTo='2030-01-01'/><x password = \"a'b\"/>";
        let shown = "<graphics type='vnc' passwd='(hidden)' port='-1' passwdValidTo='2030-01-01'/>\
                     <x password = \"(hidden)\"/>";
        check("DOMAIN_DEFINE_XML", json!({"xml": xml}), json!({"xml": shown}));
    }

    #[test]
    fn passwords_in_monitor_commands_are_hidden() {
        let command = r#"{"execute":"set_password","arguments":{"protocol":"vnc","password":"s3cret"}}"#;
        let shown = r#"{"execute":"set_password","arguments":{"protocol":"vnc","password":"(hidden)"}}"#;
        check("DOMAIN_MONITOR_COMMAND", json!({"cmd": command}), json!({"cmd": shown}));
        check("DOMAIN_MONITOR_COMMAND", json!({"cmd": "set_password vnc s3cret"}), json!({"cmd": HIDDEN}));
        check("DOMAIN_MONITOR_COMMAND", json!({"cmd": "{'password': 's3cret'"}), json!({"cmd": HIDDEN}));
    }

    #[test]
    fn secrets_in_steps_are_hidden() {
        let shown = |detail: Value| {
            let Value::Object(mut detail) = detail else { panic!("{detail}") };
            hide_in_step(&mut detail);
            Value::Object(detail)
        };
        let object = json!({"qom-type": "secret", "id": "s0", "data": "aGVsbG8="});
        assert_eq!(
            shown(json!({"command": "object-add", "arguments": object, "result": {}})),
            json!({"command": "object-add", "result": {},
                "arguments": {"qom-type": "secret", "id": "s0", "data": HIDDEN}})
        );
        let keys = json!({"keys": [{"type": "qcode", "data": "a"}], "hold-time": 1});
        assert_eq!(
            shown(json!({"command": "send-key", "arguments": keys})),
            json!({"command": "send-key", "arguments": {"keys": HIDDEN, "hold-time": 1}})
        );
        let set = json!({"command": "set_password", "arguments": {"protocol": "vnc", "password": "s3cret"}});
        assert_eq!(
            shown(set),
            json!({"command": "set_password", "arguments": {"protocol": "vnc", "password": HIDDEN}})
        );
        let human = json!({"command-line": "set_password vnc s3cret"});
        assert_eq!(
            shown(json!({"command": "human-monitor-command", "arguments": human})),
            json!({"command": "human-monitor-command", "arguments": {"command-line": HIDDEN}})
        );
    }
}
