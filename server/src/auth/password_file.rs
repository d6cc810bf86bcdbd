//! The users of SASL: a file with a line `NAME:VERIFIER` for each.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::verifier::Verifier;

/// The file's content, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PasswordFile(BTreeMap<String, Verifier>);

impl PasswordFile {
    /// Reads a file; one that is not there has nobody in it. A line that makes no sense is an error with its number.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let users = lines.map(|(index, line)| {
            let problem = |what: String| {
                let text = format!("{}:{}: {what}", path.display(), index + 1);
                io::Error::new(io::ErrorKind::InvalidData, text)
            };
            let (name, keys) =
                line.split_once(':').ok_or_else(|| problem("expected NAME:VERIFIER".into()))?;
            Ok((name.to_owned(), keys.parse().map_err(|error| problem(format!("{error}")))?))
        });
        users.collect::<io::Result<_>>().map(Self)
    }

    /// Writes the file anew, readable by its owner only: whole, or not at all.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_added_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        for (name, keys) in &self.0 {
            writeln!(file, "{name}:{keys}")?;
        }
        file.sync_all()?;
        fs::rename(&new, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    }

    /// What is kept of a user's password.
    pub fn get(&self, name: &str) -> Option<&Verifier> {
        self.0.get(name)
    }

    /// Adds a user, or gives one a new password. Says whether the name can be one.
    pub fn set(&mut self, name: &str, keys: Verifier) -> bool {
        let good = !name.is_empty() && !name.starts_with('#') && !name.contains([':', '\n', '\r', '\0']);
        if good {
            self.0.insert(name.to_owned(), keys);
        }
        good
    }

    /// Removes a user. Says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::verifier::tests::pencil;
    use super::*;

    #[test]
    fn is_written_for_its_owner_only_and_read_again() {
        let path = std::env::temp_dir().join(format!("virtwired-{}-passwords", std::process::id()));
        assert_eq!(PasswordFile::read(&path).unwrap(), PasswordFile::default());
        let mut users = PasswordFile::default();
        assert!(users.set("anna", pencil()) && users.set("bert@example.org", pencil()));
        assert!(!users.set("a:b", pencil()) && !users.set("", pencil()) && !users.set("a\nb", pencil()));
        users.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = PasswordFile::read(&path).unwrap();
        assert_eq!(again, users);
        assert!(again.remove("anna") && !again.remove("anna"));
        assert_eq!(again.names().collect::<Vec<_>>(), ["bert@example.org"]);
        fs::write(&path, "# people\n\nanna:secret\n").unwrap();
        let error = PasswordFile::read(&path).unwrap_err().to_string();
        assert!(error.contains(":3: expected SCRAM-SHA-256$"), "{error}");
        fs::remove_file(&path).unwrap();
    }
}
