//! `virtwire console`: a guest's console on this terminal.

use std::io::{IsTerminal, Read, Write};

use clap::Args;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;
use virtwire_client::{Chunk, DomainConsoleFlags, Stream};

use crate::failure::Failure;
use crate::guests;
use crate::hosts::Hosts;

/// Connect this terminal to a guest's console; ^] leaves it
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The guest, by name, UUID or id
    guest: String,

    /// The alias of the device; the first console if none is named
    #[arg(short, long)]
    device: Option<String>,

    /// Take the console from whoever has it
    #[arg(short, long)]
    force: bool,

    #[command(flatten)]
    hosts: Hosts,
}

/// `^]`
const LEAVE: u8 = 0x1d;

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let connect = options.hosts.only().await?;
    let domain = guests::find(&connect, &options.guest).await?;
    let flags = if options.force { DomainConsoleFlags::FORCE } else { DomainConsoleFlags::empty() };
    let stream = domain.console(options.device.as_deref(), flags).await?;
    let raw = Raw::new();
    if raw.is_some() {
        eprint!("Connected to {}, ^] leaves\r\n", domain.name());
    }
    let done = converse(&stream).await;
    drop(raw);
    done?;
    // The guest may have ended, and its console with it.
    let _ = stream.abort().await;
    let _ = connect.close().await;
    Ok(())
}

/// Carries bytes both ways until the guest ends, or the user leaves.
async fn converse(stream: &Stream) -> Result<(), Failure> {
    let mut keys = keys();
    loop {
        tokio::select! {
            chunk = stream.recv() => match chunk? {
                Some(Chunk::Data(bytes)) => {
                    let mut out = std::io::stdout();
                    out.write_all(&bytes)?;
                    out.flush()?;
                }
                Some(Chunk::Hole(_)) => {}
                None => return Ok(()),
            },
            Some(typed) = keys.recv() => {
                let (typed, leaves) = match typed.iter().position(|key| *key == LEAVE) {
                    Some(at) => (typed.get(..at).unwrap_or_default().to_vec(), true),
                    None => (typed, false),
                };
                stream.send(&typed).await?;
                if leaves {
                    return Ok(());
                }
            }
        }
    }
}

/// What is typed, from a thread of its own: reading a terminal cannot be given up. The channel ends with the input.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut bytes) {
            let typed = bytes.get(..count).unwrap_or_default().to_vec();
            if sender.blocking_send(typed).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal without its own meaning of keys; as it was before when this is dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> Option<Self> {
        let terminal = std::io::stdin();
        let before = terminal.is_terminal().then(|| tcgetattr(&terminal).ok()).flatten()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Flush, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}
