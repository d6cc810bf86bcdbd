//! Addresses that DHCP servers have given to guests, in libvirt's own file: a line each, `EXPIRY OWNER ADDRESS SERVER`, the
//! last one that says something of an address being right. `EXPIRY` is in seconds since 1970, 0 for what has ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that has grown this much is written anew, with only what is still so.
const MOST_LINES: usize = 1000;

/// All leases that are known.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    path: PathBuf,
    /// By owner and address: when it ends, and who gave it.
    all: BTreeMap<(String, Ipv4Addr), (u64, Ipv4Addr)>,
    lines: usize,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl Leases {
    /// Those of a file; one that is not there has none, and a line that nobody can read is none.
    pub(crate) fn read(path: &Path) -> Self {
        let mut leases = Self { path: path.to_owned(), ..Self::default() };
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            leases.lines += 1;
            let words: Vec<&str> = line.split(' ').collect();
            let [expiry, owner, address, server] = words.as_slice() else { continue };
            let (Ok(expiry), Ok(address), Ok(server)) = (expiry.parse(), address.parse(), server.parse())
            else {
                continue;
            };
            leases.note((*owner).to_owned(), address, expiry, server);
        }
        leases
    }

    fn note(&mut self, owner: String, address: Ipv4Addr, expiry: u64, server: Ipv4Addr) {
        if expiry == 0 {
            self.all.remove(&(owner, address));
        } else {
            self.all.insert((owner, address), (expiry, server));
        }
    }

    /// An address is somebody's until then; 0: no more.
    pub(super) fn put(&mut self, owner: &str, address: Ipv4Addr, expiry: u64, server: Ipv4Addr) {
        self.note(owner.to_owned(), address, expiry, server);
        self.lines += 1;
        let kept = if self.lines > MOST_LINES {
            self.write_anew()
        } else {
            let line = format!("{expiry} {owner} {address} {server}\n");
            let file = File::options().create(true).append(true).open(&self.path);
            file.and_then(|mut file| file.write_all(line.as_bytes()))
        };
        if let Err(error) = kept {
            tracing::warn!(path = %self.path.display(), %error, "a lease is not kept");
        }
    }

    fn write_anew(&mut self) -> std::io::Result<()> {
        let now = now();
        self.all.retain(|_, (expiry, _)| *expiry > now);
        let line = |((owner, address), (expiry, server)): (&(String, Ipv4Addr), &(u64, Ipv4Addr))| {
            format!("{expiry} {owner} {address} {server}\n")
        };
        self.lines = self.all.len();
        virtwire_store::write(&self.path, &self.all.iter().map(line).collect::<String>())
    }

    /// The addresses that somebody has now.
    pub(crate) fn of(&self, owner: &str) -> Vec<Ipv4Addr> {
        let now = now();
        let own = self.all.iter().filter(|((of, _), (expiry, _))| of == owner && *expiry > now);
        own.map(|((_, address), _)| *address).collect()
    }

    /// Whether an address is or was somebody's.
    pub(super) fn has(&self, owner: &str, address: Ipv4Addr) -> bool {
        self.all.contains_key(&(owner.to_owned(), address))
    }

    /// When the next of somebody's ends, and which.
    pub(super) fn next_end(&self, owner: &str) -> Option<(u64, Ipv4Addr)> {
        let own = self.all.iter().filter(|((of, _), _)| of == owner);
        own.map(|((_, address), (expiry, _))| (*expiry, *address)).min()
    }
}

/// When a lease ends that is given now.
pub(super) fn expiry(seconds: Option<u32>) -> u64 {
    // What does not end is never the next to end, in any number of years.
    seconds
        .filter(|seconds| *seconds != u32::MAX)
        .map_or(u64::from(u32::MAX) * 2, |seconds| now() + u64::from(seconds))
}

/// How long it is until then.
pub(super) fn until(expiry: u64) -> std::time::Duration {
    std::time::Duration::from_secs(expiry.saturating_sub(now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_read_as_they_were_kept() {
        let scratch = virtwire_store::Scratch::new();
        let path = scratch.path().join("leases");
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let mut leases = Leases::read(&path);
        leases.put("a-1", address(7), expiry(Some(60)), address(1));
        leases.put("a-1", address(8), expiry(None), address(1));
        leases.put("a-1", address(9), expiry(Some(60)), address(1));
        leases.put("b-2", address(5), 1000, address(1));
        leases.put("a-1", address(9), 0, address(1));
        assert_eq!(leases.next_end("b-2"), Some((1000, address(5))));
        let again = Leases::read(&path);
        assert_eq!((again.of("a-1"), again.of("b-2")), (vec![address(7), address(8)], vec![]));
        for _ in 0..MOST_LINES {
            leases.put("a-1", address(7), expiry(Some(60)), address(1));
        }
        assert!(fs::read_to_string(&path).unwrap().lines().count() < MOST_LINES);
        assert_eq!(Leases::read(&path).of("a-1"), [address(7), address(8)]);
    }
}
