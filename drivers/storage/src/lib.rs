//! Storage pools that are directories or file systems to be mounted, and the volumes in them: raw images made here,
//! others by `qemu-img`. Everything is kept in libvirt's own layout.

mod capabilities;
mod content;
mod encryption;
mod image;
mod listing;
mod lookup;
mod mount;
mod pool;
mod program;
mod serve;
mod sources;
mod volume;

pub use capabilities::host as host_capabilities;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use uuid::Uuid;
use virtwire_conf::{ParseOptions, QemuHost, StoragePool};
use virtwire_driver_api::{EventHub, Kept, SecretDriver, async_trait};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_store::{self as store, Found, Place};

use pool::Pool;

type Result<T, E = VirtError> = std::result::Result<T, E>;

/// The domain of this driver's errors.
const STORAGE: ErrorDomain = ErrorDomain::STORAGE;

/// The pools of the machine or of one user.
#[derive(Clone)]
pub struct Pools {
    shared: Arc<Shared>,
}

struct Shared {
    config: PathBuf,
    state: PathBuf,
    events: Arc<EventHub>,
    secrets: OnceLock<Arc<dyn SecretDriver>>,
    pools: Mutex<Vec<Pool>>,
}

impl Pools {
    /// The pools that `config` keeps and those that `state` says are active; both directories are made if they are not
    /// there. What starts with the daemon is started.
    ///
    /// # Errors
    /// A directory cannot be made or read.
    pub async fn open(config: PathBuf, state: PathBuf, events: Arc<EventHub>) -> io::Result<Self> {
        let autostart = config.join("autostart");
        for dir in [&config, &autostart, &state] {
            store::make_dir(dir, 0o755)?;
        }
        encryption::forget(&state);
        let shared = Shared { config, state, events, secrets: OnceLock::new(), pools: Mutex::default() };
        let driver = Self { shared: Arc::new(shared) };
        driver.load()?;
        let mut active = Vec::new();
        for (name, text) in store::read_all(&driver.shared.state)? {
            // The definition stands in the file as a document of its own.
            let text = text.unwrap_or_default();
            let pool = text.find("<pool ").zip(text.rfind("</pool>"));
            let pool = pool.and_then(|(begin, end)| text.get(begin..end + "</pool>".len()));
            let definition = pool.and_then(|pool| StoragePool::parse(pool, &ParseOptions::default()).ok());
            let Some(definition) = definition.filter(|definition| definition.name.as_deref() == Some(&name))
            else {
                tracing::warn!(file = name, "the state of a pool cannot be read");
                continue;
            };
            active.push(name.clone());
            let mut pools = driver.pools();
            if !pools.iter().any(|pool| pool.name == name) {
                pools.push(Pool::new(definition));
            }
        }
        active.extend(driver.wanted());
        active.sort();
        active.dedup();
        driver.activate_all(active).await?;
        Ok(driver)
    }

    /// Reads the pools that are stored. One that is active stays as it is until its next start.
    fn load(&self) -> io::Result<()> {
        // Nobody changes one while it is read.
        let mut pools = self.pools();
        let read = |text: &str| {
            let mut definition =
                StoragePool::parse(text, &ParseOptions::default()).map_err(|error| error.message)?;
            let is_nameless = definition.uuid.is_none();
            definition.uuid.get_or_insert_with(Uuid::new_v4);
            let completed = is_nameless.then(|| pool::stored(&definition));
            Ok(Found { name: definition.name.clone().unwrap_or_default(), object: definition, completed })
        };
        for definition in store::load(&self.shared.config, read)? {
            let mut new = Pool { persistent: true, ..Pool::new(definition) };
            new.autostart = self.autostart_link(&new.name).is_symlink();
            let known = pools.iter().map(|known| (known.name.as_str(), known.uuid));
            match store::place(known, &new.name, &new.uuid) {
                Some(Place::Of(at)) if pools[at].active => {
                    (pools[at].next, pools[at].autostart) = (Some(new.definition), new.autostart);
                }
                Some(Place::Of(at)) => pools[at] = new,
                Some(Place::Behind) => pools.push(new),
                None => {}
            }
        }
        Ok(())
    }

    /// The pools that are to be started by themselves.
    fn wanted(&self) -> Vec<String> {
        let pools = self.pools();
        pools.iter().filter(|pool| pool.autostart && !pool.active).map(|pool| pool.name.clone()).collect()
    }

    /// Starts pools; one that does not start is said in the log.
    async fn activate_all(&self, names: Vec<String>) -> io::Result<()> {
        for name in names {
            if let Err(error) = self.activate(&name).await {
                tracing::warn!(pool = name, %error, "cannot be started with the daemon");
                store::remove(&self.state_file(&name))?;
                self.pools().retain(|pool| pool.name != name || pool.persistent);
            }
        }
        Ok(())
    }

    /// Has passphrases of encrypted volumes looked for in these secrets. Only the first call does anything.
    #[must_use]
    pub fn with_secrets(self, secrets: Arc<dyn SecretDriver>) -> Self {
        let _ = self.shared.secrets.set(secrets);
        self
    }

    fn secrets(&self) -> Option<Arc<dyn SecretDriver>> {
        self.shared.secrets.get().cloned()
    }

    /// The directory for what is there as long as the daemon runs.
    fn state(&self) -> &Path {
        &self.shared.state
    }

    fn pools(&self) -> MutexGuard<'_, Vec<Pool>> {
        self.shared.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn definition_file(&self, name: &str) -> PathBuf {
        self.shared.config.join(format!("{name}.xml"))
    }

    fn autostart_link(&self, name: &str) -> PathBuf {
        self.shared.config.join("autostart").join(format!("{name}.xml"))
    }

    fn state_file(&self, name: &str) -> PathBuf {
        self.shared.state.join(format!("{name}.xml"))
    }
}

#[async_trait]
impl Kept for Pools {
    async fn reload(&self) -> io::Result<()> {
        self.load()?;
        self.activate_all(self.wanted()).await
    }
}

/// How definitions from clients are read.
fn options() -> ParseOptions {
    ParseOptions::qemu(Arc::new(QemuHost::default()))
}

/// A file that cannot be read or written.
fn file(error: &io::Error, what: impl std::fmt::Display) -> VirtError {
    VirtError::system(STORAGE, error, what)
}

/// Runs what may wait for a disk where it holds up nobody.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        Err(error) => Err(STORAGE.internal_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use virtwire_driver_api::{CallCx, StorageDriver};
    use virtwire_protocol::remote::*;

    use super::*;

    async fn open(dir: &Path) -> Pools {
        Pools::open(dir.join("etc"), dir.join("run"), EventHub::new()).await.unwrap()
    }

    fn xml(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).unwrap();
        format!("<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>", path.display())
    }

    #[tokio::test]
    async fn pools_and_volumes_outlive_the_daemon() {
        let (scratch, cx) = (store::Scratch::new(), CallCx::default());
        let dir = scratch.path();
        let pools = open(dir).await;
        let args = StoragePoolDefineXmlArgs { xml: xml(dir, "kept").into(), flags: 0 };
        let kept = pools.storage_pool_define_xml(&cx, args).await.unwrap().pool;
        pools.storage_pool_create(&cx, StoragePoolCreateArgs { pool: kept.clone(), flags: 0 }).await.unwrap();
        let args = StoragePoolCreateXmlArgs { xml: xml(dir, "passing").into(), flags: 0 };
        pools.storage_pool_create_xml(&cx, args).await.unwrap();
        let volume = "<volume><name>a</name><capacity>4096</capacity><allocation>0</allocation></volume>";
        let args = StorageVolCreateXmlArgs { pool: kept.clone(), xml: volume.into(), flags: 0 };
        pools.storage_vol_create_xml(&cx, args).await.unwrap();

        let again = open(dir).await;
        let known: Vec<_> =
            again.pools().iter().map(|pool| (pool.name.clone(), pool.active, pool.persistent)).collect();
        assert_eq!(known, [("kept".to_owned(), true, true), ("passing".to_owned(), true, false)]);
        let vol = again.pools()[0].volume("a").unwrap().handle("kept");
        let info = again.storage_vol_get_info(&cx, StorageVolGetInfoArgs { vol }).await.unwrap();
        assert_eq!((info.capacity, info.allocation), (4096, 0));

        again.storage_pool_destroy(&cx, StoragePoolDestroyArgs { pool: kept }).await.unwrap();
        let third = open(dir).await;
        assert!(!third.pools()[0].active);
    }

    #[tokio::test]
    async fn an_active_pool_is_found_by_where_it_is() {
        let (scratch, cx) = (store::Scratch::new(), CallCx::default());
        let pools = open(scratch.path()).await;
        let args = StoragePoolDefineXmlArgs { xml: xml(scratch.path(), "p").into(), flags: 0 };
        let pool = pools.storage_pool_define_xml(&cx, args).await.unwrap().pool;
        let path = scratch.path().join("p").display().to_string();
        let by = |path: String| StoragePoolLookupByTargetPathArgs { path: path.into() };
        pools.storage_pool_lookup_by_target_path(&cx, by(path.clone())).await.unwrap_err();
        pools.storage_pool_create(&cx, StoragePoolCreateArgs { pool: pool.clone(), flags: 0 }).await.unwrap();
        for same in [path.clone(), format!("{path}//"), path.replacen('/', "///", 1)] {
            assert_eq!(pools.storage_pool_lookup_by_target_path(&cx, by(same)).await.unwrap().pool, pool);
        }
        let error = pools.storage_pool_lookup_by_target_path(&cx, by(format!("{path}/a"))).await.unwrap_err();
        let text = "Storage pool not found: no storage pool with matching target path '";
        assert_eq!(error.message, format!("{text}{path}/a'"));
    }

    #[tokio::test]
    async fn a_volume_stays_in_its_pool() {
        let (scratch, cx) = (store::Scratch::new(), CallCx::default());
        let pools = open(scratch.path()).await;
        let args = StoragePoolCreateXmlArgs { xml: xml(scratch.path(), "p").into(), flags: 0 };
        let pool = pools.storage_pool_create_xml(&cx, args).await.unwrap().pool;
        for name in ["../x", "a/b", "..", ".", "", "a&#10;b"] {
            let xml = format!("<volume><name>{name}</name><capacity>1</capacity></volume>");
            let args = StorageVolCreateXmlArgs { pool: pool.clone(), xml: xml.into(), flags: 0 };
            pools.storage_vol_create_xml(&cx, args).await.unwrap_err();
        }
        assert_eq!(std::fs::read_dir(scratch.path().join("p")).unwrap().count(), 0);
    }
}
