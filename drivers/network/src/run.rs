//! Networks that run: what is made for one, what is kept of it, and how it ends.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use uuid::Uuid;
use virtwire_conf::network::{ForwardMode, NatPort};
use virtwire_conf::{FormatOptions, Network as Definition, NetworkPort, ParseOptions};
use virtwire_protocol::error::VirtError;
use virtwire_store as store;

use crate::dnsmasq::{self, Files};
use crate::subnet::{self, Subnet};
use crate::{NETWORK, Places, Result, bridge, firewall};

/// A network that runs.
pub(crate) struct Live {
    pub(crate) definition: Definition,
    /// What guests have of it.
    pub(crate) ports: BTreeMap<Uuid, NetworkPort>,
}

impl Live {
    /// What a definition says, and what is so where it says nothing.
    pub(crate) fn new(mut definition: Definition) -> Self {
        if let Some(forward) = definition.forward.as_mut().filter(|forward| forward.mode == ForwardMode::Nat)
        {
            let ports = &mut forward.nat.get_or_insert_default().port;
            ports.get_or_insert(NatPort { start: 1024, end: 65535 });
        }
        Self { definition, ports: BTreeMap::new() }
    }

    /// The definition as it is shown while it runs.
    pub(crate) fn shown(&self) -> Definition {
        let connections = u32::try_from(self.ports.len()).ok().filter(|count| *count > 0);
        Definition { connections, ..self.definition.clone() }
    }
}

/// Whether a network has a bridge that is made for it.
pub(crate) fn has_own_bridge(net: &Definition) -> bool {
    matches!(
        dnsmasq::mode(net),
        ForwardMode::None | ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open
    )
}

/// Makes what a network needs.
///
/// # Errors
/// Something is not to be had; nothing is left behind.
pub(crate) async fn up(places: &Places, net: &Definition) -> Result<()> {
    if has_own_bridge(net) {
        let zone = net.bridge.as_ref().and_then(|bridge| bridge.zone.as_deref());
        if let Some(zone) = zone {
            let text =
                format_args!("zone {zone} requested for network {} but firewalld is not active", net.name);
            return Err(NETWORK.internal_error(text));
        }
        unused(net)?;
        if virtwire_link::exists(bridge::name(net)) {
            let text = format_args!("error creating bridge interface {}", bridge::name(net));
            return Err(VirtError::system(NETWORK, &rustix::io::Errno::EXIST.into(), text));
        }
        if let Err(error) = make(net, &Files::of(places, &net.name, bridge::name(net))).await {
            down(places, net).await;
            return Err(error);
        }
    }
    Ok(())
}

async fn make(net: &Definition, files: &Files) -> Result<()> {
    files.write(net)?;
    bridge::make(net).await?;
    firewall::add(net).await?;
    if dnsmasq::is_wanted(net) { files.start(bridge::name(net)).await } else { Ok(()) }
}

/// Takes away what was made.
pub(crate) async fn down(places: &Places, net: &Definition) {
    if has_own_bridge(net) {
        Files::of(places, &net.name, bridge::name(net)).stop().await;
        firewall::remove(net).await;
        bridge::remove(bridge::name(net)).await;
    }
    forget(places, &net.name);
}

/// Makes whole again what a network lost while no daemon looked after it.
pub(crate) async fn mend(places: &Places, net: &Definition) -> Result<()> {
    if !has_own_bridge(net) {
        return Ok(());
    }
    firewall::remove(net).await;
    firewall::add(net).await?;
    let files = Files::of(places, &net.name, bridge::name(net));
    if dnsmasq::is_wanted(net) && !files.runs() {
        files.write(net)?;
        files.start(bridge::name(net)).await?;
    }
    Ok(())
}

/// Lets a running network become what `new` says.
///
/// # Errors
/// dnsmasq doesn't start with it.
pub(crate) async fn change(places: &Places, old: &Definition, new: &Definition) -> Result<()> {
    if !has_own_bridge(new) {
        return Ok(());
    }
    if old.forward != new.forward {
        firewall::remove(old).await;
        firewall::add(new).await?;
    }
    let files = Files::of(places, &new.name, bridge::name(new));
    let was = files.content();
    files.write(new)?;
    if files.content() == was {
        files.reload();
    } else if dnsmasq::is_wanted(new) {
        files.end().await;
        files.start(bridge::name(new)).await?;
    }
    Ok(())
}

/// A route of the host to the same addresses would make the guests' ones out of reach, or others.
fn unused(net: &Definition) -> Result<()> {
    let own: Vec<Subnet> = subnet::all(&net.ips)?.into_iter().map(|(subnet, _)| subnet).collect();
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    for line in routes.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [interface, base, _, _, _, _, _, mask, ..] = words.as_slice() else { continue };
        // The bytes of an address, written as a number of this machine.
        let address = |text: &str| Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()));
        let (Some(base), Some(mask)) = (address(base), address(mask)) else { continue };
        let prefix = mask.to_bits().leading_ones() as u8;
        let route = Subnet { address: IpAddr::V4(base), prefix };
        if prefix != 0 && own.iter().any(|own| own.to_string() == route.to_string()) {
            let text = format_args!("Network is already in use by interface {interface}");
            return Err(NETWORK.internal_error(text));
        }
    }
    Ok(())
}

/// Keeps what is known of a running network where the next daemon finds it.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn remember(places: &Places, net: &Definition) -> Result<()> {
    let xml = net.to_xml(&FormatOptions { inactive: true, ..FormatOptions::default() });
    let text = format!(
        "<networkstatus>\n  <class_id bitmap='0-2'/>\n  <floor sum='0'/>\n{}</networkstatus>\n",
        indented(&xml)
    );
    let path = places.status(&net.name);
    let text = store::with_warning(&format!("net-edit {}", net.name), &text);
    store::write(&path, &text).map_err(|error| cannot(&error, &path))
}

/// Keeps a port; guests outlive the daemon.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn remember_port(places: &Places, network: &str, port: &NetworkPort) -> Result<()> {
    let dir = places.ports(network);
    store::make_dir(&dir, 0o700).map_err(|error| cannot(&error, &dir))?;
    let path = dir.join(format!("{}.xml", port.uuid.unwrap_or_default()));
    let text = store::with_warning(&format!("net-edit {network}"), &port.to_xml(&FormatOptions::default()));
    store::write(&path, &text).map_err(|error| cannot(&error, &path))
}

/// Forgets a port.
pub(crate) fn forget_port(places: &Places, network: &str, port: Uuid) {
    let _ = store::remove(&places.ports(network).join(format!("{port}.xml")));
}

fn forget(places: &Places, network: &str) {
    let _ = store::remove(&places.status(network));
    let _ = fs::remove_dir_all(places.run.join(network));
}

/// The networks that run, as an earlier daemon kept them. What is left of others is taken away.
pub(crate) async fn remembered(places: &Places) -> std::io::Result<Vec<Live>> {
    let mut all = Vec::new();
    for (name, text) in store::read_all(&places.run)? {
        let Ok(text) = text else { continue };
        let Some(definition) = network_of(&text) else {
            tracing::warn!(file = name, "what is kept of a running network cannot be read");
            continue;
        };
        if has_own_bridge(&definition) && !virtwire_link::exists(bridge::name(&definition)) {
            // The host has been started anew, or somebody took the bridge away.
            down(places, &definition).await;
            continue;
        }
        let mut live = Live::new(definition);
        for (_, text) in store::read_all(&places.ports(&live.definition.name))? {
            let port = text.ok().and_then(|text| NetworkPort::parse(&text, &ParseOptions::default()).ok());
            live.ports.extend(port.and_then(|port| Some((port.uuid?, port))));
        }
        all.push(live);
    }
    Ok(all)
}

/// The definition within `<networkstatus>`.
fn network_of(status: &str) -> Option<Definition> {
    const END: &str = "</network>";
    let begin = ["<network>", "<network "].iter().filter_map(|tag| status.find(tag)).min()?;
    let end = status.rfind(END)? + END.len();
    Definition::parse(status.get(begin..end)?, &ParseOptions::default()).ok()
}

fn indented(xml: &str) -> String {
    xml.lines().map(|line| format!("  {line}\n")).collect()
}

fn cannot(error: &std::io::Error, path: &std::path::Path) -> VirtError {
    VirtError::system(NETWORK, error, format_args!("Failed to create file '{}'", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_running_network_is_read_as_it_was_kept() {
        let scratch = store::Scratch::new();
        let places = Places::below(scratch.path());
        store::make_dir(&places.run, 0o755).unwrap();
        let xml = "<network><name>a</name><forward mode='bridge'/><bridge name='br0'/></network>";
        let net = Definition::parse(xml, &ParseOptions::default()).unwrap();
        remember(&places, &net).unwrap();
        let port = "<networkport><uuid>11111111-2222-3333-4444-555555555555</uuid><plug type='bridge' bridge='br0'/></networkport>";
        remember_port(&places, "a", &NetworkPort::parse(port, &ParseOptions::default()).unwrap()).unwrap();
        let again = remembered(&places).await.unwrap();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].definition, net);
        assert_eq!(again[0].ports.len(), 1);
        forget(&places, "a");
        assert!(remembered(&places).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_network_whose_bridge_is_gone_does_not_run() {
        let scratch = store::Scratch::new();
        let places = Places::below(scratch.path());
        store::make_dir(&places.run, 0o755).unwrap();
        let xml = "<network><name>a</name><bridge name='virbr-gone'/></network>";
        remember(&places, &Definition::parse(xml, &ParseOptions::default()).unwrap()).unwrap();
        assert!(remembered(&places).await.unwrap().is_empty());
        assert!(!places.status("a").exists());
    }
}
