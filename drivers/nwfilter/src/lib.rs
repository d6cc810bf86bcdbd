//! Definitions of network filters and bindings of guests' ports to them, kept in libvirt's own layout, and put in force by
//! the host's packet filters.

mod bindings;
mod force;
mod learn;
mod rules;
mod script;
mod serve;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use uuid::Uuid;
use virtwire_conf::nwfilter::Entry;
use virtwire_conf::{FormatOptions, Nwfilter, ParseOptions, QemuHost};
use virtwire_driver_api::Kept;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::NonnullNwfilter;
use virtwire_store::{self as store, Found, Place};

use crate::bindings::Bound;
use crate::learn::Leases;

type Result<T, E = VirtError> = std::result::Result<T, E>;

/// The domain of this driver's errors.
const NWFILTER: ErrorDomain = ErrorDomain::NWFILTER;

/// Where filters and what belongs to them are kept.
#[derive(Debug)]
pub struct Places {
    /// Definitions.
    pub config: PathBuf,
    /// Bindings.
    pub bindings: PathBuf,
    /// The file of the addresses that DHCP servers have given to guests.
    pub leases: PathBuf,
}

#[cfg(test)]
impl Places {
    fn below(dir: &std::path::Path) -> Self {
        Self { config: dir.join("config"), bindings: dir.join("run"), leases: dir.join("leases") }
    }
}

/// The filters of the machine or of one user, by name.
pub struct Nwfilters {
    places: Places,
    bindings: Mutex<Vec<Bound>>,
    all: Mutex<Vec<Nwfilter>>,
    leases: Mutex<Leases>,
    /// One change of what is in force at a time.
    turn: tokio::sync::Mutex<()>,
    me: Weak<Self>,
}

fn uuid(filter: &Nwfilter) -> Uuid {
    filter.uuid.unwrap_or_default()
}

/// A filter as it is kept.
fn stored(filter: &Nwfilter) -> String {
    let xml = filter.to_xml(&FormatOptions::default());
    store::with_warning(&format!("nwfilter-edit {}", filter.name), &xml)
}

fn handle(filter: &Nwfilter) -> NonnullNwfilter {
    NonnullNwfilter { name: filter.name.as_str().into(), uuid: uuid(filter).into_bytes() }
}

/// The filters that one refers to.
fn references(filter: &Nwfilter) -> impl Iterator<Item = &str> {
    filter.entries.0.iter().filter_map(|entry| match entry {
        Entry::Ref(reference) => Some(reference.filter.as_str()),
        Entry::Rule(_) => None,
    })
}

impl Nwfilters {
    /// The filters and the bindings that are kept; the directories are made if they are not there.
    ///
    /// # Errors
    /// A directory cannot be made or read.
    pub fn open(places: Places) -> io::Result<Arc<Self>> {
        store::make_dir(&places.config, 0o700)?;
        store::make_dir(&places.bindings, 0o755)?;
        let bindings = Mutex::new(bindings::load(&places.bindings)?);
        let leases = Mutex::new(Leases::read(&places.leases));
        let filters = Arc::new_cyclic(|me| Self {
            places,
            bindings,
            all: Mutex::default(),
            leases,
            turn: tokio::sync::Mutex::default(),
            me: me.clone(),
        });
        filters.load()?;
        Ok(filters)
    }

    /// Reads the filters that are stored.
    fn load(&self) -> io::Result<()> {
        // Nobody changes one while it is read.
        let mut all = self.all();
        // Those of libvirt's package come without a UUID.
        let read = |text: &str| {
            let as_it_stands =
                Nwfilter::parse(text, &ParseOptions::default()).map_err(|error| error.message)?;
            let filter = Nwfilter::parse(text, &options()).map_err(|error| error.message)?;
            let completed = as_it_stands.uuid.is_none().then(|| stored(&filter));
            Ok(Found { name: filter.name.clone(), object: filter, completed })
        };
        for filter in store::load(&self.places.config, read)? {
            let known = all.iter().map(|known| (known.name.as_str(), uuid(known)));
            match store::place(known, &filter.name, &uuid(&filter)) {
                Some(Place::Of(at)) => all[at] = filter,
                Some(Place::Behind) => all.push(filter),
                None => {}
            }
        }
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, Vec<Nwfilter>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.places.config.join(format!("{name}.xml"))
    }

    async fn define(&self, xml: &str, validate: bool) -> Result<NonnullNwfilter> {
        let filter = Nwfilter::parse(xml, &options().validating(validate))?;
        let _turn = self.turn.lock().await;
        let old = self.place_of(&filter)?;
        let is_new = old.is_none_or(|at| self.all().get(at) != Some(&filter));
        let rebuilt = if is_new { self.rebuild(&filter).await? } else { Vec::new() };
        if let Err(error) = self.write(&filter) {
            self.put_back(rebuilt).await;
            return Err(error);
        }
        let handle = handle(&filter);
        let mut all = self.all();
        match old.and_then(|at| all.get_mut(at)) {
            Some(known) => *known = filter,
            None => all.push(filter),
        }
        Ok(handle)
    }

    /// Where a definition goes, if it is not new.
    ///
    /// # Errors
    /// There is one like it, or it would lead back to itself.
    fn place_of(&self, filter: &Nwfilter) -> Result<Option<usize>> {
        let all = self.all();
        if let Some(other) = all.iter().find(|other| uuid(other) == uuid(filter) && other.name != filter.name)
        {
            return Err(NWFILTER.operation_failed(format_args!(
                "filter with same UUID but different name ('{}') already exists",
                other.name
            )));
        }
        let old = all.iter().position(|other| other.name == filter.name);
        if let Some(other) = old.map(|at| &all[at])
            && uuid(other) != uuid(filter)
        {
            let text = format_args!("filter '{}' already exists with uuid {}", other.name, uuid(other));
            return Err(NWFILTER.operation_failed(text));
        }
        if leads_back(&all, filter) {
            return Err(NWFILTER.operation_failed("filter would introduce a loop"));
        }
        Ok(old)
    }

    fn write(&self, filter: &Nwfilter) -> Result<()> {
        let path = self.path(&filter.name);
        let cannot = |error: io::Error| {
            let what = format_args!("Failed to create file '{}.new'", path.display());
            VirtError::system(ErrorDomain::NONE, &error, what)
        };
        // A slash leads to a directory that is not there; it is not to lead to one that is.
        if filter.name.contains('/') {
            return Err(cannot(io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error())));
        }
        store::write(&path, &stored(filter)).map_err(cannot)
    }

    async fn undefine(&self, wanted: &NonnullNwfilter) -> Result<()> {
        let _turn = self.turn.lock().await;
        let mut all = self.all();
        let at = position(&all, wanted)?;
        if self.bindings().iter().any(|bound| reaches(&all, bound.filter(), &all[at].name)) {
            return Err(NWFILTER.operation_invalid("nwfilter is in use"));
        }
        let path = self.path(&all[at].name);
        let cannot =
            |e| VirtError::system(NWFILTER, &e, format_args!("cannot remove config {}", path.display()));
        store::remove(&path).map_err(cannot)?;
        all.remove(at);
        Ok(())
    }
}

#[async_trait]
impl Kept for Nwfilters {
    async fn reload(&self) -> io::Result<()> {
        self.load()?;
        self.enforce().await;
        Ok(())
    }
}

fn options() -> ParseOptions {
    ParseOptions::qemu(Arc::new(QemuHost::default()))
}

/// Whether a filter is another, or refers to it, by way of others or not.
fn reaches(all: &[Nwfilter], from: &str, to: &str) -> bool {
    let mut seen = vec![from];
    let mut next = 0;
    while let Some(name) = seen.get(next).copied() {
        if name == to {
            return true;
        }
        let further = all.iter().filter(|filter| filter.name == name).flat_map(references);
        let new: Vec<&str> = further.filter(|name| !seen.contains(name)).collect();
        seen.extend(new);
        next += 1;
    }
    false
}

/// Whether a filter refers to itself, by way of others or not.
fn leads_back(all: &[Nwfilter], filter: &Nwfilter) -> bool {
    references(filter).any(|name| reaches(all, name, &filter.name))
}

fn position(all: &[Nwfilter], wanted: &NonnullNwfilter) -> Result<usize> {
    let id = Uuid::from_bytes(wanted.uuid);
    all.iter().position(|filter| uuid(filter) == id).ok_or_else(|| no_uuid(id))
}

fn no_uuid(id: Uuid) -> VirtError {
    NWFILTER.no_nwfilter(format_args!("no nwfilter with matching uuid '{id}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &std::path::Path) -> Arc<Nwfilters> {
        Nwfilters::open(Places::below(dir)).unwrap()
    }

    #[tokio::test]
    async fn a_filter_outlives_the_daemon_as_it_is_shown() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        let xml = "<filter name='a' chain='arp'><rule action='drop' direction='in'><arp opcode='1'/></rule></filter>";
        filters.define(xml, false).await.unwrap();
        let again = open(scratch.path());
        let shown = again.all()[0].to_xml(&FormatOptions::default());
        assert!(shown.starts_with("<filter name='a' chain='arp' priority='-500'>"), "{shown}");
        assert!(shown.contains("<arp opcode='Request'/>"), "{shown}");
    }

    #[test]
    fn filters_without_a_uuid_get_one_for_good() {
        let scratch = store::Scratch::new();
        let config = scratch.path().join("config");
        std::fs::create_dir(&config).unwrap();
        for name in ["a", "b"] {
            std::fs::write(config.join(format!("{name}.xml")), format!("<filter name='{name}'/>")).unwrap();
        }
        let filters = open(scratch.path());
        let uuids = |filters: &Nwfilters| filters.all().iter().map(uuid).collect::<Vec<_>>();
        let first = uuids(&filters);
        assert!(first.len() == 2 && first[0] != first[1] && !first.contains(&Uuid::nil()), "{first:?}");
        filters.load().unwrap();
        assert_eq!((uuids(&filters), uuids(&open(scratch.path()))), (first.clone(), first));
    }

    #[tokio::test]
    async fn filters_do_not_lead_back_to_themselves() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        filters.define("<filter name='a'><filterref filter='b'/></filter>", false).await.unwrap();
        let error =
            filters.define("<filter name='b'><filterref filter='a'/></filter>", false).await.unwrap_err();
        assert_eq!(error.message, "operation failed: filter would introduce a loop");
    }

    #[tokio::test]
    async fn a_name_does_not_lead_out_of_the_directory() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        let error = filters.define("<filter name='../a'/>", false).await.unwrap_err();
        assert!(error.message.ends_with("No such file or directory"), "{error}");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 2);
    }
}
