//! Command lines for whole definitions, against what libvirtd 11.3 with QEMU 10.0 answered for the same
//! (`domxml-to-native`): `tests/native/NAME.xml` and, an option a line, `NAME.args`.

use std::fs;
use std::path::Path;

use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::ConnectDomainXmlToNativeArgs;

use crate::host::Host;

/// Words as the shell takes them, an option with its value on each line, after the program.
fn options(native: &str, program: &str) -> String {
    let (_, line) = native.split_once(program).expect("the line has the program");
    let mut words: Vec<String> = vec![String::new()];
    let mut quoted = false;
    for c in line.trim_start().chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    let begins =
        |word: &str, after: &str| word.starts_with('-') || !after.starts_with('-') || after.contains(' ');
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(last) if !begins(&word, last) => *last = format!("{last} {word}"),
            _ => lines.push(word),
        }
    }
    lines.join("\n") + "\n"
}

#[tokio::test]
async fn command_lines_are_libvirts() {
    let Some(program) = crate::qemu() else { return };
    let host = Host::new().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/native");
    let mut failures = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "xml") {
            continue;
        }
        let xml = fs::read_to_string(&path).unwrap();
        let expected = fs::read_to_string(path.with_extension("args")).unwrap();
        let args = ConnectDomainXmlToNativeArgs {
            native_format: "qemu-argv".into(),
            domain_xml: xml.as_str().into(),
            flags: 0,
        };
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let native = match host.driver.connect_domain_xml_to_native(&CallCx::default(), args).await {
            Ok(ret) => ret.native_config.to_string().replace(&host.dir.display().to_string(), ""),
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        let actual = options(&native, &program.to_string_lossy());
        let mut lines = expected.lines().zip(actual.lines());
        if let Some((wanted, got)) = lines.find(|(wanted, got)| wanted != got) {
            failures.push(format!("{name}:\n  libvirtd: {wanted}\n  here:     {got}"));
        } else if expected != actual {
            failures.push(format!("{name}: one line goes on where the other ends"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
