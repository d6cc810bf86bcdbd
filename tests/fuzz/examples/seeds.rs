//! Writes starting points for the fuzzer into `corpus/`: the conversations of `tests/captures`, the files of
//! `protocol/x`, the guests of `drivers/qemu/tests/native`, a sample of every type, a few documents and lines of QMP.

use std::path::Path;
use std::{fs, io};

use serde_json::Value;
use virtwire_fuzz::header;
use virtwire_protocol::sample::{self, Pick};
use virtwire_protocol::{frame, lxc, qemu, remote};

/// Messages of QEMU's monitor: replies, errors, events.
const QMP: &[&str] = &[
    r#"{"return": {"status": "running", "running": true}, "id": 2}"#,
    r#"{"id": 2, "error": {"class": "GenericError", "desc": "no"}}"#,
    r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "x"}}"#,
    r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#,
];

/// Answers of an agent.
const AGENT: &[&str] = &[
    r#"{"return": {"version": "8", "supported_commands": [{"enabled": true, "name": "guest-ping"}]}}"#,
    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n\u{fffd}{\"return\": 2}\n{\"return\": 5}",
];

/// What one daemon leaves to another, by the number of its kind.
const HANDOVERS: &[(u8, &[u8])] = &[
    (
        0,
        b"<qemu-migration><name>g</name><uuid>5a1f8a52-3f6c-4f3b-9c0e-0b1b6b7a9d11</uuid><hostname>h</hostname>\
          <hostuuid>5a1f8a52-3f6c-4f3b-9c0e-0b1b6b7a9d12</hostuuid><feature name='persistent'/><domain type='qemu'>\
          <name>g</name></domain><capabilities><cap name='xbzrle' auto='no'/></capabilities>\
          <statistics><time_elapsed>1</time_elapsed></statistics></qemu-migration>\0",
    ),
    (1, b"tcp://[::1]:49152/x?y"),
    (1, b"unix:///run/socket"),
    (
        2,
        b"LibvirtQemudSave\x02\0\0\0\x20\0\0\0\x01\0\0\0\0\0\0\0\x10\0\0\0\
          \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
          \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
          <domain/>\0\0\0\0\0\0\0<cookie/>\0\0\0\0\0\0\0",
    ),
    (
        3,
        b"<domstatus state='running' reason='booted' pid='1'><monitor path='/m' type='unix'/>\
          <domain type='qemu'><name>g</name><memory>1</memory><os><type>hvm</type></os></domain></domstatus>",
    ),
];

/// A configuration file, access rules, what is kept of a password.
const TEXTS: &[&str] = &[
    "\0listen_tcp = 1\nauth_tcp = \"sasl\" # x\ntls_allowed_dn_list = [\"CN=a\", \"CN=b*\"]\n",
    "\u{1}[[rule]]\nuser = ['a']\nallow = ['domain:*']\nwhere = { domain_name = 'a-*' }\n",
    "\u{2}SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
    "\u{4}qemu+ssh://root@[::1]:22/system?keyfile=/k&no_verify=1&proxy=netcat&socket=/run/s%20s",
];

/// Documents by the number of their kind.
const DOCUMENTS: &[(u8, &str)] = &[
    (
        1,
        "<network><name>n</name><forward mode='nat'><nat><port start='1' end='2'/></nat></forward><bridge name='b0'/>\
         <ip address='192.168.9.1' prefix='24'><dhcp><range start='192.168.9.2' end='192.168.9.9'/></dhcp></ip></network>",
    ),
    (
        2,
        "<pool type='dir'><name>p</name><target><path>/p</path><permissions><mode>0711</mode></permissions></target></pool>",
    ),
    (
        3,
        "<volume><name>v</name><capacity unit='MiB'>1</capacity><target><format type='qcow2'/></target></volume>",
    ),
    (4, "<secret ephemeral='no' private='yes'><usage type='volume'><volume>/v</volume></usage></secret>"),
    (
        5,
        "<interface type='ethernet' name='e0'><start mode='onboot'/><protocol family='ipv4'><dhcp/></protocol></interface>",
    ),
    (
        6,
        "<device><name>d</name><parent>computer</parent><capability type='net'><interface>e0</interface></capability></device>",
    ),
    (
        7,
        "<filter name='f' chain='ipv4'><rule action='drop' direction='in' priority='5'><ip srcipaddr='1.2.3.4'/></rule></filter>",
    ),
    (
        8,
        "<domainsnapshot><name>s</name><disks><disk name='vda' snapshot='external'/></disks></domainsnapshot>",
    ),
    (
        9,
        "<domaincheckpoint><name>c</name><disks><disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>",
    ),
    (
        10,
        "<networkport><uuid>5a1f8a52-3f6c-4f3b-9c0e-0b1b6b7a9d11</uuid><owner><name>g</name>\
          <uuid>5a1f8a52-3f6c-4f3b-9c0e-0b1b6b7a9d11</uuid></owner><mac address='52:54:00:00:00:01'/>\
          <plug type='network' bridge='b0'/></networkport>",
    ),
    (
        11,
        "<filterbinding><owner><name>g</name></owner><portdev name='p0'/><mac address='52:54:00:00:00:01'/>\
          <filterref filter='f'><parameter name='IP' value='1.2.3.4'/></filterref></filterbinding>",
    ),
    (13, "<interface type='network'><source network='n'/><model type='virtio'/></interface>"),
    (14, "<capabilities><host><cpu><arch>x86_64</arch></cpu></host></capabilities>"),
    (
        15,
        "<cpu match='exact'><model fallback='allow'>Haswell</model><feature policy='require' name='vmx'/></cpu>",
    ),
];

/// Heads of images.
const IMAGES: &[&[u8]] = &[
    b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\x68\0\0\0\x04\0\0\0\x10\0\0\0\0\0\x10\0\0",
    b"QED\0\0\0\x01\0\x04\0\0\0\x01\0\0\0",
    b"KDMV\x01\0\0\0\x03\0\0\0\0\x08\0\0\0\0\0\0",
];

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = here.join("corpus");
    const TARGETS: [&str; 12] = [
        "agent",
        "answers",
        "calls",
        "definitions",
        "documents",
        "frames",
        "handovers",
        "images",
        "login",
        "qmp",
        "texts",
        "values",
    ];
    for target in TARGETS {
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
    for entry in fs::read_dir(here.join("../../drivers/qemu/tests/native"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            let name = path.file_stem().unwrap_or_default();
            fs::write(corpus.join("documents").join(name), [&[0], &*fs::read(&path)?].concat())?;
        }
    }
    for (kind, text) in DOCUMENTS {
        fs::write(corpus.join(format!("documents/{kind}")), [&[*kind], text.as_bytes()].concat())?;
    }
    for (number, head) in IMAGES.iter().enumerate() {
        fs::write(corpus.join(format!("images/{number}")), head)?;
    }
    for (number, row) in (0_u16..).zip(sample::all()) {
        if let Ok(bytes) = (row.encode)(&mut Pick::new(0)) {
            fs::write(
                corpus.join(format!("values/{}", row.name)),
                [&number.to_be_bytes(), &*bytes].concat(),
            )?;
        }
    }
    fs::write(corpus.join("login/scram"), b"\0\x14n,,n=anna,r=0123456789\x0cc=biws,r=x,p=")?;
    fs::write(corpus.join("login/plain"), b"\x01\x0c\0anna\0geheim")?;
    for (number, text) in TEXTS.iter().enumerate() {
        fs::write(corpus.join(format!("texts/{number}")), text)?;
    }
    fs::write(
        corpus.join("answers/list"),
        b"\x01\0\x08\0\0\0\0\0\0\0\0\0\x04\0\0\0\0\0\x0c\0\0\0\x04<d/>\0\0\0\0",
    )?;
    for (number, line) in AGENT.iter().enumerate() {
        fs::write(corpus.join(format!("agent/{number}")), format!("\u{1}{line}\n"))?;
    }
    for (number, (kind, bytes)) in HANDOVERS.iter().enumerate() {
        fs::write(corpus.join(format!("handovers/{number}")), [&[*kind], *bytes].concat())?;
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
