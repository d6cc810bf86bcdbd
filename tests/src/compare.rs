//! The same virsh commands to two daemons, and where their answers differ.
//!
//! A file of sessions has one virsh command per line; a blank line begins a new session, which is a virsh of its own;
//! `#` begins a comment. `{dir}` is the folder of the sessions' file, `{tmp}` an empty one; `{<…>}` stands for a file with
//! the document between the braces. Where `# differs:` and a
//! reason stand behind a command, its answers are known not to be the same. `virsh edit` is done by `editor.sh`.

use std::fmt;
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::thread;

use regex_lite::{Captures, Regex};

use crate::folder::Folder;
use crate::process::{self, Program};

/// One command and both answers.
#[derive(Debug)]
pub struct Answer {
    /// The command.
    pub command: String,
    /// Why the answers are known to differ, if they are.
    pub differs: Option<String>,
    /// The answers, canonical.
    pub answers: [String; 2],
}

impl Answer {
    /// Whether both are the same.
    pub fn is_equal(&self) -> bool {
        self.answers[0] == self.answers[1]
    }

    /// Whether both are the same, or differ where that is known.
    pub fn is_as_expected(&self) -> bool {
        self.is_equal() == self.differs.is_none()
    }
}

/// What differs, `-` the first daemon's lines and `+` the second's.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.command)?;
        if let (Some(reason), true) = (&self.differs, self.is_equal()) {
            writeln!(f, "    is equal now, though it is said to differ: {reason}")?;
        }
        let [left, right] = self.answers.each_ref().map(|answer| answer.lines().collect::<Vec<_>>());
        let head = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
        let (left, right) = (&left[head..], &right[head..]);
        let tail = left.iter().rev().zip(right.iter().rev()).take_while(|(a, b)| a == b).count();
        for line in &left[..left.len() - tail] {
            writeln!(f, "    - {line}")?;
        }
        for line in &right[..right.len() - tail] {
            writeln!(f, "    + {line}")?;
        }
        Ok(())
    }
}

/// A command line like virsh, connected to a URI.
pub type Shell = fn(&str) -> Command;

/// All commands of a file, answered by both.
///
/// # Panics
/// If the shell can't be run.
pub fn compare(shell: Shell, uris: [&str; 2], file: &Path) -> std::io::Result<Vec<Answer>> {
    let text = std::fs::read_to_string(file)?;
    let file = file.canonicalize()?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    for session in sessions(&text) {
        let session = understood(|| shell(uris[0]), session);
        let (session, reasons): (Vec<_>, Vec<_>) = session.into_iter().map(parts).unzip();
        let [left, right] = thread::scope(|scope| {
            let asked = uris.map(|uri| {
                scope.spawn({
                    let session = &session;
                    move || answers(shell(uri), session, folder)
                })
            });
            asked.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        for (((command, differs), left), right) in session.into_iter().zip(reasons).zip(left).zip(right) {
            let differs = differs.map(str::to_owned);
            found.push(Answer { command: command.to_owned(), differs, answers: [left, right] });
        }
    }
    Ok(found)
}

fn sessions(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.is_empty()).filter(|session| !session.is_empty()).map(<[_]>::to_vec).collect()
}

/// What this shell has a meaning for: an older one lacks commands and options, and does nothing of a session with one
/// that it lacks. Each that is left out is named.
fn understood(shell: impl Fn() -> Command, mut session: Vec<&str>) -> Vec<&str> {
    // All is read before the first is done, and that one ends it.
    let takes = |commands: &[&str]| {
        let commands: Vec<_> =
            commands.iter().map(|line| with_files(parts(line).0, |_| "file".to_owned())).collect();
        process::run(shell().arg(format!("quit; {}", commands.join("; ")))).status.success()
    };
    if !takes(&session) {
        session.retain(|command| {
            let taken = takes(&[command]);
            if !taken {
                virtwire_skip::without_data(format_args!(
                    "{command}: not known to {:?}",
                    shell().get_program()
                ));
            }
            taken
        });
    }
    session
}

/// A command, and why its answers differ.
fn parts(line: &str) -> (&str, Option<&str>) {
    match line.split_once("# differs:") {
        Some((command, reason)) => (command.trim_end(), Some(reason.trim())),
        None => (line, None),
    }
}

/// A command with a file in the place of each document in it.
fn with_files(command: &str, mut file: impl FnMut(&str) -> String) -> String {
    let mut done = String::new();
    let mut rest = command;
    while let Some((before, after)) = rest.split_once("{<")
        && let Some((document, behind)) = after.split_once(">}")
    {
        done.extend([before, &file(&format!("<{document}>"))]);
        rest = behind;
    }
    done + rest
}

/// What one shell answers to each command of a session.
fn answers(shell: Command, session: &[&str], folder: &Path) -> Vec<String> {
    const MARK: &str = "==== next ====";
    let empty = Folder::new();
    let mut files = 0;
    let mut written = |document: &str| {
        files += 1;
        let path = empty.join(format!("{files}.xml"));
        std::fs::write(&path, document).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path.display().to_string()
    };
    let session = session.iter().map(|command| with_files(command, &mut written)).collect::<Vec<_>>();
    let script: String = session.iter().map(|command| format!("{command}; echo '{MARK}'; ")).collect();
    let script =
        script.replace("{dir}", &folder.to_string_lossy()).replace("{tmp}", &empty.to_string_lossy());
    let mut command = process::one_output(&shell);
    command.arg(script).current_dir(folder).env("EDITOR", folder.join("editor.sh"));
    // virsh saves in a second thread, and now and then the first waits for its end for ever, the file long written: also
    // where libvirt has the test hypervisor in the same process and no daemon takes part: its saving thread has gone, and
    // the first looks twice a second for a word that it has missed.
    let done = Program::start(&mut command).try_finish().unwrap_or_else(|why| {
        // Past the test runner, which shows what is printed only of failing tests.
        let _ = writeln!(io::stderr(), "repeated: {why}");
        process::run(&mut command)
    });
    let text = canonical(&done.text);
    let mut answers: Vec<String> =
        text.split(MARK).map(|answer| answer.trim_matches('\n').to_owned()).collect();
    // Behind the last mark there is nothing more.
    answers.pop();
    assert_eq!(answers.len(), session.len(), "not all of {session:?} was done: {text}");
    answers
}

/// A text without what differs from run to run: generated UUIDs and addresses are numbered as they appear, times and
/// the folders of test daemons are replaced.
pub fn canonical(text: &str) -> String {
    let numbered = [
        ("UUID", r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
        ("MAC", r"\b(52:54:00|00:16:3e)(:[0-9a-f]{2}){3}\b"),
    ];
    let replaced = [
        ("TIME", r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d{4})?"),
        ("SECONDS", r"\b\d+\.\d+ ?s\b"),
        // Seconds since 1970, and what the test hypervisor derives from them.
        ("TIME", r"\b1[6-9]\d{8,}(\.\d{9})?\b"),
        ("$1 TIME", r"\b(rd_bytes|wr_req|wr_bytes|errs) \d{9,14}\b"),
        // How many workers there are at a moment.
        ("$1 COUNT", r"\b(nWorkers|freeWorkers|jobQueueDepth) *: *\d+"),
        ("FOLDER", r"/[^ ]*/virtwire-\d+-\d+(/run)?"),
        // What a running guest has used, and where its threads and terminals happen to be.
        ("${1}N", r"\b((?:cpu\.(?:time|user|system)|vcpu\.\d+\.(?:time|wait|delay)|balloon\.rss)=)\d+"),
        ("rss N", r"\brss \d+"),
        ("CPU: N", r"\bCPU: +\d+"),
        // virsh says nothing of the time of a processor that has not run for a tick of the host's clock.
        ("$1", r"(VCPU: .*\nCPU: .*\nState: .*\n)CPU time: .*\n"),
        ("/dev/pts/N", r"/dev/pts/\d+"),
        // Room on a disk that others use too.
        ("$1 ROOM", r"\b(Allocation|Available): +[\d.]+ [GT]iB"),
        ("$1 unit='bytes'>ROOM", r"\b(allocation|available) unit='bytes'>\d{9,}"),
        // A daemon's count of its own commands to QEMU.
        ("libvirt-N", r"\blibvirt-\d+\b"),
        // A descriptor's number in QEMU.
        ("${1}N", r#"("fd\\?":)\d+"#),
    ];
    let regex = |pattern| Regex::new(pattern).expect("a pattern of this program");
    let mut text = text.to_owned();
    for (name, pattern) in numbered {
        let mut seen = Vec::new();
        text = regex(pattern)
            .replace_all(&text, |found: &Captures<'_>| {
                let value = found[0].to_owned();
                let number = seen.iter().position(|known| *known == value).unwrap_or_else(|| {
                    seen.push(value);
                    seen.len() - 1
                });
                format!("{name}-{}", number + 1)
            })
            .into_owned();
    }
    for (name, pattern) in replaced {
        text = regex(pattern).replace_all(&text, name).into_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_parted_by_blank_lines() {
        assert_eq!(
            sessions("# one\nlist\nuri\n\n\n# two\nversion\n"),
            [vec!["list", "uri"], vec!["version"]]
        );
    }

    #[test]
    fn a_known_difference_is_part_of_the_line() {
        assert_eq!(parts("list --all"), ("list --all", None));
        assert_eq!(parts("list  # differs: by design"), ("list", Some("by design")));
    }

    #[test]
    fn documents_in_a_command_become_files() {
        let mut seen = Vec::new();
        let line = with_files("attach g {<a b='{x}'/>} --live {<c/>}", |document| {
            seen.push(document.to_owned());
            format!("f{}", seen.len())
        });
        assert_eq!(line, "attach g f1 --live f2");
        assert_eq!(seen, ["<a b='{x}'/>", "<c/>"]);
        assert_eq!(with_files("echo {dir} {<", |_| String::new()), "echo {dir} {<");
    }

    #[test]
    fn generated_values_become_numbers_and_equal_ones_stay_equal() {
        let text = "52:54:00:01:02:03 52:54:00:01:02:04 52:54:00:01:02:03 2024-01-02 03:04:05 x";
        assert_eq!(canonical(text), "MAC-1 MAC-2 MAC-1 TIME x");
    }

    #[test]
    fn what_comes_from_the_clock_is_replaced_and_limits_are_not() {
        assert_eq!(canonical("CPU time: 1795541911.3s"), "CPU time: SECONDS");
        let processor = "VCPU: 0\nCPU: 1\nState: running\n";
        let masked = "VCPU: 0\nCPU: N\nState: running\nCPU Affinity: yy";
        assert_eq!(canonical(&format!("{processor}CPU time: 0.1s\nCPU Affinity: yy")), masked);
        assert_eq!(canonical(&format!("{processor}CPU Affinity: yy")), masked);
        assert_eq!(canonical("vda wr_req 59851397011357"), "vda wr_req TIME");
        assert_eq!(canonical("vda errs 897773582\nvda errs 0"), "vda errs TIME\nvda errs 0");
        assert_eq!(canonical("hard_limit 9007199254740991"), "hard_limit 9007199254740991");
    }

    #[test]
    fn a_difference_is_shown_without_what_is_equal() {
        let answers = ["a\nb\nc".to_owned(), "a\nx\nc".to_owned()];
        let answer = Answer { command: "list".to_owned(), differs: None, answers };
        assert_eq!(answer.to_string(), "list\n    - b\n    + x\n");
    }
}
