//! Shows what happens to guests until the daemon ends: `cargo run --example events -- qemu:///system`

use virtwire_client::{Connect, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let uri = std::env::args().nth(1).unwrap_or_default();
    let connect = Connect::open(&uri).await?;
    connect.connection().on_close(|reason, error| eprintln!("closed ({reason:?}): {error}"));
    let mut events = connect.lifecycle_events().await?;
    println!("watching");
    while let Some(event) = events.next().await {
        println!("{} {}", event.domain.name(), event.what);
    }
    Ok(())
}
