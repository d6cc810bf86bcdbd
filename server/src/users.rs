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

/// The groups of a user, by name; `gid` is the one that its process has.
pub(crate) fn groups_of(uid: u32, gid: u32) -> Vec<String> {
    let user = user(uid);
    let file = fs::read_to_string("/etc/group").unwrap_or_default();
    let has = |line: &&str| {
        let mut row = line.split(':').skip(2);
        let number = row.next().and_then(|number| number.parse::<u32>().ok());
        let mut members = row.next().unwrap_or_default().split(',');
        number == Some(gid) || user.as_deref().is_some_and(|user| members.any(|member| member == user))
    };
    file.lines().filter(has).filter_map(|line| line.split(':').next()).map(str::to_owned).collect()
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
