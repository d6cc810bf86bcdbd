#[allow(unused_imports)]
use crate::procedures::{
    Acl, AclWhen, Check, Direction, EventInfo, Family, ProcedureInfo, Program, ReadOnly,
    Rule, Stream, StreamMode, When,
};

use crate::error::ErrorDomain;

/// `enum demo_procedure`. Unknown values pass through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Procedure(pub i32);

impl Procedure {
    /// `DEMO_PROC_PING`
    pub const PING: Self = Self(1);
    /// `DEMO_PROC_GET`
    pub const GET: Self = Self(2);
    /// `DEMO_PROC_LIST`
    pub const LIST: Self = Self(3);
    /// `DEMO_PROC_SET`
    pub const SET: Self = Self(4);
    /// `DEMO_PROC_DOWNLOAD`
    pub const DOWNLOAD: Self = Self(6);
    /// `DEMO_PROC_UPLOAD`
    pub const UPLOAD: Self = Self(7);
    /// `DEMO_PROC_OPEN_FD`
    pub const OPEN_FD: Self = Self(8);
    /// `DEMO_PROC_TAKE_FDS`
    pub const TAKE_FDS: Self = Self(9);
    /// `DEMO_PROC_EVENT_CHANGED`
    pub const EVENT_CHANGED: Self = Self(10);
    /// `DEMO_PROC_EVENT_CALLBACK_CHANGED`
    pub const EVENT_CALLBACK_CHANGED: Self = Self(11);
    /// The member's name, if the value is known.
    pub const fn name(self) -> Option<&'static str> {
        match self.0 {
            1 => Some("PING"),
            2 => Some("GET"),
            3 => Some("LIST"),
            4 => Some("SET"),
            6 => Some("DOWNLOAD"),
            7 => Some("UPLOAD"),
            8 => Some("OPEN_FD"),
            9 => Some("TAKE_FDS"),
            10 => Some("EVENT_CHANGED"),
            11 => Some("EVENT_CALLBACK_CHANGED"),
            _ => None,
        }
    }
}

impl Encode for Procedure {
    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_i32(out, self.0);
        Ok(())
    }
}

impl<'a> Decode<'a> for Procedure {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.i32().map(Self)
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for Procedure {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        self.0.pack(out)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for Procedure {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// The program: its numbers and its procedures.
pub static PROGRAM: Program = Program {
    name: "demo",
    number: 0x20001234,
    version: 1,
    procedures: &PROCEDURES,
};

static PROCEDURES: [Option<ProcedureInfo>; 12] = [
    None,
    Some(ProcedureInfo {
        number: 1,
        name: "PING",
        family: Family::Hypervisor,
        needs_auth: false,
        denied_by: ErrorDomain(0),
        error_domain: ErrorDomain(0),
        api: "virDemoPing",
        since: "0.1.0",
        ..ProcedureInfo::PLAIN
    }),
    Some(ProcedureInfo {
        number: 2,
        name: "GET",
        family: Family::Hypervisor,
        high_priority: true,
        readonly: ReadOnly::IfFlags(1),
        denied_by: ErrorDomain(20),
        error_domain: ErrorDomain(0),
        acl: &[
            Acl {
                object: "domain",
                permission: "read",
                when: AclWhen::Always,
            },
            Acl {
                object: "domain",
                permission: "read_secure",
                when: AclWhen::AllSet(1),
            },
        ],
        api: "virDemoGet",
        since: "0.1.0",
        checks: &[
            Check {
                field: "flags",
                name: "flags",
                rule: Rule::Excludes(1, 2),
                when: &[When::NoneOf("flags", 4)],
                text: "Flags 'VIR_DEMO_SECURE' and 'VIR_DEMO_SPARSE' are mutually exclusive",
            },
        ],
        args: Some(&schema::GET_ARGS),
        ret: Some(&schema::GET_RET),
        ..ProcedureInfo::PLAIN
    }),
    Some(ProcedureInfo {
        number: 3,
        name: "LIST",
        family: Family::Hypervisor,
        denied_by: ErrorDomain(0),
        error_domain: ErrorDomain(0),
        acl: &[
            Acl {
                object: "connect",
                permission: "search_domains",
                when: AclWhen::Always,
            },
        ],
        aclfilter: &[
            Acl {
                object: "domain",
                permission: "getattr",
                when: AclWhen::Always,
            },
        ],
        api: "virDemoList",
        since: "0.2.0",
        checks: &[
            Check {
                field: "need_results",
                name: "need_results",
                rule: Rule::Max(1),
                when: &[],
                text: "need_results too large",
            },
        ],
        args: Some(&schema::LIST_ARGS),
        ret: Some(&schema::LIST_RET),
        ..ProcedureInfo::PLAIN
    }),
    Some(ProcedureInfo {
        number: 4,
        name: "SET",
        family: Family::Hypervisor,
        readonly: ReadOnly::IfField("source", 1),
        denied_by: ErrorDomain(20),
        error_domain: ErrorDomain(0),
        acl: &[
            Acl {
                object: "domain",
                permission: "write",
                when: AclWhen::NoneSet(3),
            },
            Acl {
                object: "domain",
                permission: "save",
                when: AclWhen::Param("source", 1),
            },
        ],
        api: "virDemoSet",
        since: "0.2.0",
        checks: &[
            Check {
                field: "params",
                name: "nparams",
                rule: Rule::NonNull,
                when: &[],
                text: "nparams in virDemoSet must not be NULL",
            },
            Check {
                field: "source",
                name: "source",
                rule: Rule::Below(2),
                when: &[],
                text: "unknown source '{}'",
            },
        ],
        args: Some(&schema::SET_ARGS),
        ..ProcedureInfo::PLAIN
    }),
    None,
    Some(ProcedureInfo {
        number: 6,
        name: "DOWNLOAD",
        family: Family::Hypervisor,
        readonly: ReadOnly::Refused,
        denied_by: ErrorDomain(18),
        error_domain: ErrorDomain(0),
        stream: Some(Stream {
            mode: StreamMode::Read,
            sparse_flag: 2,
        }),
        acl: &[
            Acl {
                object: "storage_vol",
                permission: "data_read",
                when: AclWhen::Always,
            },
        ],
        api: "virDemoDownload",
        since: "0.3.0",
        checks: &[
            Check {
                field: "path",
                name: "path",
                rule: Rule::NonEmpty,
                when: &[When::Is("flags", &[1, 2])],
                text: "string path in virDemoDownload must not be empty",
            },
        ],
        args: Some(&schema::DOWNLOAD_ARGS),
        ..ProcedureInfo::PLAIN
    }),
    Some(ProcedureInfo {
        number: 7,
        name: "UPLOAD",
        family: Family::Hypervisor,
        readonly: ReadOnly::Refused,
        denied_by: ErrorDomain(18),
        error_domain: ErrorDomain(0),
        stream: Some(Stream {
            mode: StreamMode::Write,
            sparse_flag: 0,
        }),
        acl: &[
            Acl {
                object: "storage_vol",
                permission: "data_write",
                when: AclWhen::Always,
            },
        ],
        api: "virDemoUpload",
        args: Some(&schema::UPLOAD_ARGS),
        ..ProcedureInfo::PLAIN
    }),
    Some(ProcedureInfo {
        number: 8,
        name: "OPEN_FD",
        family: Family::Hypervisor,
        readonly: ReadOnly::Refused,
        denied_by: ErrorDomain(0),
        error_domain: ErrorDomain(0),
        fds_reply: (1, 1),
        acl: &[
            Acl {
                object: "domain",
                permission: "open_graphics",
                when: AclWhen::Always,
            },
        ],
        args: Some(&schema::OPEN_FD_ARGS),
        ..ProcedureInfo::PLAIN
    }),
    Some(ProcedureInfo {
        number: 9,
        name: "TAKE_FDS",
        family: Family::Hypervisor,
        readonly: ReadOnly::Refused,
        denied_by: ErrorDomain(0),
        error_domain: ErrorDomain(0),
        fds_call: (0, 32),
        acl: &[
            Acl {
                object: "domain",
                permission: "write",
                when: AclWhen::Always,
            },
        ],
        ret: Some(&schema::TAKE_FDS_RET),
        ..ProcedureInfo::PLAIN
    }),
    Some(ProcedureInfo {
        number: 10,
        name: "EVENT_CHANGED",
        family: Family::Hypervisor,
        direction: Direction::Event,
        denied_by: ErrorDomain(0),
        error_domain: ErrorDomain(0),
        event: Some(EventInfo {
            class: "domain",
            id: 0,
            legacy: true,
        }),
        msg: Some(&schema::EVENT_CHANGED_MSG),
        ..ProcedureInfo::PLAIN
    }),
    Some(ProcedureInfo {
        number: 11,
        name: "EVENT_CALLBACK_CHANGED",
        family: Family::Hypervisor,
        direction: Direction::Event,
        denied_by: ErrorDomain(0),
        error_domain: ErrorDomain(0),
        event: Some(EventInfo {
            class: "domain",
            id: 0,
            legacy: false,
        }),
        msg: Some(&schema::EVENT_CALLBACK_CHANGED_MSG),
        ..ProcedureInfo::PLAIN
    }),
];
