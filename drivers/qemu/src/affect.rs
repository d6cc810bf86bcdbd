//! Which definitions a call changes: that of the run, the stored one, or both.

use std::sync::Arc;

use virtwire_conf::Domain;
use virtwire_protocol::remote::{DomainEventCallbackTunableMsg, Event, TypedParam};

use crate::define::replace;
use crate::driver::Qemu;
use crate::error::{Result, not_running};
use crate::guest::{Guest, Live};
use crate::info::one_definition;

/// `VIR_DOMAIN_AFFECT_LIVE`
pub(crate) const LIVE: u32 = 1;
/// `VIR_DOMAIN_AFFECT_CONFIG`
pub(crate) const CONFIG: u32 = 2;

/// What a call changes.
pub(crate) struct Affected {
    /// What runs, if that is to change.
    pub(crate) live: Option<Live>,
    /// The stored definition, if that is to change.
    pub(crate) stored: Option<Domain>,
}

impl Affected {
    /// What flags mean; of those, only the two of this module count.
    ///
    /// # Errors
    /// The guest is off, or is nowhere stored.
    pub(crate) fn of(guest: &Guest, flags: u32) -> Result<Self> {
        let inner = guest.lock();
        let (live, stored) = which(&inner, flags)?;
        Ok(Self {
            live: inner.live.clone().filter(|_| live),
            stored: inner.next().filter(|_| stored).map(Arc::unwrap_or_clone),
        })
    }
}

/// Whether flags mean the run, and whether the stored definition.
///
/// # Errors
/// The guest is off, or is nowhere stored.
pub(crate) fn which(inner: &crate::guest::Inner, flags: u32) -> Result<(bool, bool)> {
    let runs = inner.live.is_some();
    let (live, stored) = match flags & (LIVE | CONFIG) {
        0 => (runs, !runs),
        flags => (flags & LIVE != 0, flags & CONFIG != 0),
    };
    if live && !runs {
        return Err(not_running());
    }
    if stored {
        one_definition(inner, CONFIG)?;
    }
    Ok((live, stored))
}

/// Changes what is known of the run, if it has not ended meanwhile.
pub(crate) fn edit_live(driver: &Qemu, guest: &Guest, change: impl FnOnce(&mut Domain)) {
    if let Some(live) = &mut guest.lock().live {
        change(Arc::make_mut(&mut live.domain));
    }
    driver.save_status(guest);
}

/// Changes the stored definition, where there is one.
///
/// # Errors
/// What the change says, or the definition cannot be stored.
pub(crate) fn store(
    driver: &Qemu,
    guest: &Guest,
    stored: Option<Domain>,
    change: impl FnOnce(&mut Domain) -> Result<()>,
) -> Result<()> {
    let Some(mut stored) = stored else { return Ok(()) };
    change(&mut stored)?;
    replace(driver, guest, stored)
}

/// Tells of limits of a run that have changed.
pub(crate) fn tell(driver: &Qemu, guest: &Guest, params: Vec<TypedParam>) {
    let msg = DomainEventCallbackTunableMsg { callback_id: 0, dom: guest.handle(), params };
    driver.emit(Event::DomainTunable(msg));
}
