//! Manual pages and shell completions, from the options themselves; the package is made with them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// Writes the page of a program of the administrator's (section 8) and its completions into a directory.
///
/// # Errors
/// Where files cannot be written.
pub fn write(mut command: Command, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &name, directory)?;
    }
    let mut page = File::create(directory.join(format!("{name}.8")))?;
    clap_mangen::Man::new(command).section("8").manual("Virtwire").render(&mut page)
}
