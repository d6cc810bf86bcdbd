//! A page that needs nothing else: a timeline of bars, and the details of what is pointed at.

use crate::story::Entry;

/// The page of a whole trace.
pub fn page(title: &str, entries: &[Entry]) -> String {
    let data = serde_json::to_string(entries).unwrap_or_default();
    // Inside a script element only this could end it.
    let data = data.replace("</", "<\\/");
    PAGE.replace("{title}", &title.replace('&', "&amp;").replace('<', "&lt;")).replace("{data}", &data)
}

const PAGE: &str = include_str!("page.html");
