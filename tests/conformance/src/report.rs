//! What a run has shown: for a terminal, as JSON, and as a page that needs nothing else.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::case::{Case, Outcome};

/// One case and how it ended.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The case.
    pub id: String,
    /// What it proves.
    pub proves: String,
    /// Where the rule comes from.
    pub source: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// All cases of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What was judged.
    pub target: String,
    /// Each case.
    pub lines: Vec<Line>,
}

impl Report {
    /// Adds a case.
    pub fn add(&mut self, case: &Case, outcome: Outcome) {
        self.lines.push(Line {
            id: case.id.clone(),
            proves: case.proves.to_owned(),
            source: case.source.to_owned(),
            outcome,
        });
    }

    /// Passed, failed, skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.lines.iter().fold((0, 0, 0), |(passed, failed, skipped), line| match line.outcome {
            Outcome::Passed => (passed + 1, failed, skipped),
            Outcome::Failed(_) => (passed, failed + 1, skipped),
            Outcome::Skipped(_) => (passed, failed, skipped + 1),
        })
    }

    /// For a terminal: what failed, and the counts.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            match &line.outcome {
                Outcome::Passed => {}
                Outcome::Failed(how) => {
                    let _ = writeln!(text, "FAILED  {}\n        it {}\n        {how}", line.id, line.proves);
                }
                Outcome::Skipped(why) => {
                    let _ = writeln!(text, "skipped {} ({why})", line.id);
                }
            }
        }
        let (passed, failed, skipped) = self.counts();
        let _ = writeln!(text, "{passed} passed, {failed} failed, {skipped} skipped");
        text
    }

    /// A page: a row per procedure or subject, a cell per question.
    pub fn html(&self) -> String {
        let mut groups: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
        for line in &self.lines {
            let subject = line.id.rsplit_once('/').map_or(line.id.as_str(), |(subject, _)| subject);
            groups.entry(subject).or_default().push(line);
        }
        let mut rows = String::new();
        for (subject, lines) in groups {
            let _ = write!(rows, "<tr><th>{}</th><td>", escape(subject));
            for line in lines {
                let question = line.id.rsplit('/').next().unwrap_or_default();
                let (class, detail) = match &line.outcome {
                    Outcome::Passed => ("passed", ""),
                    Outcome::Failed(how) => ("failed", how.as_str()),
                    Outcome::Skipped(why) => ("skipped", why.as_str()),
                };
                let title = format!("{} — {} — {detail}", line.proves, line.source);
                let _ = write!(
                    rows,
                    "<span class={class} title=\"{}\">{}</span> ",
                    escape(&title),
                    escape(question)
                );
            }
            rows.push_str("</td></tr>\n");
        }
        let (passed, failed, skipped) = self.counts();
        PAGE.replace("{target}", &escape(&self.target))
            .replace("{counts}", &format!("{passed} passed, {failed} failed, {skipped} skipped"))
            .replace("{rows}", &rows)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Conformance of {target}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
tr:nth-child(odd) { background: #f6f7f9; }
th { text-align: left; font: 13px ui-monospace, monospace; padding: .2rem .6rem; white-space: nowrap; }
td { padding: .2rem .6rem; }
span { display: inline-block; border-radius: .3rem; padding: 0 .45rem; font-size: 12px; }
.passed { background: #d9f2df; } .failed { background: #f9d0d0; font-weight: 600; } .skipped { background: #eee; color: #777; }
</style>
<h1>Conformance of {target}</h1>
<p>{counts}. Point at a field for what it proves, the rule's source, and what was seen.</p>
<table>
{rows}</table>
</html>
"#;
