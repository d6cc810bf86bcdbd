//! The source of a pool: of a definition, or by itself where sources are looked for.

use virtwire_protocol::{ErrorDomain, VirtError};

use crate::storage::{PoolAuth, PoolSource, PoolType};
use crate::table::Element;
use crate::xml::Document;

const STORAGE: ErrorDomain = ErrorDomain::STORAGE;

/// Adapters of the host's.
const ADAPTERS: [&str; 2] = ["scsi_host", "fc_host"];

/// How a pool may log in.
const LOGINS: [&str; 3] = ["none", "chap", "ceph"];

impl PoolSource {
    /// Reads `<source>` of a pool of this kind.
    ///
    /// # Errors
    /// It is no such element, or what is in it cannot be.
    pub fn parse(text: &str, kind: PoolType) -> Result<Self, VirtError> {
        let document = Document::parse_root(text, "source", STORAGE)?;
        let source = Self::read(document.root())?;
        source.check(kind)?;
        Ok(source)
    }

    /// What is in it can be, in the order in which libvirt looks.
    pub(crate) fn check(&self, kind: PoolType) -> Result<(), VirtError> {
        let format = self.format.as_ref().and_then(|format| format.type_.as_deref());
        let format = format.filter(|format| !format.is_empty());
        if let (Some(format), Some(known)) = (format, kind.source_formats())
            && !known.contains(&format)
        {
            return Err(STORAGE.config_unsupported(format_args!("unknown pool format type {format}")));
        }
        if self.hosts.iter().any(|host| host.name.is_none()) {
            return Err(STORAGE.xml_error("missing storage pool host name"));
        }
        if self.devices.iter().any(|device| device.path.is_none()) {
            return Err(STORAGE.xml_error("missing storage pool source device path"));
        }
        let adapter = self.adapter.as_ref().and_then(|adapter| adapter.type_.as_deref());
        if let Some(adapter) = adapter.filter(|adapter| !ADAPTERS.contains(adapter)) {
            let text = format_args!("Invalid value for attribute 'type' in element 'adapter': '{adapter}'.");
            return Err(ErrorDomain::XML.xml_error(text));
        }
        self.auth.as_ref().map_or(Ok(()), PoolAuth::check)
    }
}

impl PoolSource {
    /// Has a format where none is said.
    pub(super) fn default_format(&mut self, usual: &str) {
        let format = &mut self.format.get_or_insert_default().type_;
        format.take_if(|format| format.is_empty());
        format.get_or_insert_with(|| usual.to_owned());
    }
}

impl PoolAuth {
    fn check(&self) -> Result<(), VirtError> {
        let none = ErrorDomain::NONE;
        if self.username.as_deref().unwrap_or_default().is_empty() {
            return Err(STORAGE.xml_error("missing username for auth"));
        }
        if let Some(kind) = self.type_.as_deref().filter(|kind| !LOGINS.contains(kind)) {
            return Err(STORAGE.config_unsupported(format_args!("unknown auth type '{kind}'")));
        }
        let Some(secret) = &self.secret else {
            return Err(STORAGE.xml_error("Missing <secret> element in auth"));
        };
        match (&secret.uuid, &secret.usage) {
            (None, None) => return Err(none.xml_error("missing secret uuid or usage attribute")),
            (Some(_), Some(_)) => return Err(none.xml_error("either secret uuid or usage expected")),
            _ => {}
        }
        match self.type_.as_deref() {
            None | Some("none") => Err(STORAGE.config_unsupported("storage pool missing auth type")),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(inner: &str, message: &str) {
        let parsed = PoolSource::parse(&format!("<source>{inner}</source>"), PoolType::Netfs);
        assert_eq!(parsed.map_err(|error| error.message), Err(message.to_owned()));
    }

    #[test]
    fn sources_are_told_from_what_is_none() {
        let source =
            PoolSource::parse("<source><host name='h' port='-1'/><format/></source>", PoolType::Netfs);
        let hosts = source.unwrap().hosts;
        assert_eq!((hosts[0].name.as_deref(), hosts[0].port), (Some("h"), Some(-1)));
        let bogus = "<source><format type='bogus'/></source>";
        assert!(PoolSource::parse(bogus, PoolType::Dir).is_ok(), "nobody asks for the format of a directory");
        refused("<format type='bogus'/><host/>", "unsupported configuration: unknown pool format type bogus");
        refused("<device/><host name='h'/><host/>", "XML error: missing storage pool host name");
        refused("<device/><auth/>", "XML error: missing storage pool source device path");
        refused(
            "<auth/><adapter type='q'/>",
            "XML error: Invalid value for attribute 'type' in element 'adapter': 'q'.",
        );
        for (login, message) in [
            ("<auth type='x'/>", "XML error: missing username for auth"),
            ("<auth type='x' username='u'/>", "unsupported configuration: unknown auth type 'x'"),
            ("<auth username='u'/>", "XML error: Missing <secret> element in auth"),
            ("<auth username='u'><secret/></auth>", "XML error: missing secret uuid or usage attribute"),
            (
                "<auth username='u'><secret usage='x'/></auth>",
                "unsupported configuration: storage pool missing auth type",
            ),
        ] {
            refused(login, message);
        }
    }
}
