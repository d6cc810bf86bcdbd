//! Lists guests: `cargo run --example list -- qemu:///system`

use virtwire_client::{Connect, DomainListFlags, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let uri = std::env::args().nth(1).unwrap_or_default();
    let connect = Connect::open(&uri).await?;
    for domain in connect.domains(DomainListFlags::empty()).await? {
        let info = domain.info().await?;
        println!(
            "{:<20} {:<10} {} CPUs, {} MiB",
            domain.name(),
            info.state,
            info.vcpus,
            info.memory_kib / 1024
        );
    }
    connect.close().await
}
