//! Our reader against another one.

use std::path::Path;

use virtwire_conf::xml::{Document, Node};
use virtwire_protocol::ErrorDomain;

use crate::corpus::files;

/// A tree as text: names, attributes and text, one node a line.
fn ours(node: Node<'_>, out: &mut String) {
    out.push_str(&format!("<{}", node.name()));
    for attribute in node.attributes().iter().filter(|a| !a.name.starts_with("xmlns")) {
        out.push_str(&format!(" {}={:?}", attribute.name, attribute.value));
    }
    out.push_str(&format!(" {:?}\n", node.text()));
    node.children().for_each(|child| ours(child, out));
    out.push_str(">\n");
}

fn theirs(node: roxmltree::Node<'_, '_>, out: &mut String) {
    let source = node.document().input_text();
    let written =
        source[node.range()].split(|c: char| c.is_whitespace() || c == '>' || c == '/').next().unwrap();
    out.push_str(written);
    for attribute in node.attributes() {
        let name = source[attribute.range()].split(|c: char| c.is_whitespace() || c == '=').next().unwrap();
        out.push_str(&format!(" {name}={:?}", attribute.value()));
    }
    let text: String = node.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect();
    out.push_str(&format!(" {text:?}\n"));
    node.children().filter(|n| n.is_element()).for_each(|child| theirs(child, out));
    out.push_str(">\n");
}

#[test]
fn trees_are_those_of_roxmltree() {
    let mut documents: Vec<String> = vec![
        "<a b='x &lt;&#65;&#x42; y' c=\"it's\">t&amp;u<!-- c --><![CDATA[<v>]]>\r\nw<d/>x<?p q?></a>"
            .to_owned(),
        "<a xmlns='u' xmlns:p='v'><p:b p:c='1'/>\n</a>\n<!-- end -->".to_owned(),
    ];
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for kind in ["domain", "network", "pool", "volume"] {
        let all = files(&data.join(kind), &[".xml"]);
        documents.extend(all.iter().map(|file| std::fs::read_to_string(file).unwrap()));
    }
    for text in documents {
        let document = Document::parse(&text, ErrorDomain::NONE).unwrap();
        let other = roxmltree::Document::parse(&text).unwrap();
        let (mut left, mut right) = (String::new(), String::new());
        ours(document.root(), &mut left);
        theirs(other.root_element(), &mut right);
        assert_eq!(left, right, "{text}");
    }
}
