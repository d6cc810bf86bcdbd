//! Definitions of network filters and bindings of guests' ports to them, kept in libvirt's own layout. None is put into
//! force here: that is for the host's packet filter, which this driver leaves alone.

mod bindings;
mod rules;
mod serve;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;
use virtwire_conf::nwfilter::Entry;
use virtwire_conf::{FormatOptions, Nwfilter, NwfilterBinding, ParseOptions, QemuHost};
use virtwire_driver_api::Kept;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::NonnullNwfilter;
use virtwire_store::{self as store, Found, Place};

type Result<T, E = VirtError> = std::result::Result<T, E>;

/// The domain of this driver's errors.
const NWFILTER: ErrorDomain = ErrorDomain::NWFILTER;

/// The filters of the machine or of one user, by name.
pub struct Nwfilters {
    config: PathBuf,
    /// Where bindings are kept.
    run: PathBuf,
    bindings: Mutex<Vec<NwfilterBinding>>,
    all: Mutex<Vec<Nwfilter>>,
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
    /// The filters that `config` keeps, and the bindings in `run`; both are made if they are not there.
    ///
    /// # Errors
    /// A directory cannot be made or read.
    pub fn open(config: PathBuf, run: PathBuf) -> io::Result<Self> {
        store::make_dir(&config, 0o700)?;
        store::make_dir(&run, 0o755)?;
        let bindings = Mutex::new(bindings::load(&run)?);
        let filters = Self { config, run, bindings, all: Mutex::default() };
        filters.load()?;
        Ok(filters)
    }

    /// Reads the filters that are stored.
    fn load(&self) -> io::Result<()> {
        // Nobody changes one while it is read.
        let mut all = self.all();
        // Those of libvirt's package come without a UUID.
        let read = |text: &str| {
            let mut filter =
                Nwfilter::parse(text, &ParseOptions::default()).map_err(|error| error.message)?;
            let is_nameless = filter.uuid.is_none();
            filter.uuid.get_or_insert_with(Uuid::new_v4);
            let completed = is_nameless.then(|| stored(&filter));
            Ok(Found { name: filter.name.clone(), object: filter, completed })
        };
        for filter in store::load(&self.config, read)? {
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
        self.config.join(format!("{name}.xml"))
    }

    fn define(&self, xml: &str, validate: bool) -> Result<NonnullNwfilter> {
        let options = ParseOptions::qemu(Arc::new(QemuHost::default())).validating(validate);
        let filter = Nwfilter::parse(xml, &options)?;
        let mut all = self.all();
        if let Some(other) =
            all.iter().find(|other| uuid(other) == uuid(&filter) && other.name != filter.name)
        {
            return Err(NWFILTER.operation_failed(format_args!(
                "filter with same UUID but different name ('{}') already exists",
                other.name
            )));
        }
        let old = all.iter().position(|other| other.name == filter.name);
        if let Some(other) = old.map(|at| &all[at])
            && uuid(other) != uuid(&filter)
        {
            let text = format_args!("filter '{}' already exists with uuid {}", other.name, uuid(other));
            return Err(NWFILTER.operation_failed(text));
        }
        if leads_back(&all, &filter) {
            return Err(NWFILTER.operation_failed("filter would introduce a loop"));
        }
        self.write(&filter)?;
        let handle = handle(&filter);
        match old {
            Some(at) => all[at] = filter,
            None => all.push(filter),
        }
        Ok(handle)
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

    fn undefine(&self, wanted: &NonnullNwfilter) -> Result<()> {
        let mut all = self.all();
        let at = position(&all, wanted)?;
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
        self.load()
    }
}

/// Whether a filter refers to itself, by way of others or not.
fn leads_back(all: &[Nwfilter], filter: &Nwfilter) -> bool {
    let mut seen: Vec<&str> = references(filter).collect();
    let mut next = 0;
    while let Some(name) = seen.get(next).copied() {
        if name == filter.name {
            return true;
        }
        let further = all.iter().filter(|other| other.name == name).flat_map(references);
        let new: Vec<&str> = further.filter(|name| !seen.contains(name)).collect();
        seen.extend(new);
        next += 1;
    }
    false
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

    fn open(dir: &std::path::Path) -> Nwfilters {
        Nwfilters::open(dir.join("config"), dir.join("run")).unwrap()
    }

    #[test]
    fn a_filter_outlives_the_daemon_as_it_is_shown() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        let xml = "<filter name='a' chain='arp'><rule action='drop' direction='in'><arp opcode='1'/></rule></filter>";
        filters.define(xml, false).unwrap();
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

    #[test]
    fn filters_do_not_lead_back_to_themselves() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        filters.define("<filter name='a'><filterref filter='b'/></filter>", false).unwrap();
        let error = filters.define("<filter name='b'><filterref filter='a'/></filter>", false).unwrap_err();
        assert_eq!(error.message, "operation failed: filter would introduce a loop");
    }

    #[test]
    fn a_name_does_not_lead_out_of_the_directory() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        let error = filters.define("<filter name='../a'/>", false).unwrap_err();
        assert!(error.message.ends_with("No such file or directory"), "{error}");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 2);
    }
}
