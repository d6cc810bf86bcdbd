//! Shows a guest's console, and sends it what is typed: `cargo run --example console -- qemu:///system guest`

use std::io::Error;

use virtwire_client::{Connect, DomainConsoleFlags};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [uri, guest] = arguments.as_slice() else { return Err(Error::other("arguments: URI, guest")) };
    let connect = Connect::open(uri).await.map_err(Error::other)?;
    let domain = connect.domain_by_name(guest).await.map_err(Error::other)?;
    let console = domain.console(None, DomainConsoleFlags::empty()).await.map_err(Error::other)?;
    eprintln!("connected to {guest}");
    let (mut from, mut to) = tokio::io::split(console.into_io());
    let (mut keys, mut screen) = (tokio::io::stdin(), tokio::io::stdout());
    tokio::select! {
        shown = tokio::io::copy(&mut from, &mut screen) => shown?,
        typed = tokio::io::copy(&mut keys, &mut to) => typed?,
    };
    // Whoever reads a terminal waits for the next key, and the end of the program would wait for that.
    std::process::exit(0)
}
