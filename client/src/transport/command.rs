//! Connections through another program: the system's `ssh`, or whatever the transport `ext` runs.
//!
//! The program has a unix socket as its standard input and output. What it says on standard error explains a connection
//! that ends.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use virtwire_socket::Socket;

use super::Wire;
use crate::Error;
use crate::uri::{HostKeys, Proxy, Target, Transport};

/// How much is kept of what the program says.
const OUTPUT_MAX: u64 = 16 << 10;
/// How long a program that has closed its side may take to end.
const END: Duration = Duration::from_secs(2);

/// Starts the program of a URI.
pub(super) fn connect(target: &Target, read_only: bool) -> Result<Wire, Error> {
    let (program, arguments) = command_line(target, read_only);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let input = OwnedFd::from(theirs.try_clone()?);
    let spawned = Command::new(&program)
        .args(&arguments)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| HelperError {
        program: program.clone(),
        end: format!("cannot be started: {error}"),
        output: String::new(),
        missing: error.kind() == io::ErrorKind::NotFound,
    })?;
    let output = tokio::spawn(collect(child.stderr.take()));
    let helper = Helper { program, child, output };
    Ok(Wire { socket: Socket::Unix(UnixStream::from_std(ours)?), helper: Some(helper) })
}

async fn collect(from: Option<ChildStderr>) -> Vec<u8> {
    let mut output = Vec::new();
    if let Some(mut from) = from {
        let _ = (&mut from).take(OUTPUT_MAX).read_to_end(&mut output).await;
        // More is read and forgotten, so that the program does not wait for us.
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    output
}

/// A running program that carries a connection. It is killed when this is dropped.
pub(crate) struct Helper {
    program: String,
    child: Child,
    output: JoinHandle<Vec<u8>>,
}

impl Helper {
    /// Why the connection has ended, as far as the program tells: `None` if it says nothing and has not failed.
    pub(crate) async fn explanation(&mut self) -> Option<HelperError> {
        let status = tokio::time::timeout(END, self.child.wait()).await.ok()?.ok()?;
        let output = tokio::time::timeout(END, &mut self.output).await.ok()?.ok()?;
        let output = String::from_utf8_lossy(&output).trim().to_owned();
        if status.success() && output.is_empty() {
            return None;
        }
        Some(HelperError { program: self.program.clone(), end: end(status), output, missing: false })
    }
}

fn end(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with status {code}"),
        None => format!("was ended: {status}"),
    }
}

/// The program that carries a connection has failed. Says what to do where that can be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperError {
    /// The program: `ssh`, or what `command` names.
    pub program: String,
    /// How it ended, or why it could not be started.
    pub end: String,
    /// What it has said on standard error.
    pub output: String,
    /// Whether there is no such program.
    pub missing: bool,
}

/// What `ssh` and the programs behind it say, and what to do about it.
const ADVICE: &[(&str, &str)] = &[
    (
        "Host key verification failed",
        "log in by hand once to accept the host's key, or name a file that has it with known_hosts=",
    ),
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host has another key than before: if that is right, remove the old one with ssh-keygen -R",
    ),
    ("Permission denied", "add your key to the ssh agent, or name it with keyfile="),
    ("Could not resolve hostname", "is the host's name right?"),
    ("Connection refused", "does sshd run there, on this port?"),
    ("Connection timed out", "can the host be reached from here?"),
    ("not found", "install virt-ssh-helper (with libvirt's daemon) or nc on the other host"),
    (
        "No such file or directory",
        "does a libvirt daemon run on the other host? Its socket can be named with socket=",
    ),
];

impl HelperError {
    /// What to do about it.
    pub fn advice(&self) -> Option<&'static str> {
        if self.missing {
            return Some("install it (openssh-client), or name another with command=");
        }
        ADVICE.iter().find(|(said, _)| self.output.contains(said)).map(|(_, advice)| *advice)
    }
}

impl fmt::Display for HelperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.end)?;
        if !self.output.is_empty() {
            write!(f, ": {}", self.output)?;
        }
        if let Some(advice) = self.advice() {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

impl std::error::Error for HelperError {}

/// The program and its arguments.
fn command_line(target: &Target, read_only: bool) -> (String, Vec<OsString>) {
    let parameters = &target.parameters;
    let program = parameters.command.clone().unwrap_or_else(|| "ssh".to_owned());
    if target.transport == Transport::Ext {
        return (program, Vec::new());
    }
    // No terminal on the other side, and no escape character in what is sent.
    let mut arguments: Vec<OsString> = ["-T", "-e", "none"].map(OsString::from).into();
    let mut option = |words: [&dyn AsRef<std::ffi::OsStr>; 2]| {
        arguments.extend(words.map(|word| word.as_ref().to_owned()));
    };
    if let Some(port) = target.port {
        option([&"-p", &port.to_string()]);
    }
    if let Some(user) = &target.user {
        option([&"-l", user]);
    }
    if let Some(keyfile) = &parameters.keyfile {
        option([&"-i", keyfile]);
    }
    if let Some(known) = &parameters.known_hosts {
        option([&"-o", &format!("UserKnownHostsFile=\"{}\"", known.display())]);
    }
    let keys = if parameters.no_verify { HostKeys::Ignore } else { parameters.known_hosts_verify };
    let strict = match keys {
        HostKeys::Configured => None,
        HostKeys::Normal => Some("yes"),
        HostKeys::Auto => Some("accept-new"),
        HostKeys::Ignore => Some("no"),
    };
    if let Some(strict) = strict {
        option([&"-o", &format!("StrictHostKeyChecking={strict}")]);
    }
    if parameters.no_tty {
        option([&"-o", &"BatchMode=yes"]);
    }
    arguments.extend(["--", target.host()].map(OsString::from));
    // `ssh` hands its arguments to the user's shell there, whichever that is; `sh` is everywhere.
    arguments.push(format!("sh -c {}", quote(&script(target, read_only))).into());
    (program, arguments)
}

/// What runs on the other host.
fn script(target: &Target, read_only: bool) -> String {
    let parameters = &target.parameters;
    let name = if target.name.is_empty() { "remote:///system" } else { &target.name };
    let option = if read_only { "-r " } else { "" };
    let native = format!("virt-ssh-helper {option}{}", quote(name));
    let netcat = quote(parameters.netcat.as_deref().unwrap_or("nc"));
    let socket = quote(&target.remote_socket(read_only).display().to_string());
    // Some have to be told to end when their input does.
    let netcat = format!(
        "if {netcat} -q 2>&1 | grep -q \"requires an argument\"; then exec {netcat} -q0 -U {socket}; \
         else exec {netcat} -U {socket}; fi"
    );
    match parameters.proxy {
        Proxy::Native => format!("exec {native}"),
        Proxy::Netcat => netcat,
        // Only `nc` can be told of these.
        Proxy::Auto if parameters.netcat.is_some() || parameters.socket.is_some() => netcat,
        Proxy::Auto => {
            format!("if command -v virt-ssh-helper >/dev/null 2>&1; then exec {native}; else {netcat}; fi")
        }
    }
}

/// One word for a shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(uri: &str) -> String {
        let (program, arguments) = command_line(&Target::parse(uri).unwrap(), false);
        let words = arguments.iter().map(|word| word.to_string_lossy().into_owned());
        std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn parameters_become_options() {
        for (uri, begins) in [
            ("qemu+ssh://far/system", "ssh -T -e none -- far sh -c "),
            (
                "qemu+ssh://me@far:2222/system?keyfile=/k&no_tty=1",
                "ssh -T -e none -p 2222 -l me -i /k -o BatchMode=yes -- far sh -c ",
            ),
            (
                "qemu+libssh://far/system?known_hosts=/h&known_hosts_verify=auto&command=/bin/x",
                "/bin/x -T -e none -o UserKnownHostsFile=\"/h\" -o StrictHostKeyChecking=accept-new -- far ",
            ),
            ("qemu+ssh://far/system?no_verify=1", "ssh -T -e none -o StrictHostKeyChecking=no -- far "),
        ] {
            assert!(line(uri).starts_with(begins), "{}", line(uri));
        }
        assert_eq!(line("qemu+ext:///system?command=/bin/x"), "/bin/x");
    }

    #[test]
    fn proxies() {
        let script = |uri: &str| script(&Target::parse(uri).unwrap(), true);
        let native = script("qemu+ssh://far/session?proxy=native");
        assert_eq!(native, "exec virt-ssh-helper -r 'qemu:///session'");
        let netcat = script("qemu+ssh://far/system?proxy=netcat&netcat=/bin/my%20nc");
        assert!(netcat.contains("exec '/bin/my nc' -U '/var/run/libvirt/libvirt-sock-ro'"), "{netcat}");
        let auto = script("qemu+ssh://far/system");
        assert!(auto.contains("virt-ssh-helper -r 'qemu:///system'") && auto.contains("'nc' -U"), "{auto}");
        let socket = script("qemu+ssh://far/system?socket=/x'y");
        assert!(!socket.contains("virt-ssh-helper") && socket.contains(r"-U '/x'\''y'"), "{socket}");
    }

    #[test]
    fn what_a_program_says_leads_to_advice() {
        let error = |output: &str| HelperError {
            program: "ssh".into(),
            end: "ended with status 255".into(),
            output: output.into(),
            missing: false,
        };
        let text = error("Host key verification failed.").to_string();
        assert!(
            text.starts_with("ssh ended with status 255: Host key verification failed.; log in"),
            "{text}"
        );
        assert_eq!(error("something else").advice(), None);
    }
}
