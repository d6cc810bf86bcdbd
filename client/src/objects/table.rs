//! What the tables of methods are made of.

use uuid::Uuid;
use virtwire_protocol::XdrString;
use virtwire_protocol::remote::TypedParam;

use crate::{Connection, Error};

/// What a method takes, as the wire has it.
pub(crate) trait ToWire<T> {
    fn to_wire(self) -> T;
}

macro_rules! as_it_is {
    ($($ty:ty)*) => {
        $(impl ToWire<$ty> for $ty {
            fn to_wire(self) -> $ty {
                self
            }
        })*
    };
}

as_it_is!(i32 u32 i64 u64 Vec<TypedParam>);

impl ToWire<i32> for bool {
    fn to_wire(self) -> i32 {
        self.into()
    }
}

impl ToWire<XdrString> for &str {
    fn to_wire(self) -> XdrString {
        self.into()
    }
}

impl ToWire<Option<XdrString>> for Option<&str> {
    fn to_wire(self) -> Option<XdrString> {
        self.map(Into::into)
    }
}

impl ToWire<Vec<u8>> for &[u8] {
    fn to_wire(self) -> Vec<u8> {
        self.to_owned()
    }
}

impl ToWire<Vec<u32>> for &[u32] {
    fn to_wire(self) -> Vec<u32> {
        self.to_owned()
    }
}

impl ToWire<Vec<XdrString>> for &[&str] {
    fn to_wire(self) -> Vec<XdrString> {
        self.iter().map(|text| (*text).into()).collect()
    }
}

impl ToWire<[u8; 16]> for Uuid {
    fn to_wire(self) -> [u8; 16] {
        self.into_bytes()
    }
}

/// A text of the daemon's; bytes that are not UTF-8 are replaced.
pub(crate) fn text(text: &XdrString) -> String {
    text.to_str_lossy().into_owned()
}

/// What a connection makes of what the wire has for an object.
pub(crate) trait Object {
    /// `remote_nonnull_…`
    type Raw;

    fn new(connection: &Connection, raw: Self::Raw) -> Self;
}

/// An object: a name for what the wire has for it, and the connection that it is reached by.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident($raw:ident)) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            pub(super) connection: crate::Connection,
            raw: virtwire_protocol::remote::$raw,
        }

        impl crate::objects::table::Object for $name {
            type Raw = virtwire_protocol::remote::$raw;

            fn new(connection: &crate::Connection, raw: Self::Raw) -> Self {
                Self { connection: connection.clone(), raw }
            }
        }

        impl $name {
            /// The object of this connection that the wire's form names; the daemon is not asked.
            pub fn from_raw(connection: &crate::Connection, raw: virtwire_protocol::remote::$raw) -> Self {
                Self { connection: connection.clone(), raw }
            }

            /// What the generated calls take.
            pub fn raw(&self) -> &virtwire_protocol::remote::$raw {
                &self.raw
            }

            /// The connection that it belongs to.
            pub fn connection(&self) -> &crate::Connection {
                &self.connection
            }
        }
    };
}

/// A struct of arguments, with the object if it takes one.
macro_rules! arguments {
    ($self:ident [] $args:ident { $($rest:tt)* }) => { virtwire_protocol::remote::$args { $($rest)* } };
    ($self:ident [$field:ident = $handle:ident] $args:ident { $($rest:tt)* }) => {
        virtwire_protocol::remote::$args { $field: $self.$handle(), $($rest)* }
    };
}

/// Methods that are one call each: name and arguments, named as the wire names them; the procedure and its arguments'
/// struct; how the reply is read, with the connection at hand.
///
/// `[field = handle]` is the argument that names the object, and the method that gives it.
macro_rules! methods {
    ($object:ident $this:tt { $(
        $(#[$doc:meta])*
        fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $stub:ident $args:ident
            $(|$connection:pat_param, $reply:pat_param| $map:expr)?;
    )* }) => {
        impl $object { $(
            $(#[$doc])*
            pub async fn $name(&self $(, $arg: $ty)*) -> Result<methods!(@type $($ret)?), crate::Error> {
                let args = arguments!(self $this $args {
                    $($arg: crate::objects::table::ToWire::to_wire($arg),)*
                });
                let reply = self.connection.$stub(&args).await?;
                methods!(@map self reply $(|$connection, $reply| $map)?)
            }
        )* }
    };
    (@type) => { () };
    (@type $ret:ty) => { $ret };
    (@map $self:ident $got:ident) => { Ok($got) };
    (@map $self:ident $got:ident |$connection:pat_param, $reply:pat_param| $map:expr) => {{
        let ($connection, $reply) = (&$self.connection, $got);
        Ok($map)
    }};
}

/// Methods that list objects: the flags' type, the object's, the procedure, its arguments' struct, the field with the
/// objects.
macro_rules! lists {
    ($object:ident $this:tt { $(
        $(#[$doc:meta])*
        fn $name:ident($flags:ty) -> $listed:ty = $stub:ident $args:ident $found:ident;
    )* }) => {
        impl $object { $(
            $(#[$doc])*
            pub async fn $name(&self, flags: $flags) -> Result<Vec<$listed>, crate::Error> {
                let args = arguments!(self $this $args { need_results: 1, flags: flags.into(), });
                let found = self.connection.$stub(&args).await?.$found;
                Ok(crate::objects::table::objects(&self.connection, found))
            }
        )* }
    };
}

pub(crate) fn objects<T: Object>(connection: &Connection, raw: Vec<T::Raw>) -> Vec<T> {
    raw.into_iter().map(|raw| T::new(connection, raw)).collect()
}

pub(crate) fn object<T: Object>(connection: &Connection, raw: T::Raw) -> T {
    T::new(connection, raw)
}

/// Parameters that are asked for in two steps: how many there are, then which.
pub(crate) async fn counted<T, F>(mut ask: impl FnMut(i32) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<(T, i32), Error>>,
{
    let (_, count) = ask(0).await?;
    Ok(ask(count).await?.0)
}
