//! Title, description, and elements of other programs.

use virtwire_conf::domain::MetadataKind;
use virtwire_driver_api::check_flags;
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::define::replace;
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::info::one_definition;

const LIVE: u32 = 1;
const CONFIG: u32 = 2;

pub(crate) async fn get(driver: &Qemu, args: DomainGetMetadataArgs) -> Result<DomainGetMetadataRet> {
    check_flags(ErrorDomain::DOMAIN, args.flags, LIVE | CONFIG, "virDomainObjGetMetadata")?;
    let guest = driver.guest(&args.dom)?;
    let domain = one_definition(&guest.lock(), args.flags)?;
    let uri = args.uri.map(|uri| uri.to_string()).unwrap_or_default();
    let metadata = domain.metadata_of(MetadataKind::new(args.r#type)?, &uri)?;
    Ok(DomainGetMetadataRet { metadata: metadata.into() })
}

pub(crate) async fn set(driver: &Qemu, args: DomainSetMetadataArgs) -> Result<()> {
    check_flags(QEMU, args.flags, LIVE | CONFIG, "qemuDomainSetMetadata")?;
    let kind = MetadataKind::new(args.r#type)?;
    let text = |text: &Option<virtwire_protocol::XdrString>| text.as_ref().map(ToString::to_string);
    let (value, key, uri) = (text(&args.metadata), text(&args.key), text(&args.uri));
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    one_definition(&guest.lock(), args.flags)?;
    let live = guest.lock().live.clone();
    let to_live = args.flags & LIVE != 0 || (args.flags & CONFIG == 0 && live.is_some());
    if let (true, Some(live)) = (to_live, live) {
        let mut changed = (*live.domain).clone();
        changed.set_metadata(kind, value.as_deref(), key.as_deref(), uri.as_deref())?;
        if let Some(live) = &mut guest.lock().live {
            live.domain = changed.into();
        }
    }
    let stored = guest.lock().persistent.as_ref().map(|definition| (*definition.domain).clone());
    if let (true, Some(mut changed)) = (args.flags & CONFIG != 0 || !to_live, stored) {
        changed.set_metadata(kind, value.as_deref(), key.as_deref(), uri.as_deref())?;
        replace(driver, &guest, changed)?;
    }
    driver.emit(Event::DomainMetadataChange(DomainEventCallbackMetadataChangeMsg {
        callback_id: 0,
        dom: guest.handle(),
        r#type: args.r#type,
        nsuri: args.uri,
    }));
    Ok(())
}
