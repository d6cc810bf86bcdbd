//! What a command line needs from beside the guests: the values of secrets.

use std::path::Path;

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::SecretReference;
use virtwire_conf::secret::SecretUsageType;
use virtwire_driver_api::{CallCx, SecretDriver};
use virtwire_protocol::remote::{
    NonnullSecret, SecretGetValueArgs, SecretLookupByUsageArgs, SecretLookupByUuidArgs,
};

use crate::argv::Vault;
use crate::argv::storage::secrets_of;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, file};

/// Where a guest's key is, in its directory.
pub(crate) const KEY_FILE: &str = "master-key.aes";

/// The key of a running guest.
pub(crate) fn vault_of(dir: &Path) -> Result<Vault> {
    let path = dir.join(KEY_FILE);
    let key = std::fs::read(&path).map_err(|e| file(&e, format_args!("cannot read '{}'", path.display())))?;
    let key = key.try_into().map_err(|_| QEMU.internal_error("the guest's key is not one"))?;
    Ok(Vault::with_key(key))
}

/// Fills in the values of all secrets that the devices of a guest name.
///
/// # Errors
/// The secret driver's: there is no such secret, or it has no value.
pub(crate) async fn unlock(driver: &Qemu, domain: &Domain, mut vault: Vault) -> Result<Vault> {
    let companions = driver.companions();
    for disk in &domain.devices.disks {
        for (kind, reference) in secrets_of(disk) {
            let Some(secrets) = &companions.secret else {
                return Err(QEMU.no_support("no driver for secrets"));
            };
            vault.insert(reference.clone(), value(&**secrets, kind, reference).await?);
        }
    }
    Ok(vault)
}

async fn value(
    secrets: &dyn SecretDriver,
    kind: SecretUsageType,
    reference: &SecretReference,
) -> Result<Vec<u8>> {
    let cx = CallCx { internal: true, ..CallCx::default() };
    let secret = find(secrets, &cx, kind, reference).await?;
    let of = SecretUsageType::from_number(secret.usage_type);
    if of != Some(kind) {
        return Err(QEMU.invalid_arg(format_args!(
            "secret with uuid {} is of type '{}' not expected '{}' type",
            uuid::Uuid::from_bytes(secret.uuid),
            of.map_or("none", SecretUsageType::as_str),
            kind.as_str()
        )));
    }
    Ok(secrets.secret_get_value(&cx, SecretGetValueArgs { secret, flags: 0 }).await?.value)
}

async fn find(
    secrets: &dyn SecretDriver,
    cx: &CallCx,
    kind: SecretUsageType,
    reference: &SecretReference,
) -> Result<NonnullSecret> {
    if let Some(uuid) = reference.uuid {
        let args = SecretLookupByUuidArgs { uuid: uuid.into_bytes() };
        return Ok(secrets.secret_lookup_by_uuid(cx, args).await?.secret);
    }
    let usage_id = reference.usage.as_deref().unwrap_or_default().into();
    let args = SecretLookupByUsageArgs { usage_type: kind.number(), usage_id };
    Ok(secrets.secret_lookup_by_usage(cx, args).await?.secret)
}
