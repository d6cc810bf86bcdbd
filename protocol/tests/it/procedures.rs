//! Every procedure, its annotations and the facts beside them, against the fact tables.

use std::collections::HashMap;

use serde_json::{Value, json};
use virtwire_codegen::model::{Acl, AclCondition, Descriptors, Direction, Procedure, ReadOnly, StreamMode};

use crate::shared::{json, list, root, shared, text};
use crate::tables::{FILES, our_model};

/// Flags whose value the tables leave open; libvirt's API documentation has them.
const OPEN_FLAGS: &[&str] = &["VIR_DOMAIN_SNAPSHOT_XML_SECURE", "VIR_DOMAIN_SAVE_IMAGE_XML_SECURE"];

/// Calls that open a stream though no annotation says so.
const UNSAID_STREAMS: &[&str] = &["DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS"];

#[test]
fn programs_and_procedures() {
    let Some(folder) = shared("wire") else { return };
    let model = our_model();
    let between = since_between();
    let mut seen = 0;
    for (stem, name) in FILES.iter().filter(|(stem, _)| *stem != "net") {
        let table = json(&folder.join(format!("{name}.json")));
        let program = model.module(stem).and_then(|module| module.program.as_ref());
        let program = program.unwrap_or_else(|| panic!("{stem} defines no program"));
        assert_eq!(program.number, table["program"]["number"].as_i64(), "{stem}");
        assert_eq!(program.version, table["program"]["version"].as_i64(), "{stem}");
        let rows = list(&table, "procedures");
        assert_eq!(program.procedures.len(), rows.len(), "{stem}");
        for (procedure, row) in program.procedures.iter().zip(rows) {
            let between = between.get(&(stem.to_string(), procedure.name.clone()));
            let (mut ours, theirs) = (described(procedure, between), from_row(row));
            if UNSAID_STREAMS.contains(&procedure.name.as_str()) {
                ours["stream"] = Value::Null;
            }
            assert_eq!(ours, theirs, "{stem} {}: .x file (left), table (right)", procedure.name);
            seen += 1;
        }
    }
    assert_eq!(seen, 456 + 7 + 1 + 20 + 2 + 8 + 4);
}

#[test]
fn read_only_rules() {
    let Some(folder) = shared("wire") else { return };
    let model = our_model();
    let table = json(&folder.join("readonly.json"));
    let rows = list(&table, "rows");
    let calls = |module: &str| matches!(module, "remote" | "qemu" | "lxc");
    let ours = model.procedures().filter(|(m, p)| calls(m.naming.module) && p.direction == Direction::Call);
    assert_eq!(ours.count(), rows.len());
    for row in rows {
        let module = model.module(row["program"].as_str().unwrap_or_default());
        let mut procedures =
            module.and_then(|module| module.program.as_ref()).into_iter().flat_map(|p| &p.procedures);
        let procedure = procedures.find(|p| Some(i64::from(p.number)) == row["number"].as_i64());
        let procedure = procedure.unwrap_or_else(|| panic!("no such procedure: {row}"));
        assert_eq!(json!(procedure.name), row["name"]);
        let condition = &row["condition"];
        let rule = match row["readonly"].as_str() {
            Some("passed") => ReadOnly::Served,
            Some("refused on condition") => match condition["flags_any"].as_u64() {
                Some(bits) => ReadOnly::IfFlags(u32::try_from(bits).unwrap_or_default()),
                None => {
                    let field = condition["param"].as_str().unwrap_or_default().to_owned();
                    ReadOnly::IfField(field, condition["equals"].as_i64().unwrap_or_default())
                }
            },
            // Arguments are looked at before the connection, or it was not tried: nobody may rely on it.
            Some("refused" | "refused after argument checks" | "not measured") => ReadOnly::Refused,
            other => panic!("{other:?}: {row}"),
        };
        assert_eq!(procedure.readonly, rule, "{row}");
        if row["error_code"] == 29 {
            assert_eq!(Some(i64::from(procedure.denied_by)), row["error_domain"].as_i64(), "{row}");
        }
    }
}

/// A procedure of the model as a row of the tables. What only a reader of the tables needs is left out.
fn described(procedure: &Procedure, between: Option<&Vec<String>>) -> Value {
    let call = procedure.direction == Direction::Call;
    let stream = procedure.stream.as_ref().map(|stream| {
        let mode = if stream.mode == StreamMode::Read { "read" } else { "write" };
        json!({"mode": mode, "param_index": stream.param_index, "sparse_flag": stream.sparse_flag})
    });
    let event = procedure.event.as_ref();
    // What only libvirt's library calls has no release, and a name in errors alone; the tables leave that out.
    let api = procedure.api.as_ref().filter(|_| procedure.since.is_some());
    json!({
        "number": procedure.number,
        "name": procedure.name,
        "const": procedure.constant,
        "direction": if call { "call" } else { "event" },
        "args": procedure.args,
        "ret": procedure.ret,
        "msg": procedure.msg,
        "priority": if procedure.high_priority { "high" } else { "low" },
        "generate": procedure.generate,
        "acl": procedure.acl.as_ref().map(|rules| rules.iter().map(rule).collect::<Vec<_>>()),
        "aclfilter": procedure.aclfilter.iter().map(rule).collect::<Vec<_>>(),
        "needs_auth": call && procedure.needs_auth,
        "stream": stream,
        "fds": [range(procedure.fds_call), range(procedure.fds_reply)],
        "event": event.map(|event| json!({"class": event.class, "id": event.id, "legacy": event.legacy})),
        "api": api,
        "since": procedure.since,
        "since_between": between,
    })
}

fn from_row(row: &Value) -> Value {
    let rules = |key: &str| list(row, key).iter().map(row_rule).collect::<Vec<_>>();
    let stream = &row["stream"];
    let stream = stream.is_object().then(|| {
        json!({"mode": stream["mode"], "param_index": stream["param_index"], "sparse_flag": stream["sparse_flag"]})
    });
    let fds = |side: &str| row["fds"][side].as_str().unwrap_or("0").to_owned();
    let event = &row["event"];
    let legacy = event["legacy"].as_bool().unwrap_or_default();
    json!({
        "number": row["number"],
        "name": row["name"],
        "const": row["const"],
        "direction": row["direction"],
        "args": row["args"],
        "ret": row["ret"],
        "msg": row["msg"],
        "priority": row["priority"],
        "generate": row["generate"],
        "acl": if row["acl"].is_null() { None } else { Some(rules("acl")) },
        "aclfilter": rules("aclfilter"),
        "needs_auth": row["needs_auth"].as_bool().unwrap_or_default(),
        "stream": stream,
        "fds": [fds("call"), fds("reply")],
        "event": event.is_object().then(|| json!({"class": event["class"], "id": event["id"], "legacy": legacy})),
        "api": row["api"],
        "since": row["since"],
        "since_between": if row["since"].is_null() { row["since_between"].clone() } else { Value::Null },
    })
}

/// An access rule in the words of the annotations.
fn rule(rule: &Acl) -> Value {
    let condition = match &rule.condition {
        AclCondition::Always => json!(null),
        AclCondition::AllSet(flags) => json!({"all": flags.iter().map(flag).collect::<Vec<_>>()}),
        AclCondition::NoneSet(flags) => json!({"none": flags.iter().map(flag).collect::<Vec<_>>()}),
        AclCondition::Param(field, name, value) => json!({"field": field, "value": [name, value]}),
    };
    json!([rule.object, rule.permission, condition])
}

fn flag((name, value): &(String, i64)) -> Value {
    if OPEN_FLAGS.contains(&name.as_str()) { json!([name, null]) } else { json!([name, value]) }
}

fn row_rule(row: &Value) -> Value {
    let known = ["object", "permission", "only_if_all_set", "only_if_none_set", "only_if_param"];
    for key in row.as_object().into_iter().flat_map(|row| row.keys()) {
        assert!(known.contains(&key.as_str()), "an access rule of a new kind: {row}");
    }
    let param = &row["only_if_param"];
    let condition = if !row["only_if_all_set"].is_null() {
        json!({"all": row["only_if_all_set"]})
    } else if !row["only_if_none_set"].is_null() {
        json!({"none": row["only_if_none_set"]})
    } else if !param.is_null() {
        assert_eq!(param["op"], "==");
        json!({"field": param["param"], "value": param["value"]})
    } else {
        json!(null)
    };
    json!([row["object"], row["permission"], condition])
}

fn range(descriptors: Descriptors) -> String {
    match descriptors {
        Descriptors { min, max } if min == max => min.to_string(),
        Descriptors { min, max } => format!("{min}..{max}"),
    }
}

/// The one fact that the generator has no use for, read from the table itself.
fn since_between() -> HashMap<(String, String), Vec<String>> {
    let facts = text(&root().join("protocol/x/facts.txt"));
    let rows = facts.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let key = (words.next()?.to_owned(), words.next()?.to_owned());
        let releases = words.find_map(|word| word.strip_prefix("since-between="))?;
        Some((key, releases.split("..").map(str::to_owned).collect()))
    });
    rows.collect()
}
