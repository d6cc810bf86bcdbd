//! The shape of a message, as JSON with types in the place of values.

use std::fmt::Write as _;

use virtwire_protocol::schema::{StructDef, Ty};

/// A struct, its fields on lines of their own.
pub(crate) fn shape(of: &StructDef) -> String {
    let mut out = String::new();
    object(&mut out, of.fields, 0);
    out
}

fn object(out: &mut String, fields: &[(&str, Ty)], depth: usize) {
    out.push_str("{\n");
    for (at, (name, ty)) in fields.iter().enumerate() {
        let _ = write!(out, "{:indent$}\"{name}\": ", "", indent = 2 * depth + 2);
        value(out, ty, depth + 1);
        out.push_str(if at + 1 < fields.len() { ",\n" } else { "\n" });
    }
    let _ = write!(out, "{:indent$}}}", "", indent = 2 * depth);
}

fn value(out: &mut String, ty: &Ty, depth: usize) {
    match ty {
        Ty::Char | Ty::Uchar => out.push_str("byte"),
        Ty::Short => out.push_str("short"),
        Ty::Ushort => out.push_str("unsigned short"),
        Ty::I32 => out.push_str("int"),
        Ty::U32 => out.push_str("unsigned int"),
        Ty::I64 => out.push_str("hyper"),
        Ty::U64 => out.push_str("unsigned hyper"),
        Ty::F64 => out.push_str("double"),
        Ty::Bool => out.push_str("bool"),
        Ty::String(_) => out.push_str("string"),
        Ty::Opaque(limit) => {
            let _ = write!(out, "bytes (at most {limit}, {{\"hex\": …}} or text)");
        }
        Ty::FixedOpaque(16) => out.push_str("uuid"),
        Ty::FixedOpaque(len) => {
            let _ = write!(out, "{len} bytes in hex");
        }
        Ty::Enum(of) => {
            let names: Vec<_> = of.members.iter().map(|(name, _)| *name).collect();
            let _ = write!(out, "one of {}", names.join(", "));
        }
        Ty::Struct(of) => object(out, of.fields, depth),
        Ty::Union(of) => {
            out.push_str("one of\n");
            for (_, arm) in of.arms {
                if let Some((name, ty)) = arm {
                    let _ = write!(out, "{:indent$}{{\"{name}\": ", "", indent = 2 * depth + 2);
                    value(out, ty, depth + 1);
                    out.push_str("}\n");
                }
            }
            let _ = write!(out, "{:indent$}", "", indent = 2 * depth);
        }
        Ty::Optional(of) => {
            value(out, of, depth);
            out.push_str(" or null");
        }
        Ty::FixedArray(of, len) => {
            let _ = write!(out, "[{len} × ");
            value(out, of, depth);
            out.push(']');
        }
        Ty::Array(of, limit) => {
            out.push('[');
            value(out, of, depth);
            let _ = write!(out, ", … at most {limit}]");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procedures::find;

    #[test]
    fn a_struct_in_a_struct() {
        let args = find("domain-set-memory").unwrap().info.args.unwrap();
        let expected = r#"{
  "dom": {
    "name": string,
    "uuid": uuid,
    "id": int
  },
  "memory": unsigned hyper
}"#;
        assert_eq!(shape(args), expected);
    }

    #[test]
    fn lists_optionals_and_unions() {
        let args = find("domain-set-block-io-tune").unwrap().info.args.unwrap();
        let shape = shape(args);
        for part in ["\"params\": [{", "{\"i\": int}", "{\"s\": string}", "… at most 32]"] {
            assert!(shape.contains(part), "{part} is missing in\n{shape}");
        }
        let args = find("connect_open").unwrap().info.args.unwrap();
        assert!(super::shape(args).contains("\"name\": string or null"));
    }
}
