//! Network interfaces.

use std::pin::pin;

use ethtool::{EthtoolAttr, EthtoolFeatureAttr};
use futures_util::TryStreamExt;
use virtwire_conf::domain::device::NoParts;
use virtwire_conf::interface::HostLink;
use virtwire_conf::nodedev::{Capability, NetCapability, NetFeature};

use crate::sysfs::Facts;

/// What an interface can do, and the kernel's features of which one is enough for it.
const FEATURES: [(&str, &[&str]); 12] = [
    ("rx", &["rx-checksum"]),
    (
        "tx",
        &[
            "tx-checksum-ipv4",
            "tx-checksum-ip-generic",
            "tx-checksum-ipv6",
            "tx-checksum-fcoe-crc",
            "tx-checksum-sctp",
        ],
    ),
    ("sg", &["tx-scatter-gather", "tx-scatter-gather-fraglist"]),
    (
        "tso",
        &[
            "tx-tcp-segmentation",
            "tx-tcp-ecn-segmentation",
            "tx-tcp-mangleid-segmentation",
            "tx-tcp6-segmentation",
        ],
    ),
    ("gso", &["tx-generic-segmentation"]),
    ("gro", &["rx-gro"]),
    ("lro", &["rx-lro"]),
    ("rxvlan", &["rx-vlan-hw-parse"]),
    ("txvlan", &["tx-vlan-hw-insert"]),
    ("ntuple", &["rx-ntuple-filter"]),
    ("rxhash", &["rx-hashing"]),
    ("txudptnl", &["tx-udp_tnl-segmentation"]),
];

pub(crate) fn capability(facts: &Facts<'_>) -> Option<NetCapability> {
    let wireless = facts.property("DEVTYPE") == Some("wlan");
    let kind = if wireless { Capability::Wireless } else { Capability::Wired };
    Some(NetCapability {
        interface: Some(facts.property("INTERFACE")?.to_owned()),
        address: facts.attribute("address"),
        link: link(facts),
        feature: Vec::new(),
        capabilities: vec![kind(NoParts::default())],
    })
}

/// The state of an interface, and its speed in Mbit/s while it is up.
fn link(facts: &Facts<'_>) -> Option<HostLink> {
    let state = facts.attribute("operstate")?;
    // One that the kernel does not know is -1, which is shown as it is read.
    let speed = facts.number::<i64>("speed").filter(|_| state == "up").map(|speed| speed as u32);
    Some(HostLink { speed, state: Some(state) })
}

/// What an interface of the host's can do; nothing where that cannot be asked.
pub(crate) async fn features(interface: &str) -> Vec<NetFeature> {
    let on = active_features(interface).await.unwrap_or_default();
    let has = |names: &[&str]| names.iter().any(|name| on.iter().any(|on| on == name));
    let found = FEATURES.iter().filter(|(_, names)| has(names));
    found.map(|(name, _)| NetFeature { name: (*name).to_owned() }).collect()
}

async fn active_features(interface: &str) -> Option<Vec<String>> {
    let (connection, mut handle, _) = ethtool::new_connection().ok()?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let mut answers = pin!(handle.feature().get(Some(interface)).execute().await.ok()?);
        answers.try_next().await.ok()?
    };
    let answer = answer.await;
    connection.abort();
    let active = answer?.payload.nlas.into_iter().find_map(|attribute| match attribute {
        EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) => Some(bits),
        _ => None,
    });
    Some(active?.into_iter().filter(|bit| bit.value).map(|bit| bit.name).collect())
}
