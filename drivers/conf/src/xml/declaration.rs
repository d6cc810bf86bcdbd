//! How a document says what it is written in. libvirt takes every document for UTF-8, whatever that says, if only it is
//! something that is known.

use std::borrow::Cow;

use virtwire_protocol::{ErrorDomain, VirtError};

/// What is wrong, and behind how many bytes.
pub(super) type Wrong = (usize, Cow<'static, str>);

/// How names of encodings begin that C libraries know, in lower case.
const ENCODINGS: [&str; 24] = [
    "utf",
    "ucs",
    "iso",
    "latin",
    "l1",
    "us-ascii",
    "ascii",
    "ansi_x3",
    "html",
    "windows-",
    "cp",
    "ibm",
    "koi8",
    "sjis",
    "shift_jis",
    "shift-jis",
    "ms_kanji",
    "euc",
    "big5",
    "big-5",
    "gb",
    "mac",
    "tis",
    "viscii",
];

/// Reads the declaration that `text` begins with, and says how long it is.
pub(super) fn read(text: &str) -> Result<usize, Wrong> {
    let mut at = "<?xml".len();
    let Some((version, behind)) = said(text, at, "version")? else {
        return Err((skip(text, at), "Malformed declaration expecting version".into()));
    };
    if !version.starts_with("1.") {
        return Err((behind, format!("Unsupported version '{version}'").into()));
    }
    at = behind;
    if let Some((encoding, behind)) = said(text, at, "encoding")? {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !encoding.starts_with(|c: char| c.is_ascii_alphabetic()) || !encoding.chars().all(plain) {
            return Err((behind - encoding.len() - 1, "Invalid XML encoding name".into()));
        }
        let lower = encoding.to_ascii_lowercase();
        if !ENCODINGS.iter().any(|known| lower.starts_with(known)) {
            return Err((behind, format!("Unsupported encoding {encoding}").into()));
        }
        at = behind;
    }
    if let Some((standalone, behind)) = said(text, at, "standalone")? {
        if !matches!(standalone, "yes" | "no") {
            return Err((behind - standalone.len() - 1, "standalone accepts only 'yes' or 'no'".into()));
        }
        at = behind;
    }
    Ok(text[at..].find("?>").map_or(text.len(), |end| at + end + "?>".len()))
}

fn skip(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start().len()
}

/// The value that a name has, and where it ends; nothing where something else is said.
fn said<'t>(text: &'t str, at: usize, name: &str) -> Result<Option<(&'t str, usize)>, Wrong> {
    let at = skip(text, at);
    if !text[at..].starts_with(name) {
        return Ok(None);
    }
    let at = skip(text, at + name.len());
    if !text[at..].starts_with('=') {
        return Err((at, "expected '='".into()));
    }
    let at = skip(text, at + 1);
    let quoted = ['\'', '"'].into_iter().find(|quote| text[at..].starts_with(*quote));
    let Some(quote) = quoted else { return Err((at, "String not started expecting ' or \"".into())) };
    let value = &text[at + 1..];
    match value.find(quote) {
        Some(end) => Ok(Some((&value[..end], at + end + 2))),
        None => Err((text.len(), "String not closed expecting \" or '".into())),
    }
}

/// How many bytes that are none of UTF-8 are shown.
const SHOWN: usize = 4;

/// A document as a client sent it.
///
/// # Errors
/// `VIR_ERR_XML_DETAIL` from `domain` for one that is not in UTF-8.
pub fn utf8(document: &[u8], domain: ErrorDomain) -> Result<&str, VirtError> {
    std::str::from_utf8(document).map_err(|error| {
        let (before, rest) = document.split_at(error.valid_up_to());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole = document[start..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let bytes: Vec<String> = rest.iter().take(SHOWN).map(|byte| format!("0x{byte:02X}")).collect();
        domain.xml_detail(format_args!(
            "at line {line}: Input is not proper UTF-8, indicate encoding !\nBytes: {}\n{}\n{}^",
            bytes.join(" "),
            String::from_utf8_lossy(whole),
            "-".repeat(before.len() - start)
        ))
    })
}
