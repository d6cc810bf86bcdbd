//! `<filter>`: rules of the host's packet filter.

use uuid::Uuid;

use crate::complete::nwfilter::number_of;
use crate::domain::net::{FilterParameter, FilterRef};
use crate::table::{Element, Mac, Result};
use crate::xml::{Node, Writer};
use crate::{element, keywords};

keywords! {
    /// What becomes of a packet.
    pub enum RuleAction { Drop = "drop", Accept = "accept", Reject = "reject", Return = "return", Continue = "continue" }
    /// Which way a packet goes.
    pub enum RuleDirection { In = "in", Out = "out", Inout = "inout" }
}

element! {
    /// `<filter>`.
    pub struct Nwfilter {
        attr_default name: String;
        attr chain: Option<String>;
        attr priority: Option<i32> => NWFILTER.invalid_arg "Could not parse chain priority '{}'";
        leaf uuid: Option<Uuid> => NWFILTER.xml_error "malformed uuid element";
        flat entries: Entries;
    }

    /// `<filterref>` of a filter.
    pub struct NwfilterRef {
        attr filter: String;
        child parameter: Vec<FilterParameter>;
    }

    /// `<filterbinding>`: a filter at a guest's port.
    pub struct NwfilterBinding {
        child owner: Option<BindingOwner>;
        child portdev: Option<BindingDevice>;
        child linkdev: Option<BindingDevice>;
        child mac: Option<BindingMac>;
        child filterref: Option<FilterRef>;
    }

    /// `<filterbindingstatus>`: a binding that is there.
    pub struct NwfilterBindingStatus {
        child filterbinding: Option<NwfilterBinding>;
    }

    /// `<owner>`: the guest.
    pub struct BindingOwner {
        leaf name: Option<String>;
        leaf uuid: Option<Uuid> => NWFILTER.internal_error "Unable to parse UUID '{}'";
    }

    /// `<portdev>`, `<linkdev>`: an interface of the host.
    pub struct BindingDevice {
        attr name: Option<String>;
    }

    /// `<mac>` of the guest's interface.
    pub struct BindingMac {
        attr address: Option<Mac> => NWFILTER.internal_error "Unable to parse MAC '{}'";
    }

    /// `<rule>`.
    pub struct Rule {
        attr action: RuleAction;
        attr direction: RuleDirection;
        attr priority: Option<i32>;
        attr statematch: Option<String>;
        flat matches: Matches;
    }
}

/// A rule or a reference to another filter; their order matters.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// `<rule>`
    Rule(Rule),
    /// `<filterref>`
    Ref(NwfilterRef),
}

/// All entries of a filter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entries(pub Vec<Entry>);

impl Element for Entries {
    fn read(node: Node<'_>) -> Result<Self> {
        node.children()
            .filter_map(|child| match child.name() {
                "rule" => Some(Rule::read(child).map(Entry::Rule)),
                "filterref" => Some(NwfilterRef::read(child).map(Entry::Ref)),
                _ => None,
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    fn write(&self, out: &mut Writer<'_>) {
        for entry in &self.0 {
            match entry {
                Entry::Rule(rule) => {
                    out.open("rule");
                    rule.write(out);
                    out.close("rule");
                }
                Entry::Ref(reference) => {
                    out.open("filterref");
                    reference.write(out);
                    out.close("filterref");
                }
            }
        }
    }
}

/// What a rule looks for: protocols with their attributes as they stand in the document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matches(pub Vec<(String, Vec<(String, String)>)>);

impl Matches {
    /// The number that the value of an attribute is, by whatever name.
    pub fn number(attribute: &str, value: &str) -> Option<u64> {
        number_of(attribute, value)
    }
}

impl Element for Matches {
    fn read(node: Node<'_>) -> Result<Self> {
        let pair = |a: &crate::xml::Attribute<'_>| (a.name.to_owned(), a.value.clone().into_owned());
        let all = node.children().map(|c| (c.name().to_owned(), c.attributes().iter().map(pair).collect()));
        Ok(Self(all.collect()))
    }

    fn write(&self, out: &mut Writer<'_>) {
        for (protocol, attributes) in &self.0 {
            out.open(protocol);
            for (name, value) in attributes {
                out.attribute(name, value);
            }
            out.close(protocol);
        }
    }
}
