//! Where two XML documents differ.

use roxmltree::{Document, Node};

/// The first place where two texts differ, without the values, so that the same difference has the same name wherever
/// it appears; `None` if they are the same document.
pub fn difference(left: &str, right: &str) -> Option<String> {
    match (Document::parse(left), Document::parse(right)) {
        (Ok(left), Ok(right)) => node("", left.root_element(), right.root_element()),
        _ => Some("the text".to_owned()),
    }
}

fn node(path: &str, left: Node<'_, '_>, right: Node<'_, '_>) -> Option<String> {
    let name = left.tag_name().name();
    if left.tag_name() != right.tag_name() {
        return Some(format!("{path}: <{name}> where the other has <{}>", right.tag_name().name()));
    }
    let path = format!("{path}/{name}");
    let names = |node: Node<'_, '_>| node.attributes().map(|a| a.name().to_owned()).collect::<Vec<_>>();
    let (ours, theirs) = (names(left), names(right));
    if let Some(missing) = ours.iter().find(|name| !theirs.contains(name)) {
        return Some(format!("{path}/@{missing}: missing on the right"));
    }
    if let Some(extra) = theirs.iter().find(|name| !ours.contains(name)) {
        return Some(format!("{path}/@{extra}: missing on the left"));
    }
    if let Some(name) =
        ours.iter().find(|name| left.attribute(name.as_str()) != right.attribute(name.as_str()))
    {
        return Some(format!("{path}/@{name}: another value"));
    }
    if ours != theirs {
        return Some(format!("{path}: attributes in another order"));
    }
    let text = |node: Node<'_, '_>| node.text().map(str::trim).unwrap_or_default().to_owned();
    if text(left) != text(right) {
        return Some(format!("{path}: another text"));
    }
    let mut right = right.children().filter(Node::is_element);
    for left in left.children().filter(Node::is_element) {
        let Some(right) = right.next() else {
            return Some(format!("{path}/{}: missing on the right", left.tag_name().name()));
        };
        if let Some(found) = node(&path, left, right) {
            return Some(found);
        }
    }
    right.next().map(|extra| format!("{path}/{}: missing on the left", extra.tag_name().name()))
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn layout_is_no_difference() {
        assert_eq!(difference("<a b='1'><c/></a>", "<a b=\"1\">\n  <c></c>\n</a>"), None);
    }

    #[test]
    fn the_first_difference_is_named() {
        for (left, right, expected) in [
            ("<a><b c='1'/></a>", "<a><b c='2'/></a>", "/a/b/@c: another value"),
            ("<a><b c='1'/></a>", "<a><b/></a>", "/a/b/@c: missing on the right"),
            ("<a><b/></a>", "<a/>", "/a/b: missing on the right"),
            ("<a/>", "<a><b/></a>", "/a/b: missing on the left"),
            ("<a><b/></a>", "<a><c/></a>", "/a: <b> where the other has <c>"),
            ("<a>x</a>", "<a>y</a>", "/a: another text"),
            ("plain", "other", "the text"),
        ] {
            assert_eq!(difference(left, right).as_deref(), Some(expected), "{left} {right}");
        }
    }
}
