//! SCSI: hosts, targets, devices.

use virtwire_conf::nodedev::{
    Capability, FcHost, FcRemotePort, ScsiCapability, ScsiHostCapability, ScsiTargetCapability, VportOps,
};

use crate::sysfs::{Facts, file_name, text};

/// Device types of SCSI by their number.
const TYPES: [(u32, &str); 10] = [
    (0x0, "disk"),
    (0x1, "tape"),
    (0x3, "processor"),
    (0x4, "worm"),
    (0x5, "cdrom"),
    (0x6, "scanner"),
    (0x7, "mod"),
    (0x8, "changer"),
    (0xc, "raid"),
    (0xd, "enclosure"),
];

pub(crate) fn host(facts: &Facts<'_>) -> Option<ScsiHostCapability> {
    let name = facts.name();
    let class = |class: &str| facts.places.sys.join("class").join(class).join(&name);
    let unique_id = text(&class("scsi_host").join("unique_id")).and_then(|id| id.trim().parse().ok());
    let port = class("fc_host");
    let mut capabilities = Vec::new();
    let wwn = |name: &str| Some(text(&port.join(name))?.trim_start_matches("0x").to_owned());
    if port.exists() {
        let (wwnn, wwpn, fabric_wwn) = (wwn("node_name"), wwn("port_name"), wwn("fabric_name"));
        capabilities.push(Capability::FcHost(FcHost { wwnn, wwpn, fabric_wwn }));
    }
    let number = |name: &str| {
        let of = |dir: std::path::PathBuf| text(&dir.join(name)).and_then(|text| text.parse().ok());
        of(port.clone()).or_else(|| of(class("scsi_host")))
    };
    if let (Some(max_vports), Some(vports)) = (number("max_npiv_vports"), number("npiv_vports_inuse")) {
        let ops = VportOps { max_vports: Some(max_vports), vports: Some(vports) };
        capabilities.push(Capability::VportOps(ops));
    }
    Some(ScsiHostCapability { host: name.strip_prefix("host")?.parse().ok(), unique_id, capabilities })
}

pub(crate) fn target(facts: &Facts<'_>) -> Option<ScsiTargetCapability> {
    let rport = facts.path.parent().and_then(file_name).filter(|name| name.starts_with("rport-"));
    let port = rport.map(|rport| {
        let name = facts.places.sys.join("class/fc_remote_ports").join(&rport).join("port_name");
        FcRemotePort { wwpn: text(&name), rport: Some(rport) }
    });
    let capabilities = port.map(Capability::FcRemotePort).into_iter().collect();
    Some(ScsiTargetCapability { target: Some(facts.name()), capabilities })
}

pub(crate) fn device(facts: &Facts<'_>) -> Option<ScsiCapability> {
    let name = facts.name();
    let mut parts = name.split(':').map(|part| part.parse().ok());
    let mut next = || parts.next().flatten();
    let (host, bus, target, lun) = (next()?, next()?, next()?, next()?);
    let number: Option<u32> = facts.number("type");
    let type_ = TYPES.iter().find(|(known, _)| Some(*known) == number).map(|(_, name)| (*name).to_owned());
    Some(ScsiCapability { host: Some(host), bus: Some(bus), target: Some(target), lun: Some(lun), type_ })
}
