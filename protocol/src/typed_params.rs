//! Typed parameters: named values of seven types, libvirt's way to grow without new structs.

use crate::XdrString;
use crate::remote::{TypedParam, TypedParamValue};

macro_rules! values {
    ($($ty:ty => $variant:ident;)*) => {
        $(impl From<$ty> for TypedParamValue {
            fn from(value: $ty) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

values! {
    i32 => Int;
    u32 => Uint;
    i64 => Llong;
    u64 => Ullong;
    f64 => Double;
    bool => Boolean;
    &str => String;
    String => String;
    XdrString => String;
}

impl TypedParam {
    /// A named value.
    pub fn new(field: impl Into<XdrString>, value: impl Into<TypedParamValue>) -> Self {
        Self { field: field.into(), value: value.into() }
    }
}

impl TypedParamValue {
    /// `VIR_TYPED_PARAM_…`: the type's number.
    pub fn kind(&self) -> i32 {
        match self {
            Self::Int(_) => 1,
            Self::Uint(_) => 2,
            Self::Llong(_) => 3,
            Self::Ullong(_) => 4,
            Self::Double(_) => 5,
            Self::Boolean(_) => 6,
            Self::String(_) => 7,
        }
    }

    /// The type's name in libvirt's errors: `int`, `uint`, `llong`, `ullong`, `double`, `boolean`, `string`.
    pub fn kind_name(&self) -> &'static str {
        ["int", "uint", "llong", "ullong", "double", "boolean", "string"][(self.kind() - 1) as usize]
    }

    /// The value of a `ullong`.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Ullong(value) => Some(*value),
            _ => None,
        }
    }
}
