//! Writes starting points for the fuzzer into `corpus/`: the conversations of `tests/captures`, the files of
//! `protocol/x`, a few lines of QMP.

use std::path::Path;
use std::{fs, io};

use serde_json::Value;
use virtwire_fuzz::header;
use virtwire_protocol::{frame, lxc, qemu, remote};

/// Messages of QEMU's monitor: replies, errors, events.
const QMP: &[&str] = &[
    r#"{"return": {"status": "running", "running": true}, "id": 2}"#,
    r#"{"id": 2, "error": {"class": "GenericError", "desc": "no"}}"#,
    r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "x"}}"#,
    r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#,
];

/// A configuration file, access rules, what is kept of a password.
const TEXTS: &[&str] = &[
    "\0listen_tcp = 1\nauth_tcp = \"sasl\" # x\ntls_allowed_dn_list = [\"CN=a\", \"CN=b*\"]\n",
    "\u{1}[[rule]]\nuser = ['a']\nallow = ['domain:*']\nwhere = { domain_name = 'a-*' }\n",
    "\u{2}SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
];

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = here.join("corpus");
    for target in ["frames", "calls", "definitions", "qmp", "login", "texts"] {
        fs::create_dir_all(corpus.join(target))?;
    }

    let mut calls = 0;
    for entry in fs::read_dir(here.join("../captures"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let capture: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let mut conversation = vec![0];
        for message in
            capture["frames"].as_array().into_iter().flatten().filter(|frame| frame["dir"] == "c>s")
        {
            let number = |key: &str| message["header"][key].as_i64().unwrap_or_default();
            let payload = hex(message["payload"].as_str().unwrap_or_default());
            let mut head =
                header(number("program") as u32, number("procedure") as i32, number("serial") as u32);
            (head.r#type.0, head.status.0) = (number("type") as i32, number("status") as i32);
            conversation.extend(frame::encode_bytes(&head, &payload).unwrap_or_default());

            let programs = [remote::PROGRAM.number, 0, qemu::PROGRAM.number, lxc::PROGRAM.number];
            if let Some(program) = programs.iter().position(|program| *program == head.prog) {
                let call = [&[program as u8][..], &(head.proc as u16).to_be_bytes(), &payload].concat();
                fs::write(corpus.join(format!("calls/{calls:05}")), call)?;
                calls += 1;
            }
        }
        let name = path.file_stem().unwrap_or_default();
        fs::write(corpus.join("frames").join(name), conversation)?;
    }

    for entry in fs::read_dir(here.join("../../protocol/x"))? {
        let path = entry?.path();
        fs::copy(&path, corpus.join("definitions").join(path.file_name().unwrap_or_default()))?;
    }
    fs::write(corpus.join("login/scram"), b"\0\x14n,,n=anna,r=0123456789\x0cc=biws,r=x,p=")?;
    fs::write(corpus.join("login/plain"), b"\x01\x0c\0anna\0geheim")?;
    for (number, text) in TEXTS.iter().enumerate() {
        fs::write(corpus.join(format!("texts/{number}")), text)?;
    }
    for (number, line) in QMP.iter().enumerate() {
        fs::write(corpus.join(format!("qmp/{number}")), format!("\u{1}{line}\n"))?;
    }
    Ok(())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
