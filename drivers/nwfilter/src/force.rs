//! Rules in force: the host's packet filters, through the programs of ebtables(8), iptables(8) and ip6tables(8).

use std::io::ErrorKind;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use virtwire_protocol::error::VirtError;

use crate::rules::{Layer, Row, Rules};
use crate::script::{self, Script};
use crate::{NWFILTER, Result};

/// The last goes in force when the others are.
const LAYERS: [Layer; 3] = [Layer::Four, Layer::Six, Layer::Link];

fn program(layer: Layer) -> &'static str {
    match layer {
        Layer::Link => "ebtables",
        Layer::Four => "iptables",
        Layer::Six => "ip6tables",
    }
}

/// Gives a port its rules, and takes from it those that it has, whoever put them there. Where that fails, it has those of
/// `before` again, if it is known which they were.
///
/// # Errors
/// A program is not installed or refuses.
pub(crate) async fn put(port: &str, before: Option<&Rules>, rules: &Rules) -> Result<()> {
    for (at, layer) in LAYERS.into_iter().enumerate() {
        let Err(error) = put_layer(port, layer, rules).await else { continue };
        for layer in LAYERS.into_iter().take(at) {
            if let Some(before) = before
                && let Err(error) = put_layer(port, layer, before).await
            {
                tracing::error!(port, %error, "rules of the packet filter are not as they were");
            }
        }
        return Err(error);
    }
    Ok(())
}

/// Takes away all rules of a port.
pub(crate) async fn take(port: &str) {
    // Frames are let through last.
    for layer in LAYERS {
        if let Err(error) = put_layer(port, layer, &Rules::new()).await {
            tracing::warn!(port, %error, "rules of the packet filter are left behind");
        }
    }
}

async fn put_layer(port: &str, layer: Layer, rules: &Rules) -> Result<()> {
    let rows: &[Row] = rules.get(&layer).map(Vec::as_slice).unwrap_or_default();
    let save = format!("{}-save", program(layer));
    let present = match run(&save, &[], "").await {
        Ok(done) if done.status.success() => String::from_utf8_lossy(&done.stdout).into_owned(),
        Ok(done) if !rows.is_empty() => return Err(failed(&save, &said(&done))),
        Err(error) if !rows.is_empty() => return Err(missing(&error, &save)),
        // Who cannot have rules has none.
        Ok(_) | Err(_) => return Ok(()),
    };
    let Some(script) = script::replace(layer, &present, port, rows) else { return Ok(()) };
    let restore = format!("{}-restore", program(layer));
    let args: &[&str] = if layer == Layer::Link { &["--noflush"] } else { &["--noflush", "--wait"] };
    let done = run(&restore, args, &script.text()).await.map_err(|error| missing(&error, &restore))?;
    if done.status.success() { Ok(()) } else { Err(refused(layer, &script, &said(&done))) }
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// Runs a program with certain arguments and input, and nothing else.
async fn run(program: &str, args: &[&str], input: &str) -> std::io::Result<Output> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        // If it has ended already, its status says why.
        let _ = pipe.write_all(input.as_bytes()).await;
    }
    child.wait_with_output().await
}

fn missing(error: &std::io::Error, program: &str) -> VirtError {
    if error.kind() == ErrorKind::NotFound {
        return NWFILTER.internal_error(format_args!("Cannot find '{program}' in path"));
    }
    VirtError::system(NWFILTER, error, format_args!("Cannot run '{program}'"))
}

fn failed(command: &str, said: &str) -> VirtError {
    NWFILTER.internal_error(format_args!("Failed to run firewall command {command}: {said}"))
}

/// A transaction that was refused, in the words that libvirtd has for the one command that was at fault.
fn refused(layer: Layer, script: &Script, said: &str) -> VirtError {
    let program = program(layer);
    let number = |text: &str, before: &str| {
        let rest = &text[text.find(before)? + before.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse::<usize>().ok()
    };
    let line = number(said, "at line: ").or_else(|| number(said, "\nline ")).and_then(|line| script.at(line));
    let how = match layer {
        Layer::Link => "--concurrent -t nat",
        Layer::Four | Layer::Six => "-w",
    };
    let command = line.map_or_else(
        || format!("{program}-restore"),
        |line| format!("{program} {how} {}", line.replace(" ! ", " '!' ")),
    );
    let said = said.replace(&format!("{program}-restore"), program);
    let mut told = String::new();
    for line in said.lines().filter(|line| !line.starts_with("Error occurred at line")) {
        // Where the kernel refuses, it says so of all that it refuses; the first is enough.
        if let Some((_, what)) = line.strip_prefix("line ").and_then(|rest| rest.split_once(':')) {
            told.truncate(told.trim_end().len());
            told = format!("{told} {what}\n");
            break;
        }
        told.push_str(line);
        told.push('\n');
    }
    failed(&staged(&command), &staged(&told))
}

/// The names that libvirtd gives to chains before they are in force.
fn staged(text: &str) -> String {
    const NAMES: [(&str, &str); 7] = [
        (" libvirt-I-", " libvirt-J-"),
        (" libvirt-O-", " libvirt-P-"),
        (" I-", " J-"),
        (" O-", " P-"),
        (" FI-", " FJ-"),
        (" FO-", " FP-"),
        (" HI-", " HJ-"),
    ];
    NAMES.iter().fold(text.to_owned(), |text, (name, staged)| text.replace(name, staged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_command_at_fault() {
        let script = Script {
            lines: ["*nat", "-A a -j DROP", "-A b -s zz -j DROP", "COMMIT"].map(str::to_owned).into(),
        };
        for said in [
            "ebtables-restore v1.8.9 (nf_tables): bad 'zz'\nError occurred at line: 3\nTry `ebtables -h'\n",
            "ebtables-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Invalid argument): rule in chain b\nline 4: no\n",
        ] {
            let error = refused(Layer::Link, &script, said);
            let begin = "internal error: Failed to run firewall command ebtables --concurrent -t nat -A b -s zz -j DROP: ebtables v1.8.9";
            assert!(error.message.starts_with(begin), "{error}");
            assert!(!error.message.contains("occurred") && !error.message.contains("line 4"), "{error}");
        }
    }
}
