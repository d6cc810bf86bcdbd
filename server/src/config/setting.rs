//! The types of settings: what a file may say, and how it is shown.

use super::Value;

/// A type that a setting may have.
pub trait Setting: Sized {
    /// What a file must hold, in libvirt's words.
    const EXPECTED: &'static str;

    /// The value, if it is of this type; else why not, where more can be said than [`EXPECTED`](Self::EXPECTED).
    fn from_value(value: &Value) -> Result<Self, Option<String>>;

    /// The value as a file would have it; `None` where there is none.
    fn show(&self) -> Option<String>;
}

impl Setting for bool {
    const EXPECTED: &'static str = "a bool";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::Number(number @ (0 | 1)) => Ok(*number == 1),
            _ => Err(None),
        }
    }
    fn show(&self) -> Option<String> {
        Some(u8::from(*self).to_string())
    }
}

impl Setting for u32 {
    const EXPECTED: &'static str = "an unsigned integer";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::Number(number @ 0..) => {
                Self::try_from(*number).map_err(|_| Some("must be in range 0:4294967295".to_owned()))
            }
            _ => Err(None),
        }
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for i32 {
    const EXPECTED: &'static str = "an integer";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::Number(number) => Self::try_from(*number)
                .map_err(|_| Some("must be in range -2147483648:2147483647".to_owned())),
            _ => Err(None),
        }
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(None),
        }
    }
    fn show(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

impl Setting for Vec<String> {
    const EXPECTED: &'static str = "a string list";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::List(items) => items.iter().map(String::from_value).collect(),
            // libvirt takes a lone string for a list of one.
            Value::Text(text) => Ok(vec![text.clone()]),
            Value::Number(_) => Err(None),
        }
    }
    fn show(&self) -> Option<String> {
        let items: Vec<_> = self.iter().filter_map(Setting::show).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        T::from_value(value).map(Some)
    }
    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

/// How clients of a socket authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Whoever may connect may use it.
    None,
    /// As the host's policy says.
    Polkit,
    /// By name and proof.
    Sasl,
}

impl Auth {
    const NAMES: [(&'static str, Self); 3] =
        [("none", Self::None), ("polkit", Self::Polkit), ("sasl", Self::Sasl)];
}

impl Setting for Auth {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let name = String::from_value(value)?;
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, auth)| *auth).ok_or_else(|| Some(format!("unsupported auth {name}")))
    }
    fn show(&self) -> Option<String> {
        Self::NAMES.iter().find(|(_, auth)| auth == self).map(|(name, _)| format!("\"{name}\""))
    }
}

/// The mode of a socket, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Setting for Mode {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = String::from_value(value)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Self).ok_or_else(|| Some(format!("Failed to parse mode '{text}'")))
    }
    fn show(&self) -> Option<String> {
        Some(format!("\"{:04o}\"", self.0))
    }
}
