//! Distinguished names as GnuTLS writes them, since `tls_allowed_dn_list` is written for it.

use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// Short names of attribute types (RFC 4514, and what GnuTLS adds); others are written as numbers.
const TYPES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.12", "title"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAIL"),
];

/// The subject of a certificate (DER), as patterns of `tls_allowed_dn_list` are matched against it; `None` where it has
/// none that can be shown.
pub fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    text(certificate.subject())
}

/// The names in the order of the certificate, which is not RFC 4514's.
fn text(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for set in name.iter_rdn() {
        let mut pairs = Vec::new();
        for attribute in set.iter() {
            let oid = attribute.attr_type().to_id_string();
            let known = TYPES.iter().find(|(number, _)| *number == oid);
            let value = attribute.as_str().ok()?;
            pairs.push(format!("{}={}", known.map_or(oid.as_str(), |(_, short)| short), escape(value)));
        }
        parts.push(pairs.join("+"));
    }
    Some(parts.join(","))
}

/// What would be read as part of the name's syntax gets a backslash.
fn escape(value: &str) -> String {
    let mut text = String::new();
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let edge = (c == ' ' && (index == 0 || index == last)) || (c == '#' && index == 0);
        if edge || ",+\"\\<>;=".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn what_is_syntax_is_escaped() {
        for (value, text) in
            [("a b", "a b"), ("a,b", "a\\,b"), (" x ", "\\ x\\ "), ("#1", "\\#1"), ("a=b", "a\\=b")]
        {
            assert_eq!(escape(value), text);
        }
    }
}
