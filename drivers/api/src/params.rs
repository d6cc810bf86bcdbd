//! Typed parameters: what a procedure takes, and what it refuses.

use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::{TypedParam, TypedParamValue};

/// Types of parameters that procedures take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A number that may be negative.
    Int,
    /// A number of 32 bits.
    Uint,
    /// A number of 64 bits that may be negative.
    Llong,
    /// A number of 64 bits.
    Ullong,
    /// A switch.
    Boolean,
    /// A text.
    String,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Llong => "llong",
            Self::Ullong => "ullong",
            Self::Boolean => "boolean",
            Self::String => "string",
        }
    }
}

/// Refuses parameters that are unknown, of another type, or given twice; the first by name is told of.
///
/// # Errors
/// `VIR_ERR_ARGUMENT_UNSUPPORTED` for one that is unknown, `VIR_ERR_INVALID_ARG` for the others.
pub fn validate(params: &[TypedParam], known: &[(&str, Kind)]) -> Result<(), VirtError> {
    let mut params: Vec<_> = params.iter().collect();
    params.sort_by(|a, b| a.field.as_bytes().cmp(b.field.as_bytes()));
    for (n, param) in params.iter().enumerate() {
        if n > 0 && params[n - 1].field == param.field {
            let text = format_args!("parameter '{}' occurs multiple times", param.field);
            return Err(ErrorDomain::NONE.invalid_arg(text));
        }
        let Some((name, kind)) = known.iter().find(|(name, _)| param.field == *name) else {
            return Err(ErrorDomain::NONE
                .argument_unsupported(format_args!("parameter '{}' not supported", param.field)));
        };
        if param.value.kind_name() != kind.name() {
            return Err(ErrorDomain::NONE.invalid_arg(format_args!(
                "invalid type '{}' for parameter '{name}', expected '{}'",
                param.value.kind_name(),
                kind.name()
            )));
        }
    }
    Ok(())
}

/// A number, whatever its width.
pub fn number(params: &[TypedParam], name: &str) -> Option<u64> {
    params.iter().find(|param| param.field == name).and_then(|param| match &param.value {
        TypedParamValue::Int(value) => u64::try_from(*value).ok(),
        TypedParamValue::Uint(value) => Some((*value).into()),
        TypedParamValue::Ullong(value) => Some(*value),
        _ => None,
    })
}

/// A number that may be negative.
pub fn int(params: &[TypedParam], name: &str) -> Option<i32> {
    params.iter().find(|param| param.field == name).and_then(|param| match param.value {
        TypedParamValue::Int(value) => Some(value),
        _ => None,
    })
}

/// A number of 64 bits that may be negative.
pub fn llong(params: &[TypedParam], name: &str) -> Option<i64> {
    params.iter().find(|param| param.field == name).and_then(|param| match param.value {
        TypedParamValue::Llong(value) => Some(value),
        _ => None,
    })
}

/// A text.
pub fn text(params: &[TypedParam], name: &str) -> Option<String> {
    params.iter().find(|param| param.field == name).and_then(|param| match &param.value {
        TypedParamValue::String(value) => Some(value.to_string()),
        _ => None,
    })
}

/// `VIR_TYPED_PARAM_STRING_OKAY`: the client knows parameters that are texts.
pub const STRING_OKAY: u32 = 4;

/// What a client gets that asks for at most `wanted` parameters: with 0 it asks how many there are. Texts go only to
/// those who say that they know them. The number goes only to those who ask for none.
pub fn answer(params: Vec<TypedParam>, wanted: i32, flags: u32) -> (Vec<TypedParam>, i32) {
    let count = params.len() as i32;
    if wanted == 0 {
        return (Vec::new(), count);
    }
    let shown = params.into_iter().take(usize::try_from(wanted).unwrap_or(0));
    let known =
        |param: &TypedParam| flags & STRING_OKAY != 0 || !matches!(param.value, TypedParamValue::String(_));
    (shown.filter(known).collect(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [(&str, Kind); 2] = [("weight", Kind::Uint), ("path", Kind::String)];

    #[test]
    fn bad_parameters_are_refused_by_name() {
        let weight = || TypedParam::new("weight", 7u32);
        assert_eq!(validate(&[weight(), TypedParam::new("path", "/x")], &KNOWN), Ok(()));
        for (params, text) in [
            (vec![weight(), weight()], "invalid argument: parameter 'weight' occurs multiple times"),
            (vec![TypedParam::new("nope", 1i32)], "argument unsupported: parameter 'nope' not supported"),
            (
                vec![TypedParam::new("weight", 1i32)],
                "invalid argument: invalid type 'int' for parameter 'weight', expected 'uint'",
            ),
        ] {
            assert_eq!(validate(&params, &KNOWN).unwrap_err().message, text);
        }
    }

    #[test]
    fn asking_for_none_tells_how_many() {
        let all = || vec![TypedParam::new("a", 1u32), TypedParam::new("b", 2u32)];
        assert_eq!(answer(all(), 0, STRING_OKAY), (vec![], 2));
        assert_eq!(answer(all(), 1, STRING_OKAY).0.len(), 1);
        assert_eq!(answer(all(), 9, STRING_OKAY).0.len(), 2);
        let text = || vec![TypedParam::new("path", "x")];
        let known = |flags| answer(text(), 1, flags).0.len();
        assert_eq!((known(0), known(STRING_OKAY)), (0, 1));
    }
}
