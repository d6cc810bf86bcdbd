//! Sessions through `virtwire-client`, by the tables of procedures.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::timeout;
use virtwire_client::{Connection, Error, Event, EventStream};
use virtwire_protocol::events::Subject;
use virtwire_protocol::procedures::{Direction, ProcedureInfo, Program};
use virtwire_protocol::schema::{self, StructDef, Ty};
use virtwire_protocol::{qemu, remote};

use super::{Argument, FENCE, Happened, Outcome, Played, Session, Step, fence};
use crate::process::PATIENCE;

/// What the C library fills in by itself.
const FILLED: &[(&str, u64)] = &[
    ("need_results", 1),
    ("need_result", 1),
    ("need_map", 1),
    ("need_online", 1),
    ("maxnames", 1024),
    ("maxids", 1024),
    ("maxuuids", 1024),
    ("maxinfo", 64),
    ("maplen", 8),
];

/// Results that only say how many there are of the other.
const COUNTS: &[&str] = &["ret", "nparams", "result"];

/// Plays all sessions.
///
/// # Errors
/// If the connection fails.
pub fn play(uri: &str, sessions: &[Session]) -> Result<Vec<Played>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let said = |error: Error| format!("virtwire-client at {uri}: {error}");
    runtime.block_on(async {
        let mut player = Player::open(uri).await.map_err(said)?;
        let mut played = Vec::new();
        for session in sessions {
            played.push(player.session(session).await.map_err(said)?);
        }
        player.connection.close().await.map_err(said)?;
        Ok(played)
    })
}

struct Player {
    connection: Connection,
    fence: String,
    streams: Vec<EventStream>,
}

impl Player {
    async fn open(uri: &str) -> Result<Self, Error> {
        let connection = Connection::open(uri).await?;
        let mut streams = Vec::new();
        for (class, count) in super::EVENTS {
            for id in 0..*count {
                let stream = match *class {
                    "domain" => connection.register_domain_event(id, None).await,
                    "network" => connection.register_network_event(id, None).await,
                    "storage_pool" => connection.register_storage_pool_event(id, None).await,
                    "node_device" => connection.register_node_device_event(id, None).await,
                    _ => connection.register_secret_event(id, None).await,
                };
                match stream {
                    Ok(stream) => streams.push(stream),
                    Err(Error::Remote(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Self { connection, fence: fence(uri), streams })
    }

    async fn session(&mut self, session: &Session) -> Result<Played, Error> {
        let mut names = HashMap::new();
        let mut played = Played::default();
        for step in &session.steps {
            let (outcome, object) = self.step(step, &names).await?;
            played.outcomes.push(outcome);
            if let (Some(name), Some(object)) = (&step.bind, object) {
                names.insert(name.clone(), object);
            }
        }
        played.events = self.events().await?;
        Ok(played)
    }

    /// What the call answered, and the object that its result is.
    async fn step(
        &self,
        step: &Step,
        names: &HashMap<String, Value>,
    ) -> Result<(Outcome, Option<Value>), Error> {
        let unknown = |why: String| Ok((Outcome::Unknown(why), None));
        let Some((program, info)) = find(&step.api) else { return unknown("not in the protocol".to_owned()) };
        let args = match arguments(info, &step.args, names) {
            Ok(args) => args,
            Err(why) => return unknown(why),
        };
        let payload = match info.args.map(|shape| schema::from_json(shape, &args)).transpose() {
            Ok(payload) => payload.unwrap_or_default(),
            Err(error) => return unknown(error.to_string()),
        };
        match self.connection.call_raw(program, info.number, &payload, Vec::new()).await {
            Ok(reply) => {
                let Some(shape) = info.ret else { return Ok((Outcome::Value(Value::Null), None)) };
                let value = schema::to_json(shape, &reply.payload).map_err(Error::from)?;
                let object = shape.fields.first().map(|(name, _)| value[*name].clone());
                Ok((Outcome::Value(result(shape, &value)), object))
            }
            Err(Error::Remote(error)) => {
                let outcome = Outcome::Error {
                    code: error.code.0,
                    domain: error.domain.0,
                    level: error.level.0,
                    message: error.message,
                };
                Ok((outcome, None))
            }
            Err(error) => Err(error),
        }
    }

    /// All events until now.
    async fn events(&mut self) -> Result<Vec<Happened>, Error> {
        let args = remote::DomainDefineXmlArgs { xml: self.fence.as_str().into() };
        let dom = self.connection.domain_define_xml(&args).await?.dom;
        self.connection.domain_undefine(&remote::DomainUndefineArgs { dom }).await?;
        let mut events = Vec::new();
        let mut streams = self.streams.iter_mut();
        if let Some(life_cycle) = streams.next() {
            loop {
                match timeout(PATIENCE.max(Duration::from_secs(30)), life_cycle.next()).await {
                    Ok(Some(event)) if is_end(&event) => break,
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => return Err(self.connection.closed().await),
                    Err(_) => return Err(Error::Silent),
                }
            }
        }
        for stream in streams {
            events.extend(std::iter::from_fn(|| stream.try_next()));
        }
        Ok(events.iter().map(happened).filter(|event| event.object != FENCE).collect())
    }
}

fn is_end(event: &Event) -> bool {
    matches!(event, Event::Remote(remote::Event::DomainLifecycle(msg))
        if msg.msg.event == 1 && msg.msg.dom.name == FENCE)
}

fn happened(event: &Event) -> Happened {
    let Event::Remote(event) = event else {
        return Happened { kind: "qemu".into(), object: String::new(), detail: format!("{event:?}") };
    };
    let object = match event.subject() {
        Subject::Domain(dom) => dom.name.to_string(),
        Subject::Network(net) => net.name.to_string(),
        Subject::StoragePool(pool) => pool.name.to_string(),
        Subject::NodeDevice(dev) => dev.name.to_string(),
        Subject::Secret(secret) => secret.usage_id.to_string(),
        Subject::None => String::new(),
    };
    let detail = match event {
        remote::Event::DomainLifecycle(msg) => format!("{} {}", msg.msg.event, msg.msg.detail),
        remote::Event::NetworkLifecycle(msg) => format!("{} {}", msg.event, msg.detail),
        remote::Event::StoragePoolLifecycle(msg) => format!("{} {}", msg.event, msg.detail),
        other => format!("{other:?}"),
    };
    let kind = event.kind();
    Happened { kind: format!("{} {}", kind.class, kind.id), object, detail }
}

/// The call of a function of libvirt's API.
pub fn find(api: &str) -> Option<(&'static Program, &'static ProcedureInfo)> {
    [&remote::PROGRAM, &qemu::PROGRAM].into_iter().find_map(|program| {
        let mut calls = program.procedures.iter().flatten();
        let info = calls.find(|info| info.api == api && info.direction == Direction::Call)?;
        Some((program, info))
    })
}

fn arguments(
    info: &ProcedureInfo,
    args: &[Argument],
    names: &HashMap<String, Value>,
) -> Result<Value, String> {
    let mut args = args.iter();
    let mut object = Map::new();
    for (name, ty) in info.args.map_or(&[][..], |shape| shape.fields) {
        let value = if let Some((_, value)) = FILLED.iter().find(|(filled, _)| filled == name) {
            json!(value)
        } else if *name == "nparams" {
            json!(most_params(info))
        } else if *name == "doms" {
            json!([])
        } else {
            match args.next() {
                None => Value::Null,
                Some(Argument::Object(name)) => {
                    let object = names.get(name).ok_or(format!("no {name}"))?;
                    // Host devices go by name alone.
                    if matches!(ty, Ty::String(_)) { object["name"].clone() } else { object.clone() }
                }
                Some(Argument::Value(Value::Object(params))) => typed(ty, params),
                Some(Argument::Value(value)) => value.clone(),
            }
        };
        object.insert((*name).to_owned(), value);
    }
    match args.next() {
        None => Ok(Value::Object(object)),
        Some(more) => Err(format!("{more:?} is one argument too many")),
    }
}

/// As many parameters as a reply may have: libvirt refuses to be asked for more.
fn most_params(info: &ProcedureInfo) -> u32 {
    let fields = info.ret.map_or(&[][..], |shape| shape.fields);
    let limit = fields.iter().find_map(|(_, ty)| match ty {
        Ty::Array(_, limit) => Some(*limit),
        _ => None,
    });
    limit.unwrap_or_default()
}

/// Typed parameters as the wire has them.
fn typed(ty: &Ty, params: &Map<String, Value>) -> Value {
    let Ty::Array(Ty::Struct(shape), _) = ty else { return Value::Object(params.clone()) };
    let [(field, _), (value_name, Ty::Union(union))] = shape.fields else { return Value::Null };
    let kinds = ["int", "uint", "llong", "ullong", "double", "boolean", "string"];
    let params = params.iter().map(|(name, value)| {
        let (name, kind) = name.split_once(':').unwrap_or((name, "int"));
        let case = kinds.iter().position(|known| *known == kind).map_or(0, |at| at as i32 + 1);
        let arm = union.arms.iter().find(|(number, _)| *number == case);
        let arm = arm.and_then(|(_, arm)| arm.as_ref()).map_or("", |(name, _)| *name);
        json!({ *field: name, *value_name: { "case": case, arm: value } })
    });
    params.collect()
}

fn result(shape: &StructDef, value: &Value) -> Value {
    let more = shape.fields.len() > 1;
    let fields = shape.fields.iter().filter(|(name, _)| !(more && COUNTS.contains(name)));
    let mut values: Vec<Value> = fields.map(|(name, ty)| canonical(ty, &value[*name])).collect();
    match values.len() {
        0 => Value::Null,
        1 => values.remove(0),
        _ => Value::Array(values),
    }
}

fn is_object(shape: &StructDef) -> bool {
    shape.name.starts_with("remote_nonnull_")
}

fn canonical(ty: &Ty, value: &Value) -> Value {
    match (ty, value) {
        (Ty::Struct(shape), _) => match shape.name.strip_prefix("remote_nonnull_") {
            Some(kind) => {
                let name = ["name", "usageID", "portdev"].iter().find_map(|name| value[*name].as_str());
                json!(format!("{kind} {}", name.unwrap_or_default()))
            }
            None => result(shape, value),
        },
        (Ty::Array(Ty::Struct(shape), _), Value::Array(params)) if shape.name == "remote_typed_param" => {
            let pair = |param: &Value| {
                let value = param["value"].as_object()?.iter().find(|(name, _)| *name != "case")?.1.clone();
                Some((param["field"].as_str()?.to_owned(), value))
            };
            Value::Object(params.iter().filter_map(pair).collect())
        }
        (Ty::Array(item, _) | Ty::FixedArray(item, _), Value::Array(items)) => {
            let mut items: Vec<Value> = items.iter().map(|value| canonical(item, value)).collect();
            // Objects, and lists that begin with one, have no order.
            let first =
                |shape: &StructDef| matches!(shape.fields, [(_, Ty::Struct(first)), ..] if is_object(first));
            if matches!(item, Ty::Struct(shape) if is_object(shape) || first(shape)) {
                items.sort_by_key(ToString::to_string);
            }
            Value::Array(items)
        }
        (Ty::Optional(of), value) if !value.is_null() => canonical(of, value),
        _ => value.clone(),
    }
}
