//! Arguments as JSON: plain ones for any procedure, and those that break its rules.

use serde_json::{Map, Value, json};
use virtwire_protocol::procedures::{Check, ProcedureInfo, Rule, When};
use virtwire_protocol::schema::Ty;

/// Arguments by name.
pub type Arguments = Map<String, Value>;

/// Plain arguments: the test hypervisor's guest, 1 for numbers, no flags, "x" for texts, one item in lists.
pub fn plain(info: &ProcedureInfo) -> Arguments {
    let fields = info.args.map(|args| args.fields).unwrap_or_default();
    fields.iter().map(|(name, ty)| ((*name).to_owned(), value(name, ty))).collect()
}

/// A plain value of a type.
pub fn value(name: &str, ty: &Ty) -> Value {
    match (name, ty) {
        ("flags", _) | (_, Ty::FixedOpaque(_)) => Value::Null,
        (_, Ty::Char | Ty::Uchar | Ty::Short | Ty::Ushort | Ty::I32 | Ty::U32 | Ty::I64 | Ty::U64) => {
            json!(1)
        }
        (_, Ty::F64) => json!(1.0),
        (_, Ty::Bool) => json!(true),
        (_, Ty::String(_) | Ty::Opaque(_)) => json!("x"),
        (_, Ty::Enum(of)) => json!(of.members.first().map_or(0, |(_, value)| *value)),
        (_, Ty::Struct(of)) if of.name == "remote_nonnull_domain" => {
            json!({"name": "test", "uuid": "6695eb01-f6a4-8304-79aa-97f2502e193f", "id": 1})
        }
        (_, Ty::Struct(of)) => {
            of.fields.iter().map(|(name, ty)| ((*name).to_owned(), value(name, ty))).collect()
        }
        (_, Ty::Union(of)) => match of.arms.first() {
            Some((case, Some((name, ty)))) => json!({"case": case, *name: value(name, ty)}),
            Some((case, None)) => json!({"case": case}),
            None => Value::Null,
        },
        (name, Ty::Optional(of)) => value(name, of),
        (_, Ty::FixedArray(of, count)) => (0..*count).map(|_| value("", of)).collect(),
        (_, Ty::Array(of, _)) => json!([value("", of)]),
    }
}

/// Plain arguments that break no rule of the procedure.
pub fn fine(info: &ProcedureInfo) -> Arguments {
    let mut arguments = plain(info);
    for check in info.checks.iter().filter(|check| check.rule == Rule::Null) {
        arguments.insert(check.field.to_owned(), Value::Null);
    }
    arguments
}

/// Changes arguments so that they break a rule.
pub fn break_rule(arguments: &mut Arguments, check: &Check) {
    let mut set = |field: &str, value: Value| arguments.insert(field.to_owned(), value);
    for when in check.when {
        match when {
            When::Is(field, values) => set(field, json!(values.first())),
            When::IsNot(field, values) if *field != check.field => {
                set(field, json!(values.iter().max().map(|value| value + 1)))
            }
            When::Present(field) => set(field, json!("x")),
            When::IsNot(..) | When::NoneOf(..) => None,
        };
    }
    let old = arguments.get(check.field).cloned().unwrap_or_default();
    let value = match (check.rule, &old) {
        (Rule::Positive | Rule::NonZero | Rule::NonNull, Value::Array(_)) => json!([]),
        (Rule::Positive | Rule::NonZero | Rule::NonNull, Value::Number(_)) => json!(0),
        (Rule::NonNull, _) => Value::Null,
        (Rule::Positive | Rule::NonZero, _) => json!(0),
        (Rule::NonNegative | Rule::Count | Rule::Unsigned, _) => json!(-2),
        (Rule::Null, _) => json!("x"),
        (Rule::NonEmpty, _) => json!(""),
        (Rule::OneLine, _) => json!("a\nb"),
        (Rule::Is(value) | Rule::Max(value) | Rule::Most(value) | Rule::Overflow(value), _) => {
            json!(value + 1)
        }
        (Rule::Product(other, value), _) => {
            arguments.insert(other.to_owned(), json!(value + 1));
            json!(1)
        }
        (Rule::Below(value), _) => json!(value),
        (Rule::Clear(bits) | Rule::Requires(bits, _), old) => json!(bits | old.as_i64().unwrap_or(0)),
        (Rule::Excludes(a, b), old) => json!(a | b | old.as_i64().unwrap_or(0)),
    };
    arguments.insert(check.field.to_owned(), value);
}

/// Whether arguments break a rule.
pub fn breaks(arguments: &Arguments, check: &Check) -> bool {
    let get = |field: &str| arguments.get(field).unwrap_or(&Value::Null);
    let number = |field: &str| get(field).as_i64().unwrap_or(0);
    let counts = |when: &When| match when {
        When::Is(field, values) => values.contains(&number(field)),
        When::IsNot(field, values) => !values.contains(&number(field)),
        When::Present(field) => !get(field).is_null(),
        When::NoneOf(field, bits) => number(field) & bits == 0,
    };
    let (value, n) = (get(check.field), number(check.field));
    let nothing = match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        // A text of no length is there all the same.
        Value::String(_) => false,
        _ => n == 0,
    };
    let broken = match check.rule {
        Rule::Positive if value.is_number() => n <= 0,
        Rule::Positive | Rule::NonZero | Rule::NonNull => nothing,
        Rule::NonNegative | Rule::Count | Rule::Unsigned => n < 0,
        Rule::Null => !value.is_null(),
        Rule::NonEmpty => value.as_str().is_some_and(str::is_empty),
        Rule::OneLine => value.as_str().is_some_and(|text| text.contains('\n')),
        Rule::Is(only) => n != only,
        Rule::Below(most) => n < 0 || n >= most,
        Rule::Max(most) | Rule::Most(most) | Rule::Overflow(most) => n > most,
        Rule::Product(other, most) => n * number(other) > most,
        Rule::Clear(bits) => n & bits != 0,
        Rule::Excludes(a, b) => n & (a | b) == a | b,
        Rule::Requires(a, b) => n & (a | b) == a,
    };
    broken && check.when.iter().all(counts)
}
