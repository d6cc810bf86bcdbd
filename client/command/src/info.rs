//! `virtwire info`: all about one guest, or about a host.

use clap::Args;
use serde_json::{Map, Value, json};
use virtwire_client::{Connect, Domain, DomainStatsFlags, DomainStatsTypes};

use crate::failure::Failure;
use crate::guests;
use crate::hosts::Hosts;
use crate::table::{bytes, kib};

/// Show a guest, or the host if no guest is named
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The guest, by name, UUID or id
    guest: Option<String>,

    #[command(flatten)]
    hosts: Hosts,
}

/// A line: what it says, as text and as JSON.
type Line = (&'static str, String, Value);

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let Options { guest, hosts } = options;
    let (json, many) = (hosts.json, hosts.are_many());
    let work = move |connect: Connect| {
        let guest = guest.clone();
        async move {
            match guest {
                Some(name) => of_guest(&connect, &guests::find(&connect, &name).await?).await,
                None => of_host(&connect).await,
            }
        }
    };
    hosts
        .each(work, |uri, lines| {
            if json {
                let lines = lines.into_iter().map(|(key, _, value)| (key.replace(' ', "_"), value));
                let object: Map<String, Value> =
                    std::iter::once(("uri".to_owned(), json!(uri))).chain(lines).collect();
                let object = Value::Object(object);
                if many {
                    println!("{object}")
                } else {
                    println!("{object:#}")
                }
                return;
            }
            if many {
                println!("{uri}");
            }
            for (key, text, _) in lines {
                println!("{key:<12}  {text}");
            }
        })
        .await
}

fn line<T: Into<Value> + ToString>(key: &'static str, value: T) -> Line {
    (key, value.to_string(), value.into())
}

async fn of_host(connect: &Connect) -> Result<Vec<Line>, Failure> {
    let version = |number: u64| format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000);
    let node = connect.node_info().await?;
    let mut lines = vec![
        line("host", connect.hostname().await?),
        line("hypervisor", connect.hypervisor().await?),
        line("libvirt", version(connect.lib_version().await?)),
        line("cpu", node.model),
        line("cpus", node.cpus),
        ("memory", kib(node.memory_kib), node.memory_kib.into()),
    ];
    // Not every hypervisor has a version.
    if let Ok(number) = connect.version().await {
        lines.insert(2, line("version", version(number)));
    }
    Ok(lines)
}

async fn of_guest(connect: &Connect, domain: &Domain) -> Result<Vec<Line>, Failure> {
    let info = domain.info().await?;
    let mut lines = vec![
        line("name", domain.name()),
        line("uuid", domain.uuid().to_string()),
        line("state", info.state.to_string()),
        line("cpus", info.vcpus),
        ("memory", kib(info.memory_kib), info.memory_kib.into()),
        ("max memory", kib(info.max_memory_kib), info.max_memory_kib.into()),
        ("cpu time", format!("{:.1} s", info.cpu_time.as_secs_f64()), json!(info.cpu_time.as_secs_f64())),
        line("persistent", domain.is_persistent().await?),
        line("autostart", domain.autostart().await?),
    ];
    if let Some(id) = domain.id() {
        lines.insert(0, line("id", id));
    }
    // What follows not every hypervisor can tell.
    let wanted = DomainStatsTypes::BLOCK | DomainStatsTypes::INTERFACE;
    let stats = connect.domain_stats(std::slice::from_ref(domain), wanted, DomainStatsFlags::empty()).await;
    for stats in stats.unwrap_or_default() {
        for disk in &stats.blocks {
            let name = disk.name.clone().unwrap_or_default();
            let size = disk.capacity.map(bytes).unwrap_or_default();
            let text = format!("{name} {size} {}", disk.path.as_deref().unwrap_or_default());
            let value = json!({"name": name, "path": disk.path, "capacity": disk.capacity});
            lines.push(("disk", text, value));
        }
        for interface in &stats.interfaces {
            lines.push(line("interface", interface.name.clone().unwrap_or_default()));
        }
    }
    for address in domain.addresses(0).await.unwrap_or_default() {
        let text = format!("{}/{} on {}", address.address, address.prefix, address.interface);
        lines.push(("address", text.clone(), text.into()));
    }
    Ok(gathered(lines))
}

/// Lines of the same name become one list in JSON.
fn gathered(lines: Vec<Line>) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for (key, text, value) in lines {
        let repeats = matches!(key, "disk" | "interface" | "address");
        match all.iter_mut().find(|(known, ..)| repeats && *known == key) {
            Some((_, texts, Value::Array(values))) => {
                *texts += &format!("\n{:<14}{text}", "");
                values.push(value);
            }
            _ if repeats => all.push((key, text, json!([value]))),
            _ => all.push((key, text, value)),
        }
    }
    all
}
