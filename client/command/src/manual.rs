//! Completions for shells, and manual pages: both from the options themselves.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;

/// Print completions for a shell
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Write manual pages into a directory
#[derive(Args, Debug)]
pub(crate) struct Manual {
    /// The directory; it is made if it is not there
    directory: PathBuf,
}

pub(crate) fn completions(options: &Completions) -> Result<(), Failure> {
    clap_complete::generate(
        options.shell,
        &mut crate::Options::command(),
        "virtwire",
        &mut std::io::stdout(),
    );
    Ok(())
}

pub(crate) fn manual(options: &Manual) -> Result<(), Failure> {
    let directory = &options.directory;
    let name = directory.display().to_string();
    std::fs::create_dir_all(directory).map_err(Failure::file(&name))?;
    clap_mangen::generate_to(crate::Options::command(), directory).map_err(Failure::file(&name))
}
