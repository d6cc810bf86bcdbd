//! `virtwire`: guests of any libvirt daemon, or of many at once; any procedure; and what client and daemon say.

mod arguments;
mod call;
mod console;
mod copy;
mod demo;
mod events;
mod failure;
mod guests;
mod hosts;
mod info;
mod list;
mod manual;
mod migrate;
mod password;
mod procedures;
mod shape;
mod stats;
mod support;
mod table;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use guests::Action;

/// Guests of any libvirt daemon, or of many at once
#[derive(Parser, Debug)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    List(list::Options),
    Info(info::Options),
    /// Start guests
    Start(guests::Start),
    /// Ask guests to shut down
    Stop(guests::Options),
    /// Ask guests to boot again
    Reboot(guests::Options),
    /// Reset guests, as their reset buttons do
    Reset(guests::Options),
    /// Pause guests
    Suspend(guests::Options),
    /// Let paused guests go on
    Resume(guests::Options),
    /// End guests at once, as pulling the plug does
    Destroy(guests::Options),
    /// Remove the definitions of guests
    Undefine(guests::Options),
    Migrate(migrate::Options),
    Console(console::Options),
    /// Copy a volume into a file
    Download(copy::Options),
    /// Copy a file into a volume
    Upload(copy::Options),
    Events(events::Options),
    Stats(stats::Options),
    /// See it work: a daemon, a client, a guest's life, and what each call takes on the wire
    ///
    /// Everything is private to the demonstration and gone at its end.
    Demo,
    Call(call::Options),
    Support(support::Options),
    Trace(trace::Options),
    Completions(manual::Completions),
    Man(manual::Manual),
}

fn main() -> ExitCode {
    virtwired::embed();
    let options = Options::parse();
    let act = |action, options| block_on(guests::run(action, options));
    let done = match options.command {
        Command::List(options) => block_on(list::run(options)),
        Command::Info(options) => block_on(info::run(options)),
        Command::Start(start) => act(start.action(), start.options),
        Command::Stop(options) => act(Action::Stop, options),
        Command::Reboot(options) => act(Action::Reboot, options),
        Command::Reset(options) => act(Action::Reset, options),
        Command::Suspend(options) => act(Action::Suspend, options),
        Command::Resume(options) => act(Action::Resume, options),
        Command::Destroy(options) => act(Action::Destroy, options),
        Command::Undefine(options) => act(Action::Undefine, options),
        Command::Migrate(options) => block_on(migrate::run(options)),
        Command::Console(options) => block_on(console::run(options)),
        Command::Download(options) => block_on(copy::download(options)),
        Command::Upload(options) => block_on(copy::upload(options)),
        Command::Events(options) => block_on(events::run(options)),
        Command::Stats(options) => block_on(stats::run(options)),
        Command::Completions(options) => manual::completions(&options),
        Command::Man(options) => manual::manual(&options),
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
            failure.code().into()
        }
    }
}

/// One thread is enough for one connection, and quicker than several.
fn block_on<T>(work: impl Future<Output = Result<T, failure::Failure>>) -> Result<T, failure::Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
