//! Memory in files: save, restore, dump.
//!
//! A saved guest is a file of the mark, the length of the definition as four bytes, little-endian, and the definition.

use std::fs::{File, read};
use std::io::{Error, Write};

use virtwire_conf::FormatOptions;
use virtwire_protocol::VirtError;
use virtwire_protocol::remote as wire;

use super::guest::Definition;
use super::info::check_saveable;
use super::lifecycle::{create_running, stop};
use super::state::Step;
use crate::error::{Result, TEST, check_flags};
use crate::host::Host;

/// What saved guests and dumps begin with.
const MARK: &[u8] = b"TestGuestMagic\0";
/// The longest definition that is read back.
const LENGTH_MAX: usize = 16 * 1024 * 1024;

/// The stored form.
const STORED: FormatOptions =
    FormatOptions { secure: true, inactive: true, update_cpu: false, migratable: false, status: false };

fn write_image(file: &mut impl Write, definition: &Definition) -> std::io::Result<()> {
    let text = definition.domain().to_xml(&STORED);
    file.write_all(MARK)?;
    file.write_all(&(text.len() as u32).to_le_bytes())?;
    file.write_all(text.as_bytes())
}

/// The definition in an image.
fn read_image(path: &str) -> Result<Definition> {
    let bytes = read(path).map_err(|error| {
        VirtError::system(TEST, &error, format_args!("cannot read domain image '{path}'"))
    })?;
    let Some((mark, rest)) = bytes.split_at_checked(MARK.len()) else {
        return Err(short(format_args!("incomplete save header in '{path}'")));
    };
    if mark != MARK {
        return Err(TEST.internal_error("mismatched header magic"));
    }
    let Some((length, text)) = rest.split_first_chunk::<4>() else {
        return Err(short(format_args!("failed to read metadata length in '{path}'")));
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > LENGTH_MAX {
        return Err(TEST.internal_error("length of metadata out of range"));
    }
    let Some(text) = text.get(..length) else {
        return Err(short(format_args!("incomplete metadata in '{path}'")));
    };
    Definition::parse(&String::from_utf8_lossy(text))
}

/// A file that ends too soon: an error of the system, though the system had none.
fn short(what: std::fmt::Arguments<'_>) -> VirtError {
    VirtError { int1: 0, ..TEST.system_error(format_args!("{what}: Success")) }
}

/// This driver takes definitions as they were saved.
fn check_unchanged(xml: &Option<virtwire_protocol::XdrString>) -> Result<()> {
    match xml {
        Some(_) => Err(TEST.argument_unsupported("xml modification unsupported")),
        None => Ok(()),
    }
}

fn save_to(host: &mut Host, dom: &wire::NonnullDomain, path: &str) -> Result<()> {
    let guest = host.guest(dom)?;
    guest.check_running()?;
    let failed = |what: &str, error: &Error| {
        let text = format_args!("saving domain '{}' to '{path}': {what} failed", dom.name);
        VirtError::system(TEST, error, text)
    };
    let mut file = File::create(path).map_err(|error| failed("open", &error))?;
    write_image(&mut file, guest.definition()).map_err(|error| failed("write", &error))?;
    stop(host, dom, Step::SAVE)
}

pub(crate) fn save(host: &mut Host, args: wire::DomainSaveArgs) -> Result<()> {
    save_to(host, &args.dom, &args.to.to_str_lossy())
}

pub(crate) fn save_flags(host: &mut Host, args: wire::DomainSaveFlagsArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainSaveFlags")?;
    check_unchanged(&args.dxml)?;
    save_to(host, &args.dom, &args.to.to_str_lossy())
}

pub(crate) fn restore(host: &mut Host, args: wire::DomainRestoreArgs) -> Result<()> {
    let definition = read_image(&args.from.to_str_lossy())?;
    create_running(host, definition, Step::RESTORE).map(drop)
}

pub(crate) fn restore_flags(host: &mut Host, args: wire::DomainRestoreFlagsArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainRestoreFlags")?;
    check_unchanged(&args.dxml)?;
    restore(host, wire::DomainRestoreArgs { from: args.from })
}

pub(crate) fn image_xml_desc(
    _: &mut Host,
    args: wire::DomainSaveImageGetXmlDescArgs,
) -> Result<wire::DomainSaveImageGetXmlDescRet> {
    const SECURE: u32 = 1;
    check_flags(args.flags, SECURE, "testDomainSaveImageGetXMLDesc")?;
    let definition = read_image(&args.file.to_str_lossy())?;
    let options = FormatOptions { secure: args.flags & SECURE != 0, ..STORED };
    Ok(wire::DomainSaveImageGetXmlDescRet { xml: definition.text(options) })
}

pub(crate) fn image_define_xml(_: &mut Host, args: wire::DomainSaveImageDefineXmlArgs) -> Result<()> {
    const RUNNING_OR_PAUSED: u32 = 2 | 4;
    check_flags(args.flags, RUNNING_OR_PAUSED, "testDomainSaveImageDefineXML")?;
    let path = args.file.to_str_lossy();
    read_image(&path)?;
    let definition = Definition::parse(&args.dxml.to_str_lossy())?;
    File::create(&*path)
        .and_then(|mut file| write_image(&mut file, &definition))
        .map_err(|error| VirtError::system(TEST, &error, format_args!("cannot write domain image '{path}'")))
}

pub(crate) fn managed_save(host: &mut Host, args: wire::DomainManagedSaveArgs) -> Result<()> {
    /// `virDomainSaveRestoreFlags`: BYPASS_CACHE 1, RUNNING 2, PAUSED 4.
    const KNOWN: u32 = 1 | 2 | 4;
    check_flags(args.flags, KNOWN, "testDomainManagedSave")?;
    let guest = host.guest_mut(&args.dom)?;
    check_saveable(guest)?;
    guest.managed_save = true;
    stop(host, &args.dom, Step::SAVE)
}

pub(crate) fn has_managed_save(
    host: &mut Host,
    args: wire::DomainHasManagedSaveImageArgs,
) -> Result<wire::DomainHasManagedSaveImageRet> {
    check_flags(args.flags, 0, "testDomainHasManagedSaveImage")?;
    Ok(wire::DomainHasManagedSaveImageRet { result: host.guest(&args.dom)?.managed_save.into() })
}

pub(crate) fn remove_managed_save(host: &mut Host, args: wire::DomainManagedSaveRemoveArgs) -> Result<()> {
    check_flags(args.flags, 0, "testDomainManagedSaveRemove")?;
    host.guest_mut(&args.dom)?.managed_save = false;
    Ok(())
}

pub(crate) fn core_dump(host: &mut Host, args: wire::DomainCoreDumpArgs) -> Result<()> {
    let wire::DomainCoreDumpArgs { dom, to, flags } = args;
    core_dump_with_format(host, wire::DomainCoreDumpWithFormatArgs { dom, to, dumpformat: 0, flags })
}

pub(crate) fn core_dump_with_format(host: &mut Host, args: wire::DomainCoreDumpWithFormatArgs) -> Result<()> {
    const CRASH: u32 = 1;
    check_flags(args.flags, CRASH, "testDomainCoreDumpWithFormat")?;
    let guest = host.guest(&args.dom)?;
    guest.check_running()?;
    let path = args.to.to_str_lossy();
    let mut file = File::create(&*path).map_err(|error| {
        let text = format_args!("domain '{}' coredump: failed to open {path}", guest.wire.name);
        VirtError::system(TEST, &error, text)
    })?;
    file.write_all(MARK).map_err(|error| {
        let text = format_args!("domain '{}' coredump: failed to write header to {path}", guest.wire.name);
        VirtError::system(TEST, &error, text)
    })?;
    if args.dumpformat != 0 {
        return Err(TEST.operation_unsupported("kdump-compressed format is not supported here"));
    }
    if args.flags & CRASH != 0 { stop(host, &args.dom, Step::CRASH) } else { Ok(()) }
}
