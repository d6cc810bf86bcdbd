//! The two table macros.

/// Declares elements; see the [module](crate::table).
#[macro_export]
macro_rules! element {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $kind:ident $field:ident $($xml:literal)? $(if $shown:ident)? $(: $ty:ty)? $(| $word:literal)*
                    $(=> $domain:ident.$code:ident $refusal:literal
                        $(, $domain2:ident.$code2:ident $missing:literal)?)?;
            )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct $name {
            $(
                #[doc = $crate::field_doc!($kind $field $($xml)?)]
                $(#[$field_meta])*
                pub $field: $crate::field_type!($($ty)?),
            )*
        }

        impl $crate::table::Element for $name {
            const FIELDS: &'static [$crate::table::Field] = &[
                $($crate::table::Field {
                    kind: stringify!($kind),
                    name: $crate::field_name!($field $($xml)?),
                    many: $crate::field_many!($kind $($ty)?),
                    fields: $crate::field_fields!($kind $($ty)?),
                },)*
            ];

            fn read(node: $crate::xml::Node<'_>) -> $crate::table::Result<Self> {
                let _ = node;
                Ok(Self {
                    $($field: {
                        $crate::field_words!(
                            node,
                            $crate::field_name!($field $($xml)?),
                            $crate::refusal!($($domain $code $refusal $($domain2 $code2 $missing)?)?),
                            $($word)*
                        );
                        $crate::field_read!(
                            $kind, node, $crate::field_name!($field $($xml)?), $crate::refusal!($($domain $code $refusal $($domain2 $code2 $missing)?)?)
                        )
                    },)*
                })
            }

            fn write(&self, out: &mut $crate::xml::Writer<'_>) {
                $(
                    if true $(&& out.options.$shown())? {
                        $crate::field_write!($kind, self.$field, out, $crate::field_name!($field $($xml)?));
                    }
                )*
                let _ = out;
            }
        }
    )*};
}

/// The name in XML: the field's own, unless the table says otherwise.
#[doc(hidden)]
#[macro_export]
macro_rules! field_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $xml:literal) => {
        $xml
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! field_doc {
    (attr $($name:tt)+) => { concat!("Attribute `", $crate::field_name!($($name)+), "`.") };
    (loose $($name:tt)+) => { concat!("Attribute `", $crate::field_name!($($name)+), "`.") };
    (attr_default $($name:tt)+) => { concat!("Attribute `", $crate::field_name!($($name)+), "`.") };
    (text $($name:tt)+) => { "The element's text." };
    (flag $($name:tt)+) => { concat!("Whether `<", $crate::field_name!($($name)+), "/>` is there.") };
    (flat $($name:tt)+) => { "Lines of another table." };
    ($kind:ident $($name:tt)+) => { concat!("Element `<", $crate::field_name!($($name)+), ">`.") };
}

#[doc(hidden)]
#[macro_export]
macro_rules! field_type {
    () => {
        bool
    };
    ($ty:ty) => {
        $ty
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! field_many {
    (sole $ty:ty) => {
        false
    };
    (child $ty:ty) => {
        <$ty as $crate::table::ChildField>::MANY
    };
    (kept $ty:ty) => {
        <$ty as $crate::table::ChildField>::MANY
    };
    (pair $ty:ty) => {
        <$ty as $crate::table::ChildField>::MANY
    };
    (leaf $ty:ty) => {
        <$ty as $crate::table::LeafField>::MANY
    };
    ($kind:ident $($ty:ty)?) => {
        false
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! field_fields {
    (sole $ty:ty) => {
        <$ty as $crate::table::ChildField>::fields
    };
    (child $ty:ty) => {
        <$ty as $crate::table::ChildField>::fields
    };
    (kept $ty:ty) => {
        <$ty as $crate::table::ChildField>::fields
    };
    (pair $ty:ty) => {
        <$ty as $crate::table::ChildField>::fields
    };
    (flat $ty:ty) => {
        || <$ty as $crate::table::Element>::FIELDS
    };
    ($kind:ident $($ty:ty)?) => {
        || &[]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! refusal {
    () => {
        None
    };
    ($domain:ident $code:ident $text:literal $($domain2:ident $code2:ident $missing:literal)?) => {
        Some(|value| match value {
            Some(value) => {
                let text = $text.replace("{}", value);
                Some(virtwire_protocol::ErrorDomain::$domain.$code(text))
            }
            $(None => Some(virtwire_protocol::ErrorDomain::$domain2.$code2($missing)),)?
            #[allow(unreachable_patterns, reason = "only some tables say what a missing value is called")]
            None => None,
        })
    };
}

/// Where a table lists the words of a text, it is one of them.
#[doc(hidden)]
#[macro_export]
macro_rules! field_words {
    ($node:ident, $name:expr, $bad:expr,) => {};
    ($node:ident, $name:expr, $bad:expr, $($word:literal)+) => {
        $crate::table::one_of($node, $name, &[$($word),+], $bad)?
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! field_read {
    (attr, $node:ident, $name:expr, $bad:expr) => {
        $crate::table::AttrField::read_attr($node, $name, $bad)?
    };
    (loose, $node:ident, $name:expr, $bad:expr) => {
        $crate::table::AttrField::read_attr($node, $name, $bad).unwrap_or_default()
    };
    (sole, $node:ident, $name:expr, $bad:expr) => {{
        $crate::table::sole($node, $name, $bad)?;
        $crate::table::ChildField::read_child($node, $name)?
    }};
    (attr_default, $node:ident, $name:expr, $bad:expr) => {
        $crate::table::optional_attr($node, $name, $bad)?.unwrap_or_default()
    };
    (text, $node:ident, $name:expr, $bad:expr) => {
        $crate::table::TextField::read_text($node, $bad)?
    };
    (leaf, $node:ident, $name:expr, $bad:expr) => {
        $crate::table::LeafField::read_leaf($node, $name, $bad)?
    };
    (flag, $node:ident, $name:expr, $bad:expr) => {
        $node.child($name).is_some()
    };
    (child, $node:ident, $name:expr, $bad:expr) => {
        $crate::table::ChildField::read_child($node, $name)
            .map_err(|e| $crate::table::refuse_child(e, $bad))?
    };
    (kept, $node:ident, $name:expr, $bad:expr) => {
        $crate::table::ChildField::read_child($node, $name)?
    };
    (pair, $node:ident, $name:expr, $bad:expr) => {
        $crate::table::ChildField::read_child($node, $name)?
    };
    (flat, $node:ident, $name:expr, $bad:expr) => {
        $crate::table::Element::read($node)?
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! field_write {
    (attr, $value:expr, $out:ident, $name:expr) => {
        $crate::table::AttrField::write_attr(&$value, $out, $name)
    };
    (loose, $value:expr, $out:ident, $name:expr) => {
        $crate::table::AttrField::write_attr(&$value, $out, $name)
    };
    (sole, $value:expr, $out:ident, $name:expr) => {
        $crate::table::ChildField::write_child(&$value, $out, $name, $crate::table::Empty::Omit)
    };
    (attr_default, $value:expr, $out:ident, $name:expr) => {
        $crate::table::AttrField::write_attr(&$value, $out, $name)
    };
    (text, $value:expr, $out:ident, $name:expr) => {
        $crate::table::TextField::write_text(&$value, $out)
    };
    (leaf, $value:expr, $out:ident, $name:expr) => {
        $crate::table::LeafField::write_leaf(&$value, $out, $name)
    };
    (flag, $value:expr, $out:ident, $name:expr) => {
        if $value {
            $out.empty($name);
        }
    };
    (child, $value:expr, $out:ident, $name:expr) => {
        $crate::table::ChildField::write_child(&$value, $out, $name, $crate::table::Empty::Omit)
    };
    (kept, $value:expr, $out:ident, $name:expr) => {
        $crate::table::ChildField::write_child(&$value, $out, $name, $crate::table::Empty::Keep)
    };
    (pair, $value:expr, $out:ident, $name:expr) => {
        $crate::table::ChildField::write_child(&$value, $out, $name, $crate::table::Empty::Pair)
    };
    (flat, $value:expr, $out:ident, $name:expr) => {
        $crate::table::Element::write(&$value, $out)
    };
}

/// Declares elements of several kinds: the attribute after `by` says which table the rest follows.
#[macro_export]
macro_rules! choice {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident by $attribute:literal {
            $($variant:ident($table:ty) = $word:literal),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant($table),)*
        }

        impl $name {
            /// The word for its kind.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $word,)*
                }
            }
        }

        impl $crate::table::Element for $name {
            fn read(node: $crate::xml::Node<'_>) -> $crate::table::Result<Self> {
                match $crate::table::choice_word(node, $attribute, &[$($word),*])? {
                    $($word => $crate::table::Element::read(node).map(Self::$variant),)*
                    _ => unreachable!("choice_word gives one of the words"),
                }
            }

            fn write(&self, out: &mut $crate::xml::Writer<'_>) {
                out.attribute($attribute, self.kind());
                match self {
                    $(Self::$variant(table) => $crate::table::Element::write(table, out),)*
                }
            }
        }
    )*};
}

/// Declares enumerations with libvirt's spelling. Last lines `_ = "default"` name words that count as nothing said.
/// The first variant is the default.
#[macro_export]
macro_rules! keywords {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident {
            $first:ident = $first_word:literal
            $(, $variant:ident = $word:literal)*
            $(, _ = $silent:literal)* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub enum $name {
            #[doc = concat!("`", $first_word, "`")]
            #[default]
            $first,
            $(#[doc = concat!("`", $word, "`")] $variant,)*
        }

        impl $name {
            /// All of them, in libvirt's order.
            pub const ALL: &'static [Self] = &[Self::$first $(, Self::$variant)*];

            /// libvirt's word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_word,
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl $crate::table::Value for $name {
            fn parse(text: &str) -> std::result::Result<Option<Self>, $crate::table::Bad> {
                match text {
                    $first_word => Ok(Some(Self::$first)),
                    $($word => Ok(Some(Self::$variant)),)*
                    $($silent => Ok(None),)*
                    _ => Err($crate::table::Bad::Keyword),
                }
            }

            fn show(&self) -> std::borrow::Cow<'_, str> {
                self.as_str().into()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}
