//! Title, description, and elements of other programs.

use virtwire_conf::domain::MetadataKind;
use virtwire_driver_api::check_flags;
use virtwire_protocol::remote::*;
use virtwire_protocol::{VirtError, XdrString};

use crate::{NETWORK, Networks, Result};

/// `VIR_NETWORK_UPDATE_AFFECT_LIVE` and `…_CONFIG`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;

/// There is only what is stored.
fn check(flags: u32, function: &str) -> Result<()> {
    check_flags(NETWORK, flags, LIVE | CONFIG, function)?;
    if flags & LIVE != 0 {
        return Err(NETWORK.operation_invalid("network is not running"));
    }
    Ok(())
}

pub(crate) async fn get(networks: &Networks, args: NetworkGetMetadataArgs) -> Result<NetworkGetMetadataRet> {
    let uri = args.uri.map(|uri| uri.to_string()).unwrap_or_default();
    networks.with(&args.network, |network| {
        check(args.flags, "networkGetMetadata")?;
        let kind = MetadataKind::new(args.r#type).map_err(|error| VirtError { domain: NETWORK, ..error })?;
        Ok(NetworkGetMetadataRet { metadata: network.definition.metadata_of(kind, &uri)?.into() })
    })
}

pub(crate) async fn set(networks: &Networks, args: NetworkSetMetadataArgs) -> Result<()> {
    let text = |text: &Option<XdrString>| text.as_ref().map(ToString::to_string);
    let (value, key, uri) = (text(&args.metadata), text(&args.key), text(&args.uri));
    let net = networks.with(&args.network, |network| {
        check(args.flags, "networkSetMetadata")?;
        let kind = MetadataKind::new(args.r#type).map_err(|error| VirtError { domain: NETWORK, ..error })?;
        let mut changed = network.definition.clone();
        changed.set_metadata(kind, value.as_deref(), key.as_deref(), uri.as_deref())?;
        networks.write(&changed)?;
        network.definition = changed;
        Ok(network.handle())
    })?;
    let msg =
        NetworkEventCallbackMetadataChangeMsg { callback_id: 0, net, r#type: args.r#type, nsuri: args.uri };
    networks.events.emit(Event::NetworkMetadataChange(msg));
    Ok(())
}
