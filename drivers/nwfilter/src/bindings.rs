//! Bindings: which filter belongs to which port. They are kept for the host's run; a port that is there would need the
//! host's packet filter, and is refused unless its filter lets everything pass.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

use virtwire_conf::nwfilter::Entry;
use virtwire_conf::{FormatOptions, NwfilterBinding, NwfilterBindingStatus, ParseOptions, QemuHost};
use virtwire_driver_api::check_flags;
use virtwire_protocol::XdrString;
use virtwire_protocol::remote::*;
use virtwire_store as store;

use crate::{NWFILTER, Nwfilters, Result};

/// The host's network interfaces.
const INTERFACES: &str = "/sys/class/net";

fn port(binding: &NwfilterBinding) -> &str {
    binding.portdev.as_ref().and_then(|port| port.name.as_deref()).unwrap_or_default()
}

fn filter(binding: &NwfilterBinding) -> &str {
    binding.filterref.as_ref().and_then(|filter| filter.filter.as_deref()).unwrap_or_default()
}

fn handle(binding: &NwfilterBinding) -> NonnullNwfilterBinding {
    NonnullNwfilterBinding { portdev: port(binding).into(), filtername: filter(binding).into() }
}

fn file(dir: &Path, port: &str) -> PathBuf {
    dir.join(format!("{port}.xml"))
}

/// The bindings that a directory keeps. One that cannot be read is left alone, with a line in the log.
pub(crate) fn load(dir: &Path) -> std::io::Result<Vec<NwfilterBinding>> {
    let mut all = Vec::new();
    for (name, text) in store::read_all(dir)? {
        let status = text.map_err(|error| error.to_string()).and_then(|text| {
            NwfilterBindingStatus::parse(&text, &ParseOptions::default()).map_err(|error| error.message)
        });
        match status.map(|status| status.filterbinding) {
            Ok(Some(binding)) if port(&binding) == name => all.push(binding),
            Ok(_) => tracing::warn!(file = name, "the file is not named like its port"),
            Err(error) => tracing::warn!(file = name, error, "a binding cannot be read"),
        }
    }
    Ok(all)
}

impl Nwfilters {
    fn bindings(&self) -> MutexGuard<'_, Vec<NwfilterBinding>> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a filter, or one that it refers to, has rules. One that is not known has none yet.
    fn has_rules(&self, name: &str) -> bool {
        let all = self.all();
        let mut names = vec![name];
        let mut next = 0;
        while let Some(name) = names.get(next).copied() {
            for entry in all.iter().filter(|filter| filter.name == name).flat_map(|filter| &filter.entries.0)
            {
                match entry {
                    Entry::Rule(_) => return true,
                    Entry::Ref(other) if names.contains(&other.filter.as_str()) => {}
                    Entry::Ref(other) => names.push(&other.filter),
                }
            }
            next += 1;
        }
        false
    }

    fn bind(&self, binding: NwfilterBinding) -> Result<NonnullNwfilterBinding> {
        let port = port(&binding).to_owned();
        if self.bindings().iter().any(|other| self::port(other) == port) {
            return Err(NWFILTER.operation_failed(format_args!("binding '{port}' already exists")));
        }
        let plain = !port.is_empty() && !port.contains('/');
        if plain && Path::new(INTERFACES).join(&port).exists() && self.has_rules(filter(&binding)) {
            let text = format_args!("filters are not put into force yet, and '{port}' would need that");
            return Err(NWFILTER.config_unsupported(text));
        }
        // Where the name cannot be a file's, the binding lives as long as the daemon.
        if plain {
            let status = NwfilterBindingStatus { filterbinding: Some(binding.clone()) };
            let text = status.to_xml(&FormatOptions::default());
            let text = store::with_warning(&format!("nwfilter-binding-create {port}"), &text);
            if let Err(error) = store::write(&file(&self.run, &port), &text) {
                tracing::warn!(port, %error, "a binding is not kept");
            }
        }
        let handle = handle(&binding);
        self.bindings().push(binding);
        Ok(handle)
    }

    fn with_binding<T>(&self, name: &XdrString, look: impl FnOnce(&NwfilterBinding) -> T) -> Result<T> {
        let name = name.to_str_lossy();
        let all = self.bindings();
        all.iter().find(|binding| port(binding) == name).map(look).ok_or_else(|| {
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
    let show = |binding: &NwfilterBinding| binding.to_xml(&FormatOptions::default());
    Ok(NwfilterBindingGetXmlDescRet { xml: filters.with_binding(&args.nwfilter.portdev, show)?.into() })
}

pub(crate) async fn create(
    filters: &Nwfilters,
    args: NwfilterBindingCreateXmlArgs,
) -> Result<NwfilterBindingCreateXmlRet> {
    const VALIDATE: u32 = 1;
    check_flags(NWFILTER, args.flags, VALIDATE, "nwfilterBindingCreateXML")?;
    let options = ParseOptions::qemu(Arc::new(QemuHost::default())).validating(args.flags & VALIDATE != 0);
    let binding = NwfilterBinding::parse(&args.xml.to_str_lossy(), &options)?;
    Ok(NwfilterBindingCreateXmlRet { nwfilter: filters.bind(binding)? })
}

pub(crate) async fn delete(filters: &Nwfilters, args: NwfilterBindingDeleteArgs) -> Result<()> {
    let name = filters.with_binding(&args.nwfilter.portdev, |binding| port(binding).to_owned())?;
    if !name.contains('/')
        && let Err(error) = store::remove(&file(&filters.run, &name))
    {
        tracing::warn!(port = name, %error, "a binding that is gone is still kept");
    }
    filters.bindings().retain(|binding| port(binding) != name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use virtwire_driver_api::{CallCx, NwfilterDriver};

    use super::*;

    const XML: &str = "<filterbinding><owner><name>a</name><uuid>d54df46f-1ab5-4a22-8618-000000000001</uuid></owner>
        <portdev name='PORT'/><mac address='52:54:00:00:00:01'/>
        <filterref filter='f'><parameter name='Z' value='1'/><parameter name='IP' value='10.0.0.1'/></filterref>
        </filterbinding>";

    fn open(dir: &Path) -> Nwfilters {
        Nwfilters::open(dir.join("config"), dir.join("run")).unwrap()
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
        let shown = again.with_binding(&nwfilter.portdev, |it| it.to_xml(&FormatOptions::default())).unwrap();
        assert!(shown.find("name='IP'") < shown.find("name='Z'"), "{shown}");
        delete(&again, NwfilterBindingDeleteArgs { nwfilter }).await.unwrap();
        assert!(open(scratch.path()).bindings().is_empty());
    }

    #[tokio::test]
    async fn a_port_that_is_there_needs_what_is_not() {
        let scratch = store::Scratch::new();
        let filters = open(scratch.path());
        let rule = "<filter name='f'><rule action='drop' direction='in'><all/></rule></filter>";
        filters.define(rule, false).unwrap();
        let error = bind(&filters, "lo").await.unwrap_err();
        assert!(error.message.contains("not put into force yet"), "{error}");
        filters.define("<filter name='g'/>", false).unwrap();
        assert!(!filters.has_rules("g") && filters.has_rules("f"));
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
