//! Images behind a disk's own, where the definition leaves it to the files to name them.

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use virtwire_conf::domain::disk::{BackingFormat, BackingStore, Disk, DiskSource, StorageType};
use virtwire_conf::image::{HEAD, Image, read};
use virtwire_protocol::{ErrorDomain, VirtError};

use crate::error::Result;
use crate::named;

const STORAGE: ErrorDomain = ErrorDomain::STORAGE;

/// No chain is longer: whoever makes one that ends in itself should not hang the daemon.
const LONGEST: usize = 200;

/// Finds the images behind a disk. Only files and block devices are looked into, and only those that are said to have
/// a format that names others. What the definition says stands.
///
/// # Errors
/// `VIR_ERR_OPERATION_INVALID` for an image that must be guessed to be anything but raw, `VIR_ERR_SYSTEM_ERROR` for
/// one that cannot be read.
pub(crate) fn find(disk: &mut Disk) -> Result<()> {
    let is_opened = disk.source.as_ref().is_some_and(|source| source.fdgroup.is_some());
    if is_opened {
        return Ok(());
    }
    let format =
        disk.driver.as_ref().and_then(|driver| driver.type_.clone()).unwrap_or_else(|| "raw".to_owned());
    let path = disk.source.as_ref().and_then(|source| match disk.type_ {
        StorageType::File => source.file.clone(),
        StorageType::Block => source.dev.clone(),
        _ => None,
    });
    if let Some(path) = path {
        std::fs::metadata(&path).map_err(|error| {
            VirtError::system(STORAGE, &error, format_args!("Cannot access storage file '{path}'"))
        })?;
        if disk.backing_store.is_some() {
            return Ok(());
        }
        disk.backing_store = behind(Path::new(&path), &format, LONGEST)?;
    }
    Ok(())
}

/// What is behind an image; `None` where QEMU has to find that out.
fn behind(path: &Path, format: &str, most: usize) -> Result<Option<Box<BackingStore>>> {
    if format != "qcow2" {
        return Ok(Some(Box::default()));
    }
    let Some((next, said)) = look(path)?.backing else { return Ok(Some(Box::default())) };
    if most == 0 {
        return Err(STORAGE.internal_error(format_args!("backing chain of '{}' has no end", path.display())));
    }
    // Not a path but a URI, or the options of a node.
    if next.to_string_lossy().contains(':') {
        return Ok(None);
    }
    std::fs::metadata(&next).map_err(|error| {
        let (next, path) = (next.display(), path.display());
        let what = format_args!("Cannot access backing file '{next}' of storage file '{path}'");
        VirtError::system(STORAGE, &error, what)
    })?;
    let format = match said {
        Some(format) => format,
        None => guess(&next, path)?.to_owned(),
    };
    let backing_store = behind(&next, &format, most - 1)?;
    Ok(Some(Box::new(image(&next, format, backing_store))))
}

/// A format that nobody says is raw, or too dangerous to be believed.
fn guess(next: &Path, of: &Path) -> Result<&'static str> {
    match look(next)?.format {
        "raw" => Ok("raw"),
        _ => Err(STORAGE.operation_invalid(format_args!(
            "format of backing image '{}' of image '{}' was not specified in the image metadata (See https://libvirt.org/kbase/backing_chains.html for troubleshooting)",
            of.parent().and_then(|dir| next.strip_prefix(dir).ok()).unwrap_or(next).display(),
            of.display()
        ))),
    }
}

fn image(path: &PathBuf, format: String, backing_store: Option<Box<BackingStore>>) -> BackingStore {
    let is_block = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
    let text = Some(path.display().to_string());
    let source = match is_block {
        true => DiskSource { dev: text, ..DiskSource::default() },
        false => DiskSource { file: text, ..DiskSource::default() },
    };
    BackingStore {
        type_: Some(if is_block { StorageType::Block } else { StorageType::File }),
        format: Some(BackingFormat { type_: format, ..BackingFormat::default() }),
        source: Some(source),
        backing_store,
        ..BackingStore::default()
    }
}

/// What an image says of the one below it: a path as it stands there, if it names one.
///
/// # Errors
/// The image cannot be read.
pub(crate) fn said_below(path: &Path) -> Result<Option<PathBuf>> {
    Ok(look_from(path, Path::new(""))?.backing.map(|(next, _)| next))
}

/// Looks into an image.
///
/// # Errors
/// It cannot be read.
pub(crate) fn look(path: &Path) -> Result<Image> {
    look_from(path, path.parent().unwrap_or(Path::new("/")))
}

/// Looks into an image whose words mean places below `dir`.
fn look_from(path: &Path, dir: &Path) -> Result<Image> {
    let cannot = |error: std::io::Error| {
        VirtError::system(STORAGE, &error, format_args!("Cannot access storage file '{}'", path.display()))
    };
    let file = named::options().read(true).open(path).map_err(cannot)?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head).map_err(cannot)?;
    Ok(read(&head, dir))
}
