//! Procedures by the names that people give them.

use virtwire_protocol::procedures::{Direction, ProcedureInfo, Program};
use virtwire_protocol::{admin, lxc, qemu, remote};

/// The programs that can be called, in the order in which a bare name is looked for.
pub(crate) const PROGRAMS: [&Program; 4] = [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM, &admin::PROGRAM];

/// A procedure and its program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) program: &'static Program,
    pub(crate) info: &'static ProcedureInfo,
}

impl Found {
    /// `domain_suspend`, `qemu_domain_attach`: as the methods of the client are called.
    pub(crate) fn name(&self) -> String {
        let name = self.info.name.to_ascii_lowercase();
        if self.program.number == remote::PROGRAM.number {
            name
        } else {
            format!("{}_{name}", self.program.name)
        }
    }
}

/// Every procedure that a client can call.
pub(crate) fn all() -> impl Iterator<Item = Found> {
    PROGRAMS.into_iter().flat_map(|program| {
        let calls = program.procedures.iter().flatten().filter(|info| info.direction == Direction::Call);
        calls.map(move |info| Found { program, info })
    })
}

/// The procedure of a name in any case, with `-` or `_`, with or without its program before it; or of the name of
/// the library's function.
pub(crate) fn find(name: &str) -> Option<Found> {
    let name = name.replace('-', "_");
    let by_name = |found: &Found| {
        found.name().eq_ignore_ascii_case(&name)
            || found.info.name.eq_ignore_ascii_case(&name)
            || format!("{}_{}", found.program.name, found.info.name).eq_ignore_ascii_case(&name)
    };
    let by_api = |found: &Found| !found.info.api.is_empty() && found.info.api.eq_ignore_ascii_case(&name);
    all().find(by_name).or_else(|| all().find(by_api))
}

/// Procedures whose names share most words with this one.
pub(crate) fn similar(name: &str) -> Vec<String> {
    let name = name.replace('-', "_").to_ascii_lowercase();
    let words: Vec<_> = name.split('_').filter(|word| !word.is_empty()).collect();
    let shared = |other: &str| {
        let theirs: Vec<_> = other.split('_').collect();
        let both = words.iter().filter(|word| theirs.contains(word)).count();
        // Words that only one of the two has count against it.
        (2 * both).saturating_sub(theirs.len().abs_diff(words.len()))
    };
    let mut scored: Vec<_> = all().map(|found| found.name()).map(|name| (shared(&name), name)).collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let best = scored.first().map_or(0, |(score, _)| *score);
    let close = scored.into_iter().filter(|(score, _)| *score > 0 && score + 1 >= best);
    close.take(5).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_them() {
        for (name, expected) in [
            ("DOMAIN_SUSPEND", "domain_suspend"),
            ("domain-suspend", "domain_suspend"),
            ("virDomainSuspend", "domain_suspend"),
            ("connect_open", "connect_open"),
            ("remote_connect_open", "connect_open"),
            ("admin-connect-open", "admin_connect_open"),
            ("connect_list_servers", "admin_connect_list_servers"),
            ("qemu_domain_attach", "qemu_domain_attach"),
            ("domain-open-namespace", "lxc_domain_open_namespace"),
        ] {
            assert_eq!(find(name).map(|found| found.name()).as_deref(), Some(expected), "{name}");
        }
        assert!(find("domain_event_lifecycle").is_none(), "an event is no call");
        assert!(find("").is_none());
    }

    #[test]
    fn a_name_that_is_nearly_right() {
        assert!(similar("domain-pause").iter().all(|name| name.starts_with("domain_")));
        assert_eq!(similar("list-all-domains").first().unwrap(), "connect_list_all_domains");
        assert!(similar("zzz").is_empty());
    }
}
