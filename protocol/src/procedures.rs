//! What is known of each procedure, as data. The tables themselves are generated: [`crate::remote::PROGRAM`] and its
//! sisters.

use std::fmt::Display;

use crate::error::{ErrorDomain, VirtError};
use crate::schema::StructDef;

/// A program: numbered procedures under one program number.
#[derive(Debug)]
pub struct Program {
    /// `remote`, `qemu`, `lxc`, `admin`, `keepalive`, `lock`, `log`.
    pub name: &'static str,
    /// Its number in the header of a message.
    pub number: u32,
    /// Its version; only 1 exists of each.
    pub version: u32,
    /// By number.
    pub procedures: &'static [Option<ProcedureInfo>],
}

impl Program {
    /// The procedure of this number.
    pub fn procedure(&self, number: i32) -> Option<&'static ProcedureInfo> {
        self.procedures.get(usize::try_from(number).ok()?)?.as_ref()
    }

    /// The procedure of this name, such as `DOMAIN_SUSPEND`, whatever its case.
    pub fn procedure_by_name(&self, name: &str) -> Option<&'static ProcedureInfo> {
        self.procedures.iter().flatten().find(|info| info.name.eq_ignore_ascii_case(name))
    }
}

/// Everything known of one procedure.
#[derive(Debug)]
pub struct ProcedureInfo {
    /// Its number.
    pub number: i32,
    /// Its name without the program's prefix, `DOMAIN_SUSPEND`.
    pub name: &'static str,
    /// Who sends it.
    pub direction: Direction,
    /// Which kind of driver serves it.
    pub family: Family,
    /// Whether the client must be authenticated.
    pub needs_auth: bool,
    /// Whether it never waits for a hypervisor (`@priority: high`).
    pub high_priority: bool,
    /// What a read-only connection gets.
    pub readonly: ReadOnly,
    /// The error domain of a read-only refusal.
    pub denied_by: ErrorDomain,
    /// The error domain of the public function.
    pub error_domain: ErrorDomain,
    /// The stream it opens.
    pub stream: Option<Stream>,
    /// Fewest and most descriptors with the call.
    pub fds_call: (u32, u32),
    /// Fewest and most descriptors with the reply.
    pub fds_reply: (u32, u32),
    /// Access rules, all of which must allow.
    pub acl: &'static [Acl],
    /// Rules that filter the objects of a list, or the receivers of an event.
    pub aclfilter: &'static [Acl],
    /// The public function of libvirt's library, `virDomainSuspend`.
    pub api: &'static str,
    /// The libvirt release that introduced it; empty where unknown.
    pub since: &'static str,
    /// What its arguments must be before a driver is asked, in the order in which that is looked at.
    pub checks: &'static [Check],
    /// The event it carries.
    pub event: Option<EventInfo>,
    /// The shape of its arguments.
    pub args: Option<&'static StructDef>,
    /// The shape of its result.
    pub ret: Option<&'static StructDef>,
    /// The shape of an event's message.
    pub msg: Option<&'static StructDef>,
}

impl ProcedureInfo {
    /// A call without arguments, result or anything special: what the generated rows start from.
    pub(crate) const PLAIN: Self = Self {
        number: 0,
        name: "",
        direction: Direction::Call,
        family: Family::Hypervisor,
        needs_auth: true,
        high_priority: false,
        readonly: ReadOnly::Served,
        denied_by: ErrorDomain::NONE,
        error_domain: ErrorDomain::NONE,
        stream: None,
        fds_call: (0, 0),
        fds_reply: (0, 0),
        acl: &[],
        aclfilter: &[],
        api: "",
        since: "",
        checks: &[],
        event: None,
        args: None,
        ret: None,
        msg: None,
    };

    /// The answer where no driver implements it.
    pub fn no_support(&self) -> VirtError {
        self.error_domain.no_support(self.api)
    }

    fn bad_argument(&self, argument: &str, message: String) -> VirtError {
        VirtError {
            message,
            str1: Some(self.api.to_owned()),
            str2: Some(argument.to_owned()),
            int1: 0,
            int2: 0,
            ..self.error_domain.invalid_arg("")
        }
    }

    /// The answer on a read-only connection.
    pub fn read_only_refusal(&self) -> VirtError {
        /// The flag with which every description of an object shows its secrets, `VIR_DOMAIN_XML_SECURE` and others.
        const SECURE: u32 = 1;
        match self.readonly {
            ReadOnly::IfFlags(bits) if bits & SECURE != 0 => {
                self.denied_by.operation_denied(format_args!("{} with secure flag", self.api))
            }
            _ => self.denied_by.operation_denied(format_args!("read only access prevents {}", self.api)),
        }
    }
}

/// A rule on one argument of a procedure; `protocol/x/checks.txt` has all of them and explains their names.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The argument's name in the definition file.
    pub field: &'static str,
    /// What the error calls it.
    pub name: &'static str,
    /// What must hold.
    pub rule: Rule,
    /// When it must hold: all of these.
    pub when: &'static [When],
    /// The error's text, `{}` for the value.
    pub text: &'static str,
}

/// What must hold for an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the head of checks.txt explains each by its name")]
pub enum Rule {
    Positive,
    NonNegative,
    NonZero,
    NonNull,
    Null,
    NonEmpty,
    OneLine,
    Is(i64),
    Below(i64),
    Clear(i64),
    Max(i64),
    Count,
    Unsigned,
    Most(i64),
    Product(&'static str, i64),
    Overflow(i64),
    Excludes(i64, i64),
    Requires(i64, i64),
}

/// When a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The field has one of these values.
    Is(&'static str, &'static [i64]),
    /// The field has none of these values.
    IsNot(&'static str, &'static [i64]),
    /// The field is there.
    Present(&'static str),
    /// The field has none of these bits.
    NoneOf(&'static str, i64),
}

impl Check {
    /// The answer where it is broken by `value`.
    pub fn refusal(&self, info: &ProcedureInfo, value: impl Display) -> VirtError {
        let text = self.text.replacen("{}", &value.to_string(), 1);
        match self.rule {
            Rule::Max(_) | Rule::Count | Rule::Product(..) => ErrorDomain::RPC.internal_error(text),
            Rule::Unsigned | Rule::Most(_) => ErrorDomain::RPC.rpc(text),
            Rule::Overflow(_) => info.error_domain.overflow(text),
            // The message stands alone; the error names function and argument.
            Rule::Excludes(..) | Rule::Requires(..) => info.bad_argument("ctl", text),
            _ => info.bad_argument(self.name, text),
        }
    }
}

/// Who sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A client; the daemon replies.
    Call,
    /// The daemon, unasked (keepalive: either side).
    Event,
}

/// Which kind of driver serves a procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// The daemon itself.
    Session,
    /// The daemon itself, on its administration socket.
    Admin,
    /// Domains and the host as the hypervisor sees it.
    Hypervisor,
    /// Virtual networks.
    Network,
    /// Storage pools and volumes.
    Storage,
    /// Host network interfaces.
    Interface,
    /// Host devices.
    NodeDevice,
    /// Secrets.
    Secret,
    /// Network filters.
    Nwfilter,
}

/// What a read-only connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnly {
    /// The call is served.
    Served,
    /// The call is refused.
    Refused,
    /// It is refused if its flags have any of these bits.
    IfFlags(u32),
    /// It is refused if this field has this value.
    IfField(&'static str, i64),
}

/// The stream that a call opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Which way the annotation says data goes. A console's goes both ways all the same.
    pub mode: StreamMode,
    /// The flag that permits holes; 0 where none does.
    pub sparse_flag: u32,
}

/// Which way a stream's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    /// Daemon to client.
    Read,
    /// Client to daemon.
    Write,
}

/// An access rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acl {
    /// The kind of object, `domain`.
    pub object: &'static str,
    /// The permission on it, `getattr`.
    pub permission: &'static str,
    /// When the rule applies.
    pub when: AclWhen,
}

/// When an access rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclWhen {
    /// Always.
    Always,
    /// If the flags have all of these bits.
    AllSet(u32),
    /// If the flags have none of these bits.
    NoneSet(u32),
    /// If this field has this value.
    Param(&'static str, i64),
}

/// Which event a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventInfo {
    /// `domain`, `network`, `storage_pool`, `node_device`, `secret`, …
    pub class: &'static str,
    /// The id within its class; -1 where the class has none.
    pub id: i32,
    /// Whether it goes only to clients that registered without callback ids.
    pub legacy: bool,
}
