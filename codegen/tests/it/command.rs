//! The command, as a user runs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_virtwire-codegen"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(args)
        .output()
        .expect("the command runs")
}

fn stdout(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn everything_about_one_procedure() {
    let text = stdout(&["show", "domain_suspend"]);
    for part in [
        "`REMOTE_PROC_DOMAIN_SUSPEND` = 34",
        "pub struct DomainSuspendArgs",
        "readonly: ReadOnly::Refused",
        "pub static DOMAIN_SUSPEND_ARGS: StructDef",
        "impl Sample for DomainSuspendArgs",
        "pub trait HypervisorDriver",
        "fn domain_suspend(call: Call",
        "impl Connection",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let unknown = run(&["show", "DOMAIN_SUSPEN"]);
    let expected = "no procedure is called DOMAIN_SUSPEN: 'inventory' lists them all\n";
    assert_eq!(String::from_utf8_lossy(&unknown.stderr), expected);
    assert!(!unknown.status.success());
}

/// Files in any order, since a shell sorts them by name.
#[test]
fn files_are_checked() {
    let text = stdout(&["check", "../protocol/x/lxc.x", "../protocol/x/net.x", "../protocol/x/remote.x"]);
    let files: Vec<_> = text.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(files, ["../protocol/x/remote.x", "../protocol/x/lxc.x", "../protocol/x/net.x"]);

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check");
    fs::create_dir_all(&folder).expect("a folder for the test");
    let file = folder.join("lxc.x");
    fs::write(&file, "struct a {\n  int b[];\n};\n").expect("a file for the test");
    let file = file.display().to_string();
    let wrong = run(&["check", &file]);
    let expected = format!("{file}:2:9: in a: expected a number or the name of a constant, found ']'\n");
    assert_eq!(String::from_utf8_lossy(&wrong.stderr), expected);
    assert!(!wrong.status.success());
}

#[test]
fn anything_else_is_answered_with_the_usage() {
    for args in [&[][..], &["show"], &["check"], &["frobnicate"], &["inventory", "--protocol"]] {
        let output = run(args);
        assert!(!output.status.success(), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("Usage: virtwire-codegen "), "{args:?}");
    }
    assert!(stdout(&["--help"]).contains("\n  support "));
}
