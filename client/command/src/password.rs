//! Asking for names and passwords on the terminal.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use virtwire_client::{CredentialKind, CredentialRequest};

/// Asks whoever sits at the terminal; `None` where nobody does. What is secret is not shown.
pub(crate) fn ask(request: &CredentialRequest<'_>) -> Option<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    write!(terminal, "{}: ", request.prompt).ok()?;
    let secret = request.kind == CredentialKind::Passphrase;
    let before = tcgetattr(&terminal).ok()?;
    if secret {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &silent).ok()?;
    }
    let mut line = String::new();
    let read = BufReader::new(&terminal).read_line(&mut line);
    if secret {
        let _ = tcsetattr(&terminal, OptionalActions::Flush, &before);
        let _ = writeln!(terminal);
    }
    read.ok().filter(|count| *count > 0)?;
    Some(line.trim_end_matches(['\r', '\n']).to_owned())
}
