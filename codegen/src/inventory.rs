//! The protocol at a glance: a line per procedure, with all that sets it apart.

use crate::model::{
    Acl, AclCondition, Descriptors, Direction, Model, Module, Procedure, ReadOnly, StreamMode,
};

/// Every procedure of every program, in order of number.
pub fn render(model: &Model) -> String {
    model.procedures().map(|(module, procedure)| line(module, procedure) + "\n").collect()
}

/// One procedure. What goes without saying is left out: a call, served to whoever is authenticated.
pub fn line(module: &Module, procedure: &Procedure) -> String {
    let mut words = vec![
        module.naming.module.to_owned(),
        procedure.number.to_string(),
        procedure.name.clone(),
        match procedure.direction {
            Direction::Call => procedure.family.name().to_owned(),
            Direction::Event => "event".to_owned(),
        },
    ];
    let mut say =
        |key: &str, value: Option<String>| words.extend(value.map(|value| format!("{key}={value}")));
    say("args", procedure.args.clone());
    say("ret", procedure.ret.clone());
    say("msg", procedure.msg.clone());
    say("auth", (!procedure.needs_auth).then(|| "none".to_owned()));
    say("priority", procedure.high_priority.then(|| "high".to_owned()));
    say("readonly", readonly(&procedure.readonly));
    say(
        "stream",
        procedure.stream.as_ref().map(|stream| {
            let mode = if stream.mode == StreamMode::Read { "read" } else { "write" };
            stream.sparse_flag.as_ref().map_or_else(|| mode.to_owned(), |(flag, _)| format!("{mode}:{flag}"))
        }),
    );
    say("fds-call", descriptors(procedure.fds_call));
    say("fds-reply", descriptors(procedure.fds_reply));
    say("acl", procedure.acl.as_deref().map(rules));
    say("aclfilter", Some(rules(&procedure.aclfilter)).filter(|_| !procedure.aclfilter.is_empty()));
    say(
        "event",
        procedure.event.as_ref().map(|event| {
            let id = event.id.map_or_else(String::new, |id| format!(":{id}"));
            format!("{}{id}{}", event.class, if event.legacy { ":legacy" } else { "" })
        }),
    );
    say("api", procedure.api.clone());
    say("since", procedure.since.clone());
    words.join(" ")
}

fn readonly(rule: &ReadOnly) -> Option<String> {
    match rule {
        ReadOnly::Served => None,
        ReadOnly::Refused => Some("refused".to_owned()),
        ReadOnly::IfFlags(bits) => Some(format!("flags:{bits}")),
        ReadOnly::IfField(field, value) => Some(format!("{field}:{value}")),
    }
}

fn descriptors(fds: Descriptors) -> Option<String> {
    match fds {
        Descriptors::NONE => None,
        Descriptors { min, max } if min == max => Some(min.to_string()),
        Descriptors { min, max } => Some(format!("{min}..{max}")),
    }
}

fn rules(rules: &[Acl]) -> String {
    if rules.is_empty() { "none".to_owned() } else { rules.iter().map(rule).collect::<Vec<_>>().join(",") }
}

/// A rule as its annotation writes it.
pub(crate) fn rule(acl: &Acl) -> String {
    let flags =
        |flags: &[(String, i64)]| flags.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("|");
    let condition = match &acl.condition {
        AclCondition::Always => String::new(),
        AclCondition::AllSet(names) => format!(":{}", flags(names)),
        AclCondition::NoneSet(names) => format!(":!{}", flags(names)),
        AclCondition::Param(field, name, _) => format!("::{field}:{name}"),
    };
    format!("{}:{}{condition}", acl.object, acl.permission)
}
