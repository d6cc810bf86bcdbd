//! What of a device cannot change, as rows of a table.

use std::fmt::Debug;

use virtwire_conf::domain::device::DeviceInfo;

use crate::error::{QEMU, Result};

/// A property: its name, and how it is read off a device; empty where nothing is said of it.
pub(super) type Field<D> = (&'static str, fn(&D) -> String);

/// A value as it is compared.
pub(super) fn shown<T: Debug>(value: &Option<T>) -> String {
    value.as_ref().map_or(String::new(), |value| format!("{value:?}"))
}

/// A flag as it is compared.
pub(super) fn flag(value: bool) -> String {
    shown(&value.then_some(value))
}

/// The first property that two devices differ in.
pub(super) fn differing<D>(fields: &[Field<D>], old: &D, new: &D) -> Option<&'static str> {
    fields.iter().find(|(_, read)| read(old) != read(new)).map(|(name, _)| *name)
}

/// The first property of a new device that says something else than the old one.
pub(super) fn changed<D>(fields: &[Field<D>], old: &D, new: &D) -> Option<&'static str> {
    let says = |value: &str| !value.is_empty();
    fields.iter().find(|(_, read)| says(&read(new)) && read(old) != read(new)).map(|(name, _)| *name)
}

/// Names, by which others know a device, stay.
///
/// # Errors
/// `VIR_ERR_OPERATION_DENIED`
pub(super) fn keeps_names(old: &DeviceInfo, new: &DeviceInfo) -> Result<()> {
    if new.alias.is_some() && new.alias != old.alias {
        return Err(QEMU.operation_denied("changing device alias is not allowed"));
    }
    let index = |info: &DeviceInfo| info.acpi.as_ref().and_then(|acpi| acpi.index);
    if index(new).is_some() && index(new) != index(old) {
        return Err(QEMU.operation_denied("changing device 'acpi index' is not allowed"));
    }
    Ok(())
}
