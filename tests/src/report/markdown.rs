//! The report as `docs/compatibility.md`, and its summary for a terminal.

use std::fmt::Write;

use virtwire_conformance::behaviour;

use super::{Agreement, Count, Row, counts};

const HEAD: &str = "# Compatibility

How far virtwired is libvirtd 11.3 on the wire, procedure by procedure. This page is written from the tests
(`UPDATE_GOLDEN=1 cargo test -p virtwire-tests compatibility`), so what it says is what they hold true:

- **generated**: every procedure here has its codec, its client method and its place in the daemon's dispatch; what no
  driver serves ([support.md](support.md)) is answered with `VIR_ERR_NO_SUPPORT`;
- **conformance**: the questions of `virtwire-conformance` that libvirtd and virtwired both pass;
- **asked**: how often the answers of both are compared: by the differential run, which plays the same operations to both
  through libvirt's library and through `virtwire-client`, on the test hypervisor; and by conversations recorded with
  libvirtd and played to virtwired;
- **libvirtd**: whether all those answers agree.

The stock clients of [the matrix](../tests/README.md) see the same of both daemons.
";

/// The page.
pub fn page(rows: &[Row]) -> String {
    let mut out = format!("{HEAD}\n{}", summary(rows, false));
    out += "\n## Known differences\n\n| procedure | difference, and why |\n|---|---|\n";
    for row in rows {
        for deviation in &row.deviations {
            let _ = writeln!(out, "| `{}` | {deviation} |", row.title());
        }
    }
    out += "\n## Behaviour\n\nWhat the suite asks beside each procedure by itself; libvirtd and virtwired pass all of it.\n\n\
            | case | proves that | by |\n|---|---|---|\n";
    for case in behaviour::cases() {
        let _ = writeln!(out, "| `{}` | {} | {} |", case.id, case.proves, case.source);
    }
    out +=
        "\n## Procedures\n\n| number | procedure | conformance | asked | libvirtd |\n|---|---|---|---|---|\n";
    for row in rows.iter().filter(|row| !row.event) {
        let agreement = match row.agreement() {
            Agreement::Agrees => "agrees",
            Agreement::Differs => "differs",
            Agreement::NotAsked => "",
        };
        let _ = writeln!(
            out,
            "| {} | `{}` | {} | {} | {agreement} |",
            row.number,
            row.title(),
            row.conformance.join(", "),
            times(row.differential + row.replayed),
        );
    }
    out
}

fn times(count: usize) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

/// Counts per family; if asked for, with how many are served.
pub fn summary(rows: &[Row], served: bool) -> String {
    let mut out = "| | procedures | conformance | asked of both | agree |".to_owned();
    out += if served { " served |\n|---|---|---|---|---|---|\n" } else { "\n|---|---|---|---|---|\n" };
    let counts = counts(rows);
    let sum = counts.iter().fold(Count::default(), |sum, (_, count)| Count {
        procedures: sum.procedures + count.procedures,
        served: sum.served + count.served,
        judged: sum.judged + count.judged,
        asked: sum.asked + count.asked,
        agree: sum.agree + count.agree,
    });
    for (name, count) in counts.iter().map(|(name, count)| (name.as_str(), count)).chain([("all", &sum)]) {
        let Count { procedures, served: by, judged, asked, agree } = count;
        let by = if served { format!(" {by} |") } else { String::new() };
        let _ = writeln!(out, "| {name} | {procedures} | {judged} | {asked} | {agree} |{by}");
    }
    out
}
