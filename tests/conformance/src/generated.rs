//! Cases from the procedure tables: each procedure of each program gets the same questions.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::procedures::{Direction, ProcedureInfo, Program, ReadOnly};
use virtwire_protocol::sample::{self, Pick, Row};
use virtwire_protocol::schema;
use virtwire_protocol::{ErrorCode, VirtError, admin, lxc, qemu, remote};

use crate::arguments;
use crate::case::{Case, Failure, Target, expect};
use crate::peer::{Peer, PeerError, Received, text};

/// Where these rules come from.
const TABLES: &str = "protocol/x/*.x and facts.txt";
const FRAMES: &str = "libvirt's RPC document, and conversations recorded with libvirtd 11.3";

const FLAGS: &str =
    "libvirt's API documentation, 'extra flags'; what libvirtd 11.3 serves all the same is left out";
const PARAMETERS: &str = "libvirt's API documentation, virDomainGetMemoryParameters";

/// Procedures that libvirtd serves with any flags; each with its reason.
pub const ANY_FLAGS: &[(&str, &str)] = &[
    ("CONNECT_GET_ALL_DOMAIN_STATS", "filters of domains that nobody knows choose none"),
    ("DOMAIN_GET_DISK_ERRORS", "its test driver does not look at them"),
    ("DOMAIN_GET_VCPU_PIN_INFO", "its test driver does not look at them"),
];

/// The answer to arguments that do not decode.
const UNDECODABLE: &str = "Unable to decode message payload";

/// Samples by the XDR name of their type.
static ROWS: LazyLock<HashMap<&'static str, Row>> =
    LazyLock::new(|| sample::all().into_iter().map(|row| (row.name, row)).collect());

/// Calls that would end the connection, change the host or wait for ever; each with its reason.
pub const NOT_SENT: &[(&str, &str)] = &[
    ("CONNECT_CLOSE", "ends the connection"),
    ("CONNECT_OPEN", "is open already"),
    ("NODE_SUSPEND_FOR_DURATION", "would suspend the host"),
    ("NODE_SET_MEMORY_PARAMETERS", "would change the host"),
    ("INTERFACE_CHANGE_BEGIN", "would hold the host's network configuration"),
    ("CONNECT_DAEMON_SHUTDOWN", "ends the daemon"),
    ("CONNECT_SET_DAEMON_TIMEOUT", "ends the daemon later"),
    ("CONNECT_SET_LOGGING_OUTPUTS", "would change where the daemon logs"),
    ("CONNECT_SET_LOGGING_FILTERS", "would change what the daemon logs"),
    ("SERVER_SET_CLIENT_LIMITS", "would lock the following cases out"),
    ("SERVER_SET_THREADPOOL_PARAMETERS", "would slow the following cases"),
];

/// Authentication is refused with its own errors, whatever is sent.
fn is_authentication(info: &ProcedureInfo) -> bool {
    info.name.starts_with("AUTH_")
}

/// The calls of the main socket's programs.
fn calls() -> impl Iterator<Item = (&'static Program, &'static ProcedureInfo)> {
    [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM].into_iter().flat_map(calls_of)
}

fn calls_of(program: &'static Program) -> impl Iterator<Item = (&'static Program, &'static ProcedureInfo)> {
    let calls = program.procedures.iter().flatten().filter(|info| info.direction == Direction::Call);
    calls.map(move |info| (program, info))
}

/// All generated cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (program, info) in calls() {
        let mut add = |question: &str, proves, source, run: Run| {
            cases.push(case(program, info, question, proves, source, run));
        };
        if info.needs_auth {
            add("before-auth", "is refused before authentication", TABLES, before_auth);
        }
        if is_authentication(info) {
            continue;
        }
        add("status", "is refused with a status other than ok", FRAMES, wrong_status);
        if info.readonly == ReadOnly::Refused {
            add("read-only", "is refused on a read-only connection", TABLES, read_only);
        }
        if info.args.is_some() {
            add(
                "truncated",
                "is refused at every cut of its arguments, and the connection lives",
                FRAMES,
                truncated,
            );
            add(
                "oversized",
                "is refused with a count over its limit, and the connection lives",
                FRAMES,
                oversized,
            );
        }
        if !info.checks.is_empty() {
            let proves = "refuses arguments that break a rule, or two, with the error of the first";
            add("checks", proves, "protocol/x/checks.txt", checks);
        }
        if !NOT_SENT.iter().any(|(name, _)| *name == info.name) {
            add(
                "well-formed",
                "answers well-formed arguments by their serial, and not as undecodable",
                FRAMES,
                well_formed,
            );
            if has(info.args, "flags") && !ANY_FLAGS.iter().any(|(name, _)| *name == info.name) {
                add("unknown-flag", "is not served with a flag that nobody knows", FLAGS, unknown_flag);
            }
            if has(info.args, "nparams") && has(info.ret, "nparams") {
                let proves =
                    "says with a count of 0 how many parameters there are, and gives them when asked";
                add("two-step", proves, PARAMETERS, two_step);
            }
        }
    }
    for (program, info) in calls_of(&admin::PROGRAM) {
        if !NOT_SENT.iter().any(|(name, _)| *name == info.name) {
            let proves = "answers well-formed arguments by their serial, and not as undecodable";
            cases.push(case(program, info, "well-formed", proves, FRAMES, admin_well_formed));
        }
    }
    for program in [&remote::PROGRAM, &qemu::PROGRAM] {
        for info in program.procedures.iter().flatten().filter(|info| info.direction == Direction::Event) {
            cases.push(case(
                program,
                info,
                "called",
                "cannot be called: it is an event",
                FRAMES,
                event_called,
            ));
        }
    }
    cases
}

type Run = fn(&Target, &'static Program, &'static ProcedureInfo) -> Result<(), Failure>;

fn case(
    program: &'static Program,
    info: &'static ProcedureInfo,
    question: &str,
    proves: &'static str,
    source: &'static str,
    run: Run,
) -> Case {
    let run = move |target: &Target| match run(target, program, info) {
        Err(Failure::Differs(how)) if how.contains(&format!("unknown procedure: {}\"", info.number)) => {
            Err(Failure::Skipped("the daemon is older than this procedure"))
        }
        result => result,
    };
    Case { id: format!("{}/{}/{question}", program.name, info.name), proves, source, run: Box::new(run) }
}

/// Sample arguments; nothing for a procedure without any.
fn arguments(info: &ProcedureInfo, seed: u64) -> Vec<u8> {
    let row = info.args.and_then(|args| ROWS.get(args.name));
    row.and_then(|row| (row.encode)(&mut Pick::new(seed)).ok()).unwrap_or_default()
}

fn refused(reply: &Received, code: ErrorCode, expected: &str) -> Result<(), Failure> {
    let Some(error) = reply.error()? else { return Err(Failure::Differs("was served".to_owned())) };
    expect("error code", code.0, error.code)?;
    expect("error text", expected.to_owned(), text(&error))
}

fn before_auth(
    target: &Target,
    program: &'static Program,
    info: &'static ProcedureInfo,
) -> Result<(), Failure> {
    let mut peer = target.connect()?;
    let reply = peer.call_raw(program, info.number, &arguments(info, 0))?;
    match reply.error()? {
        Some(error) if text(&error) == "authentication required" => {
            expect("error code", ErrorCode::RPC.0, error.code)
        }
        // Such a daemon goes on to whatever else stands in the way.
        _ => Err(Failure::Skipped("the daemon asks for no authentication")),
    }
}

fn wrong_status(
    target: &Target,
    program: &'static Program,
    info: &'static ProcedureInfo,
) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let header = MessageHeader { status: MessageStatus::ERROR, ..peer.header(program, info.number) };
    peer.send(&header, &arguments(info, 0))?;
    let reply = peer.reply(&header)?;
    refused(&reply, ErrorCode::RPC, "Unexpected message status 1")
}

fn read_only(
    target: &Target,
    program: &'static Program,
    info: &'static ProcedureInfo,
) -> Result<(), Failure> {
    let mut peer = target.open_read_only()?;
    let reply = peer.call_raw(program, info.number, &arguments(info, 0))?;
    match reply.code()? {
        // The real daemon checks some arguments of a few procedures first: refused all the same.
        code if code == ErrorCode::OPERATION_DENIED.0 => Ok(()),
        0 => Err(Failure::Differs("was served on a read-only connection".to_owned())),
        _ => Ok(()),
    }
}

/// Sends arguments that must not decode.
fn undecodable(
    peer: &mut Peer,
    program: &Program,
    info: &ProcedureInfo,
    payload: &[u8],
) -> Result<(), Failure> {
    let reply = peer.call_raw(program, info.number, payload)?;
    refused(&reply, ErrorCode::RPC, UNDECODABLE)
}

fn truncated(
    target: &Target,
    program: &'static Program,
    info: &'static ProcedureInfo,
) -> Result<(), Failure> {
    let whole = arguments(info, 0);
    let mut peer = target.open()?;
    for cut in (0..whole.len()).step_by(4) {
        let cut_short = whole.get(..cut).unwrap_or_default();
        undecodable(&mut peer, program, info, cut_short)
            .map_err(|failure| Failure::Differs(format!("cut at {cut} of {}: {failure}", whole.len())))?;
    }
    Ok(())
}

fn oversized(
    target: &Target,
    program: &'static Program,
    info: &'static ProcedureInfo,
) -> Result<(), Failure> {
    let Some(row) = info.args.and_then(|args| ROWS.get(args.name)) else { return Ok(()) };
    let mut peer = target.open()?;
    for limit in row.limits {
        let mut payload = Vec::new();
        if (limit.before)(&mut Pick::new(0), &mut payload).is_err() {
            continue;
        }
        payload.extend((limit.limit + 1).to_be_bytes());
        undecodable(&mut peer, program, info, &payload).map_err(|failure| {
            Failure::Differs(format!("{} over {}: {failure}", limit.field, limit.limit))
        })?;
    }
    Ok(())
}

fn checks(target: &Target, program: &'static Program, info: &'static ProcedureInfo) -> Result<(), Failure> {
    let Some(shape) = info.args else { return Ok(()) };
    let mut peer = target.open()?;
    for (index, first) in info.checks.iter().enumerate() {
        for second in info.checks.iter().skip(index) {
            let mut arguments = arguments::fine(info);
            arguments::break_rule(&mut arguments, second);
            arguments::break_rule(&mut arguments, first);
            let Some(broken) = info.checks.iter().find(|check| arguments::breaks(&arguments, check)) else {
                return Err(Failure::Differs(format!("{} cannot be broken", first.field)));
            };
            let value = arguments.get(broken.field).and_then(Value::as_i64).unwrap_or_default();
            let expected = broken.refusal(info, value);
            let arguments = Value::Object(arguments);
            let payload = schema::from_json(shape, &arguments)
                .map_err(|error| Failure::Differs(format!("{arguments}: {error}")))?;
            let reply = peer.call_raw(program, info.number, &payload)?;
            let came = reply.error()?.map(VirtError::from);
            if came.as_ref() != Some(&expected) {
                let came = came.map_or_else(|| "it was served".to_owned(), |error| format!("{error:?}"));
                return Err(Failure::Differs(format!("{arguments}: expected {expected:?}, {came}")));
            }
        }
    }
    Ok(())
}

fn well_formed(
    target: &Target,
    program: &'static Program,
    info: &'static ProcedureInfo,
) -> Result<(), Failure> {
    answers(&mut target.open()?, program, info)
}

/// Whether a message has a field of this name.
fn has(message: Option<&schema::StructDef>, field: &str) -> bool {
    message.is_some_and(|shape| shape.fields.iter().any(|(name, _)| *name == field))
}

/// Calls with plain arguments, but for one.
fn call_with(
    peer: &mut Peer,
    program: &Program,
    info: &ProcedureInfo,
    field: &str,
    value: Value,
) -> Result<Received, Failure> {
    let mut arguments = arguments::fine(info);
    arguments.insert(field.to_owned(), value);
    let arguments = Value::Object(arguments);
    let payload = info.args.map(|shape| schema::from_json(shape, &arguments)).transpose();
    let payload = payload.map_err(|error| Failure::Differs(format!("{arguments}: {error}")))?;
    Ok(peer.call_raw(program, info.number, &payload.unwrap_or_default())?)
}

/// A bit that no function of libvirt's knows.
const UNKNOWN_FLAG: u32 = 1 << 27;

fn unknown_flag(
    target: &Target,
    program: &'static Program,
    info: &'static ProcedureInfo,
) -> Result<(), Failure> {
    let reply = call_with(&mut target.open()?, program, info, "flags", UNKNOWN_FLAG.into())?;
    match reply.error()? {
        None => Err(Failure::Differs("was served".to_owned())),
        Some(error) => expect("as undecodable", false, text(&error) == UNDECODABLE),
    }
}

fn two_step(target: &Target, program: &'static Program, info: &'static ProcedureInfo) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let mut ask = |count: i64| -> Result<(i64, usize), Failure> {
        let reply = call_with(&mut peer, program, info, "nparams", count.into())?;
        if reply.error()?.is_some() {
            return Err(Failure::Skipped("the hypervisor does not serve it"));
        }
        let value = info.ret.map_or(Ok(Value::Null), |shape| schema::to_json(shape, &reply.payload));
        let value = value.map_err(PeerError::Decode)?;
        let given = value["params"].as_array().map_or(0, Vec::len);
        Ok((value["nparams"].as_i64().unwrap_or_default(), given))
    };
    let (count, given) = ask(0)?;
    expect("values where only the count is asked for", 0, given)?;
    // Texts are left out for clients that do not ask for them.
    let given = ask(count)?.1 as i64;
    expect("as many values as announced, or fewer", true, (i64::from(count > 0)..=count).contains(&given))
}

fn admin_well_formed(
    target: &Target,
    program: &'static Program,
    info: &'static ProcedureInfo,
) -> Result<(), Failure> {
    let mut peer = target.open_admin()?;
    peer.call_raw(program, admin::Procedure::CONNECT_OPEN.0, &0_u32.to_be_bytes())?;
    answers(&mut peer, program, info)
}

fn answers(peer: &mut Peer, program: &Program, info: &ProcedureInfo) -> Result<(), Failure> {
    let header = peer.header(program, info.number);
    let payload = arguments(info, 0);
    peer.send(&header, &payload)?;
    let reply = match peer.reply(&header) {
        Err(PeerError::Closed) => return Err(Failure::Differs("closed the connection".to_owned())),
        reply => reply?,
    };
    expect("program", program.number, reply.header.prog)?;
    expect("procedure", info.number, reply.header.proc)?;
    match reply.error()? {
        Some(error) if text(&error) == UNDECODABLE => {
            Err(Failure::Differs("took well-formed arguments for something else".to_owned()))
        }
        Some(_) => Ok(()),
        None => match info.ret.and_then(|ret| ROWS.get(ret.name)) {
            Some(row) => match (row.recode)(&reply.payload) {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::Differs(format!("its result does not decode: {error}"))),
            },
            None => expect("bytes of an empty result", 0, reply.payload.len()),
        },
    }
}

fn event_called(
    target: &Target,
    program: &'static Program,
    info: &'static ProcedureInfo,
) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let reply = peer.call_raw(program, info.number, &[])?;
    expect("type", MessageType::REPLY, reply.header.r#type)?;
    refused(&reply, ErrorCode::RPC, &format!("unknown procedure: {}", info.number))
}
