//! Of an interface, the host's end can be plugged in elsewhere, and the cable can be pulled.

use std::sync::Arc;

use virtwire_conf::YesNo;
use virtwire_conf::domain::net::{Interface, InterfaceDriver, InterfaceType, LinkState};

use super::fields::{Field, differing, keeps_names, shown};
use crate::affect::edit_live;
use crate::argv::alias;
use crate::bandwidth;
use crate::devices::set_link;
use crate::driver::Qemu;
use crate::error::{QEMU, Result};
use crate::filter;
use crate::guest::Guest;
use crate::plug::{self, Owner};

macro_rules! of {
    ($part:ident $field:ident) => {
        |net| shown(&net.$part.as_ref().and_then(|part| part.$field.clone()))
    };
}

/// What stays as it is while a guest runs, and what is said of it.
const FIXED: &[Field<Interface>] = &[
    ("cannot modify virtio network device driver attributes", |net| {
        let said = net.driver.clone().unwrap_or_default();
        format!("{:?}", InterfaceDriver { virtio: Default::default(), ..said })
    }),
    ("cannot modify virtio network device driver options", |net| {
        format!("{:?}", net.driver.clone().unwrap_or_default().virtio)
    }),
    ("cannot modify network device script attribute", of!(script path)),
    ("cannot modify network device tap name", of!(target dev)),
    ("cannot modify network device boot index setting", |net| shown(&net.info.boot)),
    ("cannot modify network device rom bar setting", |net| {
        shown(&net.info.rom.as_ref().and_then(|rom| rom.bar))
    }),
    ("cannot modify network rom file", |net| shown(&net.info.rom.as_ref().and_then(|rom| rom.file.clone()))),
    ("cannot modify network device rom enabled setting", |net| {
        shown(&net.info.rom.as_ref().and_then(|rom| rom.enabled))
    }),
    ("cannot modify network device backend settings", |net| shown(&net.backend)),
    ("cannot modify network device portgroup attribute", of!(source portgroup)),
    ("cannot modify MTU", of!(mtu size)),
];

fn is_bridged(net: &Interface) -> bool {
    matches!(net.type_, InterfaceType::Network | InterfaceType::Bridge)
}

/// What only a new host's end could have.
fn host_end(net: &Interface) -> String {
    let source = net.source.clone().map(|mut source| {
        source.portid = None;
        if is_bridged(net) {
            // Where it is plugged in can change.
            (source.network, source.bridge) = (None, None);
        }
        source
    });
    format!("{:?} {:?}", source.filter(|source| *source != Default::default()), net.tune)
}

fn mac(net: &Interface) -> String {
    net.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac.to_string()).unwrap_or_default()
}

fn model(net: &Interface) -> &str {
    net.model.as_ref().and_then(|model| model.type_.as_deref()).unwrap_or("rtl8139")
}

/// Whether the cable is said to be in or out.
fn link(net: &Interface) -> Option<LinkState> {
    net.link.as_ref().and_then(|link| link.state)
}

pub(super) async fn update(
    driver: &Qemu,
    guest: &Arc<Guest>,
    (old, asked): (&Interface, &Interface),
    mut new: Interface,
) -> Result<()> {
    keeps_names(&old.info, &new.info)?;
    // A name like those that are made up is not kept in a definition.
    if let Some(dev) = asked.target.as_ref().and_then(|target| target.dev.clone()) {
        new.target.get_or_insert_default().dev = Some(dev);
    }
    new.info.alias.clone_from(&old.info.alias);
    let target = old.target.clone();
    match &mut new.target {
        None => new.target = target,
        Some(given) if given.dev.is_none() => given.dev = target.and_then(|target| target.dev),
        Some(_) => {}
    }
    check(old, &new)?;
    let live = guest.live()?;
    // As in libvirt, what is changed of an interface of a network is asked of the network anew.
    let is_asked = new.type_ == InterfaceType::Network;
    let elsewhere = place(old) != place(&new)
        || is_isolated(old) != is_isolated(&new)
        || (&old.vlan, &old.virtualport) != (&new.vlan, &new.virtualport);
    let moves = is_asked || is_bridged(&new) && elsewhere;
    let owner = Owner::of(&live.domain);
    let filters = old.filterref != new.filterref;
    if filters {
        filter::change(driver, &owner, old, &new).await?;
    }
    if moves {
        let moved = plug::replug(driver, &live.domain, old, &mut new).await;
        if moved.is_err()
            && filters
            && let Err(error) = filter::change(driver, &owner, &new, old).await
        {
            tracing::error!(guest = guest.name, %error, "an interface has not the filter that it had");
        }
        moved?;
    } else if is_bridged(&new) {
        // The port that it has stays its own.
        (new.type_, new.source) = (old.type_, old.source.clone());
    }
    if link(old) != link(&new) {
        set_link(&live, old, &new).await?;
    }
    // A port elsewhere begins without limits.
    let limits = old.bandwidth != new.bandwidth || moves && new.bandwidth.is_some();
    if limits && new.target.as_ref().is_some_and(|target| target.dev.is_some()) {
        bandwidth::limit(live.domain.uuid.unwrap_or_default(), &new, new.bandwidth.as_ref()).await?;
    }
    let name = alias(&old.info).to_owned();
    edit_live(driver, guest, |domain| {
        let mut all = domain.devices.interfaces.iter_mut();
        if let Some(known) = all.find(|known| alias(&known.info) == name) {
            *known = new;
        }
    });
    if moves {
        plug::disconnect(driver, &owner, std::slice::from_ref(old)).await;
    }
    Ok(())
}

fn is_isolated(net: &Interface) -> bool {
    net.port.as_ref().is_some_and(|port| port.isolated == Some(YesNo::Yes))
}

/// Into what it is plugged, as the definition says it.
fn place(net: &Interface) -> (Option<&str>, Option<&str>) {
    let source = net.source.as_ref();
    let network = source.and_then(|source| source.network.as_deref());
    // The bridge of a network is the network's to know.
    let bridge = source.and_then(|source| source.bridge.as_deref()).filter(|_| network.is_none());
    (network, bridge)
}

fn check(old: &Interface, new: &Interface) -> Result<()> {
    let refused = |text: String| Err(QEMU.operation_unsupported(text));
    if mac(old) != mac(new) {
        let (old, new) = (mac(old), mac(new));
        return refused(format!("cannot change network interface mac address from {old} to {new}"));
    }
    if model(old) != model(new) {
        let (old, new) = (model(old), model(new));
        return refused(format!("cannot modify network device model from {old} to {new}"));
    }
    if let Some(text) = differing(FIXED, old, new) {
        return refused(text.to_owned());
    }
    let same = old.type_ == new.type_ || is_bridged(old) && is_bridged(new);
    if !same || host_end(old) != host_end(new) {
        let kind = new.type_;
        return refused(format!("unable to change config on '{kind}' network type"));
    }
    if !is_bridged(new) && new.coalesce != old.coalesce {
        let text = format_args!("coalesce settings on interface type {} are not supported", new.type_);
        return Err(QEMU.config_unsupported(text));
    }
    if new.vlan != old.vlan && !is_bridged(new) {
        return Err(QEMU.internal_error("Missing bridge name"));
    }
    let is_known = new.target.as_ref().is_some_and(|target| target.dev.is_some());
    if !is_known && new.bandwidth != old.bandwidth {
        let text = "Unable to set bandwidth for interface because device name is unknown";
        return refused(text.to_owned());
    }
    Ok(())
}
