//! Sessions through libvirt's library, by its Python binding.

use std::fs;
use std::process::Command;

use serde::Serialize;

use super::{EVENTS, FENCE, Played, Session, fence};
use crate::folder::Folder;
use crate::peers::PYTHON;
use crate::process::Program;
use crate::repo;

#[derive(Serialize)]
struct Order<'a> {
    sessions: &'a [Session],
    fence: String,
    fence_name: &'a str,
    events: &'a [(&'a str, i32)],
}

/// Plays all sessions.
///
/// # Errors
/// What the program said when it failed.
pub fn play(uri: &str, sessions: &[Session]) -> Result<Vec<Played>, String> {
    let folder = Folder::new();
    let (order, answer) = (folder.join("order.json"), folder.join("answer.json"));
    let text = Order { sessions, fence: fence(uri), fence_name: FENCE, events: EVENTS };
    let text = serde_json::to_vec(&text).map_err(|e| e.to_string())?;
    fs::write(&order, text).map_err(|e| e.to_string())?;
    let mut command = Command::new(PYTHON);
    command.arg(repo::file("clients/operations.py")).arg(uri).arg(&order).arg(&answer);
    let finished = Program::start(&mut command).finish();
    if !finished.status.success() {
        return Err(format!("libvirt's library at {uri}: {}", finished.text));
    }
    let answer = fs::read(&answer).map_err(|e| e.to_string())?;
    serde_json::from_slice(&answer).map_err(|e| e.to_string())
}
