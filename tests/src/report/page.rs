//! The report as a page that needs nothing else.

use std::fmt::Write;

use super::{Agreement, Row, markdown};

/// The page.
pub fn html(rows: &[Row]) -> String {
    let mut body = String::new();
    for row in rows {
        let (class, agreement) = match row.agreement() {
            Agreement::Agrees => ("agrees", "agrees".to_owned()),
            Agreement::Differs => ("differs", row.deviations.join("; ")),
            Agreement::NotAsked => ("", String::new()),
        };
        let outcomes = row.outcomes.iter().map(|(daemon, (passed, failed))| {
            let class = if *failed == 0 { "agrees" } else { "differs" };
            format!("<span class={class}>{daemon} {passed}/{}</span> ", passed + failed)
        });
        let _ = writeln!(
            body,
            "<tr><td>{}</td><th title=\"{}\">{}</th><td>{}</td><td>{}</td><td>{}{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{}</td></tr>",
            row.number,
            escape(&row.api),
            escape(&row.title()),
            if row.event { "event" } else { "call" },
            row.served.join(", "),
            outcomes.collect::<String>(),
            row.conformance.join(", "),
            row.differential,
            row.replayed,
            escape(&agreement),
        );
    }
    PAGE.replace("{summary}", &table(&markdown::summary(rows, true))).replace("{rows}", &body)
}

/// A table of Markdown.
fn table(markdown: &str) -> String {
    let rows = markdown.lines().filter(|line| !line.starts_with("|---")).map(|line| {
        let cells = line.trim_matches('|').split('|').map(|cell| format!("<td>{}</td>", escape(cell.trim())));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    });
    format!("<table>{}</table>", rows.collect::<String>())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>virtwired beside libvirtd</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
tr:nth-child(odd) { background: #f6f7f9; }
td, th { padding: .2rem .6rem; text-align: left; vertical-align: top; font-size: 13px; }
th { font: 13px ui-monospace, monospace; white-space: nowrap; }
thead th { font: 600 13px system-ui, sans-serif; position: sticky; top: 0; background: #fff; }
.agrees { color: #17692f; } .differs { color: #a11; }
input { font: inherit; padding: .3rem .6rem; width: 24rem; max-width: 100%; }
</style>
<h1>virtwired beside libvirtd</h1>
{summary}
<input placeholder="Show what holds this word" oninput="
  const word = this.value.toLowerCase();
  for (const row of document.querySelectorAll('tbody tr')) row.hidden = !row.textContent.toLowerCase().includes(word)">
<table><thead><tr><th>number</th><th>procedure</th><th>kind</th><th>served by</th><th>conformance</th>
<th>differential</th><th>replayed</th><th>libvirtd</th></tr></thead><tbody>
{rows}</tbody></table>
</html>
"#;
