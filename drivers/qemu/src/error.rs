//! Errors in libvirt's words.

use std::fmt::Display;
use std::process::Output;

use uuid::Uuid;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_qmp::QmpError;

/// The domain of this driver's errors.
pub(crate) const QEMU: ErrorDomain = ErrorDomain::QEMU;

/// What everything here returns.
pub(crate) type Result<T, E = VirtError> = std::result::Result<T, E>;

/// The guest has to run for that.
pub(crate) fn not_running() -> VirtError {
    ErrorDomain::DOMAIN.operation_invalid("domain is not running")
}

/// No guest of this name.
pub(crate) fn no_name(name: impl Display) -> VirtError {
    QEMU.no_domain(format_args!("no domain with matching name '{name}'"))
}

/// No guest of this UUID; the client's idea of its name helps people.
pub(crate) fn no_uuid(uuid: &[u8; 16], name: Option<&str>) -> VirtError {
    let uuid = Uuid::from_bytes(*uuid).hyphenated();
    match name {
        Some(name) => QEMU.no_domain(format_args!("no domain with matching uuid '{uuid}' ({name})")),
        None => QEMU.no_domain(format_args!("no domain with matching uuid '{uuid}'")),
    }
}

/// No running guest of this number.
pub(crate) fn no_id(id: i32) -> VirtError {
    QEMU.no_domain(format_args!("no domain with matching id {id}"))
}

/// A command that QEMU refused, or a monitor that is gone.
pub(crate) fn monitor(error: QmpError) -> VirtError {
    match error {
        QmpError::Command(error) => QEMU.internal_error(format_args!(
            "unable to execute QEMU command '{}': {}",
            error.command, error.desc
        )),
        QmpError::Silent { .. } => QEMU.operation_timeout(error),
        QmpError::Closed => QEMU.operation_failed("domain is no longer running"),
        other => QEMU.internal_error(other),
    }
}

/// A program that failed, and what it said.
pub(crate) fn child(line: &str, output: &Output) -> VirtError {
    let (status, said) = (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr));
    QEMU.internal_error(format_args!("Child process ({line}) unexpected exit status {status}: {said}"))
}

/// A file that cannot be written, read or removed.
pub(crate) fn file(error: &std::io::Error, what: impl Display) -> VirtError {
    VirtError::system(QEMU, error, what)
}

/// Flags that a function does not know.
pub(crate) fn check_flags(flags: u32, known: u32, function: &str) -> Result<()> {
    virtwire_driver_api::check_flags(QEMU, flags, known, function)
}

/// Flags that do not go together: the message stands alone, and the error names the function.
pub(crate) fn bad_flags(domain: ErrorDomain, function: &str, text: impl Display) -> VirtError {
    VirtError {
        message: text.to_string(),
        str1: Some(function.to_owned()),
        str2: Some("ctl".to_owned()),
        int1: 0,
        int2: 0,
        ..domain.invalid_arg("")
    }
}
