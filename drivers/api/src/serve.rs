//! How a driver says which function serves which procedure.

use virtwire_protocol::error::{ErrorDomain, VirtError};

/// Refuses flags that a function does not know, in libvirt's words.
///
/// # Errors
/// `VIR_ERR_INVALID_ARG` if there are any.
pub fn check_flags(domain: ErrorDomain, flags: u32, known: u32, function: &str) -> Result<(), VirtError> {
    match flags & !known {
        0 => Ok(()),
        unknown => {
            let text = format_args!("unsupported flags (0x{unknown:x}) in function {function}");
            // The message stands alone; the error names function and argument.
            Err(VirtError {
                message: text.to_string(),
                str1: Some(function.to_owned()),
                str2: Some("flags".to_owned()),
                int1: 0,
                int2: 0,
                ..domain.invalid_arg("")
            })
        }
    }
}

/// Implements a family for a driver: a row for each procedure says which function serves it, with the driver and the
/// arguments. What needs more than these stands below the rows, as the trait has it.
#[macro_export]
macro_rules! serve {
    ($trait:ident for $driver:ty { $($name:ident($($args:ty)?) $(-> $ret:ty)? = $function:path;)* } $($more:tt)*) => {
        #[$crate::async_trait]
        impl $trait for $driver {
            $(async fn $name(
                &self,
                _: &$crate::CallCx
                $(, args: $args)?
            ) -> Result<$crate::or_unit!($($ret)?), ::virtwire_protocol::VirtError> {
                $function(self $(, { let args: $args = args; args })?).await
            })*
            $($more)*
        }
    };
}

/// What a procedure without a result returns.
#[doc(hidden)]
#[macro_export]
macro_rules! or_unit {
    () => {
        ()
    };
    ($ret:ty) => {
        $ret
    };
}
