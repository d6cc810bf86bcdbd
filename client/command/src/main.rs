//! `virtwire`: call any procedure of a libvirt daemon, see what ours serves, watch both at work.

mod arguments;
mod call;
mod demo;
mod failure;
mod procedures;
mod shape;
mod support;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Talks to any libvirt daemon, procedure by procedure.
#[derive(Parser, Debug)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// See it work: a daemon, a client, a guest's life, and what each call takes on the wire
    ///
    /// Everything is private to the demonstration and gone at its end.
    Demo,
    Call(call::Options),
    Support(support::Options),
    Trace(trace::Options),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.command {
        Command::Call(options) => block_on(call::run(options)),
        Command::Demo => block_on(demo::run()),
        Command::Trace(options) => block_on(trace::run(options)),
        Command::Support(options) => {
            support::run(&options);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// One thread is enough for one connection, and quicker than several.
fn block_on<T>(work: impl Future<Output = Result<T, failure::Failure>>) -> Result<T, failure::Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
