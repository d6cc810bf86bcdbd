//! Title, description, and elements of other programs.

use virtwire_conf::Network as Definition;
use virtwire_conf::domain::MetadataKind;
use virtwire_driver_api::check_flags;
use virtwire_protocol::remote::*;
use virtwire_protocol::{VirtError, XdrString};

use crate::{NETWORK, Network, Networks, Result, run};

/// `VIR_NETWORK_UPDATE_AFFECT_LIVE` and `…_CONFIG`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;

/// Which of the two is meant: what runs, what is stored. With neither flag it is what runs, if it does.
fn meant(network: &Network, flags: u32, function: &str) -> Result<(bool, bool)> {
    check_flags(NETWORK, flags, LIVE | CONFIG, function)?;
    let runs = network.live.is_some();
    if flags & LIVE != 0 && !runs {
        return Err(NETWORK.operation_invalid("network is not running"));
    }
    if flags & CONFIG != 0 && network.stored.is_none() {
        return Err(NETWORK.operation_invalid("cannot change persistent config of a transient network"));
    }
    let none = flags & (LIVE | CONFIG) == 0;
    Ok((flags & LIVE != 0 || none && runs, flags & CONFIG != 0 || none && !runs))
}

pub(crate) async fn get(networks: &Networks, args: NetworkGetMetadataArgs) -> Result<NetworkGetMetadataRet> {
    let uri = args.uri.map(|uri| uri.to_string()).unwrap_or_default();
    networks.with(&args.network, |network| {
        let (live, _) = meant(network, args.flags, "networkGetMetadata")?;
        let kind = MetadataKind::new(args.r#type).map_err(|error| VirtError { domain: NETWORK, ..error })?;
        let running = network.live.as_ref().filter(|_| live).map(|live| &live.definition);
        let definition = running.or(network.stored.as_ref()).ok_or_else(|| network.inactive())?;
        Ok(NetworkGetMetadataRet { metadata: definition.metadata_of(kind, &uri)?.into() })
    })
}

pub(crate) async fn set(networks: &Networks, args: NetworkSetMetadataArgs) -> Result<()> {
    let text = |text: &Option<XdrString>| text.as_ref().map(ToString::to_string);
    let (value, key, uri) = (text(&args.metadata), text(&args.key), text(&args.uri));
    let net = networks.with(&args.network, |network| {
        let (live, stored) = meant(network, args.flags, "networkSetMetadata")?;
        let kind = MetadataKind::new(args.r#type).map_err(|error| VirtError { domain: NETWORK, ..error })?;
        let changed = |definition: &Definition| {
            let mut changed = definition.clone();
            changed.set_metadata(kind, value.as_deref(), key.as_deref(), uri.as_deref())?;
            Ok::<_, VirtError>(changed)
        };
        if let Some(running) = network.live.as_mut().filter(|_| live) {
            let new = changed(&running.definition)?;
            run::remember(&networks.places, &new)?;
            running.definition = new;
        }
        if let Some(old) = network.stored.as_mut().filter(|_| stored) {
            let new = changed(old)?;
            networks.write(&new)?;
            *old = new;
        }
        Ok(network.handle())
    })?;
    let msg =
        NetworkEventCallbackMetadataChangeMsg { callback_id: 0, net, r#type: args.r#type, nsuri: args.uri };
    networks.events.emit(Event::NetworkMetadataChange(msg));
    Ok(())
}
