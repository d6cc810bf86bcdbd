//! A command line for QEMU, and how it is shown.

use std::fmt::Display;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::Value;

use crate::named;
use crate::process::listen;

/// Options and the descriptors they speak of.
#[derive(Debug, Default)]
pub struct CommandLine {
    args: Vec<String>,
    fds: Vec<OwnedFd>,
    /// How many sets of descriptors there are.
    sets: u32,
    /// Sockets that were made for a start; `None` where nothing is started.
    sockets: Option<Vec<PathBuf>>,
    /// Descriptors are named, and given with their names over a monitor.
    is_plugged: bool,
    /// Sets of descriptors that are given over a monitor.
    fdsets: Vec<FdSet>,
}

/// A descriptor in a set of its own.
#[derive(Debug)]
pub(crate) struct FdSet {
    /// The set's number.
    pub(crate) set: u32,
    /// What it is for.
    pub(crate) opaque: String,
    pub(crate) fd: OwnedFd,
}

/// The mode of a new file that a guest's words go to.
const LOG_MODE: u32 = 0o600;

impl CommandLine {
    /// One that a program is started with.
    pub(crate) fn to_start() -> Self {
        Self { sockets: Some(Vec::new()), ..Self::default() }
    }

    /// One whose options are said to a running QEMU, which has this many sets of descriptors.
    pub(crate) fn to_plug(sets: u32) -> Self {
        Self { is_plugged: true, sets, sockets: Some(Vec::new()), ..Self::default() }
    }

    /// The next number of a set.
    pub(crate) fn sets(&self) -> u32 {
        self.sets
    }

    /// How a socket is named that QEMU listens on. For a start it is made here: QEMU's user need not be able to.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn listener(&mut self, path: &str) -> io::Result<(&'static str, String)> {
        let Some(sockets) = &mut self.sockets else { return Ok(("path", path.to_owned())) };
        let listener = listen(Path::new(path))?;
        sockets.push(path.into());
        Ok(("fd", self.pass(listener.into())))
    }

    /// How a file is named to which QEMU writes what comes through a character device. For a start it is opened here, and
    /// goes on unless it is to begin anew.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn log(&mut self, path: &str, appends: bool, opaque: &str) -> io::Result<String> {
        if self.sockets.is_none() {
            return Ok(path.to_owned());
        }
        let file = named::options().append(true).create(true).mode(LOG_MODE).open(path)?;
        if !appends {
            file.set_len(0)?;
        }
        if self.is_plugged {
            let set = self.next_set();
            self.fdsets.push(FdSet { set, opaque: opaque.to_owned(), fd: file.into() });
            return Ok(format!("/dev/fdset/{set}"));
        }
        let (set, fd) = (self.next_set(), self.pass(file.into()));
        self.option("-add-fd", Options::new("").with("set", set).with("fd", fd).with("opaque", opaque));
        Ok(format!("/dev/fdset/{set}"))
    }

    /// Opens a device for reading and writing, for a start; otherwise there is nothing to be opened for.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn device(&mut self, path: &str) -> io::Result<Option<String>> {
        if self.sockets.is_none() {
            return Ok(None);
        }
        let device = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Some(self.pass(device.into())))
    }

    /// The sockets that were made.
    pub(crate) fn sockets(&self) -> &[PathBuf] {
        self.sockets.as_deref().unwrap_or_default()
    }

    /// An option without a value.
    pub fn flag(&mut self, option: &str) {
        self.args.push(option.to_owned());
    }

    /// An option and its value.
    pub fn option(&mut self, option: &str, value: impl Into<String>) {
        self.args.push(option.to_owned());
        self.args.push(value.into());
    }

    /// An option whose value is JSON.
    pub fn json(&mut self, option: &str, value: &Value) {
        self.option(option, value.to_string());
    }

    /// A word as it is.
    pub fn word(&mut self, word: impl Into<String>) {
        self.args.push(word.into());
    }

    /// Hands a descriptor over; QEMU knows it by what is returned: its number here, or a name.
    pub fn pass(&mut self, fd: OwnedFd) -> String {
        let number = fd.as_raw_fd();
        self.fds.push(fd);
        if self.is_plugged { Self::name_of(number) } else { number.to_string() }
    }

    /// The number of a new set of descriptors.
    pub(crate) fn next_set(&mut self) -> u32 {
        self.sets += 1;
        self.sets - 1
    }

    /// How a descriptor is called that is given over a monitor.
    pub(crate) fn name_of(number: i32) -> String {
        format!("fd{number}")
    }

    /// Whether its options are said over a monitor.
    pub(crate) fn is_said(&self) -> bool {
        self.is_plugged
    }

    /// The values of an option, to be changed.
    pub(crate) fn values_of<'a>(&'a mut self, option: &'a str) -> impl Iterator<Item = &'a mut String> {
        let mut before = false;
        self.args.iter_mut().filter(move |word| std::mem::replace(&mut before, word.as_str() == option))
    }

    /// The words after the program's name.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// The sets of descriptors that were made.
    pub(crate) fn take_fdsets(&mut self) -> Vec<FdSet> {
        std::mem::take(&mut self.fdsets)
    }

    /// Words and descriptors, for the one who starts it.
    pub(crate) fn into_parts(self) -> (Vec<String>, Vec<OwnedFd>) {
        (self.args, self.fds)
    }
}

/// Environment, program and options as a shell takes them, an option and its value on each line.
pub fn shell(env: &[(String, String)], program: &str, args: &[String]) -> String {
    let mut lines: Vec<String> = env.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    lines.push(quote(program));
    for arg in args {
        match lines.last_mut() {
            // A value goes behind its option.
            Some(last) if !arg.starts_with('-') && last.starts_with('-') && !last.contains(' ') => {
                last.push(' ');
                last.push_str(&quote(arg));
            }
            _ => lines.push(quote(arg)),
        }
    }
    lines.join(" \\\n")
}

/// A word as a shell takes it, quoted only where it must be.
pub fn quote(word: &str) -> String {
    const PLAIN: &str = "%+,-./:=@_^";
    if !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c)) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A value in QEMU's `key=value,…` syntax: commas are doubled.
pub(crate) fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

/// A value in QEMU's `key=value,…` syntax, in the making; commas in values are doubled.
#[derive(Debug)]
pub(crate) struct Options(String);

impl Options {
    /// Begins with `head`, which has no key.
    pub(crate) fn new(head: &str) -> Self {
        Self(escape(head))
    }

    pub(crate) fn with(mut self, key: &str, value: impl Display) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(key);
        self.0.push('=');
        self.0.push_str(&escape(&value.to_string()));
        self
    }

    pub(crate) fn with_if(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds a word that is a whole option.
    pub(crate) fn word(mut self, word: &str) -> Self {
        self.0.push(',');
        self.0.push_str(word);
        self
    }
}

impl From<Options> for String {
    fn from(options: Options) -> Self {
        options.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_an_option_a_line() {
        let mut line = CommandLine::default();
        line.option("-name", "guest=g1,debug-threads=on");
        line.flag("-S");
        line.json("-device", &serde_json::json!({"driver": "pvpanic"}));
        assert_eq!(
            shell(&[("LC_ALL".to_owned(), "C".to_owned())], "/usr/bin/qemu", line.args()),
            "LC_ALL=C \\\n/usr/bin/qemu \\\n-name guest=g1,debug-threads=on \\\n-S \\\n-device '{\"driver\":\"pvpanic\"}'"
        );
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a=b,c"), "a=b,c");
    }
}
