//! How a driver says which function serves which procedure.

use std::pin::Pin;

use virtwire_protocol::error::{ErrorDomain, VirtError};

/// What serves a call, begun or not: a boxed future of its result.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, VirtError>> + Send + 'a>>;

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

/// Implements a family for a driver: a row for each procedure says which function serves it. The function is given the
/// driver and the call's arguments, stream and descriptors, as far as the procedure has them; in a row like
/// `domain_create_xml(cx) = create_xml;` also, before these, the call's context. With `for Driver by run`, functions do
/// not wait: each is given what the method `run` of the driver hands out when it is its turn.
#[macro_export]
macro_rules! serve {
    ($trait:ident for $driver:ident { $($name:ident $(($cx:ident))? = $function:path;)* }) => {
        impl $trait for $driver {
            $($crate::signature! { $name $(($cx))? = $function })*
        }
    };
    ($trait:ident for $driver:ident by $run:ident { $($name:ident = $function:path;)* }) => {
        impl $trait for $driver {
            $($crate::signature! { $name by $run = $function })*
        }
    };
}

/// The method of a row, as `async_trait` would write it: it does not look into macros.
#[doc(hidden)]
#[macro_export]
macro_rules! method {
    ($name:ident($($arg:ident: $type:ty),*) -> $ret:ty, = $function:path) => {
        $crate::method! { $name(cx, $($arg: $type),*) -> $ret, |this| $function(this $(, $arg)*) }
    };
    ($name:ident($($arg:ident: $type:ty),*) -> $ret:ty, ($cx:ident) = $function:path) => {
        $crate::method! { $name($cx, $($arg: $type),*) -> $ret, |this| $function(this, $cx $(, $arg)*) }
    };
    ($name:ident($($arg:ident: $type:ty),*) -> $ret:ty, by $run:ident = $function:path) => {
        $crate::method! {
            $name(cx, $($arg: $type),*) -> $ret, |this| async move { this.$run(|host| $function(host $(, $arg)*)).await }
        }
    };
    ($name:ident($cx:ident, $($arg:ident: $type:ty),*) -> $ret:ty, |$this:ident| $answer:expr) => {
        fn $name<'life0, 'life1, 'async_trait>(
            &'life0 self,
            $cx: &'life1 $crate::CallCx
            $(, $arg: $type)*
        ) -> $crate::Answer<'async_trait, $ret>
        where
            'life0: 'async_trait,
            'life1: 'async_trait,
            Self: 'async_trait,
        {
            let ($this, _) = (self, $cx);
            Box::pin($answer)
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/signatures.rs"));
