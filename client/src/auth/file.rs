//! `auth.conf`: names and passwords by host.
//!
//! `[auth-libvirt-HOST]`, or `[auth-libvirt-default]`, names with `credentials=NAME` the section `[credentials-NAME]`,
//! which has `authname` and `password`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::AuthError;
use crate::uri::config_dir;

/// Sections, each with its keys.
type Sections<'a> = HashMap<&'a str, HashMap<&'a str, &'a str>>;

/// Name and password for this host; each may be absent. `named` is the file that the URI names.
pub(super) fn lookup(
    named: Option<&Path>,
    host: &str,
) -> Result<(Option<String>, Option<String>), AuthError> {
    let Some(path) = place(named) else { return Ok((None, None)) };
    let text =
        std::fs::read_to_string(&path).map_err(|error| AuthError::File(path.clone(), error.to_string()))?;
    find(&text, host).map_err(|why| AuthError::File(path, why))
}

/// The file that the URI or `LIBVIRT_AUTH_FILE` names must exist; the usual ones need not.
fn place(named: Option<&Path>) -> Option<PathBuf> {
    let variable =
        || std::env::var_os("LIBVIRT_AUTH_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || {
        let places = [config_dir().join("auth.conf"), PathBuf::from("/etc/libvirt/auth.conf")];
        places.into_iter().find(|path| path.exists())
    };
    named.map(Path::to_owned).or_else(variable).or_else(usual)
}

fn find(text: &str, host: &str) -> Result<(Option<String>, Option<String>), String> {
    let sections = sections(text)?;
    let section = |name: &str| sections.get(name);
    let of_host = section(&format!("auth-libvirt-{host}")).or_else(|| section("auth-libvirt-default"));
    let Some(of_host) = of_host else { return Ok((None, None)) };
    let name = of_host.get("credentials").ok_or("a section 'auth-…' without 'credentials'")?;
    let credentials = section(&format!("credentials-{name}"))
        .ok_or_else(|| format!("there is no section 'credentials-{name}'"))?;
    let value = |key: &str| credentials.get(key).map(|value| (*value).to_owned());
    Ok((value("authname"), value("password")))
}

fn sections(text: &str) -> Result<Sections<'_>, String> {
    let mut sections = Sections::new();
    let mut current = None;
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = Some(sections.entry(name).or_default());
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| format!("{number}: expected key=value"))?;
        let section =
            current.as_mut().ok_or_else(|| format!("{number}: a value before the first section"))?;
        section.insert(key.trim(), value.trim());
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
        # passwords
        [credentials-a]
        authname=anna
        password=pen=cil
        [credentials-b]
        password = other
        [auth-libvirt-far.test]
        credentials=a
        [auth-libvirt-default]
        credentials=b
    ";

    #[test]
    fn a_host_has_its_section_and_others_the_default() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(find(FILE, "far.test").unwrap(), (some("anna"), some("pen=cil")));
        assert_eq!(find(FILE, "near").unwrap(), (None, some("other")));
        assert_eq!(find("", "near").unwrap(), (None, None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, what) in [
            ("x=y", "1: a value before the first section"),
            ("[a]\nx", "2: expected key=value"),
            ("[auth-libvirt-h]\nx=y", "a section 'auth-…' without 'credentials'"),
            ("[auth-libvirt-h]\ncredentials=c", "there is no section 'credentials-c'"),
        ] {
            assert_eq!(find(text, "h").unwrap_err(), what);
        }
        let error = lookup(Some(Path::new("/nowhere/auth.conf")), "h").unwrap_err();
        assert!(matches!(error, AuthError::File(..)), "{error:?}");
    }
}
