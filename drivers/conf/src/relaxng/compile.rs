//! From the text of a schema to patterns.

use std::collections::HashMap;
use std::rc::Rc;

use virtwire_protocol::ErrorDomain;

use super::data::Data;
use super::{EMPTY, ElementPattern, Grammar, Id, NOT_ALLOWED, Name, Pattern, Patterns, TEXT};
use crate::xml::{Document, Node};

type Result<T> = std::result::Result<T, String>;
type Reader<'r> = &'r dyn Fn(&str) -> Option<String>;

const RELAX_NG: &str = "http://relaxng.org/ns/structure/1.0";

/// An element of a schema.
#[derive(Debug)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
    /// The name space of the elements that it, or what is in it, describes.
    space: String,
    children: Vec<Rc<Self>>,
    text: String,
}

impl Tag {
    /// `node`, within something that describes elements of the name space `space`. Comments of other vocabularies are left
    /// out.
    fn of(node: Node<'_>, space: &str) -> Rc<Self> {
        let space = node.attribute("ns").unwrap_or(space);
        let ours = |child: &Node<'_>| {
            let (prefix, _) = child.name().split_once(':').unwrap_or_default();
            child.namespace(prefix) == Some(RELAX_NG)
        };
        Rc::new(Self {
            name: node.name().rsplit(':').next().unwrap_or_default().to_owned(),
            attributes: node
                .attributes()
                .iter()
                .map(|a| (a.name.to_owned(), a.value.clone().into_owned()))
                .collect(),
            space: space.to_owned(),
            children: node.children().filter(ours).map(|child| Self::of(child, space)).collect(),
            text: node.text().into_owned(),
        })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| format!("<{}> has no '{name}'", self.name))
    }
}

/// What a grammar calls by one name.
#[derive(Debug, Default)]
struct Definition {
    /// Whether several are in any order beside each other, or else one of them is there.
    interleave: bool,
    bodies: Vec<Rc<Tag>>,
}

/// The names of one grammar. What `<start>` says is called nothing.
type Scope = HashMap<String, Definition>;

struct Compiler<'r> {
    read: Reader<'r>,
    scopes: Vec<Scope>,
    patterns: Patterns<'static>,
    elements: Vec<ElementPattern>,
    data: Vec<Data>,
    /// Definitions that are done, by scope and name; `None` while they are being made.
    done: HashMap<(usize, String), Option<Id>>,
    /// Elements whose content is still to be made.
    open: Vec<(usize, usize, Rc<Tag>)>,
}

pub(super) fn grammar(file: &str, read: Reader<'_>) -> Result<Grammar> {
    let mut compiler = Compiler {
        read,
        scopes: Vec::new(),
        patterns: Patterns::new(),
        elements: Vec::new(),
        data: Vec::new(),
        done: HashMap::new(),
        open: Vec::new(),
    };
    let tag = compiler.load(file)?;
    let start = compiler.nested(&tag)?;
    while let Some((element, scope, tag)) = compiler.open.pop() {
        compiler.elements[element].content = compiler.all(scope, &tag)?;
    }
    let Compiler { patterns, elements, data, .. } = compiler;
    Ok(Grammar { patterns, elements, data, start })
}

impl Compiler<'_> {
    fn load(&self, file: &str) -> Result<Rc<Tag>> {
        let text = (self.read)(file).ok_or_else(|| format!("{file} cannot be read"))?;
        let document = Document::parse(&text, ErrorDomain::XML).map_err(|error| error.message)?;
        Ok(Tag::of(document.root(), ""))
    }

    /// A grammar with names of its own.
    fn nested(&mut self, tag: &Tag) -> Result<Id> {
        let mut scope = Scope::new();
        self.define(&mut scope, tag)?;
        self.scopes.push(scope);
        self.named(self.scopes.len() - 1, "")
    }

    /// Takes the definitions in a grammar, or in a part of one.
    fn define(&self, scope: &mut Scope, tag: &Tag) -> Result<()> {
        for child in &tag.children {
            match child.name.as_str() {
                "div" => self.define(scope, child)?,
                "start" => add(scope, "", child),
                "define" => add(scope, child.need("name")?, child),
                "include" => {
                    let mut included = Scope::new();
                    self.define(&mut included, &*self.load(child.need("href")?)?)?;
                    let mut own = Scope::new();
                    self.define(&mut own, child)?;
                    included.extend(own);
                    for (name, definition) in included {
                        let known = scope.entry(name).or_default();
                        known.interleave |= definition.interleave;
                        known.bodies.extend(definition.bodies);
                    }
                }
                other => return Err(format!("<{other}> in a grammar is not understood")),
            }
        }
        Ok(())
    }

    /// What a grammar calls `name`.
    fn named(&mut self, scope: usize, name: &str) -> Result<Id> {
        let key = (scope, name.to_owned());
        match self.done.get(&key) {
            Some(Some(id)) => return Ok(*id),
            Some(None) => return Err(format!("'{name}' is made of itself")),
            None => {}
        }
        self.done.insert(key.clone(), None);
        let definition = self.scopes[scope].get(name).ok_or_else(|| format!("'{name}' is not defined"))?;
        let (interleave, bodies) = (definition.interleave, definition.bodies.clone());
        let mut whole = if interleave { EMPTY } else { NOT_ALLOWED };
        for body in bodies {
            let part = self.all(scope, &body)?;
            whole = if interleave {
                self.patterns.interleave(whole, part)
            } else {
                self.patterns.choice(whole, part)
            };
        }
        self.done.insert(key, Some(whole));
        Ok(whole)
    }

    /// All patterns in `tag`, one behind the other.
    fn all(&mut self, scope: usize, tag: &Tag) -> Result<Id> {
        self.fold(scope, tag, EMPTY, Patterns::group)
    }

    fn fold(
        &mut self,
        scope: usize,
        tag: &Tag,
        first: Id,
        join: fn(&mut Patterns<'static>, Id, Id) -> Id,
    ) -> Result<Id> {
        tag.children.iter().try_fold(first, |whole, child| {
            let part = self.pattern(scope, child)?;
            Ok(join(&mut self.patterns, whole, part))
        })
    }

    fn pattern(&mut self, scope: usize, tag: &Rc<Tag>) -> Result<Id> {
        Ok(match tag.name.as_str() {
            "empty" => EMPTY,
            "notAllowed" => NOT_ALLOWED,
            "text" => TEXT,
            "ref" => self.named(scope, tag.need("name")?)?,
            "grammar" => self.nested(tag)?,
            "group" => self.all(scope, tag)?,
            "interleave" => self.fold(scope, tag, EMPTY, Patterns::interleave)?,
            "choice" => self.fold(scope, tag, NOT_ALLOWED, Patterns::choice)?,
            "optional" => {
                let inner = self.all(scope, tag)?;
                self.patterns.optional(inner)
            }
            "oneOrMore" => {
                let inner = self.all(scope, tag)?;
                self.patterns.one_or_more(inner)
            }
            "zeroOrMore" => {
                let inner = self.all(scope, tag)?;
                let some = self.patterns.one_or_more(inner);
                self.patterns.optional(some)
            }
            "element" => {
                let (name, content) = named(tag, &tag.space)?;
                self.elements.push(ElementPattern { name, content: NOT_ALLOWED });
                self.open.push((self.elements.len() - 1, scope, content));
                self.patterns.number(Pattern::Element(self.elements.len() - 1))
            }
            "attribute" => {
                let (name, content) = named(tag, tag.get("ns").unwrap_or_default())?;
                let content = if content.children.is_empty() { TEXT } else { self.all(scope, &content)? };
                self.patterns.number(Pattern::Attribute(name, content))
            }
            "value" => self.patterns.number(Pattern::Value(tag.text.trim().to_owned())),
            "data" => self.data(scope, tag)?,
            other => return Err(format!("<{other}> is not understood")),
        })
    }

    fn data(&mut self, scope: usize, tag: &Tag) -> Result<Id> {
        let of = |name: &'static str| tag.children.iter().filter(move |child| child.name == name);
        let except = match of("except").next() {
            Some(except) => self.fold(scope, except, NOT_ALLOWED, Patterns::choice)?,
            None => NOT_ALLOWED,
        };
        let params = of("param").map(|param| (param.get("name").unwrap_or_default(), param.text.as_str()));
        self.data.push(Data::new(tag.need("type")?, params, except)?);
        Ok(self.patterns.number(Pattern::Data(self.data.len() - 1)))
    }
}

fn add(scope: &mut Scope, name: &str, body: &Rc<Tag>) {
    let definition = scope.entry(name.to_owned()).or_default();
    definition.interleave |= body.get("combine") == Some("interleave");
    definition.bodies.push(Rc::clone(body));
}

/// The name of an element or attribute, and what else `tag` says.
fn named(tag: &Rc<Tag>, space: &str) -> Result<(Name, Rc<Tag>)> {
    if let Some(local) = tag.get("name") {
        return Ok((Name::Of { space: space.to_owned(), local: local.to_owned() }, Rc::clone(tag)));
    }
    let Some((first, rest)) = tag.children.split_first().filter(|(first, _)| first.name == "anyName") else {
        return Err(format!("a name of <{}> is not understood", tag.name));
    };
    if !first.children.is_empty() {
        return Err("exceptions from names are not understood".to_owned());
    }
    let content = Tag {
        name: tag.name.clone(),
        attributes: tag.attributes.clone(),
        space: tag.space.clone(),
        children: rest.to_vec(),
        text: String::new(),
    };
    Ok((Name::Any, Rc::new(content)))
}
