//! Bindings: which filter belongs to which port. They are kept for the host's run, and put in force where the port is there.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use virtwire_conf::domain::net::FilterParameter;
use virtwire_conf::{FormatOptions, Nwfilter, NwfilterBinding, NwfilterBindingStatus, ParseOptions};
use virtwire_driver_api::check_flags;
use virtwire_link as link;
use virtwire_protocol::XdrString;
use virtwire_protocol::remote::*;
use virtwire_store as store;

use crate::learn::{Learner, Listener};
use crate::rules::{self, Learn, MAC, Outcome, Rules};
use crate::{NWFILTER, Nwfilters, Result, force, options, reaches};

/// A binding, and what is in force for it.
pub(crate) struct Bound {
    binding: NwfilterBinding,
    /// The rules that were put in force, as far as this daemon knows.
    rules: Option<Rules>,
    /// The addresses that were learned of the port.
    learned: Vec<Ipv4Addr>,
    /// Whoever learns them.
    learner: Option<Learner>,
}

impl Bound {
    fn new(binding: NwfilterBinding) -> Self {
        Self { binding, rules: None, learned: Vec::new(), learner: None }
    }

    pub(crate) fn port(&self) -> &str {
        port(&self.binding)
    }

    pub(crate) fn filter(&self) -> &str {
        filter(&self.binding)
    }
}

fn port(binding: &NwfilterBinding) -> &str {
    binding.portdev.as_ref().and_then(|port| port.name.as_deref()).unwrap_or_default()
}

fn filter(binding: &NwfilterBinding) -> &str {
    binding.filterref.as_ref().and_then(|filter| filter.filter.as_deref()).unwrap_or_default()
}

/// Whom a port belongs to, as leases are kept: the guest and the address of its interface.
fn key(binding: &NwfilterBinding) -> String {
    let uuid = binding.owner.as_ref().and_then(|owner| owner.uuid).unwrap_or_default();
    format!("{uuid}-{}", mac(binding))
}

fn mac(binding: &NwfilterBinding) -> String {
    binding.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac.to_string()).unwrap_or_default()
}

/// A binding says the port's own address as well.
fn complete(binding: &mut NwfilterBinding) {
    let value = mac(binding);
    let parameters = &mut binding.filterref.get_or_insert_default().parameter;
    if parameters.iter().all(|parameter| parameter.name != MAC) {
        parameters.push(FilterParameter { name: MAC.to_owned(), value });
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

fn handle(bound: &Bound) -> NonnullNwfilterBinding {
    NonnullNwfilterBinding { portdev: bound.port().into(), filtername: bound.filter().into() }
}

fn file(dir: &Path, port: &str) -> PathBuf {
    dir.join(format!("{port}.xml"))
}

/// The bindings that a directory keeps. One that cannot be read is left alone, with a line in the log.
pub(crate) fn load(dir: &Path) -> std::io::Result<Vec<Bound>> {
    let mut all = Vec::new();
    for (name, text) in store::read_all(dir)? {
        let status = text.map_err(|error| error.to_string()).and_then(|text| {
            NwfilterBindingStatus::parse(&text, &ParseOptions::default()).map_err(|error| error.message)
        });
        match status.map(|status| status.filterbinding) {
            Ok(Some(binding)) if port(&binding) == name => all.push(Bound::new(binding)),
            Ok(_) => tracing::warn!(file = name, "the file is not named like its port"),
            Err(error) => tracing::warn!(file = name, error, "a binding cannot be read"),
        }
    }
    Ok(all)
}

/// Whether the packet filters take the name for that of one interface.
fn is_plain(port: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    (1..=15).contains(&port.len()) && port.chars().all(plain) && !port.starts_with('-')
}

impl Nwfilters {
    pub(crate) fn bindings(&self) -> MutexGuard<'_, Vec<Bound>> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts all bindings in force whose ports are there, as after a start of the daemon or when what is stored was read
    /// again. What cannot be is said in the log.
    pub async fn enforce(&self) {
        let _turn = self.turn.lock().await;
        for port in self.ports(|_| true) {
            if let Err(error) = self.apply(&port, None).await {
                tracing::error!(port, %error, "its filter is not in force as it is defined");
            }
        }
    }

    /// The ports, where they are there, of certain bindings.
    fn ports(&self, which: impl Fn(&Bound) -> bool) -> Vec<String> {
        let bindings = self.bindings();
        let ports = bindings.iter().filter(|bound| which(bound)).map(Bound::port);
        ports.filter(|port| link::exists(port)).map(str::to_owned).collect()
    }

    fn outcome(&self, bound: &Bound, new: Option<&Nwfilter>) -> Result<Outcome> {
        let all = self.all();
        let known = |name: &str| all.iter().find(|filter| filter.name == name);
        let find = |name: &str| new.filter(|new| new.name == name).or_else(|| known(name));
        let mut own = bound.binding.clone();
        complete(&mut own);
        let parameters = own.filterref.as_ref().map(|filter| filter.parameter.as_slice()).unwrap_or_default();
        rules::of(find, bound.filter(), bound.port(), rules::lists(parameters), &bound.learned)
    }

    /// Puts in force what a port's binding says, with a new definition of a filter, if there is one.
    async fn apply(&self, port: &str, new: Option<&Nwfilter>) -> Result<()> {
        let (outcome, before, how, listener) = {
            let mut bindings = self.bindings();
            let Some(bound) = bindings.iter_mut().find(|bound| bound.port() == port) else {
                return Ok(());
            };
            let mut outcome = self.outcome(bound, new)?;
            if outcome.learn == Some(Learn::Dhcp) {
                bound.learned = self.leases().of(&key(&bound.binding));
                outcome = self.outcome(bound, new)?;
            }
            // One address is learned once, leases for as long as the port is there.
            let how = outcome.learn.filter(|how| *how == Learn::Dhcp || bound.learned.is_empty());
            let wanted = how.filter(|how| bound.learner.as_ref().is_none_or(|running| running.how != *how));
            let mac = bound.binding.mac.as_ref().and_then(|mac| mac.address).map(|mac| mac.0);
            let listen = |how| {
                let owner = key(&bound.binding);
                Listener::of(self.me.clone(), how, port, mac.unwrap_or_default(), owner)
            };
            (outcome, bound.rules.clone(), how, wanted.map(listen).transpose()?)
        };
        force::put(port, before.as_ref(), &outcome.rules).await?;
        let mut bindings = self.bindings();
        if let Some(bound) = bindings.iter_mut().find(|bound| bound.port() == port) {
            bound.rules = Some(outcome.rules);
            match (how, listener) {
                (_, Some(listener)) => bound.learner = Some(listener.start()),
                (None, _) => bound.learner = None,
                (Some(_), None) => {}
            }
        }
        Ok(())
    }

    /// Puts a new definition in force wherever it is used. Returns the ports.
    ///
    /// # Errors
    /// It cannot be somewhere; all is as it was.
    pub(crate) async fn rebuild(&self, new: &Nwfilter) -> Result<Vec<String>> {
        let names: Vec<String> = {
            let all = self.all();
            let bindings = self.bindings();
            let filters = bindings.iter().map(Bound::filter);
            filters.filter(|filter| reaches(&all, filter, &new.name)).map(str::to_owned).collect()
        };
        let mut done = Vec::new();
        for port in self.ports(|bound| names.iter().any(|name| name == bound.filter())) {
            match self.apply(&port, Some(new)).await {
                Ok(()) => done.push(port),
                Err(error) => {
                    self.put_back(done).await;
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    /// Puts in force at these ports what the definitions say that are known.
    pub(crate) async fn put_back(&self, ports: Vec<String>) {
        for port in ports {
            if let Err(error) = self.apply(&port, None).await {
                tracing::error!(port, %error, "its filter is not in force as it was");
            }
        }
    }

    /// A port's addresses are now known to be these.
    pub(crate) async fn learned(&self, port: &str, addresses: Vec<Ipv4Addr>) {
        let _turn = self.turn.lock().await;
        {
            let mut bindings = self.bindings();
            let Some(bound) = bindings.iter_mut().find(|bound| bound.port() == port) else { return };
            bound.learned = addresses;
        }
        if let Err(error) = self.apply(port, None).await {
            tracing::error!(port, %error, "its filter is not in force for the addresses it has");
        }
    }

    async fn bind(&self, binding: NwfilterBinding) -> Result<NonnullNwfilterBinding> {
        let _turn = self.turn.lock().await;
        let port = port(&binding).to_owned();
        if self.bindings().iter().any(|bound| bound.port() == port) {
            return Err(NWFILTER.operation_failed(format_args!("binding '{port}' already exists")));
        }
        let mut bound = Bound::new(binding);
        let is_there = link::exists(&port);
        if is_there {
            if !is_plain(&port) {
                let text = format_args!("the packet filter cannot be told of an interface named '{port}'");
                return Err(NWFILTER.config_unsupported(text));
            }
            complete(&mut bound.binding);
        }
        let (handle, binding) = (handle(&bound), bound.binding.clone());
        self.bindings().push(bound);
        if is_there && let Err(error) = self.apply(&port, None).await {
            force::take(&port).await;
            self.bindings().retain(|bound| bound.port() != port);
            return Err(error);
        }
        // Where the name cannot be a file's, the binding lives as long as the daemon.
        if is_plain(&port) {
            let status = NwfilterBindingStatus { filterbinding: Some(binding) };
            let text = status.to_xml(&FormatOptions::default());
            let text = store::with_warning(&format!("nwfilter-binding-create {port}"), &text);
            if let Err(error) = store::write(&file(&self.places.bindings, &port), &text) {
                tracing::warn!(port, %error, "a binding is not kept");
            }
        }
        Ok(handle)
    }

    fn with_binding<T>(&self, name: &XdrString, look: impl FnOnce(&Bound) -> T) -> Result<T> {
        let name = name.to_str_lossy();
        let all = self.bindings();
        all.iter().find(|bound| bound.port() == name).map(look).ok_or_else(|| {
            NWFILTER.no_nwfilter_binding(format_args!("no nwfilter binding for port dev '{name}'"))
        })
    }
}

pub(crate) async fn all(
    filters: &Nwfilters,
    args: ConnectListAllNwfilterBindingsArgs,
) -> Result<ConnectListAllNwfilterBindingsRet> {
    check_flags(NWFILTER, args.flags, 0, "nwfilterConnectListAllNWFilterBindings")?;
    let bindings: Vec<_> = filters.bindings().iter().map(handle).collect();
    let ret = bindings.len() as u32;
    let bindings = if args.need_results != 0 { bindings } else { Vec::new() };
    Ok(ConnectListAllNwfilterBindingsRet { bindings, ret })
}

pub(crate) async fn by_port(
    filters: &Nwfilters,
    args: NwfilterBindingLookupByPortDevArgs,
) -> Result<NwfilterBindingLookupByPortDevRet> {
    Ok(NwfilterBindingLookupByPortDevRet { nwfilter: filters.with_binding(&args.name, handle)? })
}

pub(crate) async fn xml_desc(
    filters: &Nwfilters,
    args: NwfilterBindingGetXmlDescArgs,
) -> Result<NwfilterBindingGetXmlDescRet> {
    check_flags(NWFILTER, args.flags, 0, "nwfilterBindingGetXMLDesc")?;
    let show = |bound: &Bound| bound.binding.to_xml(&FormatOptions::default());
    Ok(NwfilterBindingGetXmlDescRet { xml: filters.with_binding(&args.nwfilter.portdev, show)?.into() })
}

pub(crate) async fn create(
    filters: &Nwfilters,
    args: NwfilterBindingCreateXmlArgs,
) -> Result<NwfilterBindingCreateXmlRet> {
    const VALIDATE: u32 = 1;
    check_flags(NWFILTER, args.flags, VALIDATE, "nwfilterBindingCreateXML")?;
    let options = options().validating(args.flags & VALIDATE != 0);
    let binding = NwfilterBinding::parse(&args.xml.to_str_lossy(), &options)?;
    Ok(NwfilterBindingCreateXmlRet { nwfilter: filters.bind(binding).await? })
}

pub(crate) async fn delete(filters: &Nwfilters, args: NwfilterBindingDeleteArgs) -> Result<()> {
    let _turn = filters.turn.lock().await;
    let name = filters.with_binding(&args.nwfilter.portdev, |bound| bound.port().to_owned())?;
    filters.bindings().retain(|bound| bound.port() != name);
    if is_plain(&name) {
        force::take(&name).await;
        if let Err(error) = store::remove(&file(&filters.places.bindings, &name)) {
            tracing::warn!(port = name, %error, "a binding that is gone is still kept");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use virtwire_driver_api::{CallCx, NwfilterDriver};

    use super::*;

    const XML: &str = "<filterbinding><owner><name>a</name><uuid>d54df46f-1ab5-4a22-8618-000000000001</uuid></owner>
        <portdev name='PORT'/><mac address='52:54:00:00:00:01'/>
        <filterref filter='f'><parameter name='Z' value='1'/><parameter name='IP' value='10.0.0.1'/></filterref>
        </filterbinding>";

    fn open(dir: &Path) -> Arc<Nwfilters> {
        Nwfilters::open(crate::Places::below(dir)).unwrap()
    }

    async fn bind(filters: &Nwfilters, port: &str) -> Result<NonnullNwfilterBinding> {
        let args = NwfilterBindingCreateXmlArgs { xml: XML.replace("PORT", port).into(), flags: 0 };
        let ret = filters.nwfilter_binding_create_xml(&CallCx::default(), args).await?;
        Ok(ret.nwfilter)
    }

    #[tokio::test]
    async fn a_binding_outlives_the_daemon_until_it_is_deleted() {
        let scratch = store::Scratch::new();
        let nwfilter = bind(&open(scratch.path()), "vnet77").await.unwrap();
        let again = open(scratch.path());
        let error = bind(&again, "vnet77").await.unwrap_err();
        assert_eq!(error.message, "operation failed: binding 'vnet77' already exists");
        let shown =
            again.with_binding(&nwfilter.portdev, |it| it.binding.to_xml(&FormatOptions::default())).unwrap();
        assert!(shown.find("name='IP'") < shown.find("name='Z'"), "{shown}");
        delete(&again, NwfilterBindingDeleteArgs { nwfilter }).await.unwrap();
        assert!(open(scratch.path()).bindings().is_empty());
    }

    #[tokio::test]
    async fn a_filter_that_cannot_be_in_force_is_bound_to_nothing_that_is_there() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        let error = bind(&filters, "lo").await.unwrap_err();
        assert_eq!(error.message, "internal error: referenced filter 'f' is missing");
        assert!(filters.bindings().is_empty());
    }

    #[tokio::test]
    async fn a_filter_in_use_stays() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        let inner = filters.define("<filter name='g'/>", false).await.unwrap();
        let outer = "<filter name='f'><filterref filter='g'/></filter>";
        let outer = filters.define(outer, false).await.unwrap();
        let nwfilter = bind(&filters, "vnet77").await.unwrap();
        for used in [&inner, &outer] {
            let error = filters.undefine(used).await.unwrap_err();
            assert_eq!(error.message, "Requested operation is not valid: nwfilter is in use");
        }
        delete(&filters, NwfilterBindingDeleteArgs { nwfilter }).await.unwrap();
        filters.undefine(&inner).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_s_name_does_not_lead_out_of_the_directory() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        let nwfilter = bind(&filters, "../config/x").await.unwrap();
        delete(&filters, NwfilterBindingDeleteArgs { nwfilter }).await.unwrap();
        assert_eq!(std::fs::read_dir(scratch.path().join("config")).unwrap().count(), 0);
    }
}
