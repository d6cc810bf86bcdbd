//! `virtwired-passwd`: the users that virtwired's SASL knows.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use virtwired::auth::{PasswordFile, Verifier};
use virtwired::config::Settings;
use virtwired::manual;

/// Sets the password of a user of virtwired, or removes users.
///
/// The file holds salted keys (SCRAM-SHA-256), no passwords. The daemon looks into it at each login.
#[derive(Parser, Debug)]
#[command(name = "virtwired-passwd", version, about)]
struct Options {
    /// The users file [default: /etc/libvirt/sasl-users]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Remove the user
    #[arg(short, long, conflicts_with = "list")]
    delete: bool,

    /// Print the names of all users
    #[arg(short, long)]
    list: bool,

    /// Write the manual page and completions into this directory, and exit
    #[arg(long, value_name = "DIR", hide = true)]
    manual: Option<PathBuf>,

    /// The user. The password is asked for, or read from standard input where that is no terminal
    #[arg(required_unless_present_any = ["list", "manual"])]
    name: Option<String>,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virtwired-passwd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    if let Some(directory) = &options.manual {
        return manual::write(Options::command(), directory);
    }
    let path = options.file.unwrap_or_else(|| Settings::default().sasl_users_file.into());
    let mut users = PasswordFile::read(&path)?;
    let Some(name) = options.name.filter(|_| !options.list) else {
        users.names().for_each(|name| println!("{name}"));
        return Ok(());
    };
    if options.delete {
        if !users.remove(&name) {
            return Err(io::Error::other(format!("there is no user '{name}'")));
        }
    } else {
        let keys = Verifier::new(&password()?).ok_or_else(|| {
            io::Error::other("the password is empty, or has characters that no password may have")
        })?;
        if !users.set(&name, keys) {
            return Err(io::Error::other(format!("'{name}' cannot be the name of a user")));
        }
    }
    users.write(&path)
}

/// The password: asked for twice at a terminal, else the first line of the input.
fn password() -> io::Result<String> {
    if io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ")?;
        if first != rpassword::prompt_password("Again: ")? {
            return Err(io::Error::other("the passwords differ"));
        }
        return Ok(first);
    }
    let mut input = String::new();
    io::stdin().read_to_string(&mut input)?;
    Ok(input.lines().next().unwrap_or_default().to_owned())
}
