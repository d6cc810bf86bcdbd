//! Title, description, and elements of other programs.

use virtwire_conf::domain::MetadataKind;
use virtwire_protocol::remote::{self as wire, Event};
use virtwire_protocol::{VirtError, XdrString};

use super::NETWORK;
use crate::domain::guest::affect;
use crate::error::{Result, TEST, check_flags, unknown_cause, uuid_text};
use crate::host::Host;
use crate::network::Network;

const KNOWN: u32 = affect::LIVE | affect::CONFIG;

/// The network that a client means.
fn target<'h>(host: &'h mut Host, net: &wire::NonnullNetwork) -> Result<&'h mut Network> {
    let missing = || {
        TEST.no_network(format_args!(
            "no network with matching uuid '{}' ({})",
            uuid_text(&net.uuid),
            net.name
        ))
    };
    host.networks.by_uuid_mut(&net.uuid).ok_or_else(missing)
}

/// The same error, as one about a network.
fn of_network(error: VirtError) -> VirtError {
    VirtError { domain: NETWORK, ..error }
}

/// The one definition that `flags` mean. A running network that was not redefined has none for later.
fn definition(network: &mut Network, flags: u32) -> Result<&mut virtwire_conf::Network> {
    let (_, config) = network.affected(flags)?;
    match (config && network.active, &mut network.next) {
        (true, Some(next)) => Ok(next),
        (true, None) => Err(unknown_cause()),
        (false, _) => Ok(&mut network.definition),
    }
}

pub(super) fn get(
    host: &mut Host,
    args: wire::NetworkGetMetadataArgs,
) -> Result<wire::NetworkGetMetadataRet> {
    check_flags(args.flags, KNOWN, "testNetworkGetMetadata")?;
    let definition = definition(target(host, &args.network)?, args.flags)?;
    let uri = args.uri.map(|uri| uri.to_string()).unwrap_or_default();
    let kind = MetadataKind::new(args.r#type).map_err(of_network)?;
    let metadata = definition.metadata_of(kind, &uri)?;
    Ok(wire::NetworkGetMetadataRet { metadata: metadata.into() })
}

pub(super) fn set(host: &mut Host, args: wire::NetworkSetMetadataArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "testNetworkSetMetadata")?;
    let kind = MetadataKind::new(args.r#type).map_err(of_network)?;
    let text = |text: &Option<XdrString>| text.as_ref().map(ToString::to_string);
    let (value, key, uri) = (text(&args.metadata), text(&args.key), text(&args.uri));
    let network = target(host, &args.network)?;
    let definition = definition(network, args.flags)?;
    definition.set_metadata(kind, value.as_deref(), key.as_deref(), uri.as_deref())?;
    let event = Event::NetworkMetadataChange(wire::NetworkEventCallbackMetadataChangeMsg {
        callback_id: 0,
        net: network.wire(),
        r#type: args.r#type,
        nsuri: args.uri,
    });
    host.emit(event);
    Ok(())
}
