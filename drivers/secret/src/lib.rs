//! Secrets: what each is for, and its value. Kept as `UUID.xml` and `UUID.base64` in a directory that only its owner can
//! look into, unless they are ephemeral.

mod serve;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use uuid::Uuid;
use virtwire_conf::{FormatOptions, ParseOptions, Secret, YesNo};
use virtwire_driver_api::{EventHub, Kept, async_trait};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::{Event, NonnullSecret, SecretEventLifecycleMsg, SecretEventValueChangedMsg};
use virtwire_store::{self as store, Found};

type Result<T, E = VirtError> = std::result::Result<T, E>;

/// The domain of this driver's errors.
const SECRET: ErrorDomain = ErrorDomain::SECRET;

/// `virSecretEventLifecycleType`
#[derive(Clone, Copy)]
enum Lifecycle {
    Defined = 0,
    Undefined = 1,
}

/// The secrets of the machine or of one user.
pub struct Secrets {
    dir: PathBuf,
    events: Arc<EventHub>,
    all: Mutex<Vec<Entry>>,
}

/// A secret.
struct Entry {
    definition: Secret,
    value: Option<Vec<u8>>,
}

impl Entry {
    fn uuid(&self) -> Uuid {
        self.definition.uuid.unwrap_or_default()
    }

    fn usage(&self) -> (i32, &str) {
        usage(&self.definition)
    }

    fn is_private(&self) -> bool {
        self.definition.private == YesNo::Yes
    }

    fn is_ephemeral(&self) -> bool {
        self.definition.ephemeral == YesNo::Yes
    }

    fn handle(&self) -> NonnullSecret {
        let (usage_type, id) = self.usage();
        NonnullSecret { uuid: self.uuid().into_bytes(), usage_type, usage_id: id.into() }
    }
}

/// `virSecretUsageType` and what it is for.
fn usage(definition: &Secret) -> (i32, &str) {
    definition.usage.as_ref().map_or((0, ""), |usage| (usage.type_.number(), usage.id().unwrap_or_default()))
}

impl Secrets {
    /// The secrets kept in `dir`, which is made if it is not there. One that cannot be read is left alone, with a line
    /// in the log.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(dir: PathBuf, events: Arc<EventHub>) -> io::Result<Self> {
        store::make_dir(&dir, 0o700)?;
        let secrets = Self { dir, events, all: Mutex::default() };
        secrets.load()?;
        Ok(secrets)
    }

    /// Reads the secrets that are stored, and their values.
    fn load(&self) -> io::Result<()> {
        // Nobody changes one while it is read.
        let mut all = self.all();
        let read = |text: &str| match Secret::parse(text, &ParseOptions::default()) {
            Ok(definition) => {
                let name = definition.uuid.unwrap_or_default().to_string();
                Ok(Found { name, object: definition, completed: None })
            }
            Err(error) => Err(error.message),
        };
        for definition in store::load(&self.dir, read)? {
            let uuid = definition.uuid.unwrap_or_default();
            let value = std::fs::read_to_string(self.path(uuid, "base64")).ok();
            let value = value.and_then(|value| BASE64.decode(value.trim()).ok());
            let entry = Entry { definition, value };
            match all.iter_mut().find(|known| known.uuid() == uuid) {
                Some(known) => *known = entry,
                None => all.push(entry),
            }
        }
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, uuid: Uuid, extension: &str) -> PathBuf {
        self.dir.join(format!("{uuid}.{extension}"))
    }

    /// Does something with the secret that a client means.
    fn with<T>(&self, secret: &NonnullSecret, act: impl FnOnce(&mut Entry) -> Result<T>) -> Result<T> {
        let uuid = Uuid::from_bytes(secret.uuid);
        let mut all = self.all();
        act(all.iter_mut().find(|entry| entry.uuid() == uuid).ok_or_else(|| no_uuid(uuid))?)
    }

    fn define(&self, xml: &str) -> Result<NonnullSecret> {
        let definition = Secret::parse(xml, &ParseOptions::test())?;
        let (uuid, (kind, id)) = (definition.uuid.unwrap_or_default(), usage(&definition));
        let mut all = self.all();
        for other in all.iter() {
            let (same, same_usage) = (other.uuid() == uuid, kind != 0 && other.usage() == (kind, id));
            if same && other.usage() != (kind, id) {
                return Err(SECRET.internal_error(format_args!(
                    "a secret with UUID {uuid} is already defined for use with {}",
                    other.usage().1
                )));
            }
            if same && other.is_private() && definition.private != YesNo::Yes {
                return Err(SECRET.operation_invalid("cannot change private flag on existing secret"));
            }
            if !same && same_usage {
                let text =
                    format_args!("a secret with UUID {} already defined for use with {id}", other.uuid());
                return Err(SECRET.internal_error(text));
            }
        }
        let value = all.iter().find(|entry| entry.uuid() == uuid).and_then(|entry| entry.value.clone());
        let entry = Entry { definition, value };
        if entry.is_ephemeral() {
            self.forget(uuid)?;
        } else {
            let xml = entry.definition.to_xml(&FormatOptions::default());
            write(&self.path(uuid, "xml"), &xml)?;
            if let Some(value) = &entry.value {
                write(&self.path(uuid, "base64"), &BASE64.encode(value))?;
            }
        }
        let handle = entry.handle();
        all.retain(|other| other.uuid() != uuid);
        all.push(entry);
        drop(all);
        self.tell(handle.clone(), Lifecycle::Defined);
        Ok(handle)
    }

    fn set_value(&self, secret: &NonnullSecret, value: Vec<u8>) -> Result<()> {
        let handle = self.with(secret, |entry| {
            if !entry.is_ephemeral() {
                write(&self.path(entry.uuid(), "base64"), &BASE64.encode(&value))?;
            }
            entry.value = Some(value);
            Ok(entry.handle())
        })?;
        let msg = SecretEventValueChangedMsg { callback_id: 0, secret: handle };
        self.events.emit(Event::SecretValueChanged(msg));
        Ok(())
    }

    fn undefine(&self, secret: &NonnullSecret) -> Result<()> {
        let handle = self.with(secret, |entry| Ok(entry.handle()))?;
        let uuid = Uuid::from_bytes(secret.uuid);
        self.forget(uuid)?;
        self.all().retain(|entry| entry.uuid() != uuid);
        self.tell(handle, Lifecycle::Undefined);
        Ok(())
    }

    /// Removes the files of a secret, the value first.
    fn forget(&self, uuid: Uuid) -> Result<()> {
        ["base64", "xml"].into_iter().try_for_each(|extension| {
            let path = self.path(uuid, extension);
            let cannot =
                |e| VirtError::system(SECRET, &e, format_args!("cannot unlink '{}'", path.display()));
            store::remove(&path).map_err(cannot)
        })
    }

    fn tell(&self, secret: NonnullSecret, event: Lifecycle) {
        let msg = SecretEventLifecycleMsg { callback_id: 0, secret, event: event as i32, detail: 0 };
        self.events.emit(Event::SecretLifecycle(msg));
    }
}

#[async_trait]
impl Kept for Secrets {
    async fn reload(&self) -> io::Result<()> {
        self.load()
    }
}

fn no_uuid(uuid: Uuid) -> VirtError {
    SECRET.no_secret(format_args!("no secret with matching uuid '{uuid}'"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let cannot =
        |e| VirtError::system(SECRET, &e, format_args!("Failed to create file '{}.new'", path.display()));
    store::write(path, text).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str =
        "<secret ephemeral='no' private='yes'><usage type='volume'><volume>/x</volume></usage></secret>";

    fn open(dir: &Path) -> Secrets {
        Secrets::open(dir.to_owned(), EventHub::new()).unwrap()
    }

    #[test]
    fn a_secret_outlives_the_daemon_and_an_ephemeral_one_does_not() {
        let scratch = store::Scratch::new();
        let secrets = open(scratch.path());
        let kept = secrets.define(XML).unwrap();
        secrets.set_value(&kept, b"value".to_vec()).unwrap();
        let passing = secrets.define(&XML.replace("ephemeral='no'", "ephemeral='yes'").replace("/x", "/y"));
        secrets.set_value(&passing.unwrap(), b"value".to_vec()).unwrap();
        let again = open(scratch.path());
        let all = again.all();
        assert_eq!((all.len(), all[0].value.as_deref()), (1, Some(&b"value"[..])));
    }

    #[test]
    fn two_secrets_are_not_for_the_same() {
        let scratch = store::Scratch::new();
        let secrets = open(scratch.path());
        secrets.define(XML).unwrap();
        let error = secrets.define(XML).unwrap_err();
        assert!(error.message.ends_with("already defined for use with /x"), "{error}");
    }

    #[test]
    fn nothing_is_left_of_an_undefined_secret() {
        let scratch = store::Scratch::new();
        let secrets = open(scratch.path());
        let secret = secrets.define(XML).unwrap();
        secrets.set_value(&secret, b"value".to_vec()).unwrap();
        secrets.undefine(&secret).unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        assert_eq!(secrets.undefine(&secret).unwrap_err().code.0, 66);
    }
}
