//! Title, description, and elements of other programs.

use virtwire_conf::domain::MetadataKind;
use virtwire_protocol::remote::{self as wire, Event};

use super::guest::affect;
use crate::error::{Result, check_flags};
use crate::host::Host;

const KNOWN: u32 = affect::LIVE | affect::CONFIG;

pub(crate) fn get(host: &mut Host, args: wire::DomainGetMetadataArgs) -> Result<wire::DomainGetMetadataRet> {
    check_flags(args.flags, KNOWN, "testDomainGetMetadata")?;
    let domain = host.guest(&args.dom)?.one_definition(args.flags)?.domain();
    let uri = args.uri.map(|uri| uri.to_string()).unwrap_or_default();
    let metadata = domain.metadata_of(MetadataKind::new(args.r#type)?, &uri)?;
    Ok(wire::DomainGetMetadataRet { metadata: metadata.into() })
}

pub(crate) fn set(host: &mut Host, args: wire::DomainSetMetadataArgs) -> Result<()> {
    check_flags(args.flags, KNOWN, "testDomainSetMetadata")?;
    let kind = MetadataKind::new(args.r#type)?;
    let text = |text: &Option<virtwire_protocol::XdrString>| text.as_ref().map(ToString::to_string);
    let (value, key, uri) = (text(&args.metadata), text(&args.key), text(&args.uri));
    let guest = host.guest_mut(&args.dom)?;
    guest.change(args.flags, |domain| {
        domain.set_metadata(kind, value.as_deref(), key.as_deref(), uri.as_deref())
    })?;
    let event = Event::DomainMetadataChange(wire::DomainEventCallbackMetadataChangeMsg {
        callback_id: 0,
        dom: guest.wire.clone(),
        r#type: args.r#type,
        nsuri: args.uri,
    });
    host.emit(event);
    Ok(())
}
