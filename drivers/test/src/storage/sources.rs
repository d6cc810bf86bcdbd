//! What a search for pools to be finds.

use virtwire_conf::storage::{PoolSource, PoolType};
use virtwire_conf::table::Element;
use virtwire_conf::xml::Document;
use virtwire_protocol::remote::*;

use super::STORAGE;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;
use crate::node::escaped;

/// Two volume groups.
const LOGICAL: &str = "<sources>
  <source>
    <device path='/dev/sda20'/>
    <name>testvg1</name>
    <format type='lvm2'/>
  </source>
  <source>
    <device path='/dev/sda21'/>
    <name>testvg2</name>
    <format type='lvm2'/>
  </source>
</sources>
";

/// A share of the server that was asked for.
const NETFS: &str = "<sources>
  <source>
    <host name='HOST'/>
    <dir path='/testshare'/>
    <format type='nfs'/>
  </source>
</sources>
";

pub(super) fn find(
    _: &mut Host,
    args: ConnectFindStoragePoolSourcesArgs,
) -> Result<ConnectFindStoragePoolSourcesRet> {
    check_flags(args.flags, 0, "testConnectFindStoragePoolSources")?;
    let kind = args.r#type.to_string();
    if !PoolType::ALL.iter().any(|known| known.as_str() == kind) {
        let text = format_args!("pool type '{kind}' does not support source discovery");
        return Err(TEST.no_support(text));
    }
    let spec = args.src_spec.map(|spec| spec.to_string());
    let source = match &spec {
        Some(spec) => Some(PoolSource::read(Document::parse_root(spec, "source", STORAGE)?.root())?),
        None => None,
    };
    let xml = match kind.as_str() {
        "logical" => LOGICAL.to_owned(),
        "netfs" => {
            let host = source.as_ref().and_then(|source| source.hosts.first()?.name.as_deref());
            let host =
                host.ok_or_else(|| TEST.invalid_arg("hostname must be specified for netfs sources"))?;
            NETFS.replace("HOST", &escaped(host))
        }
        _ => return Err(TEST.internal_error(format_args!("unknown storage pool type {kind}"))),
    };
    Ok(ConnectFindStoragePoolSourcesRet { xml: xml.into() })
}
