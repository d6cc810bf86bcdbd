//! Arguments of a procedure from the command line: JSON, or `field=value`, with names in the place of objects.

use std::io::Read;

use serde_json::{Map, Value, json};
use virtwire_client::Connection;
use virtwire_protocol::remote::{self, Procedure};
use virtwire_protocol::schema::{self, StructDef, Ty};

use crate::failure::Failure;
use crate::shape::shape;

/// Reads what was given: one JSON object (`-` is standard input), or fields. The value of a field is JSON if it can be
/// read so, otherwise text; `field=@file` takes a file's text.
pub(crate) fn parse(given: &[String], of: Option<&StructDef>) -> Result<Value, Failure> {
    let mut object = Map::new();
    for argument in given {
        let text = match argument.as_str() {
            "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(Failure::file("standard input"))?;
                text
            }
            text => text.to_owned(),
        };
        if text.trim_start().starts_with('{') {
            let value: Map<String, Value> = serde_json::from_str(&text)
                .map_err(|error| Failure::Usage(format!("the arguments are not JSON: {error}")))?;
            object.extend(value);
        } else if let Some((field, value)) = text.split_once('=') {
            let ty = of.and_then(|of| of.fields.iter().find(|(name, _)| *name == field)).map(|(_, ty)| ty);
            object.insert(field.to_owned(), self::value(value, ty)?);
        } else {
            return Err(Failure::Usage(format!("'{text}' is neither a JSON object nor field=value")));
        }
    }
    Ok(Value::Object(object))
}

/// A field's value: text for a field that is text, otherwise JSON where it is JSON.
fn value(text: &str, ty: Option<&Ty>) -> Result<Value, Failure> {
    if let Some(path) = text.strip_prefix('@') {
        return Ok(json!(std::fs::read_to_string(path).map_err(Failure::file(path))?));
    }
    let is_text = |ty: &Ty| matches!(ty, Ty::String(_) | Ty::FixedOpaque(_));
    match ty {
        Some(ty) if is_text(ty) || matches!(ty, Ty::Optional(of) if is_text(of) && text != "null") => {
            Ok(json!(text))
        }
        _ => Ok(serde_json::from_str(text).unwrap_or_else(|_| json!(text))),
    }
}

/// The arguments in XDR, or what they should look like.
pub(crate) fn encode(of: Option<&StructDef>, value: &Value, procedure: &str) -> Result<Vec<u8>, Failure> {
    match of {
        Some(of) => schema::from_json(of, value)
            .map_err(|error| Failure::Usage(format!("{error}\n\n{procedure} takes\n{}", shape(of)))),
        None if value.as_object().is_some_and(Map::is_empty) => Ok(Vec::new()),
        None => Err(Failure::Usage(format!("{procedure} takes no arguments"))),
    }
}

/// Objects that can be given by name: their struct, and the procedure that finds them.
const LOOKUPS: &[(&str, Procedure)] = &[
    ("remote_nonnull_domain", Procedure::DOMAIN_LOOKUP_BY_NAME),
    ("remote_nonnull_interface", Procedure::INTERFACE_LOOKUP_BY_NAME),
    ("remote_nonnull_network", Procedure::NETWORK_LOOKUP_BY_NAME),
    ("remote_nonnull_node_device", Procedure::NODE_DEVICE_LOOKUP_BY_NAME),
    ("remote_nonnull_nwfilter", Procedure::NWFILTER_LOOKUP_BY_NAME),
    ("remote_nonnull_storage_pool", Procedure::STORAGE_POOL_LOOKUP_BY_NAME),
];

/// Fields that were given a name where an object belongs: field, procedure that finds it, name.
pub(crate) fn lookups(
    of: Option<&'static StructDef>,
    args: &Value,
) -> Vec<(&'static str, Procedure, String)> {
    let fields = of.map_or(&[][..], |of| of.fields).iter();
    let lookup = |(field, ty): &(&'static str, Ty)| {
        let (Ty::Struct(wanted) | Ty::Optional(Ty::Struct(wanted))) = ty else { return None };
        let (_, lookup) = LOOKUPS.iter().find(|(object, _)| *object == wanted.name)?;
        Some((*field, *lookup, args[*field].as_str()?.to_owned()))
    };
    fields.filter_map(lookup).collect()
}

/// Puts the whole objects where only names were given.
pub(crate) async fn look_up(
    connection: &Connection,
    lookups: &[(&'static str, Procedure, String)],
    args: &mut Value,
) -> Result<(), Failure> {
    for (field, lookup, name) in lookups {
        args[*field] = by_name(connection, *lookup, name).await?;
    }
    Ok(())
}

/// The object that a lookup finds: the only field of its result.
async fn by_name(connection: &Connection, lookup: Procedure, name: &str) -> Result<Value, Failure> {
    let program = &remote::PROGRAM;
    let info = program.procedure(lookup.0);
    let args = encode(info.and_then(|info| info.args), &json!({ "name": name }), "the lookup")?;
    let reply = connection.call_raw(program, lookup.0, &args, Vec::new()).await?;
    let ret = info.and_then(|info| info.ret).map(|ret| schema::to_json(ret, &reply.payload));
    let found = ret.transpose().map_err(virtwire_client::Error::from)?.unwrap_or_default();
    let only = found.as_object().and_then(|object| object.values().next());
    Ok(only.cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procedures::find;

    fn parsed(procedure: &str, given: &[&str]) -> Value {
        let given: Vec<_> = given.iter().map(|text| (*text).to_owned()).collect();
        parse(&given, find(procedure).unwrap().info.args).unwrap()
    }

    #[test]
    fn json_and_fields_mix() {
        assert_eq!(
            parsed("domain-set-memory", &[r#"{"dom": "a"}"#, "memory=7"]),
            json!({"dom": "a", "memory": 7})
        );
        // A name of digits is text where the field is text.
        assert_eq!(parsed("domain-lookup-by-name", &["name=12"]), json!({"name": "12"}));
        assert_eq!(parsed("connect-open", &["name=null", "flags=1"]), json!({"name": null, "flags": 1}));
        assert_eq!(parsed("domain-suspend", &["dom=test"]), json!({"dom": "test"}));
    }

    #[test]
    fn names_are_looked_up_where_objects_belong() {
        let of = |name| find(name).unwrap().info.args;
        let expected = vec![("dom", Procedure::DOMAIN_LOOKUP_BY_NAME, "a".to_owned())];
        assert_eq!(lookups(of("domain-set-memory"), &json!({"dom": "a", "memory": "b"})), expected);
        // An optional object, and one that was given whole.
        let register = of("connect-domain-event-callback-register-any");
        assert_eq!(lookups(register, &json!({"dom": "a"})), expected);
        assert_eq!(lookups(register, &json!({"dom": {"name": "a"}})), []);
    }

    #[test]
    fn what_does_not_fit_shows_the_shape() {
        let of = find("domain-set-memory").unwrap().info.args;
        let error = encode(of, &json!({"dom": {}, "memory": "much"}), "domain_set_memory").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("error: args.memory: expected an unsigned 64-bit number\n"), "{text}");
        assert!(text.contains("domain_set_memory takes\n{\n  \"dom\": {"), "{text}");
        assert!(encode(None, &json!({"x": 1}), "connect_close").is_err());
        assert_eq!(encode(None, &json!({}), "connect_close").unwrap(), Vec::<u8>::new());
    }
}
