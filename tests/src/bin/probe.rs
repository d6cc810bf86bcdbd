//! Asks a daemon every procedure with arguments that are wrong in one place each, and prints its answers: `probe SOCKET
//! [URI [PROCEDURE]]`. Two daemons' answers are compared by `diff`; what the real one refuses before any driver is asked
//! belongs into `protocol/x/checks.txt`.

use std::process::ExitCode;

use serde_json::{Value, json};
use virtwire_conformance::arguments::{plain, value};
use virtwire_conformance::peer::{Peer, PeerError, text};
use virtwire_protocol::procedures::{Direction, ProcedureInfo, Program};
use virtwire_protocol::schema::{self, StructDef, Ty};
use virtwire_protocol::{lxc, qemu, remote};

/// Calls that end the connection or would suspend the host.
const NOT_SENT: &[&str] = &["CONNECT_CLOSE", "CONNECT_OPEN", "NODE_SUSPEND_FOR_DURATION"];

/// How many bits of flags are tried, alone and in pairs.
const BITS: u32 = 14;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(socket) = arguments.first() else {
        eprintln!("usage: probe SOCKET [URI [PROCEDURE]]");
        return ExitCode::from(2);
    };
    let uri = arguments.get(1).map_or("test:///default", String::as_str);
    for program in [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM] {
        for info in program.procedures.iter().flatten() {
            let wanted = arguments.get(2).is_none_or(|name| name == info.name);
            let sent = info.direction == Direction::Call
                && !info.name.starts_with("AUTH_")
                && !NOT_SENT.contains(&info.name);
            if let (true, true, Some(args)) = (wanted, sent, info.args)
                && let Err(error) = probe(socket, uri, program, info, args)
            {
                eprintln!("{}: {error}", info.name);
            }
        }
    }
    ExitCode::SUCCESS
}

fn probe(
    socket: &str,
    uri: &str,
    program: &Program,
    info: &ProcedureInfo,
    args: &StructDef,
) -> Result<(), PeerError> {
    let connect = || {
        let mut peer = Peer::connect(socket.as_ref())?;
        peer.open(uri)?;
        Ok::<_, PeerError>(peer)
    };
    let mut peer = connect()?;
    for (what, value) in variants(info, args) {
        let Ok(payload) = schema::from_json(args, &value) else { continue };
        let reply = match peer.call_raw(program, info.number, &payload) {
            Ok(reply) => reply,
            Err(error) => {
                println!("{}\t{what}\t{error}", info.name);
                peer = connect()?;
                continue;
            }
        };
        match reply.error()? {
            Some(error) => {
                let detail = [&error.str1, &error.str2].map(|text| text.as_ref().map(ToString::to_string));
                let [str1, str2] = detail.map(Option::unwrap_or_default);
                let (code, domain, text) = (error.code, error.domain, text(&error));
                println!("{}\t{what}\t{code} {domain} {text}\t{str1}\t{str2}", info.name);
            }
            None => {
                println!("{}\t{what}\tdone", info.name);
                // Every call finds the hypervisor as it was.
                peer = connect()?;
            }
        }
    }
    Ok(())
}

/// Good arguments, and those with one thing wrong.
fn variants(info: &ProcedureInfo, args: &StructDef) -> Vec<(String, Value)> {
    let good = plain(info);
    let mut all = vec![("good".to_owned(), Value::Object(good.clone()))];
    for (name, ty) in args.fields {
        for (what, value) in wrong(name, ty) {
            let mut args = good.clone();
            args.insert((*name).to_owned(), value);
            all.push((format!("{name}={what}"), Value::Object(args)));
        }
    }
    all
}

/// Values that may be refused, and what they are called.
fn wrong(name: &str, ty: &Ty) -> Vec<(String, Value)> {
    let numbers = |numbers: &[i64]| numbers.iter().map(|n| (n.to_string(), json!(n))).collect();
    match ty {
        Ty::U32 if name == "flags" => {
            let pairs = (0..BITS).flat_map(|low| (low..BITS).map(move |high| 1_u32 << low | 1 << high));
            pairs.map(|flags| (flags.to_string(), json!(flags))).collect()
        }
        Ty::Char | Ty::Uchar => numbers(&[0, 255]),
        Ty::Short | Ty::I32 => numbers(&[0, -1, 2, 3, 4, 7, 8, 16, 17, 32767]),
        Ty::Ushort => numbers(&[0, 65535]),
        Ty::U32 => numbers(&[0, 2, 3, 4, 7, 8, 16, 17, 1 << 20, 1 << 31, u32::MAX.into()]),
        Ty::I64 => numbers(&[0, -1, i64::MAX]),
        Ty::U64 => {
            let mut all: Vec<_> = numbers(&[0, 1 << 20, i64::MAX]);
            all.push((u64::MAX.to_string(), json!(u64::MAX)));
            all
        }
        Ty::String(_) => vec![("empty".to_owned(), json!(""))],
        Ty::Opaque(_) => vec![("empty".to_owned(), json!(""))],
        Ty::Optional(of) => {
            let mut all = wrong(name, of);
            all.push(("absent".to_owned(), Value::Null));
            all
        }
        Ty::Array(of, limit) => {
            let many = (*limit).min(40) as usize;
            vec![
                ("none".to_owned(), json!([])),
                ("twice".to_owned(), json!([value("", of), value("", of)])),
                ("many".to_owned(), std::iter::repeat_n(value("", of), many).collect()),
            ]
        }
        Ty::F64
        | Ty::Bool
        | Ty::FixedOpaque(_)
        | Ty::Enum(_)
        | Ty::Struct(_)
        | Ty::Union(_)
        | Ty::FixedArray(..) => Vec::new(),
    }
}
