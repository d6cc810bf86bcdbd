//! Documents held against RELAX NG schemas.

use std::path::Path;

use virtwire_conf::relaxng::Grammar;
use virtwire_conf::xml::Document;
use virtwire_protocol::ErrorDomain;

/// A kitchen, whose shelf is described in a file of its own.
const KITCHEN: &str = r#"
<grammar xmlns="http://relaxng.org/ns/structure/1.0" datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
  <start><ref name="kitchen"/></start>
  <include href="shelf.rng"/>
  <define name="onShelf" combine="choice"><element name="jar"><ref name="size"/></element></define>
  <define name="kitchen">
    <element name="kitchen">
      <optional><attribute name="colour"/></optional>
      <interleave>
        <element name="name"><text/></element>
        <optional><ref name="oven"/></optional>
        <zeroOrMore><ref name="shelf"/></zeroOrMore>
        <optional><element name="notes"><zeroOrMore><ref name="anything"/></zeroOrMore></element></optional>
        <optional><grammar><include href="shelf.rng"/></grammar></optional>
      </interleave>
    </element>
  </define>
  <define name="oven">
    <element name="oven">
      <choice>
        <group>
          <attribute name="type"><value>gas</value></attribute>
          <attribute name="flames"><data type="unsignedInt"><param name="maxInclusive">8</param></data></attribute>
        </group>
        <attribute name="type"><choice><value>wood</value><value>coal</value></choice></attribute>
      </choice>
      <element name="door"><empty/></element>
      <oneOrMore><element name="tray"><data type="string"><param name="pattern">[a-z^$\-]+</param>
        <except><value>none</value></except></data></element></oneOrMore>
      <optional><element name="later"><notAllowed/></element></optional>
    </element>
  </define>
  <define name="anything">
    <element><anyName/><zeroOrMore><choice><attribute><anyName/></attribute><text/><ref name="anything"/></choice></zeroOrMore></element>
  </define>
</grammar>"#;

const SHELF: &str = r#"
<grammar xmlns="http://relaxng.org/ns/structure/1.0" ns="urn:shelf" datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
  <start><element name="bench"><attribute name="long"><data type="double"/></attribute></element></start>
  <define name="shelf"><element name="shelf" ns=""><oneOrMore><ref name="onShelf"/></oneOrMore></element></define>
  <define name="onShelf"><element name="cup"><ref name="size"/></element></define>
  <define name="size"><attribute name="size"><data type="short"><param name="minInclusive">1</param></data></attribute></define>
</grammar>"#;

fn kitchen() -> Grammar {
    let read = |file: &str| match file {
        "kitchen.rng" => Some(KITCHEN.to_owned()),
        "shelf.rng" => Some(SHELF.to_owned()),
        _ => None,
    };
    Grammar::read("kitchen.rng", &read).unwrap()
}

#[track_caller]
fn check(content: &str) -> Result<(), Option<String>> {
    let text = format!("<kitchen xmlns:s='urn:shelf'>{content}</kitchen>");
    let document = Document::parse(&text, ErrorDomain::XML).unwrap();
    kitchen().check(document.root()).map_err(|part| part.map(str::to_owned))
}

#[test]
fn what_a_schema_allows_fits() {
    for content in [
        "<name>a</name>",
        " <!-- c --> <oven type='wood'><door/><tray>a-^$</tray><tray>b</tray></oven> <name/>",
        "<name>a</name><oven flames=' 08 ' type=' gas '><door/><tray>b</tray></oven>",
        "<shelf><s:cup size='1'/><jar size='+7'/></shelf><shelf><jar size='2'/></shelf><name>a</name>",
        "<name>a</name><notes><x y='1'>text<z/></x></notes>",
        "<name>a</name><s:bench long='1.5e3'/>",
    ] {
        assert_eq!(check(content), Ok(()), "{content}");
    }
}

#[test]
fn what_a_schema_does_not_allow_is_named() {
    for (content, part) in [
        ("", None),
        ("<oven type='wood'><door/><tray>a</tray></oven>", None),
        ("<name>a</name><name>b</name>", Some("name")),
        ("<name><b/></name>", Some("name")),
        ("<name>a</name>text", None),
        ("<name>a</name><fridge/>", Some("fridge")),
        // Not in this order, not without what must be there, not with what belongs to others.
        ("<name>a</name><oven type='wood'><tray>a</tray><door/></oven>", Some("oven")),
        ("<name>a</name><oven type='wood'><door/></oven>", Some("oven")),
        ("<name>a</name><oven><door/><tray>a</tray></oven>", Some("oven")),
        ("<name>a</name><oven type='gas'><door/><tray>a</tray></oven>", Some("oven")),
        ("<name>a</name><oven type='wood' flames='1'><door/><tray>a</tray></oven>", Some("oven")),
        ("<name>a</name><oven type='wood'><door/><tray>a</tray><later/></oven>", Some("oven")),
        // Values.
        ("<name>a</name><oven type='gas' flames='9'><door/><tray>a</tray></oven>", Some("oven")),
        ("<name>a</name><oven type='gas' flames='-1'><door/><tray>a</tray></oven>", Some("oven")),
        ("<name>a</name><oven type='wood'><door/><tray>none</tray></oven>", Some("oven")),
        ("<name>a</name><oven type='wood'><door/><tray>A</tray></oven>", Some("oven")),
        ("<name>a</name><shelf/>", Some("shelf")),
        ("<name>a</name><shelf><jar size='0'/></shelf>", Some("shelf")),
        ("<name>a</name><shelf><jar size='32768'/></shelf>", Some("shelf")),
        // Of another name space.
        ("<name>a</name><shelf><cup size='1'/></shelf>", Some("shelf")),
        ("<name>a</name><s:shelf><jar size='1'/></s:shelf>", Some("s:shelf")),
        ("<name>a</name><shelf><jar s:size='1'/></shelf>", Some("shelf")),
        // What another grammar has is not its own.
        ("<name>a</name><bench long='1'/>", Some("bench")),
    ] {
        assert_eq!(check(content), Err(part.map(str::to_owned)), "{content}");
    }
}

#[test]
fn what_is_no_schema_is_refused() {
    let start = |inner: &str| {
        format!("<grammar xmlns='http://relaxng.org/ns/structure/1.0'><start>{inner}</start></grammar>")
    };
    for (text, expected) in [
        (start("<ref name='a'/>"), "'a' is not defined"),
        (start("<list/>"), "<list> is not understood"),
        (start("<data type='colour'/>"), "unknown type 'colour'"),
        (start("<grammar><include href='b.rng'/></grammar>"), "b.rng cannot be read"),
        (start("<grammar><start><ref name=''/></start></grammar>"), "'' is made of itself"),
        (
            "<grammar".to_owned(),
            "at line 1: Couldn't find end of Start Tag grammar line 1\n<grammar\n--------^",
        ),
    ] {
        let read = |file: &str| (file == "a.rng").then(|| text.clone());
        assert_eq!(Grammar::read("a.rng", &read).unwrap_err(), expected);
    }
}

#[test]
fn documents_without_end_are_held_against_a_schema_in_time() {
    let shelf = format!("<shelf>{}</shelf>", "<jar size='1'/>".repeat(20_000));
    assert_eq!(check(&format!("<name/>{shelf}")), Ok(()));
    let deep = format!("{}{}", "<a b=''>".repeat(250), "</a>".repeat(250));
    assert_eq!(check(&format!("<name/><notes>{deep}</notes>")), Ok(()));
}

/// Each of libvirt's own schemas.
const SCHEMAS: &[&str] = &[
    "cpu",
    "domain",
    "domaincheckpoint",
    "domainsnapshot",
    "interface",
    "network",
    "networkport",
    "nodedev",
    "nwfilter",
    "nwfilterbinding",
    "secret",
    "storagepool",
    "storagevol",
];

#[test]
fn the_schemas_of_libvirt_are_understood() {
    let folder = Path::new("/usr/share/libvirt/schemas");
    if !folder.exists() {
        return virtwire_skip::without_program("libvirt's schemas are not installed");
    }
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    for name in SCHEMAS {
        let grammar = Grammar::read(&format!("{name}.rng"), &read);
        assert!(grammar.is_ok(), "{name}: {:?}", grammar.err());
    }
    let domain = Grammar::read("domain.rng", &read).unwrap();
    let fits = |devices: &str| {
        let text = format!(
            "<domain type='kvm'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>{devices}</devices></domain>"
        );
        domain.check(Document::parse(&text, ErrorDomain::XML).unwrap().root()).is_ok()
    };
    assert!(fits("<disk type='file'><target dev='vda'/><source file='/a'/></disk>"));
    assert!(!fits("<disk type='file'><source file='/a'/></disk>"));
    assert!(!fits("<disk type='block'><source file='/a'/><target dev='vda'/></disk>"));
}
