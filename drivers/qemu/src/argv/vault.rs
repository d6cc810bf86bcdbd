//! Secrets of a guest's devices: QEMU gets them encrypted, and the key in a file.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockEncryptMut, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use uuid::Uuid;
use virtwire_conf::domain::disk::SecretReference;
use virtwire_protocol::VirtError;

use super::Json;
use crate::error::QEMU;

/// The id of the object that holds the key.
pub(super) const MASTER_KEY: &str = "masterKey0";

/// A guest's key, and the values of the secrets that its devices need.
#[derive(Default)]
pub struct Vault {
    key: [u8; 32],
    values: Vec<(SecretReference, Vec<u8>)>,
    /// Whoever asks gets an empty value.
    is_blank: bool,
}

impl Vault {
    /// One with a new key and no values.
    pub fn new() -> Self {
        let mut key = [0; 32];
        for half in key.chunks_exact_mut(16) {
            half.copy_from_slice(Uuid::new_v4().as_bytes());
        }
        Self { key, ..Self::default() }
    }

    /// The key: what QEMU finds in the file beside its monitor.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The same key, with the values of other secrets.
    pub(crate) fn with_key(key: [u8; 32]) -> Self {
        Self { key, ..Self::default() }
    }

    /// One for a line of which only the names count.
    pub(crate) fn blank() -> Self {
        Self { is_blank: true, ..Self::default() }
    }

    pub(crate) fn insert(&mut self, reference: SecretReference, value: Vec<u8>) {
        self.values.push((reference, value));
    }

    /// The value that was found for a reference.
    pub(super) fn value(&self, reference: &SecretReference) -> Result<&[u8], VirtError> {
        let known = self.values.iter().find(|(known, _)| known == reference);
        let missing = || QEMU.internal_error("the value of a secret was not looked up");
        let blank = self.is_blank.then_some(&[][..]);
        known.map(|(_, value)| value.as_slice()).or(blank).ok_or_else(missing)
    }

    /// The object by which QEMU knows a secret.
    pub(super) fn object(&self, id: impl Into<serde_json::Value>, value: &[u8]) -> Json {
        let iv = Uuid::new_v4().into_bytes();
        let cipher = cbc::Encryptor::<aes::Aes256>::new(&self.key.into(), &iv.into());
        Json::object("secret", id)
            .with("data", BASE64.encode(cipher.encrypt_padded_vec_mut::<Pkcs7>(value)))
            .with("keyid", MASTER_KEY)
            .with("iv", BASE64.encode(iv))
            .with("format", "base64")
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::BlockDecryptMut;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_value_can_be_had_back_with_the_key() {
        let vault = Vault::new();
        let object = Value::from(vault.object("s", b"open sesame"));
        let part = |name: &str| BASE64.decode(object[name].as_str().unwrap()).unwrap();
        let iv: [u8; 16] = part("iv").try_into().unwrap();
        let cipher = cbc::Decryptor::<aes::Aes256>::new(&(*vault.key()).into(), &iv.into());
        assert_eq!(cipher.decrypt_padded_vec_mut::<Pkcs7>(&part("data")).unwrap(), b"open sesame");
    }
}
