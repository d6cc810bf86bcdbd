//! What is known of the programs on this host: in memory, and on disk for the daemon's next start.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::caps::cpus::GuestCpus;
use crate::probe::{ProbeError, QemuCaps, probe, probe_cpus};

/// Answers of programs, asked again when the program's file or the host under it has changed.
pub struct CapsCache {
    dir: PathBuf,
    daemon: DaemonIdentity,
    host: HostIdentity,
    programs: Known<PathBuf, QemuCaps>,
    /// By program, and whether it uses KVM.
    cpus: Known<(PathBuf, bool), GuestCpus>,
}

/// Answers, with the state of the program's file when they were given.
type Known<K, V> = Mutex<HashMap<K, (Identity, Arc<V>)>>;

/// Tells a file from what was there before, and a host from what it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Identity {
    /// Another daemon may ask for more.
    asked_by: DaemonIdentity,
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
    /// Whether KVM can be used.
    kvm: bool,
    host: HostIdentity,
}

/// Tells this daemon's program from another build of it: its file's size, and when that was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct DaemonIdentity {
    size: u64,
    changed: (i64, i64),
}

/// What of a host stays the same as long as the daemon runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct HostIdentity {
    kernel: String,
    processor: String,
}

/// What is on disk.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    identity: Identity,
    answer: T,
}

impl CapsCache {
    /// Keeps what it learns below `dir`.
    pub fn new(dir: &Path) -> Self {
        let (daemon, host) = (DaemonIdentity::read(), HostIdentity::read());
        let dir = dir.join("virtwire-capabilities");
        Self { dir, daemon, host, programs: Mutex::default(), cpus: Mutex::default() }
    }

    /// What `program` can do. Whoever comes while it is asked waits for the same answer.
    pub async fn get(&self, program: &Path) -> Result<Arc<QemuCaps>, ProbeError> {
        let mut known = self.programs.lock().await;
        let identity = self.identity(program).map_err(ProbeError::Start)?;
        if let Some((of, caps)) = known.get(program)
            && *of == identity
        {
            return Ok(Arc::clone(caps));
        }
        let caps = self.recall(&file_name(program, ""), &identity, || probe(program)).await?;
        let caps = Arc::new(caps);
        known.insert(program.to_owned(), (identity, Arc::clone(&caps)));
        Ok(caps)
    }

    /// Which CPUs its guests may have, with KVM or without.
    pub(crate) async fn cpus(&self, program: &Path, kvm: bool) -> Result<Arc<GuestCpus>, ProbeError> {
        let mut known = self.cpus.lock().await;
        let identity = self.identity(program).map_err(ProbeError::Start)?;
        let key = (program.to_owned(), kvm);
        if let Some((of, cpus)) = known.get(&key)
            && *of == identity
        {
            return Ok(Arc::clone(cpus));
        }
        let name = file_name(program, if kvm { ".kvm" } else { ".tcg" });
        let told = self.recall(&name, &identity, || probe_cpus(program, kvm)).await?;
        let narrow = self.get(program).await?.arch == "i386";
        let cpus = Arc::new(GuestCpus::new(told, narrow));
        known.insert(key, (identity, Arc::clone(&cpus)));
        Ok(cpus)
    }

    fn identity(&self, program: &Path) -> io::Result<Identity> {
        let meta = fs::metadata(program)?;
        Ok(Identity {
            asked_by: self.daemon.clone(),
            file: (meta.dev(), meta.ino()),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            kvm: fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok(),
            host: self.host.clone(),
        })
    }

    /// The answer on disk, if it is still that of this program; else a new one, kept there.
    async fn recall<T, F>(
        &self,
        name: &str,
        identity: &Identity,
        ask: impl FnOnce() -> F,
    ) -> Result<T, ProbeError>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, ProbeError>>,
    {
        let path = self.dir.join(name);
        let text = fs::read(&path).unwrap_or_default();
        // What cannot be read is as good as nothing.
        if let Ok(kept) = serde_json::from_slice::<Kept<T>>(&text)
            && kept.identity == *identity
        {
            return Ok(kept.answer);
        }
        let kept = Kept { identity: identity.clone(), answer: ask().await? };
        let text = serde_json::to_string(&kept).unwrap_or_default();
        let written = crate::dirs::make_private(&self.dir).and_then(|()| virtwire_store::write(&path, &text));
        if let Err(error) = written {
            tracing::debug!(%error, path = %path.display(), "what QEMU can do is not kept");
        }
        Ok(kept.answer)
    }
}

/// A program's file: its path, with nothing in it that would be another directory.
fn file_name(program: &Path, what: &str) -> String {
    format!("{}{what}.json", program.display().to_string().replace('%', "%%").replace('/', "%"))
}

impl DaemonIdentity {
    fn read() -> Self {
        let meta = fs::metadata("/proc/self/exe");
        let known = meta.map(|meta| Self { size: meta.size(), changed: (meta.ctime(), meta.ctime_nsec()) });
        known.unwrap_or(Self { size: 0, changed: (0, 0) })
    }
}

impl HostIdentity {
    fn read() -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Self { kernel, processor: processor() }
    }
}

/// The first processor, down to its microcode.
fn processor() -> String {
    // The rest of the file speaks of the others, of which there may be hundreds.
    const ENOUGH: u64 = 4096;
    const TELLING: [&str; 6] = ["vendor_id", "cpu family", "model", "model name", "stepping", "microcode"];
    let mut text = Vec::new();
    let read = File::open("/proc/cpuinfo").and_then(|file| file.take(ENOUGH).read_to_end(&mut text));
    let text = if read.is_ok() { String::from_utf8_lossy(&text) } else { "".into() };
    let lines = text.lines().take_while(|line| !line.is_empty());
    let telling =
        lines.filter_map(|line| line.split_once(':')).filter(|(key, _)| TELLING.contains(&key.trim()));
    telling.map(|(_, value)| value.trim()).collect::<Vec<_>>().join(" ")
}
