//! What has to be there before an image's nodes: secrets, credentials, helpers.

use virtwire_conf::domain::disk::{
    Cookies, Disk, Reservations, SecretReference, StorageProtocol, StorageType,
};
use virtwire_conf::secret::SecretUsageType;
use virtwire_conf::{Domain, YesNo};
use virtwire_protocol::VirtError;

use super::super::tls::Credentials;
use super::super::{Context, Json};
use super::MANAGED_HELPER;
use super::image::{Image, chain};
use crate::command::CommandLine;

/// The objects of one image.
pub(super) fn add(line: &mut CommandLine, image: &Image<'_>, context: &Context<'_>) -> Result<(), VirtError> {
    let mut secret = |id: String, value: &[u8]| context.vault.object(id, value).add(line);
    if let Some((id, path)) = own_helper(image) {
        Json::object("pr-manager-helper", id).with("path", path).add(line);
        return Ok(());
    }
    if image.kind == StorageType::Network
        && let Some(reference) = image.auth().and_then(|auth| auth.secret.as_ref())
    {
        secret(image.auth_secret(), context.vault.value(reference)?);
    }
    if let Some(cookies) = &image.source.cookies {
        secret(image.cookie_secret(), cookie_header(cookies).as_bytes());
    }
    if image.uses_tls() {
        let tls = Credentials { tls: &context.policy.nbd, vault: &context.vault };
        tls.add(line, &image.tls_object(), &image.tls_secret(), false)?;
    }
    let mut secret = |id: String, value: &[u8]| context.vault.object(id, value).add(line);
    for (place, reference) in image.encryption().iter().flat_map(|encryption| &encryption.secret).enumerate()
    {
        secret(image.encryption_secret(place), context.vault.value(reference)?);
    }
    Ok(())
}

fn cookie_header(cookies: &Cookies) -> String {
    let pairs = cookies.cookie.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value));
    pairs.collect::<Vec<_>>().join("; ")
}

/// The secrets that a disk's images need, and what each has to be for.
pub(crate) fn secrets_of(disk: &Disk) -> impl Iterator<Item = (SecretUsageType, &SecretReference)> {
    chain(disk).into_iter().flat_map(|image| {
        let auth = image.auth().and_then(|auth| auth.secret.as_ref());
        let kind = match image.source.protocol {
            Some(StorageProtocol::Rbd) => SecretUsageType::Ceph,
            _ => SecretUsageType::Iscsi,
        };
        let encryption = image.encryption().into_iter().flat_map(|encryption| &encryption.secret);
        auth.map(|secret| (kind, secret))
            .into_iter()
            .chain(encryption.map(|secret| (SecretUsageType::Volume, secret)))
            .collect::<Vec<_>>()
    })
}

/// A helper for SCSI reservations that somebody else looks after, and its socket.
fn own_helper(image: &Image<'_>) -> Option<(String, String)> {
    let reservations = image.source.reservations.as_ref().filter(|reservations| !is_managed(reservations))?;
    let path = reservations.source.as_ref().and_then(|source| source.path.clone()).unwrap_or_default();
    Some((image.reservations()?, path))
}

fn is_managed(reservations: &Reservations) -> bool {
    reservations.managed != Some(YesNo::No)
}

/// The helper for SCSI reservations that the daemon looks after, where a disk needs it.
pub(in crate::argv) fn managed_helper(line: &mut CommandLine, domain: &Domain, context: &Context<'_>) {
    let needs = |disk: &Disk| {
        chain(disk).iter().any(|image| image.source.reservations.as_ref().is_some_and(is_managed))
    };
    if domain.devices.disks.iter().any(needs) {
        let socket = context.dir.join(format!("{MANAGED_HELPER}.sock"));
        Json::object("pr-manager-helper", MANAGED_HELPER).with("path", socket.to_string_lossy()).add(line);
    }
}
