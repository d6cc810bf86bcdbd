//! What is known of each procedure: who serves it, which cases test it, whether it agrees with libvirtd or how it
//! differs.
//!
//! Agreement is what the tests hold true: a procedure that the differential run asks of both daemons, or that a recorded
//! conversation asks, agrees unless it is among the deviations; those tests fail if either is not so.

pub mod markdown;
pub mod page;

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;
use virtwire_conformance::report::Report;
use virtwire_conformance::{Outcome, daemon_cases};
use virtwire_protocol::procedures::{Direction, ProcedureInfo, Program};
use virtwire_protocol::{admin, lxc, qemu, remote};

use crate::diff::SCRIPTS;
use crate::diff::{deviations, script};
use crate::replay::case::{Case, Step};
use crate::replay::{CAPTURES, MACHINE};
use crate::repo;

/// One procedure.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Its program, `remote`.
    pub program: String,
    /// Its number.
    pub number: i32,
    /// Its name, `DOMAIN_SUSPEND`.
    pub name: String,
    /// The function of libvirt's library.
    pub api: String,
    /// Which kind of driver serves it, `Hypervisor`.
    pub family: String,
    /// Whether the daemon sends it.
    pub event: bool,
    /// Who serves it: `daemon`, `qemu`, `test`.
    pub served: Vec<String>,
    /// The conformance suite's questions.
    pub conformance: Vec<String>,
    /// How the suite ended, by daemon: passed, failed; if it was run.
    pub outcomes: BTreeMap<String, (usize, usize)>,
    /// How often the differential run asks it of both daemons.
    pub differential: usize,
    /// How often recorded conversations do.
    pub replayed: usize,
    /// Known differences, with their reasons.
    pub deviations: Vec<String>,
}

/// What is known of a procedure's answers beside libvirtd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Agreement {
    /// Asked of both, and the same.
    Agrees,
    /// Asked of both, with a known difference.
    Differs,
    /// Not asked of both by a test.
    NotAsked,
}

impl Row {
    /// What is known of its answers beside libvirtd's.
    pub fn agreement(&self) -> Agreement {
        match (self.deviations.is_empty(), self.differential + self.replayed) {
            (false, _) => Agreement::Differs,
            (true, 0) => Agreement::NotAsked,
            (true, _) => Agreement::Agrees,
        }
    }

    /// `remote` is left out, as in the names of the client's methods.
    pub fn title(&self) -> String {
        let name = self.name.to_ascii_lowercase();
        if self.program == "remote" { name } else { format!("{}_{name}", self.program) }
    }
}

/// All procedures that clients call and events that they get.
///
/// # Errors
/// If a file of the tests or `docs/support.md` is not understood.
pub fn rows() -> Result<Vec<Row>, String> {
    let served = support()?;
    let mut rows: Vec<Row> = [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM, &admin::PROGRAM]
        .into_iter()
        .flat_map(|program| program.procedures.iter().flatten().map(move |info| row(program, info)))
        .collect();
    for row in &mut rows {
        row.served = served.get(&row.title()).cloned().unwrap_or_default();
    }
    for case in daemon_cases() {
        let mut parts = case.id.split('/');
        if let (Some(program), Some(name), Some(question)) = (parts.next(), parts.next(), parts.next())
            && let Some(row) = rows.iter_mut().find(|row| row.program == program && row.name == name)
        {
            row.conformance.push(question.to_owned());
        }
    }
    differential(&mut rows)?;
    replayed(&mut rows)?;
    Ok(rows)
}

/// Takes how the conformance suite ended on a daemon.
pub fn take_outcomes(rows: &mut [Row], daemon: &str, report: &Report) {
    for line in &report.lines {
        let mut parts = line.id.split('/');
        let (Some(program), Some(name)) = (parts.next(), parts.next()) else { continue };
        let Some(row) = rows.iter_mut().find(|row| row.program == program && row.name == name) else {
            continue;
        };
        let (passed, failed) = row.outcomes.entry(daemon.to_owned()).or_default();
        match line.outcome {
            Outcome::Passed => *passed += 1,
            Outcome::Failed(_) => *failed += 1,
            Outcome::Skipped(_) => {}
        }
    }
}

fn row(program: &Program, info: &ProcedureInfo) -> Row {
    Row {
        program: program.name.to_owned(),
        number: info.number,
        name: info.name.to_owned(),
        api: info.api.to_owned(),
        family: format!("{:?}", info.family),
        event: info.direction == Direction::Event,
        ..Row::default()
    }
}

/// The support table, which the generator's tests keep current: who serves each, by [`Row::title`].
fn support() -> Result<BTreeMap<String, Vec<String>>, String> {
    let text =
        fs::read_to_string(repo::root().join("docs/support.md")).map_err(|e| format!("support.md: {e}"))?;
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        cells.collect::<Vec<_>>()
    };
    let mut columns = Vec::new();
    let mut program = "";
    let mut served = BTreeMap::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            program = if title == "Administration" { "admin_" } else { "" };
        }
        let cells = if line.starts_with('|') { cells(line) } else { continue };
        if cells.first().is_some_and(|cell| cell == "number") {
            columns = cells.iter().skip(2).cloned().collect();
        } else if cells.len() == columns.len() + 2 && cells[0].parse::<i32>().is_ok() {
            let by = columns.iter().zip(&cells[2..]).filter(|(_, cell)| *cell == "yes");
            let name = format!("{program}{}", cells[1].to_ascii_lowercase());
            served.insert(name, by.map(|(column, _)| column.clone()).collect());
        }
    }
    if served.is_empty() { Err("docs/support.md has no procedures".to_owned()) } else { Ok(served) }
}

fn differential(rows: &mut [Row]) -> Result<(), String> {
    for script in SCRIPTS {
        let text = fs::read_to_string(repo::file(script.operations));
        let text = text.map_err(|e| format!("{}: {e}", script.operations))?;
        for step in script::parse(&text)?.into_iter().flat_map(|session| session.steps) {
            if let Some(row) = rows.iter_mut().find(|row| row.api == step.api && !row.event) {
                row.differential += 1;
            }
        }
        for deviation in deviations::read(script.operations)? {
            let (api, what) = deviation.what.split_once(": ").unwrap_or((&deviation.what, ""));
            for row in rows.iter_mut().filter(|row| row.api == api && !row.event) {
                row.deviations.push(format!("{what}: {}", deviation.reason));
            }
        }
    }
    Ok(())
}

fn replayed(rows: &mut [Row]) -> Result<(), String> {
    for capture in CAPTURES.iter().chain(MACHINE) {
        for step in Case::read(&repo::file(&format!("captures/{capture}.json")))?.steps {
            let (program, name) = match &step {
                Step::Call { program, procedure, .. } => (program.as_str(), procedure),
                Step::Event { procedure, .. } | Step::Stream { procedure, .. } => ("remote", procedure),
            };
            if let Some(row) = rows.iter_mut().find(|row| row.program == program && row.name == *name) {
                row.replayed += 1;
            }
        }
    }
    for deviation in deviations::read(deviations::CAPTURES)? {
        let name = deviation.what.split(' ').nth(1).unwrap_or_default();
        for row in rows.iter_mut().filter(|row| row.name.starts_with(name) && row.replayed > 0) {
            row.deviations.push(deviation.reason.clone());
        }
    }
    Ok(())
}

/// What is counted of a group of procedures.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Count {
    /// All of them.
    pub procedures: usize,
    /// Served by the daemon or a driver.
    pub served: usize,
    /// Judged by the conformance suite.
    pub judged: usize,
    /// Asked of both daemons.
    pub asked: usize,
    /// Of these, without a known difference.
    pub agree: usize,
}

/// Counts per family, calls and events apart, in the order of the procedures.
pub fn counts(rows: &[Row]) -> Vec<(String, Count)> {
    let mut counts: Vec<(String, Count)> = Vec::new();
    for row in rows {
        let name = if row.event { "Events".to_owned() } else { row.family.clone() };
        let at = counts.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            counts.push((name, Count::default()));
            counts.len() - 1
        });
        let count = &mut counts[at].1;
        count.procedures += 1;
        count.served += usize::from(!row.served.is_empty());
        count.judged += usize::from(!row.conformance.is_empty());
        count.asked += usize::from(row.agreement() != Agreement::NotAsked);
        count.agree += usize::from(row.agreement() == Agreement::Agrees);
    }
    counts
}
