//! How a guest's memory is in a file: as QEMU sends it, made smaller by a program on its way, or each page at a place
//! of its own (`sparse`).

use std::io;

use crate::error::{QEMU, Result};
use crate::probe::find_in_path;
use crate::settings::Settings;

/// A format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Raw,
    Gzip,
    Bzip2,
    Xz,
    Lzop,
    Zstd,
    Sparse,
}

impl Format {
    /// libvirt's words, also those of the programs. Their places are the numbers in files.
    const ALL: [(Self, &str); 7] = [
        (Self::Raw, "raw"),
        (Self::Gzip, "gzip"),
        (Self::Bzip2, "bzip2"),
        (Self::Xz, "xz"),
        (Self::Lzop, "lzop"),
        (Self::Zstd, "zstd"),
        (Self::Sparse, "sparse"),
    ];

    /// The format of a number in a file.
    pub(super) fn of_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).map(|row| row.0)
    }

    /// The format of a word.
    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|row| row.1 == word).map(|row| row.0)
    }

    /// Its number in files.
    pub(super) fn number(self) -> u32 {
        self as u32
    }

    /// The program that makes it.
    pub(super) fn program(self) -> Option<&'static str> {
        match self {
            Self::Raw | Self::Sparse => None,
            other => Self::ALL.iter().find(|row| row.0 == other).map(|row| row.1),
        }
    }

    /// Whether this host can write it.
    fn is_here(self) -> bool {
        self.program().is_none_or(|program| find_in_path(program).is_some())
    }
}

/// What `qemu.conf` says of formats, as it says it: what is wrong with it is told to who wants to use it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Formats {
    save: Option<String>,
    dump: Option<String>,
    snapshot: Option<String>,
}

impl Formats {
    /// As `qemu.conf` says.
    ///
    /// # Errors
    /// It says something else than words.
    pub(crate) fn of(settings: &Settings) -> io::Result<Self> {
        Ok(Self {
            save: settings.text("save_image_format")?,
            dump: settings.text("dump_image_format")?,
            snapshot: settings.text("snapshot_image_format")?,
        })
    }

    /// What a guest is saved in: as a client says, or as is set.
    ///
    /// # Errors
    /// There is no such format, or not here.
    pub(super) fn of_save(&self, asked: Option<&str>) -> Result<Format> {
        chosen(asked, self.save.as_deref(), "save")
    }

    /// What the memory of a snapshot is in.
    ///
    /// # Errors
    /// There is no such format, or not here.
    pub(crate) fn of_snapshot(&self) -> Result<Format> {
        chosen(None, self.snapshot.as_deref(), "snapshot")
    }

    /// What a guest's memory is put into for others to look at; as QEMU sends it where what is set cannot be.
    pub(crate) fn of_dump(&self) -> Format {
        chosen(None, self.dump.as_deref(), "dump").unwrap_or_else(|error| {
            tracing::warn!(%error, "memory is dumped as it is");
            Format::Raw
        })
    }
}

/// The format of a word that a client says, or that is set, for what is to be kept so.
fn chosen(asked: Option<&str>, set: Option<&str>, what: &str) -> Result<Format> {
    let Some(word) = asked.or(set) else { return Ok(Format::Raw) };
    let unknown = || match asked {
        Some(word) => QEMU.operation_failed(format_args!("Invalid image_format '{word}'")),
        None => {
            let text = format_args!("Invalid {what} image format specified in configuration file");
            QEMU.operation_failed(text)
        }
    };
    let format = Format::of_word(word).ok_or_else(unknown)?;
    if !format.is_here() {
        let text =
            format_args!("Compression program for {what} image format in configuration file isn't available");
        return Err(QEMU.operation_failed(text));
    }
    Ok(format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::given;

    #[test]
    fn numbers_in_files_are_libvirts() {
        let words: Vec<_> = (0..8).map(|number| Format::of_number(number).map(Format::number)).collect();
        assert_eq!(words, [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), None]);
        assert_eq!(
            (Format::of_word("zstd"), Format::of_word("sparse")),
            (Some(Format::Zstd), Some(Format::Sparse))
        );
    }

    #[test]
    fn who_asks_comes_before_what_is_set() {
        let text =
            "save_image_format = \"nosuch\"\ndump_image_format = \"nosuch\"\nsnapshot_image_format = \"\"\n";
        let formats = Formats::of(&given(text)).unwrap();
        assert_eq!(formats.of_save(Some("raw")), Ok(Format::Raw));
        let message = |asked| formats.of_save(asked).unwrap_err().message;
        assert_eq!(
            message(None),
            "operation failed: Invalid save image format specified in configuration file"
        );
        assert_eq!(message(Some("x")), "operation failed: Invalid image_format 'x'");
        assert_eq!((formats.of_dump(), formats.of_snapshot()), (Format::Raw, Ok(Format::Raw)));
        assert!(Formats::of(&given("save_image_format = 3")).is_err());
    }
}
