//! Differences, the most frequent first.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{Client, Outcome, Played, Session, Step, xml};
use crate::compare::canonical;

/// Everything that a differential run has shown.
#[derive(Debug, Default, Serialize)]
pub struct Differences {
    /// Per category of sessions.
    pub categories: BTreeMap<String, Count>,
    /// What differs, each with where it was seen.
    pub found: BTreeMap<String, Vec<Example>>,
    /// Steps that a client could not make, and why.
    pub not_made: BTreeMap<String, usize>,
}

/// How many answers of a category were compared.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Count {
    /// The same of both daemons.
    pub equal: usize,
    /// Not the same.
    pub different: usize,
}

/// A place where a difference was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// The session.
    pub session: String,
    /// The function, or `events`.
    pub api: String,
    /// What the left gave.
    pub left: String,
    /// What the right gave.
    pub right: String,
}

impl Differences {
    /// Compares what one client got from two daemons.
    pub fn daemons(&mut self, client: Client, sessions: &[Session], left: &[Played], right: &[Played]) {
        for ((session, left), right) in sessions.iter().zip(left).zip(right) {
            let category = session.title.split('/').next().unwrap_or_default().to_owned();
            let count = self.categories.entry(category).or_default();
            let mut add = |api: &str, what: Option<String>, left: String, right: String| match what {
                None => count.equal += 1,
                Some(what) => {
                    count.different += 1;
                    let example = Example {
                        session: format!("{} ({client:?})", session.title),
                        api: api.into(),
                        left,
                        right,
                    };
                    self.found.entry(format!("{api}: {what}")).or_default().push(example);
                }
            };
            for (step, (left, right)) in session.steps.iter().zip(left.outcomes.iter().zip(&right.outcomes)) {
                if let (Outcome::Unknown(why), Outcome::Unknown(_)) = (left, right) {
                    *self.not_made.entry(format!("{client:?} {}: {why}", step.api)).or_default() += 1;
                    continue;
                }
                let [left, right] = [left, right].map(|outcome| plain(&step.api, outcome));
                add(&step.api, outcomes(&left, &right), shown(&left), shown(&right));
            }
            let events = |played: &Played| {
                let lines = played.events.iter().map(|e| format!("{} {} {}\n", e.kind, e.object, e.detail));
                without_numbers(&canonical(&lines.collect::<String>()))
            };
            let [left, right] = [events(left), events(right)];
            let what = (left != right).then(|| {
                let kind = left.lines().zip(right.lines()).find(|(l, r)| l != r);
                let kind =
                    kind.map_or("their number", |(left, _)| left.rsplit_once(' ').map_or(left, |(k, _)| k));
                format!("differ at {kind}")
            });
            add("events", what, left, right);
        }
    }

    /// Compares what two clients got from one daemon: values, errors, and life cycles. Values that Python's binding
    /// gives in another form have a place in [`OTHER_FORM`].
    pub fn clients(&mut self, uri: &str, sessions: &[Session], library: &[Played], own: &[Played]) {
        for ((session, library), own) in sessions.iter().zip(library).zip(own) {
            for (step, (left, right)) in session.steps.iter().zip(library.outcomes.iter().zip(&own.outcomes))
            {
                let (left, right) = (plain(&step.api, left), plain(&step.api, right));
                if let Some(what) = between_clients(step, &left, &right) {
                    let (session, api) = (format!("{} at {uri}", session.title), step.api.clone());
                    let example = Example { session, api, left: shown(&left), right: shown(&right) };
                    let what = format!("{}: the clients disagree on {what}", step.api);
                    self.found.entry(what).or_default().push(example);
                }
            }
            let lives = |played: &Played| {
                let mut lives = played.events.clone();
                lives.retain(|event| event.kind.ends_with(" 0"));
                lives
            };
            if lives(library) != lives(own) {
                let example = Example {
                    session: format!("{} at {uri}", session.title),
                    api: "events".to_owned(),
                    left: format!("{:?}", lives(library)),
                    right: format!("{:?}", lives(own)),
                };
                self.found
                    .entry("events: the clients disagree on life cycles".into())
                    .or_default()
                    .push(example);
            }
        }
    }

    /// Equal and different answers together.
    pub fn total(&self) -> Count {
        self.categories.values().fold(Count::default(), |sum, count| Count {
            equal: sum.equal + count.equal,
            different: sum.different + count.different,
        })
    }

    /// Leaves out what is known to differ: the beginnings of differences' names.
    pub fn without(mut self, known: &[&str]) -> Self {
        self.found.retain(|what, _| !known.iter().any(|known| what.starts_with(known)));
        self
    }
}

/// Functions whose result Python's binding has in another form than the wire, or that it makes of other calls.
const OTHER_FORM: &[&str] = &[
    // KiB on the wire, MiB in Python.
    "virNodeGetInfo",
    // Bits, and lists of bool.
    "virNodeGetCPUMap",
    "virDomainGetVcpus",
    "virDomainGetVcpuPinInfo",
    "virDomainGetEmulatorPinInfo",
    // Named numbers, and lists of them.
    "virNodeGetCPUStats",
    "virNodeGetMemoryStats",
    "virDomainMemoryStats",
    "virNodeGetCellsFreeMemory",
    "virNodeGetFreePages",
    "virDomainGetControlInfo",
    "virConnectGetAllDomainStats",
    "virDomainGetTime",
    "virDomainInterfaceAddresses",
    "virNodeGetSecurityModel",
    "virDomainGetSecurityLabel",
    "virDomainGetCPUStats",
    "virDomainGetSchedulerType",
    "virDomainGetBlockInfo",
    "virDomainGetDiskErrors",
    "virDomainGetIOThreadInfo",
    // Texts only for those who ask for them, as the library does by itself.
    "virDomainGetBlkioParameters",
    "virDomainGetNumaParameters",
    "virDomainGetBlockIoTune",
    // The guest, and nothing.
    "virDomainCreateWithFlags",
    // An error is None.
    "virDomainMigrateGetCompressionCache",
    "virDomainMigrateGetMaxDowntime",
    // Asked for the present parameters first, with flags that may be refused.
    "virDomainGetSchedulerParametersFlags",
    "virDomainSetSchedulerParametersFlags",
];

fn between_clients(step: &Step, library: &Outcome, own: &Outcome) -> Option<&'static str> {
    match (library, own) {
        _ if OTHER_FORM.contains(&step.api.as_str()) => None,
        // One of them refuses such a call by itself.
        (Outcome::Unknown(_), _) | (_, Outcome::Unknown(_)) => None,
        (Outcome::Error { .. }, Outcome::Error { .. }) => (library != own).then_some("the error"),
        (Outcome::Value(left), Outcome::Value(right)) => {
            let nothing = |value: &Value| value.is_null() || *value == 0;
            let same = left == right || (nothing(left) && nothing(right)) || strings(left) == strings(right);
            (!same).then_some("the value")
        }
        _ => Some("success"),
    }
}

/// Values as text in their order: `[1, 2]` of one client is `{"a": 1, "b": 2}` of another.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(items) => items.values().flat_map(strings).collect(),
        Value::Bool(value) => vec![i32::from(*value).to_string()],
        Value::Number(number) => vec![number.as_f64().unwrap_or_default().to_string()],
        value => vec![value.as_str().map_or_else(|| value.to_string(), str::to_owned)],
    }
}

/// Without what differs from run to run; lists of names have no order.
fn plain(api: &str, outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Value(Value::Array(items)) if api.contains("List") => {
            let mut items = items.clone();
            items.sort_by_key(ToString::to_string);
            Outcome::Value(Value::Array(items))
        }
        Outcome::Value(value) => {
            let text = without_id(&canonical(&value.to_string()));
            Outcome::Value(serde_json::from_str(&text).unwrap_or(Value::String(text)))
        }
        Outcome::Error { code, domain, level, message } => {
            Outcome::Error { code: *code, domain: *domain, level: *level, message: canonical(message) }
        }
        Outcome::Unknown(why) => Outcome::Unknown(why.clone()),
    }
}

/// A definition without the number of the running guest: how many ran before is not compared.
fn without_id(text: &str) -> String {
    let id = text.split_once("<domain ").and_then(|(_, rest)| rest.split_once('>')).and_then(|(tag, _)| {
        let (_, id) = tag.split_once(" id='")?;
        id.split_once('\'').map(|(id, _)| format!(" id='{id}'"))
    });
    id.map_or_else(|| text.to_owned(), |id| text.replacen(&id, "", 1))
}

/// What differs between two outcomes, without the values.
fn outcomes(left: &Outcome, right: &Outcome) -> Option<String> {
    let code = |outcome: &Outcome| match outcome {
        Outcome::Value(_) => "success".to_owned(),
        Outcome::Error { code, domain, .. } => format!("error {code} of domain {domain}"),
        Outcome::Unknown(_) => "nothing to ask".to_owned(),
    };
    match (left, right) {
        _ if left == right => None,
        (Outcome::Value(Value::String(left)), Outcome::Value(Value::String(right)))
            if left.trim_start().starts_with('<') =>
        {
            Some(xml::difference(left, right).unwrap_or_else(|| "layout of the XML".to_owned()))
        }
        (Outcome::Value(_), Outcome::Value(_)) => Some("the value".to_owned()),
        _ if code(left) == code(right) => Some(format!("{}, another text", code(left))),
        _ => Some(format!("{}, {} on the right", code(left), code(right))),
    }
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Value(Value::String(text)) => text.clone(),
        Outcome::Value(value) => value.to_string(),
        Outcome::Error { code, domain, level, message } => {
            format!("error {code} of domain {domain}, level {level}: {message}")
        }
        Outcome::Unknown(why) => format!("not asked: {why}"),
    }
}

/// A client's own numbers.
fn without_numbers(text: &str) -> String {
    let pattern = regex_lite::Regex::new(r"callback_id: \d+|\bid: \d+|uuid: \[[^\]]*\]")
        .expect("a pattern of this program");
    pattern.replace_all(text, "ID").into_owned()
}

/// For a terminal: counts per category, then what differs, the most frequent first, with an example.
impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (category, Count { equal, different }) in &self.categories {
            writeln!(f, "{category:20} {equal:6} equal {different:6} different")?;
        }
        let mut found: Vec<_> = self.found.iter().collect();
        found.sort_by_key(|(_, examples)| std::cmp::Reverse(examples.len()));
        for (what, examples) in found {
            writeln!(f, "{:4} × {what}", examples.len())?;
            if let Some(example) = examples.first() {
                let line = |text: &str| {
                    text.lines().next().unwrap_or_default().chars().take(160).collect::<String>()
                };
                let (left, right) = first_difference(&example.left, &example.right);
                writeln!(
                    f,
                    "       in {}\n       - {}\n       + {}",
                    example.session,
                    line(left),
                    line(right)
                )?;
            }
        }
        let Count { equal, different } = self.total();
        writeln!(f, "{equal} answers equal, {different} different, {} kinds of difference", self.found.len())
    }
}

/// The texts from the first line on that differs.
fn first_difference<'a>(left: &'a str, right: &'a str) -> (&'a str, &'a str) {
    let same = left.lines().zip(right.lines()).take_while(|(left, right)| left == right);
    let skip = same.map(|(line, _)| line.len() + 1).sum::<usize>();
    (left.get(skip..).unwrap_or_default(), right.get(skip..).unwrap_or_default())
}
