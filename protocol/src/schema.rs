//! The shapes of messages as data, and with feature `json` any message as JSON and back.
//!
//! Lists of `char` are written as text where they are ASCII. Strings that are not UTF-8 and opaque bytes are written as `{"hex": "…"}`; a union as `{"case": n, "name": value}`.

/// A struct: its fields in wire order.
#[derive(Debug)]
pub struct StructDef {
    /// Its name in the definition file.
    pub name: &'static str,
    /// Field names and types.
    pub fields: &'static [(&'static str, Ty)],
}

/// An enum: names and values.
#[derive(Debug)]
pub struct EnumDef {
    /// Its name in the definition file.
    pub name: &'static str,
    /// Members.
    pub members: &'static [(&'static str, i32)],
}

/// A union: for each case what follows.
#[derive(Debug)]
pub struct UnionDef {
    /// Its name in the definition file.
    pub name: &'static str,
    /// Cases; `None` is void.
    pub arms: &'static [(i32, Option<(&'static str, Ty)>)],
}

/// A type as used in a field.
#[derive(Debug)]
pub enum Ty {
    /// `char`
    Char,
    /// `unsigned char`
    Uchar,
    /// `short`
    Short,
    /// `unsigned short`
    Ushort,
    /// `int`
    I32,
    /// `unsigned int`
    U32,
    /// `hyper`
    I64,
    /// `unsigned hyper`
    U64,
    /// `double`
    F64,
    /// `bool`
    Bool,
    /// `string<limit>`
    String(u32),
    /// `opaque<limit>`
    Opaque(u32),
    /// `opaque[n]`
    FixedOpaque(u32),
    /// An enum.
    Enum(&'static EnumDef),
    /// A struct.
    Struct(&'static StructDef),
    /// A union.
    Union(&'static UnionDef),
    /// `T *`
    Optional(&'static Ty),
    /// `T name[n]`
    FixedArray(&'static Ty, u32),
    /// `T name<limit>`
    Array(&'static Ty, u32),
}

#[cfg(feature = "json")]
pub use json::{JsonError, from_json, to_json};

#[cfg(feature = "json")]
mod json {
    use serde_json::{Map, Value, json};
    use std::fmt;

    use super::{StructDef, Ty, UnionDef};
    use crate::codec::{self, DecodeError, EncodeError, Reader};

    /// Why JSON is not a message: the path of the value, and what was expected.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct JsonError {
        /// `args.dom.uuid`
        pub path: String,
        /// What stands in the way.
        pub expected: String,
    }

    impl fmt::Display for JsonError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}: expected {}", self.path, self.expected)
        }
    }

    impl std::error::Error for JsonError {}

    /// Reads a whole message.
    pub fn to_json(of: &StructDef, payload: &[u8]) -> Result<Value, DecodeError> {
        let mut reader = Reader::new(payload);
        let value = read_struct(of, &mut reader)?;
        reader.finish()?;
        Ok(value)
    }

    /// Writes a message. Fields that are left out become 0, empty or absent.
    pub fn from_json(of: &StructDef, value: &Value) -> Result<Vec<u8>, JsonError> {
        let mut out = Vec::new();
        write_struct(of, value, "args", &mut out)?;
        Ok(out)
    }

    fn read_struct(of: &StructDef, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
        let mut object = Map::new();
        for (name, ty) in of.fields {
            object.insert((*name).to_owned(), read(ty, reader)?);
        }
        Ok(Value::Object(object))
    }

    fn read(ty: &Ty, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
        Ok(match ty {
            Ty::Char => json!(reader.char()?),
            Ty::Uchar => json!(reader.uchar()?),
            Ty::Short => json!(reader.short()?),
            Ty::Ushort => json!(reader.ushort()?),
            Ty::I32 => json!(reader.i32()?),
            Ty::U32 => json!(reader.u32()?),
            Ty::I64 => json!(reader.i64()?),
            Ty::U64 => json!(reader.u64()?),
            Ty::F64 => json!(reader.f64()?),
            Ty::Bool => json!(reader.bool()?),
            Ty::String(limit) => {
                let bytes = reader.str(*limit)?.as_bytes();
                match std::str::from_utf8(bytes) {
                    Ok(text) => json!(text),
                    Err(_) => json!({ "hex": hex(bytes) }),
                }
            }
            Ty::Opaque(limit) => json!({ "hex": hex(reader.opaque_ref(*limit)?) }),
            Ty::FixedOpaque(16) => json!(uuid(reader.fixed()?)),
            Ty::FixedOpaque(len) => {
                let bytes = (0..len.div_ceil(4)).map(|_| reader.fixed::<4>());
                let bytes = bytes.collect::<Result<Vec<_>, _>>()?.concat();
                json!({ "hex": hex(bytes.get(..*len as usize).unwrap_or(&bytes)) })
            }
            Ty::Enum(of) => {
                let value = reader.i32()?;
                match of.members.iter().find(|(_, number)| *number == value) {
                    Some((name, _)) => json!(name),
                    None => json!(value),
                }
            }
            Ty::Struct(of) => read_struct(of, reader)?,
            Ty::Union(of) => read_union(of, reader)?,
            Ty::Optional(of) => reader.optional(|reader| read(of, reader))?.unwrap_or(Value::Null),
            Ty::FixedArray(of, len) => (0..*len).map(|_| read(of, reader)).collect::<Result<_, _>>()?,
            // Lists of characters are text to everybody but XDR.
            Ty::Array(Ty::Char, limit) => characters(reader.list(*limit, 4, Reader::char)?),
            Ty::Array(of, limit) => Value::Array(reader.list(*limit, 4, |reader| read(of, reader))?),
        })
    }

    fn characters(bytes: Vec<u8>) -> Value {
        if bytes.is_ascii() { json!(String::from_utf8_lossy(&bytes)) } else { json!(bytes) }
    }

    fn read_union(of: &UnionDef, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
        let case = reader.i32()?;
        let (_, arm) =
            of.arms.iter().find(|(number, _)| *number == case).ok_or(DecodeError::Discriminant(case))?;
        let mut object = Map::from_iter([("case".to_owned(), json!(case))]);
        if let Some((name, ty)) = arm {
            object.insert((*name).to_owned(), read(ty, reader)?);
        }
        Ok(Value::Object(object))
    }

    fn expected<T>(path: &str, what: impl Into<String>) -> Result<T, JsonError> {
        Err(JsonError { path: path.to_owned(), expected: what.into() })
    }

    fn write_struct(of: &StructDef, value: &Value, path: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let object = match value {
            Value::Object(object) => object,
            Value::Null => &Map::new(),
            _ => return expected(path, format!("an object with the fields of {}", of.name)),
        };
        if let Some(unknown) = object.keys().find(|key| !of.fields.iter().any(|(name, _)| name == *key)) {
            let known: Vec<_> = of.fields.iter().map(|(name, _)| *name).collect();
            return expected(&format!("{path}.{unknown}"), format!("one of: {}", known.join(", ")));
        }
        for (name, ty) in of.fields {
            write(ty, object.get(*name).unwrap_or(&Value::Null), &format!("{path}.{name}"), out)?;
        }
        Ok(())
    }

    fn integer<T: TryFrom<i128>>(value: &Value, path: &str, what: &str) -> Result<T, JsonError> {
        let number = match value {
            Value::Null => Some(0),
            Value::Number(number) => {
                number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
            }
            _ => None,
        };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => expected(path, what),
        }
    }

    fn write(ty: &Ty, value: &Value, path: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
        match ty {
            Ty::Char => codec::put_char(out, integer(value, path, "a number of 0 to 255")?),
            Ty::Uchar => codec::put_uchar(out, integer(value, path, "a number of 0 to 255")?),
            Ty::Short => codec::put_short(out, integer(value, path, "a 16-bit number")?),
            Ty::Ushort => codec::put_ushort(out, integer(value, path, "an unsigned 16-bit number")?),
            Ty::I32 => codec::put_i32(out, integer(value, path, "a 32-bit number")?),
            Ty::U32 => codec::put_u32(out, integer(value, path, "an unsigned 32-bit number")?),
            Ty::I64 => codec::put_i64(out, integer(value, path, "a 64-bit number")?),
            Ty::U64 => codec::put_u64(out, integer(value, path, "an unsigned 64-bit number")?),
            Ty::F64 => match (value, value.as_f64()) {
                (Value::Null, _) => codec::put_f64(out, 0.0),
                (_, Some(number)) => codec::put_f64(out, number),
                _ => return expected(path, "a number"),
            },
            Ty::Bool => match value {
                Value::Null => codec::put_bool(out, false),
                Value::Bool(value) => codec::put_bool(out, *value),
                _ => return expected(path, "true or false"),
            },
            Ty::String(limit) => put(out, &bytes(value, path, "a string")?, *limit, path)?,
            Ty::Opaque(limit) => put(out, &bytes(value, path, "a string or {\"hex\": …}")?, *limit, path)?,
            Ty::FixedOpaque(len) => codec::put_fixed(out, &fixed(value, *len as usize, path)?),
            Ty::Enum(of) => {
                let named =
                    value.as_str().and_then(|name| of.members.iter().find(|(member, _)| *member == name));
                let number = match named {
                    Some((_, number)) => *number,
                    None => integer(value, path, &format!("a member of {} or its number", of.name))?,
                };
                codec::put_i32(out, number);
            }
            Ty::Struct(of) => write_struct(of, value, path, out)?,
            Ty::Union(of) => write_union(of, value, path, out)?,
            Ty::Optional(of) => {
                codec::put_bool(out, !value.is_null());
                if !value.is_null() {
                    write(of, value, path, out)?;
                }
            }
            Ty::FixedArray(of, len) => {
                let items = list(value, path)?;
                if items.len() != *len as usize {
                    return expected(path, format!("{len} items"));
                }
                for (index, item) in items.iter().enumerate() {
                    write(of, item, &format!("{path}[{index}]"), out)?;
                }
            }
            Ty::Array(Ty::Char, limit) if value.is_string() => {
                let text = value.as_str().unwrap_or_default();
                too_long(codec::put_count(out, text.len(), *limit), path)?;
                text.bytes().for_each(|byte| codec::put_char(out, byte));
            }
            Ty::Array(of, limit) => {
                let items = list(value, path)?;
                too_long(codec::put_count(out, items.len(), *limit), path)?;
                for (index, item) in items.iter().enumerate() {
                    write(of, item, &format!("{path}[{index}]"), out)?;
                }
            }
        }
        Ok(())
    }

    fn write_union(of: &UnionDef, value: &Value, path: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let arm = value.as_object().and_then(|object| {
            let fits = |arm: &&(i32, Option<(&str, Ty)>)| match (object.get("case"), &arm.1) {
                (Some(case), _) => case.as_i64() == Some(i64::from(arm.0)),
                (None, Some((name, _))) => object.contains_key(*name),
                (None, None) => false,
            };
            of.arms.iter().find(fits)
        });
        let Some((case, arm)) = arm else {
            let names: Vec<_> =
                of.arms.iter().filter_map(|(_, arm)| arm.as_ref().map(|(name, _)| *name)).collect();
            return expected(path, format!("an object with one of: {}", names.join(", ")));
        };
        codec::put_i32(out, *case);
        match arm {
            Some((name, ty)) => write(ty, &value[*name], &format!("{path}.{name}"), out),
            None => Ok(()),
        }
    }

    fn list<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], JsonError> {
        match value {
            Value::Null => Ok(&[]),
            Value::Array(items) => Ok(items),
            _ => expected(path, "a list"),
        }
    }

    fn bytes(value: &Value, path: &str, what: &str) -> Result<Vec<u8>, JsonError> {
        match value {
            Value::Null => Ok(Vec::new()),
            Value::String(text) => Ok(text.as_bytes().to_vec()),
            Value::Object(_) => match value["hex"].as_str().and_then(unhex) {
                Some(bytes) => Ok(bytes),
                None => expected(path, what),
            },
            _ => expected(path, what),
        }
    }

    /// Fixed bytes are written in hex; a UUID may have its dashes.
    fn fixed(value: &Value, len: usize, path: &str) -> Result<Vec<u8>, JsonError> {
        let text = match value {
            Value::Null => return Ok(vec![0; len]),
            Value::String(text) => text.replace('-', ""),
            _ => value["hex"].as_str().unwrap_or_default().to_owned(),
        };
        match unhex(&text) {
            Some(bytes) if bytes.len() == len => Ok(bytes),
            _ => expected(path, format!("{len} bytes in hex")),
        }
    }

    fn put(out: &mut Vec<u8>, bytes: &[u8], limit: u32, path: &str) -> Result<(), JsonError> {
        too_long(codec::put_opaque(out, bytes, limit), path)
    }

    fn too_long(put: Result<(), EncodeError>, path: &str) -> Result<(), JsonError> {
        put.or_else(|error| expected(path, format!("at most {}", error.limit)))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> Option<Vec<u8>> {
        let digits = text.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
        (digits.len() % 2 == 0).then(|| digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
    }

    fn uuid(bytes: [u8; 16]) -> String {
        let text = hex(&bytes);
        [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
    }
}
