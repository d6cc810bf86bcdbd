//! What a client asks of a migration: flags and parameters, in the form with typed parameters or the older ones.

use virtwire_driver_api::params::{self, Kind};
use virtwire_protocol::XdrString;
use virtwire_protocol::remote::TypedParam;

use super::capabilities;
use crate::error::{QEMU, Result, check_flags};

/// `VIR_MIGRATE_…`
pub(super) mod flag {
    pub(crate) const LIVE: u32 = 1 << 0;
    pub(crate) const PEER2PEER: u32 = 1 << 1;
    pub(crate) const TUNNELLED: u32 = 1 << 2;
    pub(crate) const PERSIST_DEST: u32 = 1 << 3;
    pub(crate) const UNDEFINE_SOURCE: u32 = 1 << 4;
    pub(crate) const PAUSED: u32 = 1 << 5;
    pub(crate) const NON_SHARED_DISK: u32 = 1 << 6;
    pub(crate) const NON_SHARED_INC: u32 = 1 << 7;
    pub(crate) const CHANGE_PROTECTION: u32 = 1 << 8;
    pub(crate) const UNSAFE: u32 = 1 << 9;
    pub(crate) const OFFLINE: u32 = 1 << 10;
    pub(crate) const COMPRESSED: u32 = 1 << 11;
    pub(crate) const AUTO_CONVERGE: u32 = 1 << 13;
    pub(crate) const POSTCOPY: u32 = 1 << 15;
    pub(crate) const TLS: u32 = 1 << 16;
    pub(crate) const PARALLEL: u32 = 1 << 17;
    pub(crate) const SYNCHRONOUS_WRITES: u32 = 1 << 18;
    pub(crate) const POSTCOPY_RESUME: u32 = 1 << 19;
    pub(crate) const ZEROCOPY: u32 = 1 << 20;
    /// All of them.
    pub(super) const ALL: u32 = (1 << 21) - 1;
}

/// `VIR_MIGRATE_PARAM_…`
pub(super) mod name {
    pub(crate) const URI: &str = "migrate_uri";
    pub(crate) const DEST_NAME: &str = "destination_name";
    pub(crate) const DEST_XML: &str = "destination_xml";
    pub(crate) const PERSIST_XML: &str = "persistent_xml";
    pub(crate) const BANDWIDTH: &str = "bandwidth";
    pub(crate) const LISTEN_ADDRESS: &str = "listen_address";
    pub(crate) const COMPRESSION: &str = "compression";
    pub(crate) const TLS_DESTINATION: &str = "tls.destination";
    pub(crate) const DISKS: &str = "migrate_disks";
    pub(crate) const DETECT_ZEROES: &str = "migrate_disks_detect_zeroes";
    pub(crate) const DISKS_PORT: &str = "disks_port";
    pub(crate) const DISKS_URI: &str = "disks_uri";
}

/// All parameters and their types.
const KNOWN: [(&str, Kind); 24] = [
    (name::URI, Kind::String),
    (name::DEST_NAME, Kind::String),
    (name::DEST_XML, Kind::String),
    (name::PERSIST_XML, Kind::String),
    (name::BANDWIDTH, Kind::Ullong),
    ("bandwidth.postcopy", Kind::Ullong),
    ("bandwidth.avail.switchover", Kind::Ullong),
    ("graphics_uri", Kind::String),
    (name::LISTEN_ADDRESS, Kind::String),
    (name::DISKS, Kind::String),
    (name::DETECT_ZEROES, Kind::String),
    (name::DISKS_PORT, Kind::Int),
    (name::DISKS_URI, Kind::String),
    (name::COMPRESSION, Kind::String),
    ("compression.mt.level", Kind::Int),
    ("compression.mt.threads", Kind::Int),
    ("compression.mt.dthreads", Kind::Int),
    ("compression.xbzrle.cache", Kind::Ullong),
    ("compression.zlib.level", Kind::Int),
    ("compression.zstd.level", Kind::Int),
    ("auto_converge.initial", Kind::Int),
    ("auto_converge.increment", Kind::Int),
    ("parallel.connections", Kind::Int),
    (name::TLS_DESTINATION, Kind::String),
];

/// Those that may be given more than once.
const LISTS: [&str; 3] = [name::DISKS, name::DETECT_ZEROES, name::COMPRESSION];

/// What is not served, by the flag that asks for it.
const REFUSED: [(u32, &str); 1] =
    [(flag::ZEROCOPY, "migration without copies of sent memory is not supported")];

/// What a client asks.
#[derive(Clone, Default)]
pub(super) struct Asked {
    pub(super) flags: u32,
    pub(super) params: Vec<TypedParam>,
}

impl Asked {
    /// Flags and parameters that a function of libvirt's (`function`) was called with.
    ///
    /// # Errors
    /// One that is unknown, of another type, or for what is not served.
    pub(super) fn new(params: Vec<TypedParam>, flags: u32, function: &str) -> Result<Self> {
        check_flags(flags, flag::ALL, function)?;
        let mut lists = LISTS.to_vec();
        let once = |param: &&TypedParam| match lists.iter().position(|list| param.field == *list) {
            Some(at) => {
                lists.swap_remove(at);
                true
            }
            None => !LISTS.iter().any(|list| param.field == *list),
        };
        let once: Vec<_> = params.iter().filter(once).cloned().collect();
        params::validate(&once, &KNOWN)?;
        let asked = Self { flags, params };
        if asked.has(flag::POSTCOPY_RESUME) && !asked.has(flag::POSTCOPY) {
            let text = "resuming failed post-copy migration requires post-copy to be enabled";
            return Err(QEMU.argument_unsupported(text));
        }
        if asked.has(flag::POSTCOPY) && (!asked.has(flag::LIVE) || asked.has(flag::PAUSED)) {
            let text = "post-copy migration is not supported with non-live or paused migration";
            return Err(QEMU.argument_unsupported(text));
        }
        if asked.has(flag::ZEROCOPY) && !asked.has(flag::PARALLEL) {
            return Err(QEMU.operation_invalid("zero-copy is only available for parallel migration"));
        }
        capabilities::check(&asked)?;
        match REFUSED.iter().find(|(refused, _)| flags & refused != 0) {
            Some((_, text)) => Err(QEMU.operation_unsupported(text)),
            None => Ok(asked),
        }
    }

    /// The same, with other parameters in the place of those of these names.
    pub(super) fn with(&self, others: Vec<TypedParam>) -> Self {
        let stays = |param: &&TypedParam| !others.iter().any(|other| other.field == param.field);
        let mut params: Vec<_> = self.params.iter().filter(stays).cloned().collect();
        params.extend(others);
        Self { flags: self.flags, params }
    }

    /// Whether a flag is set.
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The same, and what holds where nothing of that name is asked.
    pub(super) fn or(&self, usual: TypedParam) -> Self {
        let mut asked = self.clone();
        if !asked.params.iter().any(|param| param.field == usual.field) {
            asked.params.push(usual);
        }
        asked
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        params::text(&self.params, name)
    }

    /// All texts of a parameter that may be given more than once.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let of = self.params.iter().filter(|param| param.field == name);
        of.filter_map(|param| params::text(std::slice::from_ref(param), name)).collect()
    }

    /// Whether a parameter is given.
    pub(super) fn has_param(&self, name: &str) -> bool {
        self.params.iter().any(|param| param.field == name)
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        params::number(&self.params, name)
    }
}

/// What the older functions have as arguments, as far as a function has it.
#[derive(Default)]
pub(super) struct Older {
    pub(super) xml: Option<XdrString>,
    pub(super) name: Option<XdrString>,
    pub(super) uri: Option<XdrString>,
    /// MiB per second; 0 for no limit.
    pub(super) bandwidth: u64,
}

impl Older {
    /// The same as parameters.
    pub(super) fn params(self) -> Vec<TypedParam> {
        let texts = [(name::DEST_XML, self.xml), (name::DEST_NAME, self.name), (name::URI, self.uri)];
        let mut params: Vec<_> = texts
            .into_iter()
            .filter_map(|(name, text)| Some(TypedParam::new(name, text?.to_string())))
            .collect();
        if self.bandwidth > 0 {
            params.push(TypedParam::new(name::BANDWIDTH, self.bandwidth));
        }
        params
    }
}

/// The flags of the older functions, which have room for more than there are.
pub(super) fn older_flags(flags: u64) -> u32 {
    // What does not fit is unknown, as the highest of those that fit is.
    u32::try_from(flags).unwrap_or(1 << 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_repeat_and_nothing_else() {
        let twice = |name: &str| vec![TypedParam::new(name, "a"), TypedParam::new(name, "b")];
        let asked = Asked::new(twice("migrate_disks"), 0, "f").unwrap();
        assert_eq!(asked.texts("migrate_disks"), ["a", "b"]);
        let error = Asked::new(twice("migrate_uri"), 0, "f").err().unwrap();
        assert_eq!(error.message, "invalid argument: parameter 'migrate_uri' occurs multiple times");
    }

    #[test]
    fn older_arguments_are_parameters() {
        let older = Older { name: Some("n".into()), bandwidth: 7, ..Older::default() };
        let asked = Asked::new(older.params(), older_flags(1), "f").unwrap();
        assert_eq!(
            (asked.text(name::DEST_NAME).as_deref(), asked.number(name::BANDWIDTH)),
            (Some("n"), Some(7))
        );
        assert!(Asked::new(Vec::new(), older_flags(1 << 40), "f").is_err());
    }
}
