//! `virtwire events`: what happens, as it happens.

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use virtwire_client::{Call, Connect, Connection, Event, EventStream, Lifecycle};
use virtwire_protocol::{qemu, remote, schema};

use crate::failure::Failure;
use crate::guests;
use crate::hosts::Hosts;

/// Watch events: of guests, networks, pools, devices and secrets
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only events of this guest, by name, UUID or id
    guest: Option<String>,

    /// Stop after so many events
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<usize>,

    #[command(flatten)]
    hosts: Hosts,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let Options { guest, count, hosts } = options;
    let (json, many) = (hosts.json, hosts.are_many());
    let (sender, mut events) = mpsc::channel::<(String, Event)>(256);
    let work = move |connect: Connect| {
        let (sender, guest) = (sender.clone(), guest.clone());
        async move { watch(&connect, guest.as_deref(), sender).await }
    };
    // Ends when all daemons are gone, or after the last event that was asked for.
    let show = async {
        let mut seen = 0;
        while count.is_none_or(|count| seen < count) {
            let Some((uri, event)) = events.recv().await else { return };
            seen += 1;
            println!(
                "{}",
                if json { as_json(&uri, &event).to_string() } else { as_text(&uri, &event, many) }
            );
        }
    };
    tokio::select! {
        () = show => Ok(()),
        done = hosts.each(work, |_, ()| {}) => done,
    }
}

async fn watch(
    connect: &Connect,
    guest: Option<&str>,
    sender: mpsc::Sender<(String, Event)>,
) -> Result<(), Failure> {
    let connection = connect.connection();
    let domain = match guest {
        Some(name) => Some(guests::find(connect, name).await?),
        None => None,
    };
    let dom = domain.as_ref().map(virtwire_client::Domain::raw);
    let mut streams = Vec::new();
    for id in 0..OF_GUESTS {
        streams.extend(registered(connection.register_domain_event(id, dom)).await?);
    }
    if dom.is_none() {
        streams.extend(objects(connection).await?);
    }
    if streams.is_empty() {
        return Err(Failure::Usage("this daemon has no events".into()));
    }
    for mut stream in streams {
        let (uri, sender) = (connect.uri().to_owned(), sender.clone());
        tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                if sender.send((uri.clone(), event)).await.is_err() {
                    return;
                }
            }
        });
    }
    Err(connection.closed().await.into())
}

/// Events of all objects that are no guests.
async fn objects(connection: &Connection) -> Result<Vec<EventStream>, Failure> {
    let mut streams = Vec::new();
    for id in 0..OF_OTHERS {
        streams.extend(registered(connection.register_network_event(id, None)).await?);
    }
    for id in 0..OF_OTHERS {
        streams.extend(registered(connection.register_storage_pool_event(id, None)).await?);
    }
    for id in 0..OF_OTHERS {
        streams.extend(registered(connection.register_node_device_event(id, None)).await?);
    }
    for id in 0..OF_OTHERS {
        streams.extend(registered(connection.register_secret_event(id, None)).await?);
    }
    Ok(streams)
}

/// `None` where the daemon does not know such events.
async fn registered(call: Call<EventStream>) -> Result<Option<EventStream>, Failure> {
    match call.await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if error.remote().is_some() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How many kinds of events guests have, and each of the other objects.
const OF_GUESTS: i32 = 27;
const OF_OTHERS: i32 = 2;

/// The message as JSON, and the name of its kind.
fn message(event: &Event) -> (String, Value) {
    let mut bytes = Vec::new();
    let (program, procedure, encoded) = match event {
        Event::Remote(event) => (&remote::PROGRAM, event.kind().procedure.0, event.encode(&mut bytes)),
        Event::Qemu(event) => (&qemu::PROGRAM, event.kind().procedure.0, event.encode(&mut bytes)),
    };
    let Some(info) = program.procedure(procedure).filter(|_| encoded.is_ok()) else {
        return ("event".into(), Value::Null);
    };
    let value = info.msg.and_then(|of| schema::to_json(of, &bytes).ok()).unwrap_or_default();
    let name = info.name.to_ascii_lowercase().replace("_event_callback_", "_").replace("_event_", "_");
    (name, value)
}

fn as_json(uri: &str, event: &Event) -> Value {
    let (name, message) = message(event);
    json!({"uri": uri, "event": name, "message": message})
}

fn as_text(uri: &str, event: &Event, many: bool) -> String {
    let host = if many { format!("{uri}: ") } else { String::new() };
    if let Event::Remote(remote::Event::DomainLifecycle(event)) = event {
        let what = Lifecycle::from(event.msg.event);
        let reason = what.reason(event.msg.detail);
        let reason = reason.map_or_else(|| format!("detail {}", event.msg.detail), str::to_owned);
        return format!("{host}{} {} ({reason})", event.msg.dom.name, what.to_string().to_lowercase());
    }
    let (name, mut message) = message(event);
    if let Some(fields) = message.as_object_mut() {
        fields.remove("callback_id");
    }
    format!("{host}{name} {message}")
}
