//! The host, its devices, and secrets.

use uuid::Uuid;
use virtwire_protocol::XdrString;
use virtwire_protocol::remote::{NodeGetInfoRet, NonnullSecret};

use super::table::text;

/// The host's memory and CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// The kind of CPU, such as `x86_64`.
    pub model: String,
    /// Memory, in KiB.
    pub memory_kib: u64,
    /// CPUs that run.
    pub cpus: i32,
    /// Their frequency; 0 where it is not known.
    pub mhz: i32,
    /// NUMA nodes.
    pub nodes: i32,
    /// Sockets per node.
    pub sockets: i32,
    /// Cores per socket.
    pub cores: i32,
    /// Threads per core.
    pub threads: i32,
}

impl From<NodeGetInfoRet> for NodeInfo {
    fn from(ret: NodeGetInfoRet) -> Self {
        let name = ret.model.split(|byte| *byte == 0).next().unwrap_or_default();
        Self {
            model: String::from_utf8_lossy(name).into_owned(),
            memory_kib: ret.memory,
            cpus: ret.cpus,
            mhz: ret.mhz,
            nodes: ret.nodes,
            sockets: ret.sockets,
            cores: ret.cores,
            threads: ret.threads,
        }
    }
}

object! {
    /// A device of the host.
    NodeDevice(NonnullNodeDevice)
}

object! {
    /// A secret, such as the key of an encrypted volume.
    Secret(NonnullSecret)
}

impl NodeDevice {
    fn handle(&self) -> XdrString {
        self.raw.name.clone()
    }

    /// Its name.
    pub fn name(&self) -> String {
        text(&self.raw.name)
    }
}

methods! { NodeDevice [name = handle] {
    /// Its definition.
    fn xml(flags: u32) -> String = node_device_get_xml_desc NodeDeviceGetXmlDescArgs |_, ret| text(&ret.xml);
    /// The device that it is a part of.
    fn parent() -> Option<String> =
        node_device_get_parent NodeDeviceGetParentArgs |_, ret| ret.parent_name.as_ref().map(text);
    /// Takes it from the host's driver, so that a guest can have it.
    fn detach(driver_name: Option<&str>, flags: u32) =
        node_device_detach_flags NodeDeviceDetachFlagsArgs;
    /// Gives it back to the host's driver.
    fn reattach() = node_device_re_attach NodeDeviceReAttachArgs;
    /// Resets it.
    fn reset() = node_device_reset NodeDeviceResetArgs;
    /// Removes a virtual device.
    fn destroy() = node_device_destroy NodeDeviceDestroyArgs;
} }

impl Secret {
    fn handle(&self) -> NonnullSecret {
        self.raw.clone()
    }

    /// Its UUID.
    pub fn uuid(&self) -> Uuid {
        Uuid::from_bytes(self.raw.uuid)
    }

    /// What it is for: `virSecretUsageType`, and the name of its use.
    pub fn usage(&self) -> (i32, String) {
        (self.raw.usage_type, text(&self.raw.usage_id))
    }
}

methods! { Secret [secret = handle] {
    /// Its definition, without its value.
    fn xml(flags: u32) -> String = secret_get_xml_desc SecretGetXmlDescArgs |_, ret| text(&ret.xml);
    /// Its value; private ones are not told.
    fn value(flags: u32) -> Vec<u8> = secret_get_value SecretGetValueArgs |_, ret| ret.value;
    /// Gives it a value.
    fn set_value(value: &[u8], flags: u32) = secret_set_value SecretSetValueArgs;
    /// Removes it.
    fn undefine() = secret_undefine SecretUndefineArgs;
} }
