//! Errors that this driver makes often.

use std::fmt;

use virtwire_protocol::{ErrorCode, ErrorDomain, VirtError};

use crate::registry::Uuid;

/// This driver's domain.
pub(crate) const TEST: ErrorDomain = ErrorDomain::TEST;

pub(crate) type Result<T> = std::result::Result<T, VirtError>;

/// A complaint about one argument: the message stands alone, and the error names function and argument.
pub(crate) fn bad_argument(
    domain: ErrorDomain,
    function: &str,
    argument: &str,
    text: impl fmt::Display,
) -> VirtError {
    VirtError {
        message: text.to_string(),
        str1: Some(function.to_owned()),
        str2: Some(argument.to_owned()),
        int1: 0,
        int2: 0,
        ..VirtError::new(domain, ErrorCode::INVALID_ARG, "")
    }
}

/// Refuses flags that `function` doesn't know.
pub(crate) fn check_flags(flags: u32, known: u32, function: &str) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        unknown => {
            let text = format_args!("unsupported flags ({unknown:#x}) in function {function}");
            Err(bad_argument(TEST, function, "flags", text))
        }
    }
}

/// What libvirt answers where a function fails without saying why.
pub(crate) fn unknown_cause() -> VirtError {
    VirtError {
        message: "An error occurred, but the cause is unknown".into(),
        str1: None,
        str2: None,
        int1: 0,
        int2: 0,
        ..VirtError::new(ErrorDomain::NONE, ErrorCode::INTERNAL_ERROR, "")
    }
}

/// The guest must run.
pub(crate) fn not_running() -> VirtError {
    ErrorDomain::DOMAIN.operation_invalid("domain is not running")
}

/// A UUID the way people write it.
pub(crate) fn uuid_text(uuid: &Uuid) -> String {
    uuid::Uuid::from_bytes(*uuid).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_flags_are_named() {
        assert_eq!(check_flags(3, 3, "f"), Ok(()));
        let error = check_flags(0x15, 1, "testF").unwrap_err();
        assert_eq!(error.message, "unsupported flags (0x14) in function testF");
        assert_eq!((error.code, error.domain), (ErrorCode::INVALID_ARG, TEST));
        assert_eq!((error.str1.as_deref(), error.str2.as_deref()), (Some("testF"), Some("flags")));
    }
}
