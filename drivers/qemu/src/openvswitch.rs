//! Ports of Open vSwitch's bridges: what they are, and how much goes through them, set by ovs-vsctl(8) as libvirtd sets them.

use std::process::Output;

use uuid::Uuid;
use virtwire_conf::YesNo;
use virtwire_conf::domain::net::{Bandwidth, Interface, NativeMode, Rate, Vlan};
use virtwire_protocol::error::VirtError;

use crate::error::{QEMU, Result, file};
use crate::process::helper;

/// The type of a virtual port that is one of these.
const TYPE: &str = "openvswitch";

/// How long the switch's daemon may take.
const TIMEOUT: &str = "--timeout=5";

/// Whether an interface is plugged into such a bridge.
pub(crate) fn is_behind(interface: &Interface) -> bool {
    interface.virtualport.as_ref().and_then(|port| port.type_.as_deref()) == Some(TYPE)
}

/// Plugs the host's end of an interface of a guest into a bridge, or says anew what its port is.
///
/// # Errors
/// The switch's.
pub(crate) async fn add(guest: Uuid, interface: &Interface, dev: &str, bridge: &str) -> Result<()> {
    let done = run(to_add(guest, interface, dev, bridge)).await?;
    done.map(drop).map_err(|said| {
        QEMU.internal_error(format_args!("Unable to add port {dev} to OVS bridge {bridge}: {said}"))
    })
}

fn to_add(guest: Uuid, interface: &Interface, dev: &str, bridge: &str) -> Vec<String> {
    let mut words = words(["--", "--may-exist", "add-port", bridge, dev]);
    words.extend(["--", "set", "Port", dev, "other_config:transient=true"].map(str::to_owned));
    words.extend(interface.vlan.iter().flat_map(tags));
    let parameters = interface.virtualport.as_ref().and_then(|port| port.parameters.as_ref());
    let profile = parameters.and_then(|parameters| parameters.profileid.as_deref());
    let ids = [
        ("attached-mac", interface.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac.to_string())),
        ("iface-id", parameters.and_then(|parameters| parameters.interfaceid).map(|id| id.to_string())),
        ("vm-id", Some(guest.to_string())),
        ("port-profile", profile.map(str::to_owned)),
        // Only who knows profiles asks for it.
        ("ifname", profile.map(|_| dev.to_owned())),
    ];
    let mut set = |value: String| {
        words.extend(["--", "set", "Interface", dev].map(str::to_owned));
        words.push(value);
    };
    for (name, value) in ids.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        set(id(name, &value));
    }
    set("external-ids:iface-status=active".to_owned());
    words
}

/// What the switch remembers of a port, and can be found by.
fn id(name: &str, value: &str) -> String {
    format!("external-ids:{name}={}", quoted(value))
}

/// A text as the switch reads it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Columns of a port that say which virtual networks it is in.
fn tags(vlan: &Vlan) -> Vec<String> {
    let mut columns = Vec::new();
    let native = vlan.tag.iter().find_map(|tag| Some((tag.id, tag.native_mode?)));
    let is_trunk = vlan.trunk == Some(YesNo::Yes);
    if let Some((_, mode)) = native {
        let mode = if mode == NativeMode::Tagged { "native-tagged" } else { "native-untagged" };
        columns.push(format!("vlan_mode={mode}"));
    }
    let own = native.map(|(id, _)| id).or(vlan.tag.first().map(|tag| tag.id).filter(|_| !is_trunk));
    columns.extend(own.map(|own| format!("tag={own}")));
    if is_trunk {
        let all: Vec<String> = vlan.tag.iter().map(|tag| tag.id.to_string()).collect();
        columns.push(format!("trunk={}", all.join(",")));
    }
    columns
}

/// Puts a port into other virtual networks.
///
/// # Errors
/// The switch's.
pub(crate) async fn retag(interface: &Interface, dev: &str) -> Result<()> {
    let done = run(to_retag(interface, dev)).await?;
    done.map(drop).map_err(|said| {
        QEMU.internal_error(format_args!("Unable to set vlan configuration on port {dev}: {said}"))
    })
}

fn to_retag(interface: &Interface, dev: &str) -> Vec<String> {
    let clear = |column: &str| ["--", "--if-exists", "clear", "Port", dev, column].map(str::to_owned);
    let mut words: Vec<String> = ["tag", "trunk", "vlan_mode"].into_iter().flat_map(clear).collect();
    if let Some(vlan) = &interface.vlan {
        words.extend(["--", "--if-exists", "set", "Port", dev].map(str::to_owned));
        words.extend(tags(vlan));
    }
    words
}

/// Takes a port away; that it is not there is fine.
pub(crate) async fn remove(guest: Uuid, interface: &Interface, dev: &str) {
    let removed = async {
        if interface.bandwidth.is_some() {
            limit(guest, dev, None).await?;
        }
        let done = run(words(["--", "--if-exists", "del-port", dev])).await?;
        done.map_err(|said| QEMU.internal_error(format_args!("Unable to delete port {dev} from OVS: {said}")))
    };
    if let Err(error) = removed.await {
        tracing::warn!(dev, %error, "a port of a switch is left behind");
    }
}

/// Limits what goes through a port; what held before does no more.
///
/// # Errors
/// The switch's.
pub(crate) async fn limit(guest: Uuid, dev: &str, bandwidth: Option<&Bandwidth>) -> Result<()> {
    let failed =
        |said| QEMU.internal_error(format_args!("Unable to set vlan configuration on port {dev}: {said}"));
    let known = Known { queues: find("queue", guest, dev).await?, rules: find("qos", guest, dev).await? };
    match bandwidth.and_then(|bandwidth| bandwidth.inbound.as_ref()) {
        Some(rate) => {
            for words in known.to_guest(guest, dev, rate) {
                run(words).await?.map_err(failed)?;
            }
        }
        None => known.forget(dev).await?,
    }
    run(from_guest(dev, bandwidth.and_then(|bandwidth| bandwidth.outbound.as_ref())))
        .await?
        .map_err(failed)?;
    Ok(())
}

/// What the switch has of a port.
struct Known {
    queues: Vec<String>,
    /// Those of how queues are served (`qos`).
    rules: Vec<String>,
}

impl Known {
    /// Limits what goes to the guest.
    fn to_guest(&self, guest: Uuid, dev: &str, rate: &Rate) -> Vec<Vec<String>> {
        let bits = |kilobytes: u64| kilobytes.saturating_mul(8 * 1000);
        let mut limits = vec![format!("other_config:min-rate={}", bits(rate.average.unwrap_or_default()))];
        limits.extend(rate.burst.map(|kib| format!("other_config:burst={}", kib.saturating_mul(8 * 1024))));
        limits.extend(rate.peak.map(|peak| format!("other_config:max-rate={}", bits(peak))));
        let ids = ids(guest, dev);
        if self.queues.is_empty() && self.rules.is_empty() {
            let mut words = words(["set", "port", dev, "qos=@qos1"]);
            words.extend_from_slice(&ids);
            words.extend(["--", "--id=@qos1", "create", "qos", "type=linux-htb"].map(str::to_owned));
            words.extend_from_slice(&limits);
            words.push("queues:0=@queue0".to_owned());
            words.extend_from_slice(&ids);
            words.extend(["--", "--id=@queue0", "create", "queue"].map(str::to_owned));
            words.extend(limits.into_iter().chain(ids));
            return vec![words];
        }
        let set = |(table, row): (&str, &String)| {
            let words = words(["set", table, row]);
            words.into_iter().chain(limits.iter().cloned()).chain(ids.clone()).collect()
        };
        let queue = self.queues.first().map(|row| ("queue", row));
        queue.into_iter().chain(self.rules.first().map(|row| ("qos", row))).map(set).collect()
    }

    /// Ends the limit of what goes to the guest.
    async fn forget(&self, dev: &str) -> Result<()> {
        if let Some(rule) = self.rules.first() {
            let columns = ["--no-heading", "--columns=_uuid", "--if-exists", "list", "port", dev, "qos"];
            let used = run(words(columns)).await?.unwrap_or_default();
            if used.contains(rule) {
                warn(run(words(["remove", "port", dev, "qos", rule])).await?);
            }
            warn(run(words(["destroy", "qos", rule])).await?);
        }
        for queue in &self.queues {
            warn(run(words(["destroy", "queue", queue])).await?);
        }
        Ok(())
    }
}

/// Limits what comes from the guest.
fn from_guest(dev: &str, rate: Option<&Rate>) -> Vec<String> {
    let mut words = words(["set", "Interface", dev]);
    let average = rate.and_then(|rate| rate.average).unwrap_or_default();
    words.push(format!("ingress_policing_rate={}", average.saturating_mul(8)));
    let burst = rate.map_or(Some(0), |rate| rate.burst);
    words.extend(burst.map(|burst| format!("ingress_policing_burst={}", burst.saturating_mul(8))));
    words
}

fn ids(guest: Uuid, dev: &str) -> [String; 2] {
    [id("vm-id", &guest.to_string()), id("ifname", dev)]
}

/// The rows of a table that are a port's.
async fn find(table: &str, guest: Uuid, dev: &str) -> Result<Vec<String>> {
    let mut words = words(["--no-heading", "--columns=_uuid", "find", table]);
    words.extend(ids(guest, dev));
    let found = run(words).await?.unwrap_or_default();
    Ok(found.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

fn warn(done: std::result::Result<String, String>) {
    if let Err(said) = done {
        tracing::warn!(said, "a switch keeps what nobody uses");
    }
}

/// What the switch answers, or what it says is wrong.
///
/// # Errors
/// There is no `ovs-vsctl`.
async fn run(words: Vec<String>) -> Result<std::result::Result<String, String>> {
    let output = helper("ovs-vsctl").arg(TIMEOUT).args(words).kill_on_drop(true).output().await;
    let Output { status, stdout, stderr } = output.map_err(missing)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    Ok(if status.success() { Ok(text(stdout)) } else { Err(text(stderr)) })
}

fn missing(error: std::io::Error) -> VirtError {
    file(&error, "Cannot find 'ovs-vsctl' in path")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Uuid = Uuid::from_u128(1);

    fn interface(more: &str) -> Interface {
        let xml = format!(
            "<domain type='qemu'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices><interface type='bridge'>\
             <mac address='52:54:00:00:00:01'/><source bridge='br'/>{more}</interface></devices></domain>"
        );
        let domain = virtwire_conf::Domain::parse(&xml, &virtwire_conf::ParseOptions::default()).unwrap();
        domain.devices.interfaces[0].clone()
    }

    #[test]
    fn a_port_says_whose_it_is_and_of_which_networks() {
        let said = |vlan: &str| {
            let port = "<virtualport type='openvswitch'><parameters interfaceid='00000000-0000-0000-0000-000000000002'/>\
                        </virtualport>";
            let line = to_add(GUEST, &interface(&format!("{port}{vlan}")), "vnet0", "br").join(" ");
            let (start, end) = line.split_once(" -- set Interface ").unwrap();
            assert!(end.ends_with("external-ids:iface-status=active"), "{end}");
            assert!(end.contains("external-ids:iface-id=\"00000000-0000-0000-0000-000000000002\""), "{end}");
            let whole = "-- --may-exist add-port br vnet0 -- set Port vnet0 other_config:transient=true";
            start.strip_prefix(whole).unwrap().to_owned()
        };
        assert_eq!(said(""), "");
        assert_eq!(said("<vlan><tag id='7'/></vlan>"), " tag=7");
        assert_eq!(said("<vlan trunk='yes'><tag id='5'/></vlan>"), " trunk=5");
        assert_eq!(
            said("<vlan trunk='yes'><tag id='42' nativeMode='untagged'/><tag id='43'/></vlan>"),
            " vlan_mode=native-untagged tag=42 trunk=42,43"
        );
    }

    #[test]
    fn a_port_leaves_the_networks_that_it_was_in() {
        let cleared = "-- --if-exists clear Port v tag -- --if-exists clear Port v trunk -- --if-exists clear Port v vlan_mode";
        assert_eq!(to_retag(&interface(""), "v").join(" "), cleared);
        let tagged = to_retag(&interface("<vlan><tag id='7'/></vlan>"), "v").join(" ");
        assert_eq!(tagged, format!("{cleared} -- --if-exists set Port v tag=7"));
    }

    #[test]
    fn a_text_stays_one() {
        assert_eq!(id("port-profile", "a\"b\\c, d=e"), "external-ids:port-profile=\"a\\\"b\\\\c, d=e\"");
    }

    #[test]
    fn limits_are_bits_a_second() {
        let rate = |average, peak, burst| Rate { average: Some(average), peak, burst, ..Rate::default() };
        let none = Known { queues: Vec::new(), rules: Vec::new() };
        let lines = none.to_guest(GUEST, "vnet0", &rate(1000, Some(2000), Some(512)));
        let limits =
            "other_config:min-rate=8000000 other_config:burst=4194304 other_config:max-rate=16000000";
        let line = lines.into_iter().next().unwrap().join(" ");
        assert!(line.contains(&format!("create qos type=linux-htb {limits} queues:0=@queue0")), "{line}");
        assert!(line.contains(&format!("--id=@queue0 create queue {limits} external-ids:vm-id=")), "{line}");
        let known = Known { queues: vec!["q".to_owned()], rules: vec!["r".to_owned()] };
        let lines = known.to_guest(GUEST, "vnet0", &rate(50, None, None));
        let starts: Vec<String> = lines.iter().map(|line| line[..4].join(" ")).collect();
        assert_eq!(
            starts,
            ["set queue q other_config:min-rate=400000", "set qos r other_config:min-rate=400000"]
        );
        assert_eq!(
            from_guest("v", Some(&rate(10, None, None))).join(" "),
            "set Interface v ingress_policing_rate=80"
        );
        assert_eq!(
            from_guest("v", None).join(" "),
            "set Interface v ingress_policing_rate=0 ingress_policing_burst=0"
        );
    }
}
