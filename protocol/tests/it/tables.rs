//! The definition files say exactly what the fact tables say, and nothing else.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use virtwire_codegen::ast::{Base, Declaration, Definition, Scalar, Shape, Value as Number};
use virtwire_codegen::model::{Field, Limit, Module, Type, TypeKind};
use virtwire_codegen::{Facts, Model, Source, lex, model, parse};

use crate::shared::{json, list, root, shared, string, text};

/// Definition file, fact table. Files that use another's types come after it.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("net", "virnet"),
    ("remote", "remote"),
    ("qemu", "qemu"),
    ("lxc", "lxc"),
    ("admin", "admin"),
    ("keepalive", "keepalive"),
    ("lock", "lock"),
    ("log", "log"),
];

/// The model of all our definition files.
pub(crate) fn our_model() -> Model {
    let x = root().join("protocol/x");
    let facts = Facts::parse("facts.txt", &text(&x.join("facts.txt"))).unwrap_or_else(|e| panic!("{e}"));
    let files: Vec<_> =
        FILES.iter().map(|(stem, _)| (format!("{stem}.x"), text(&x.join(format!("{stem}.x"))))).collect();
    let sources: Vec<_> = files.iter().map(|(file, text)| Source { file, text }).collect();
    model(&sources, &facts).unwrap_or_else(|e| panic!("{e}"))
}

/// Every table with the module that must equal it.
fn each(check: impl Fn(&Module, &Table)) {
    let Some(folder) = shared("wire") else { return };
    let model = our_model();
    let load = |name: &str| json(&folder.join(format!("{name}.json")));
    for (stem, name) in FILES {
        let mut table = Table { json: load(name), typedefs: HashMap::new() };
        let foreign =
            list(&table.json, "uses_types_of").iter().filter_map(Value::as_str).map(load).collect::<Vec<_>>();
        for row in foreign.iter().chain([&table.json]).flat_map(|table| list(table, "typedefs")) {
            table.typedefs.insert(row["name"].to_string(), row.clone());
        }
        let module = model.module(stem).unwrap_or_else(|| panic!("no module {stem}"));
        check(module, &table);
    }
}

struct Table {
    json: Value,
    typedefs: HashMap<String, Value>,
}

impl Table {
    fn rows(&self, key: &str) -> &[Value] {
        list(&self.json, key)
    }

    /// The wire shape of a row in the words of [`shape`].
    fn shape(&self, row: &Value) -> String {
        let limit = || match &row["limit_name"] {
            Value::String(name) => format!("{name}={}", row["limit"]),
            _ => row["limit"].to_string(),
        };
        let of = || match self.typedefs.get(&row["of"].to_string()) {
            Some(typedef) => self.shape(typedef),
            None => row["of"].as_str().unwrap_or_default().to_owned(),
        };
        match row["kind"].as_str() {
            Some(kind @ ("string" | "opaque")) => format!("{kind}<{}>", limit()),
            Some("fixed") => format!("{}[{}]", of(), row["limit"]),
            Some("array") => format!("({})<{}>", of(), limit()),
            Some("optional") => format!("({})*", of()),
            _ => row["type"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// A type of the model in one line: base, then `[length]`, `<limit>` or `*`.
pub(crate) fn shape(ty: &Type) -> String {
    let limit = |limit: &Limit| match &limit.name {
        Some(name) => format!("{name}={}", limit.value),
        None => limit.value.to_string(),
    };
    match ty {
        Type::Scalar(scalar) => scalar_name(*scalar).to_owned(),
        Type::String { limit: l } => format!("string<{}>", limit(l)),
        Type::Opaque { limit: l } => format!("opaque<{}>", limit(l)),
        Type::FixedOpaque { len } => format!("opaque[{len}]"),
        Type::Named(name) => name.clone(),
        Type::Optional(of) => format!("({})*", shape(of)),
        Type::FixedArray { of, len } => format!("{}[{len}]", shape(of)),
        Type::Array { of, limit: l } => format!("({})<{}>", shape(of), limit(l)),
    }
}

fn scalar_name(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Char { signed: true } => "char",
        Scalar::Char { signed: false } => "unsigned char",
        Scalar::Short { signed: true } => "short",
        Scalar::Short { signed: false } => "unsigned short",
        Scalar::Int { signed: true } => "int",
        Scalar::Int { signed: false } => "unsigned int",
        Scalar::Hyper { signed: true } => "hyper",
        Scalar::Hyper { signed: false } => "unsigned hyper",
        Scalar::Double => "double",
        Scalar::Bool => "bool",
    }
}

/// Two sets of rows by name: the same names, each with the same content.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: BTreeMap<String, T>, theirs: BTreeMap<String, T>) {
    for (name, row) in &theirs {
        assert_eq!(ours.get(name), Some(row), "{what} {name}: .x file (left), table (right)");
    }
    let more: Vec<_> = ours.keys().filter(|name| !theirs.contains_key(*name)).collect();
    assert!(more.is_empty(), "{what} that no table has: {more:?}");
}

fn by_name<T>(rows: &[Value], content: impl Fn(&Value) -> T) -> BTreeMap<String, T> {
    rows.iter().map(|row| (string(row, "name").unwrap_or_default(), content(row))).collect()
}

#[test]
fn constants_and_enums() {
    each(|module, table| {
        let ours = module.consts.iter().map(|c| (c.name.clone(), Some(c.value))).collect();
        same("constant", ours, by_name(table.rows("consts"), |row| row["value"].as_i64()));
        let enums = module.types.iter().filter_map(|def| match &def.kind {
            TypeKind::Enum(members) => Some((
                def.xdr.clone(),
                members.iter().map(|(name, value)| json!({"name": name, "value": value})).collect(),
            )),
            _ => None,
        });
        same("enum", enums.collect(), by_name(table.rows("enums"), |row| list(row, "members").to_vec()));
    });
}

#[test]
fn types_down_to_the_last_field() {
    each(|module, table| {
        let field = |field: &Field| (field.xdr.clone(), shape(&field.ty));
        let row_field = |row: &Value| (string(row, "name").unwrap_or_default(), table.shape(row));
        let (mut aliases, mut structs, mut unions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for def in &module.types {
            let name = def.xdr.clone();
            match &def.kind {
                TypeKind::Alias(ty) => drop(aliases.insert(name, shape(ty))),
                TypeKind::Struct(fields) => {
                    drop(structs.insert(name, fields.iter().map(field).collect::<Vec<_>>()))
                }
                TypeKind::Union(union) => {
                    let arms = union.arms.iter().map(|arm| {
                        (Some(i64::from(arm.case)), arm.case_name.clone(), arm.field.as_ref().map(field))
                    });
                    let switch = (union.switch.clone(), scalar_name(union.switch_scalar).to_owned());
                    unions.insert(name, (switch, arms.collect::<Vec<_>>()));
                }
                TypeKind::Enum(_) => {}
            }
        }
        same("typedef", aliases, by_name(table.rows("typedefs"), |row| table.shape(row)));
        same(
            "struct",
            structs,
            by_name(table.rows("structs"), |row| list(row, "fields").iter().map(row_field).collect()),
        );
        let row_union = |row: &Value| {
            let arms = list(row, "arms").iter();
            let arms = arms.map(|arm| (arm["case"].as_i64(), string(arm, "case_name"), Some(row_field(arm))));
            let text = |key: &str| row["switch"][key].as_str().unwrap_or_default().to_owned();
            ((text("name"), text("type")), arms.collect())
        };
        same("union", unions, by_name(table.rows("unions"), row_union));
    });
}

/// What the model no longer tells: the declared type before typedefs are followed, and the comment behind.
#[test]
fn declarations_as_written() {
    each(|module, table| {
        let file = format!("{}.x", module.naming.module);
        let source = text(&root().join("protocol/x").join(&file));
        let tokens = lex::tokens(&file, &source).unwrap_or_else(|e| panic!("{e}"));
        let definitions = parse::specification(&tokens).unwrap_or_else(|e| panic!("{e}"));
        let structs = definitions.into_iter().filter_map(|definition| match definition {
            Definition::Struct { name, fields } => Some((name.text, fields.iter().map(written).collect())),
            _ => None,
        });
        let theirs = by_name(table.rows("structs"), |row| {
            list(row, "fields").iter().map(row_written).collect::<Vec<_>>()
        });
        same("struct", structs.collect(), theirs);
        for row in table.rows("structs") {
            let open = format!("struct {} {{", row["name"].as_str().unwrap_or_default());
            let line = source.lines().find(|line| line.starts_with(&open)).unwrap_or_default();
            let note = row["out_param_index"].as_u64().map(|index| format!(" /* insert@{index} */"));
            assert_eq!(line.strip_prefix(&open), Some(note.unwrap_or_default().as_str()), "{open}");
        }
    });
}

/// Name, declared type, limit or length where it is a name, and the comment.
type Written = (String, String, Option<String>, Option<String>);

fn written(declaration: &Declaration) -> Written {
    let ty = match &declaration.base {
        Base::Scalar(scalar) => scalar_name(*scalar),
        Base::Opaque => "opaque",
        Base::String => "string",
        Base::Named(name) => &name.text,
    };
    let limit = match &declaration.shape {
        Shape::Fixed(Number::Named(name)) | Shape::Variable(Some(Number::Named(name))) => {
            Some(name.text.clone())
        }
        _ => None,
    };
    // The tables do not know that two counts are passed by reference, nor the exact type of a cast.
    let note = declaration.note.as_deref().filter(|note| *note != "call-by-reference");
    let note = note.map(|note| if note.starts_with('(') { "cast" } else { note }.to_owned());
    (declaration.name.text.clone(), ty.to_owned(), limit, note)
}

fn row_written(row: &Value) -> Written {
    let (name, ty) = (string(row, "name").unwrap_or_default(), string(row, "type").unwrap_or_default());
    // Behind a typedef's name the limit is the typedef's.
    let own = match row["kind"].as_str() {
        Some("array") => true,
        Some("fixed" | "opaque") => row["type"] == row["of"] || ty == "opaque",
        _ => false,
    };
    let note = match (&row["out_param_index"], &row["out_count_index"], &row["byte_cast"]) {
        (Value::Null, _, Value::Bool(true)) => Some("cast".to_owned()),
        (Value::Null, ..) => None,
        (out, Value::Null, _) => Some(format!("insert@{out}")),
        (out, count, _) => Some(format!("alloc@{out}@unsigned int@{count}")),
    };
    (name, ty, if own { string(row, "limit_name") } else { None }, note)
}
