//! Names of users and groups, for people to read.

use std::fs;

/// The id of a name in a file like /etc/passwd or /etc/group.
pub(crate) fn id_of(file: &str, name: &str) -> Option<u32> {
    let row = file.lines().map(|line| line.split(':')).find(|row| row.clone().next() == Some(name));
    row?.nth(2)?.parse().ok()
}

fn name_of(file: &str, id: u32) -> Option<String> {
    file.lines().find_map(|line| {
        let mut row = line.split(':');
        let name = row.next()?;
        (row.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

/// The user's name.
pub(crate) fn user(id: u32) -> Option<String> {
    name_of(&fs::read_to_string("/etc/passwd").ok()?, id)
}

/// The group's name.
pub(crate) fn group(id: u32) -> Option<String> {
    name_of(&fs::read_to_string("/etc/group").ok()?, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids() {
        let file = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nkvm:x:104:\n";
        assert_eq!((id_of(file, "kvm"), id_of(file, "broken"), id_of(file, "no")), (Some(104), None, None));
        assert_eq!((name_of(file, 0), name_of(file, 1)), (Some("root".into()), None));
    }
}
