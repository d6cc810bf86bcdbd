//! `<node>`: a host described in a file.
//!
//! ```xml
//! <node>
//!   <cpu>
//!     <model>i986</model> <mhz>6000</mhz> <active>50</active>
//!     <nodes>4</nodes> <sockets>4</sockets> <cores>4</cores> <threads>2</threads>
//!   </cpu>
//!   <memory>8192000</memory>
//!   <domain file='guest.xml'/>
//!   <network>…</network>
//!   <interface …/>
//!   <pool …> … <volume>…</volume> </pool>
//!   <device>…</device>
//! </node>
//! ```
//!
//! An object is described in place, or in a file of its own, whose name is relative to the node's. Objects run, unless a
//! `<domain>` says otherwise by elements of the name space [`NAMESPACE`]: `runstate` (a number of `virDomainState`),
//! `transient`, `hasmanagedsave`.

use std::fs::read_to_string;
use std::path::Path;

use virtwire_conf::xml::{Document, Node as XmlNode};
use virtwire_conf::{NodeDevice, ParseOptions, StoragePool, StorageVol};
use virtwire_protocol::{ErrorDomain, VirtError};

use crate::domain::guest::{Definition, Guest};
use crate::domain::lifecycle::check_same_guest;
use crate::domain::state::{State, Status};
use crate::error::{Result, TEST};
use crate::host::Host;
use crate::interface::Interface;
use crate::network::{self, Network};
use crate::node::Node;
use crate::nodedev::Device;
use crate::storage::{self, Pool};

/// The name space of what only a test hypervisor needs to know about a guest.
const NAMESPACE: &str = "http://libvirt.org/schemas/domain/test/1.0";

fn read_file(path: &Path) -> Result<String> {
    read_to_string(path).map_err(|error| {
        // A directory can be opened, but not read.
        let verb = if error.kind() == std::io::ErrorKind::IsADirectory { "read" } else { "open" };
        let text = format_args!("Failed to {verb} file '{}'", path.display());
        VirtError::system(ErrorDomain::NONE, &error, text)
    })
}

/// Parses a file; what is wrong with it is told with its name.
fn parse<'t>(path: &Path, text: &'t str) -> Result<Document<'t>> {
    Document::parse(text, TEST).map_err(|error| {
        let line = error.message.strip_prefix("at line ").unwrap_or(&error.message).replacen(": ", ":", 0);
        TEST.xml_detail(format_args!("{}:{line}", path.display()))
    })
}

/// Reads the host that a file describes.
pub(crate) fn read(path: &str) -> Result<Host> {
    let path = Path::new(path);
    let text = read_file(path)?;
    let document = parse(path, &text)?;
    let root = document.root();
    if root.name() != "node" {
        let text = format_args!("expecting root element of 'node', not '{}'", root.name());
        return Err(ErrorDomain::XML.xml_error(text));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut host = Host::new(node(root)?);
    each(folder, root, "domain", |element| add_guest(&mut host, element))?;
    each(folder, root, "network", |element| {
        let definition = virtwire_conf::Network::parse(&source(element), &ParseOptions::test())?;
        network::check_same(&host.networks, &definition)?;
        host.networks.insert(Network::started(definition));
        Ok(())
    })?;
    each(folder, root, "interface", |element| {
        let definition = virtwire_conf::Interface::parse(&source(element), &ParseOptions::test())?;
        host.interfaces.insert(Interface::new(definition, true));
        Ok(())
    })?;
    each(folder, root, "pool", |element| add_pool(&mut host, folder, element))?;
    each(folder, root, "device", |element| {
        host.devices.insert(Device::new(NodeDevice::parse(&source(element), &ParseOptions::test())?));
        Ok(())
    })?;
    Ok(host)
}

/// The processors and the memory.
fn node(root: XmlNode<'_>) -> Result<Node> {
    let mut node = Node::default();
    let number = |element: Option<XmlNode<'_>>, what: &str| -> Result<Option<u64>> {
        let Some(element) = element else { return Ok(None) };
        let bad = || TEST.xml_error(format_args!("invalid node {what} value"));
        element.text().trim().parse().map(Some).map_err(|_| bad())
    };
    if let Some(cpu) = root.child("cpu") {
        let set = |name: &str, place: &mut u32| -> Result<()> {
            if let Some(value) = number(cpu.child(name), &format!("cpu {name}"))? {
                let bad = || TEST.xml_error(format_args!("invalid node cpu {name} value"));
                *place = u32::try_from(value).map_err(|_| bad())?;
            }
            Ok(())
        };
        set("nodes", &mut node.nodes)?;
        set("sockets", &mut node.sockets)?;
        set("cores", &mut node.cores)?;
        set("threads", &mut node.threads)?;
        node.active = [node.nodes, node.sockets, node.cores, node.threads]
            .into_iter()
            .try_fold(1u32, u32::checked_mul)
            .ok_or_else(|| TEST.xml_error("invalid node cpu nodes value"))?;
        set("active", &mut node.active)?;
        set("mhz", &mut node.mhz)?;
        if let Some(model) = cpu.child("model") {
            node.model = model.text().into_owned();
        }
    }
    if let Some(memory) = number(root.child("memory"), "memory")? {
        node.memory = memory;
    }
    Ok(node)
}

/// Calls `add` for each object of a kind, with its element or the root of its file.
fn each(
    folder: &Path,
    parent: XmlNode<'_>,
    kind: &str,
    mut add: impl FnMut(XmlNode<'_>) -> Result<()>,
) -> Result<()> {
    for element in parent.children().filter(|element| element.name() == kind) {
        match element.attribute("file") {
            Some(file) => {
                let path = folder.join(file);
                let text = read_file(&path)?;
                add(parse(&path, &text)?.root())?;
            }
            None => add(element)?,
        }
    }
    Ok(())
}

/// An element as a document of its own.
fn source(element: XmlNode<'_>) -> String {
    virtwire_conf::xml::Raw::read(element).to_xml()
}

fn add_guest(host: &mut Host, element: XmlNode<'_>) -> Result<()> {
    let definition = Definition::parse(&source(element))?;
    check_same_guest(host, definition.name(), &definition.uuid())?;
    let extra = |name: &str| {
        element.children().find(|child| {
            let parts = child.name().split_once(':');
            parts.is_some_and(|(prefix, own)| own == name && child.namespace(prefix) == Some(NAMESPACE))
        })
    };
    let state = match extra("runstate") {
        Some(state) => {
            let text = state.text();
            let number: i32 = text.trim().parse().map_err(|_| TEST.xml_error("invalid runstate"))?;
            if !(0..=State::PM_SUSPENDED.0).contains(&number) {
                return Err(TEST.xml_error(format_args!("runstate '{number}' out of range'")));
            }
            State(number)
        }
        None => State::RUNNING,
    };
    let (transient, saved) = (extra("transient").is_some(), extra("hasmanagedsave").is_some());
    if transient && state == State::SHUTOFF {
        return Err(TEST.xml_error("transient domain cannot have runstate 'shutoff'"));
    }
    if saved && state != State::SHUTOFF {
        return Err(TEST.xml_error("domain with managedsave data can only have runstate 'shutoff'"));
    }
    let mut guest = if state == State::SHUTOFF {
        Guest::defined(definition)
    } else {
        Guest::running(host.next_id(), definition, Status::unknown(state))
    };
    guest.persistent = !transient;
    guest.managed_save = saved;
    host.guests.insert(guest);
    Ok(())
}

fn add_pool(host: &mut Host, folder: &Path, element: XmlNode<'_>) -> Result<()> {
    let definition = StoragePool::parse(&source(element), &ParseOptions::test())?;
    storage::check_same(&host.pools, &definition)?;
    let mut pool = Pool::started(definition);
    each(folder, element, "volume", |volume| {
        pool.add_listed_volume(StorageVol::parse(&source(volume), &ParseOptions::test())?)
    })?;
    host.pools.insert(pool);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_of(xml: &str) -> std::result::Result<Node, String> {
        node(Document::parse(xml, TEST).unwrap().root()).map_err(|error| error.message)
    }

    #[test]
    fn processors_are_counted_unless_told() {
        let node = node_of(
            "<node><cpu><nodes>1</nodes><sockets>1</sockets><cores>8</cores><threads>1</threads></cpu></node>",
        );
        assert_eq!(node.map(|node| node.active), Ok(8));
        let node = node_of("<node><cpu><active>50</active></cpu><memory>77</memory></node>");
        assert_eq!(node.map(|node| (node.active, node.memory)), Ok((50, 77)));
        assert_eq!(node_of("<node/>"), Ok(Node::default()));
    }

    /// The guest of a node whose `<domain>` also holds `extra`.
    fn guest_of(extra: &str) -> std::result::Result<Host, String> {
        let xml = format!(
            "<domain type='test' xmlns:t='{NAMESPACE}'><name>a</name><memory>1000</memory>\
             <os><type>hvm</type></os>{extra}</domain>"
        );
        let mut host = Host::default();
        add_guest(&mut host, Document::parse(&xml, TEST).unwrap().root()).map_err(|error| error.message)?;
        Ok(host)
    }

    #[test]
    fn states_of_listed_guests() {
        let status = |extra: &str| {
            let host = guest_of(extra).unwrap();
            let guest = host.guests.by_name("a").unwrap();
            (guest.status.state.0, guest.is_running(), guest.is_persistent(), guest.managed_save)
        };
        assert_eq!(status(""), (1, true, true, false));
        assert_eq!(status("<t:runstate>3</t:runstate>"), (3, true, true, false));
        assert_eq!(status("<t:runstate>5</t:runstate><t:hasmanagedsave/>"), (5, false, true, true));
        assert_eq!(status("<t:transient/>"), (1, true, false, false));
        for (extra, text) in [
            ("<t:runstate>8</t:runstate>", "runstate '8' out of range'"),
            ("<t:runstate>x</t:runstate>", "invalid runstate"),
            ("<t:transient/><t:runstate>5</t:runstate>", "transient domain cannot have runstate 'shutoff'"),
            ("<t:hasmanagedsave/>", "domain with managedsave data can only have runstate 'shutoff'"),
        ] {
            assert_eq!(guest_of(extra).err(), Some(format!("XML error: {text}")));
        }
    }

    #[test]
    fn bad_numbers_are_named() {
        for (xml, what) in [
            ("<node><cpu><mhz>x</mhz></cpu></node>", "cpu mhz"),
            ("<node><cpu><nodes>-1</nodes></cpu></node>", "cpu nodes"),
            ("<node><memory>much</memory></node>", "memory"),
        ] {
            assert_eq!(node_of(xml).unwrap_err(), format!("XML error: invalid node {what} value"));
        }
    }
}
