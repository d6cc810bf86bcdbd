//! Volumes whose content is encrypted (LUKS): `qemu-img` makes them, and reads the passphrase from a file that is there
//! for as long.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use virtwire_conf::domain::disk::{Encryption, SecretReference};
use virtwire_driver_api::{CallCx, SecretDriver};
use virtwire_protocol::remote::{SecretGetValueArgs, SecretLookupByUsageArgs, SecretLookupByUuidArgs};

use crate::{Pools, Result, STORAGE, file};

/// What `qemu-img` needs to know of a passphrase; its file goes with this.
pub(crate) struct Passphrase {
    path: PathBuf,
    id: String,
}

/// What the name of such a file ends in.
const SUFFIX: &str = ".passphrase";

/// Removes passphrases that a killed daemon has left.
pub(crate) fn forget(state: &Path) {
    let left = std::fs::read_dir(state).into_iter().flatten().flatten();
    for entry in left.filter(|entry| entry.file_name().to_string_lossy().ends_with(SUFFIX)) {
        let _ = std::fs::remove_file(entry.path());
    }
}

impl Drop for Passphrase {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Passphrase {
    /// The passphrase of a volume's encryption, if it has one, written where only this daemon can read it.
    ///
    /// # Errors
    /// The secret driver's: there is no such secret, or it has no value. `VIR_ERR_INVALID_ARG` for another number of
    /// secrets than one.
    pub(crate) async fn of(pools: &Pools, volume: &str, wanted: &Encryption) -> Result<Self> {
        let secret = single(wanted)?;
        let secrets = pools.secrets().ok_or_else(|| STORAGE.no_support("virSecretGetValue"))?;
        let value = value(&*secrets, secret).await?;
        let path = pools.state().join(format!("{}{SUFFIX}", Uuid::new_v4()));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let passphrase = Self { path, id: format!("{volume}_encrypt0") };
        written
            .and_then(|mut file| file.write_all(&value))
            .map_err(|e| file(&e, "failed to write secret file"))?;
        Ok(passphrase)
    }

    /// The object that holds it, and the options that say how an image of this format is encrypted.
    pub(crate) fn words(&self, format: &str, wanted: &Encryption) -> (Vec<String>, Vec<String>) {
        let plain = |text: &str| text.replace(',', ",,");
        let (id, path) = (plain(&self.id), plain(&self.path.to_string_lossy()));
        let object = vec!["--object".to_owned(), format!("secret,id={id},file={path}")];
        let inside = if format == "luks" { "" } else { "encrypt." };
        let mut options = Vec::new();
        if !inside.is_empty() {
            options.push("encrypt.format=luks".to_owned());
        }
        options.push(format!("{inside}key-secret={id}"));
        if let Some(cipher) = &wanted.cipher {
            let sized = cipher.size.map_or_else(String::new, |size| format!("-{size}"));
            options.push(format!("{inside}cipher-alg={}{sized}", plain(&cipher.name)));
            options.extend(cipher.mode.as_ref().map(|mode| format!("{inside}cipher-mode={}", plain(mode))));
            options.extend(cipher.hash.as_ref().map(|hash| format!("{inside}hash-alg={}", plain(hash))));
        }
        if let Some(ivgen) = &wanted.ivgen {
            options.push(format!("{inside}ivgen-alg={}", plain(&ivgen.name)));
            options.extend(ivgen.hash.as_ref().map(|hash| format!("{inside}ivgen-hash-alg={}", plain(hash))));
        }
        (object, options)
    }
}

/// Whether an image of this format (`luks` for a raw one) can be made with such encryption.
///
/// # Errors
/// It cannot.
pub(crate) fn check(format: &str, wanted: &Encryption) -> Result<()> {
    match (format, wanted.format.as_str()) {
        ("luks" | "qcow2", "luks") => Ok(()),
        ("luks", _) => Err(STORAGE.internal_error("Only luks encryption is supported for raw files")),
        ("qcow2", _) => Err(STORAGE.config_unsupported("creation of qcow2 encrypted image is not supported")),
        (format, _) => {
            let text = format_args!("volume encryption unsupported with format {format}");
            Err(STORAGE.config_unsupported(text))
        }
    }
}

/// The one secret of a volume's encryption.
///
/// # Errors
/// There is none, or more than one.
pub(crate) fn single(wanted: &Encryption) -> Result<&SecretReference> {
    let [secret] = &wanted.secret[..] else {
        let text = "A single <secret type='passphrase'...> element is expected in encryption description";
        return Err(STORAGE.invalid_arg(text));
    };
    Ok(secret)
}

async fn value(secrets: &dyn SecretDriver, reference: &SecretReference) -> Result<Vec<u8>> {
    /// `VIR_SECRET_USAGE_TYPE_VOLUME`
    const VOLUME: i32 = 1;
    let cx = CallCx { internal: true, ..CallCx::default() };
    let secret = match reference.uuid {
        Some(uuid) => {
            let args = SecretLookupByUuidArgs { uuid: uuid.into_bytes() };
            secrets.secret_lookup_by_uuid(&cx, args).await?.secret
        }
        None => {
            let usage_id = reference.usage.as_deref().unwrap_or_default().into();
            let args = SecretLookupByUsageArgs { usage_type: VOLUME, usage_id };
            secrets.secret_lookup_by_usage(&cx, args).await?.secret
        }
    };
    Ok(secrets.secret_get_value(&cx, SecretGetValueArgs { secret, flags: 0 }).await?.value)
}

#[cfg(test)]
mod tests {
    use virtwire_conf::{ParseOptions, StorageVol};
    use virtwire_store::Scratch;

    use super::*;

    #[test]
    fn options_say_how_an_image_is_encrypted() {
        let xml = "<volume><name>v</name><capacity>1</capacity><target><encryption format='luks'>
            <secret type='passphrase' uuid='11111111-2222-3333-4444-000000000001'/>
            <cipher name='aes' size='256' mode='cbc' hash='sha256'/><ivgen name='plain64' hash='sha256'/>
            </encryption></target></volume>";
        let volume = StorageVol::parse(xml, &ParseOptions::default()).unwrap();
        let wanted = volume.target.unwrap().encryption.unwrap();
        let passphrase = Passphrase { path: "/nowhere/a,b".into(), id: "v,w_encrypt0".to_owned() };
        let ciphers = |inside: &str| {
            format!(
                "{inside}cipher-alg=aes-256,{inside}cipher-mode=cbc,{inside}hash-alg=sha256,\
                 {inside}ivgen-alg=plain64,{inside}ivgen-hash-alg=sha256"
            )
        };
        let (object, options) = passphrase.words("luks", &wanted);
        assert_eq!(object, ["--object", "secret,id=v,,w_encrypt0,file=/nowhere/a,,b"]);
        assert_eq!(options.join(","), format!("key-secret=v,,w_encrypt0,{}", ciphers("")));
        let (_, options) = passphrase.words("qcow2", &wanted);
        let key = "encrypt.format=luks,encrypt.key-secret=v,,w_encrypt0";
        assert_eq!(options.join(","), format!("{key},{}", ciphers("encrypt.")));
    }

    #[test]
    fn a_passphrase_is_there_for_as_long_as_it_is_needed() {
        let scratch = Scratch::new();
        let path = scratch.path().join(format!("x{SUFFIX}"));
        let write = || std::fs::write(&path, "secret").unwrap();
        write();
        drop(Passphrase { path: path.clone(), id: String::new() });
        assert!(!path.exists());
        write();
        forget(scratch.path());
        assert!(!path.exists());
    }
}
