//! JSON objects as values of options.

use serde_json::{Map, Value};
use virtwire_conf::OnOff;

use crate::command::CommandLine;

/// A JSON object in the making: its properties in the order in which they are added.
#[derive(Debug, Default, Clone)]
pub(crate) struct Props(Map<String, Value>);

impl Props {
    /// Begins with `driver`, as devices and block nodes do.
    pub(crate) fn new(driver: impl Into<String>) -> Self {
        Self::default().with("driver", driver.into())
    }

    /// Begins as an `-object` does.
    pub(crate) fn object(kind: &str, id: impl Into<String>) -> Self {
        Self::default().with("qom-type", kind).with("id", id.into())
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn with_if<T: Into<Value>>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// A number that says nothing where it is zero.
    pub(crate) fn with_some<T: Into<Value> + Default + PartialEq>(
        self,
        name: &str,
        value: Option<T>,
    ) -> Self {
        self.with_if(name, value.filter(|value| *value != T::default()))
    }

    /// A switch as JSON's true or false.
    pub(crate) fn switch(self, name: &str, value: Option<OnOff>) -> Self {
        self.with_if(name, value.map(|value| value == OnOff::On))
    }

    /// All properties of another.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Puts it on the command line.
    pub(crate) fn add_to(self, line: &mut CommandLine, option: &str) {
        line.json(option, &Value::Object(self.0));
    }
}

impl From<Props> for Value {
    fn from(props: Props) -> Self {
        Self::Object(props.0)
    }
}
