//! The example of README.md, word for word.

use virtwire_client::{Connect, DomainListFlags, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // Any of libvirt's URIs: qemu+ssh://root@host/system, qemu://host/system (TLS), test:///default …
    let connect = Connect::open("qemu:///system").await?;
    for domain in connect.domains(DomainListFlags::ACTIVE).await? {
        let info = domain.info().await?;
        println!("{}: {}, {} MiB", domain.name(), info.state, info.memory_kib / 1024);
    }
    connect.close().await
}
