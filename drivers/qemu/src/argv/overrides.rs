//! Properties of devices that the definition takes into its own hands.

use serde_json::{Map, Value};
use virtwire_conf::Domain;
use virtwire_conf::domain::QemuProperty;
use virtwire_protocol::VirtError;

use crate::command::CommandLine;
use crate::error::QEMU;

/// Properties that belong to the driver.
const FIXED: [&str; 2] = ["id", "driver"];

/// Changes devices on the line as `<qemu:override>` says.
///
/// # Errors
/// A property that must not be changed, or a value that is none.
pub(super) fn apply(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for device in domain.qemu_override.iter().flat_map(|all| &all.device) {
        let properties = device.frontend.iter().flat_map(|frontend| &frontend.property);
        let properties: Vec<&QemuProperty> = properties.collect();
        if let Some(fixed) = properties.iter().find(|property| FIXED.contains(&property.name.as_str())) {
            let text = format_args!("property with name '{}' can't be overridden", fixed.name);
            return Err(QEMU.xml_error(text));
        }
        for value in line.values_of("-device") {
            let Ok(mut members) = serde_json::from_str::<Map<String, Value>>(value) else { continue };
            if members.get("id").and_then(Value::as_str) != Some(device.alias.as_str()) {
                continue;
            }
            properties.iter().try_for_each(|property| change(&mut members, property))?;
            *value = Value::Object(members).to_string();
        }
    }
    Ok(())
}

fn change(members: &mut Map<String, Value>, property: &QemuProperty) -> Result<(), VirtError> {
    let text = property.value.as_deref().unwrap_or_default();
    let bad = || {
        let kind = &property.type_;
        QEMU.xml_error(format_args!("invalid value '{text}' for '{kind}' property '{}'", property.name))
    };
    members.shift_remove(&property.name);
    let value = match property.type_.as_str() {
        "remove" => return Ok(()),
        "signed" => text.parse::<i64>().map_err(|_| bad())?.into(),
        "unsigned" => text.parse::<u64>().map_err(|_| bad())?.into(),
        "bool" => Value::Bool(match text {
            "true" => true,
            "false" => false,
            _ => return Err(bad()),
        }),
        _ => text.into(),
    };
    members.insert(property.name.clone(), value);
    Ok(())
}
