//! URIs, as far as drivers look into them.

/// The path of a URI that a client opens, without scheme, authority, query and fragment.
pub fn uri_path(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = match rest.strip_prefix("//") {
        Some(rest) => rest.find('/').map_or("", |at| &rest[at..]),
        None => rest,
    };
    rest.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_uris() {
        for (uri, expected) in [
            ("test:///default", "/default"),
            ("test:/default", "/default"),
            ("test://", ""),
            ("test:///", "/"),
            ("test://host/default", "/default"),
            ("test:///default?x=y", "/default"),
            ("test:default", "default"),
            ("test:///a/node.xml#x", "/a/node.xml"),
        ] {
            assert_eq!(uri_path(uri), expected, "{uri}");
        }
    }
}
