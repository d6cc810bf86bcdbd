//! Programs under test: with a time limit, ended when dropped, waited for by what they print.

use std::fmt::Display;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything that should come may take, before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a compiler may take.
const BUILDING: Duration = Duration::from_secs(600);

/// The command lines of all processes, with their process ids.
pub fn command_lines() -> impl Iterator<Item = (u32, Vec<String>)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line);
        Some((pid, line.split_terminator('\0').map(str::to_owned).collect()))
    })
}

/// A running program. Dropping it kills it.
pub struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    seen: String,
}

/// What a finished program said, standard output and standard error as they came.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Everything it printed.
    pub text: String,
}

impl Program {
    /// Starts a program; its input is a pipe, its outputs are read from now on.
    ///
    /// # Panics
    /// If the program can't be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Program {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let (sender, output) = mpsc::channel();
        read_into(child.stdout.take(), sender.clone());
        read_into(child.stderr.take(), sender);
        Program { name, stdin: child.stdin.take(), child, output, seen: String::new() }
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program has printed `text`, and returns everything up to its end; the next wait starts behind it.
    ///
    /// # Panics
    /// If it ends or [`PATIENCE`] passes before that.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self.more(deadline) {
                Ok(()) => (),
                Err(why) => {
                    panic!("{}: {why} while waiting for {text:?}; it printed:\n{}", self.name, self.seen)
                }
            }
        }
    }

    /// Writes to the program's standard input.
    ///
    /// # Panics
    /// If the program doesn't take it.
    #[track_caller]
    pub fn type_text(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.flush())
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// Closes the program's input, and waits for its end.
    ///
    /// # Panics
    /// If [`PATIENCE`] passes before that.
    #[track_caller]
    pub fn finish(self) -> Finished {
        self.try_finish().unwrap_or_else(|why| panic!("{why}"))
    }

    /// Closes the program's input, and waits for its end.
    ///
    /// # Errors
    /// [`PATIENCE`] passes before that: what the program had printed until then.
    pub fn try_finish(self) -> Result<Finished, String> {
        self.finish_within(PATIENCE)
    }

    fn finish_within(mut self, limit: Duration) -> Result<Finished, String> {
        drop(self.stdin.take());
        self.read_to_end(limit)?;
        let status = self.child.wait().map_err(|e| format!("{}: {e}", self.name))?;
        Ok(Finished { status, text: std::mem::take(&mut self.seen) })
    }

    /// Everything printed up to now that no wait has taken.
    pub fn printed(&mut self) -> &str {
        while let Ok(bytes) = self.output.try_recv() {
            self.seen += &String::from_utf8_lossy(&bytes);
        }
        &self.seen
    }

    /// Kills it, as `kill -9` does, and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the program has closed its output, which it does when it ends.
    ///
    /// # Panics
    /// If [`PATIENCE`] passes before that.
    #[track_caller]
    pub fn wait_for_end(&mut self) {
        self.read_to_end(PATIENCE).unwrap_or_else(|why| panic!("{why}"));
    }

    fn read_to_end(&mut self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.more(deadline) {
                Ok(()) => (),
                Err(Stopped::Ended) => return Ok(()),
                Err(why) => return Err(format!("{}: {why}; it printed:\n{}", self.name, self.seen)),
            }
        }
    }

    /// Whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn more(&mut self, deadline: Instant) -> Result<(), Stopped> {
        match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => {
                self.seen += &String::from_utf8_lossy(&bytes);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => Err(Stopped::TooSlow),
            Err(RecvTimeoutError::Disconnected) => Err(Stopped::Ended),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, with nothing on its input.
///
/// # Panics
/// If it can't be started or takes longer than [`PATIENCE`].
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    Program::start(command).finish()
}

/// Builds a program, for which compilers may take longer than programs.
///
/// # Panics
/// If it cannot be built.
#[track_caller]
pub fn build(command: &mut Command) {
    let built = Program::start(command).finish_within(BUILDING).unwrap_or_else(|why| panic!("{why}"));
    assert!(built.status.success(), "{command:?}, {}:\n{}", built.status, built.text);
}

/// The same command with both outputs in one pipe and by the line, so that errors stay where they belong.
pub fn one_output(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec stdbuf -oL \"$@\" 2>&1", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

enum Stopped {
    Ended,
    TooSlow,
}

impl Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stopped::Ended => f.write_str("it ended"),
            Stopped::TooSlow => write!(f, "nothing more in time"),
        }
    }
}

fn read_into(from: Option<impl Read + Send + 'static>, to: Sender<Vec<u8>>) {
    let Some(mut from) = from else { return };
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
}
