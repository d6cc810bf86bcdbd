//! What a command line needs from beside the guests: places of volumes, values of secrets.

use std::borrow::Cow;
use std::path::Path;

use virtwire_conf::domain::disk::{Disk, SecretReference, StorageType};
use virtwire_conf::domain::display::GraphicsType;
use virtwire_conf::secret::SecretUsageType;
use virtwire_conf::{Domain, YesNo};
use virtwire_driver_api::{CallCx, SecretDriver, StorageDriver};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::{
    NonnullSecret, SecretGetValueArgs, SecretLookupByUsageArgs, SecretLookupByUuidArgs,
    StoragePoolIsActiveArgs, StoragePoolLookupByNameArgs, StorageVolGetInfoArgs, StorageVolGetPathArgs,
    StorageVolLookupByNameArgs,
};

use crate::argv::Vault;
use crate::argv::storage::secrets_of;
use crate::argv::tls::reference;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, file};
use crate::policy::{Policy, Tls};

/// Where a guest's key is, in its directory.
pub(crate) const KEY_FILE: &str = "master-key.aes";

/// Gives a guest its file of firmware's variables, if it has none yet: a copy of the template.
///
/// # Errors
/// No template, or no copy can be made.
pub(crate) fn variables(domain: &Domain) -> Result<()> {
    let Some(nvram) = &domain.os.nvram else { return Ok(()) };
    let Some(path) = nvram.path.as_deref().map(Path::new).filter(|path| !path.exists()) else {
        return Ok(());
    };
    let Some(template) = &nvram.template else {
        let loader = domain.os.loader.as_ref().and_then(|loader| loader.path.as_deref()).unwrap_or_default();
        let text = format_args!("unable to find any master var store for loader: {loader}");
        return Err(QEMU.operation_failed(text));
    };
    let copy =
        path.parent().map_or(Ok(()), crate::dirs::make_private).and_then(|()| std::fs::copy(template, path));
    copy.map(|_| ()).map_err(|e| file(&e, format_args!("Failed to create file '{}'", path.display())))
}

/// The key of a running guest.
pub(crate) fn vault_of(dir: &Path) -> Result<Vault> {
    let path = dir.join(KEY_FILE);
    let key = std::fs::read(&path).map_err(|e| file(&e, format_args!("cannot read '{}'", path.display())))?;
    let key = key.try_into().map_err(|_| QEMU.internal_error("the guest's key is not one"))?;
    Ok(Vault::with_key(key))
}

/// The guest with volumes of pools replaced by what they are.
///
/// # Errors
/// The storage driver's: there is no such pool or volume.
pub(crate) async fn volumes<'a>(driver: &Qemu, domain: &'a Domain) -> Result<Cow<'a, Domain>> {
    let mut found = Cow::Borrowed(domain);
    if domain.devices.disks.iter().any(is_of_pool) {
        for disk in &mut found.to_mut().devices.disks {
            volume(driver, disk).await?;
        }
    }
    Ok(found)
}

fn is_of_pool(disk: &Disk) -> bool {
    disk.type_ == StorageType::Volume && disk.source.is_some()
}

/// Replaces the volume of a pool that a disk may be by what that is.
///
/// # Errors
/// The storage driver's: there is no such pool or volume.
pub(crate) async fn volume(driver: &Qemu, disk: &mut Disk) -> Result<()> {
    if !is_of_pool(disk) {
        return Ok(());
    }
    let companions = driver.companions();
    let none = || QEMU.no_support("virStoragePoolLookupByName");
    translate(&**companions.storage.as_ref().ok_or_else(none)?, disk).await
}

/// `VIR_STORAGE_VOL_…`: what a volume is.
const FILE: i32 = 0;
const BLOCK: i32 = 1;
const DIR: i32 = 2;

async fn translate(storage: &dyn StorageDriver, disk: &mut Disk) -> Result<()> {
    let Some(source) = &mut disk.source else { return Ok(()) };
    let cx = CallCx { internal: true, ..CallCx::default() };
    if source.pool.is_none() {
        return Err(ErrorDomain::STORAGE.invalid_arg("name in virStoragePoolLookupByName must not be NULL"));
    }
    let (pool_name, name) =
        (source.pool.clone().unwrap_or_default(), source.volume.clone().unwrap_or_default());
    let args = StoragePoolLookupByNameArgs { name: pool_name.as_str().into() };
    let pool = storage.storage_pool_lookup_by_name(&cx, args).await?.pool;
    let active = storage.storage_pool_is_active(&cx, StoragePoolIsActiveArgs { pool: pool.clone() }).await?;
    if active.active == 0 {
        return Err(QEMU.config_unsupported(format_args!(
            "storage pool '{pool_name}' containing volume '{name}' is not active"
        )));
    }
    let args = StorageVolLookupByNameArgs { pool, name: name.as_str().into() };
    let vol = storage.storage_vol_lookup_by_name(&cx, args).await?.vol;
    let kind = storage.storage_vol_get_info(&cx, StorageVolGetInfoArgs { vol: vol.clone() }).await?.r#type;
    let path = storage.storage_vol_get_path(&cx, StorageVolGetPathArgs { vol }).await?.name.to_string();
    (disk.type_, source.file, source.dev, source.dir) = match i32::from(kind) {
        FILE => (StorageType::File, Some(path), None, None),
        BLOCK => (StorageType::Block, None, Some(path), None),
        DIR => (StorageType::Dir, None, None, Some(path)),
        _ => {
            let text = format_args!("volume '{name}' of pool '{pool_name}' cannot be a disk yet");
            return Err(QEMU.config_unsupported(text));
        }
    };
    Ok(())
}

/// Fills in the values of all secrets that the devices of a guest name.
///
/// # Errors
/// The secret driver's: there is no such secret, or it has no value.
pub(crate) async fn unlock(driver: &Qemu, domain: &Domain, mut vault: Vault) -> Result<Vault> {
    let companions = driver.companions();
    let of_disks = domain.devices.disks.iter().flat_map(secrets_of);
    let of_hostdevs = domain.devices.hostdevs.iter().filter_map(|hostdev| {
        let auth = hostdev.source.as_ref()?.auth.as_ref()?;
        Some((SecretUsageType::Iscsi, auth.secret.as_ref()?))
    });
    let of_keys =
        keys(domain, &driver.shared.policy).filter_map(reference).map(|it| (SecretUsageType::Tls, it));
    let named = of_disks.chain(of_hostdevs).map(|(kind, reference)| (kind, reference.clone()));
    for (kind, reference) in named.chain(of_keys) {
        let secrets = companions.secret.as_ref().ok_or_else(|| QEMU.no_support("virSecretLookupByUUID"))?;
        let value = value(&**secrets, kind, &reference).await?;
        vault.insert(reference, value);
    }
    Ok(vault)
}

/// What of a guest's is encrypted with keys of the host's.
fn keys<'a>(domain: &Domain, policy: &'a Policy) -> impl Iterator<Item = &'a Tls> {
    let devices = &domain.devices;
    let vnc = devices.graphics.iter().any(|screen| screen.type_ == GraphicsType::Vnc);
    let chardevs = devices.serials.iter().map(|serial| &serial.chardev);
    let chardevs = chardevs.chain(devices.channels.iter().map(|channel| &channel.chardev));
    let chardevs = chardevs.chain(devices.consoles.iter().map(|console| &console.chardev));
    let chardev = chardevs.flat_map(|chardev| &chardev.source).any(|end| end.tls == Some(YesNo::Yes));
    let mut sources = devices.disks.iter().filter_map(|disk| disk.source.as_ref());
    let nbd = sources.any(|source| source.tls == Some(YesNo::Yes));
    let all =
        [(vnc && policy.vnc.tls.enabled, &policy.vnc.tls), (chardev, &policy.chardev), (nbd, &policy.nbd)];
    all.into_iter().filter(|(is_used, _)| *is_used).map(|(_, tls)| tls)
}

/// The value of a secret by its UUID.
///
/// # Errors
/// The secret driver's: there is no such secret, or it has no value.
pub(crate) async fn password(driver: &Qemu, kind: SecretUsageType, uuid: uuid::Uuid) -> Result<Vec<u8>> {
    let companions = driver.companions();
    let secrets = companions.secret.as_ref().ok_or_else(|| QEMU.no_support("virSecretLookupByUUID"))?;
    let reference = SecretReference { uuid: Some(uuid), ..SecretReference::default() };
    value(&**secrets, kind, &reference).await
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
        return Err(ErrorDomain::NONE.invalid_arg(format_args!(
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
