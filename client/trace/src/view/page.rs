//! A page that needs nothing else: a timeline of bars, and the details of what is pointed at.

use std::io::{self, Write};

use crate::story::Entry;

/// Entries that a page shows: more of them nobody could find anything in, and a browser no room for.
const ENTRIES_MAX: usize = 20_000;
/// Bytes of entries that a page has.
const BYTES_MAX: usize = 64 << 20;

/// A page that is written while the trace goes on, so that none of it has to be kept.
pub struct Page<W: Write> {
    out: W,
    entries: usize,
    bytes: usize,
    left_out: usize,
}

impl<W: Write> Page<W> {
    /// Begins the page.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(mut out: W, title: &str) -> io::Result<Self> {
        let title = title.replace('&', "&amp;").replace('<', "&lt;");
        out.write_all(HEAD.replace("{title}", &title).as_bytes())?;
        Ok(Self { out, entries: 0, bytes: 0, left_out: 0 })
    }

    /// Adds an entry, if there is room for it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        // Inside a script element only this could end it.
        let data = serde_json::to_string(entry).unwrap_or_default().replace("</", "<\\/");
        if self.entries >= ENTRIES_MAX || self.bytes + data.len() > BYTES_MAX {
            self.left_out += 1;
            return Ok(());
        }
        self.entries += 1;
        self.bytes += data.len();
        writeln!(self.out, "{data},")
    }

    /// Ends the page; returns how many entries it has, and how many it has no room for.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn end(mut self) -> io::Result<(usize, usize)> {
        self.out.write_all(TAIL.replace("{left_out}", &self.left_out.to_string()).as_bytes())?;
        self.out.flush()?;
        Ok((self.entries, self.left_out))
    }
}

/// Up to where the entries begin.
const HEAD: &str = include_str!("head.html");
/// What follows them.
const TAIL: &str = include_str!("tail.html");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Happening;

    #[test]
    fn a_page_has_an_end() {
        let mut page = Page::begin(Vec::new(), "a <b>").unwrap();
        let entry = Entry {
            connection: 1,
            at_us: 5,
            what: Happening::Ended { reason: Some("</script>".to_owned()) },
        };
        for _ in 0..ENTRIES_MAX + 3 {
            page.add(&entry).unwrap();
        }
        let (shown, left_out) = (page.entries, page.left_out);
        let mut bytes = Vec::new();
        std::mem::swap(&mut bytes, &mut page.out);
        assert_eq!((shown, left_out), (ENTRIES_MAX, 3));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("a &lt;b>") && text.contains("<\\/script>") && !text.contains("</script>"));
        assert_eq!(page.end().unwrap(), (ENTRIES_MAX, 3));
    }
}
