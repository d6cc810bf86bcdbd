//! Defines a guest, starts it, waits for the event that says so, ends it: `cargo run --example lifecycle -- test:///default`

use virtwire_client::{
    Connect, DomainCreateFlags, DomainDefineFlags, DomainDestroyFlags, DomainUndefineFlags, Error, Lifecycle,
};

const GUEST: &str = "\
<domain type='test'>
  <name>example</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
</domain>";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let uri = std::env::args().nth(1).unwrap_or_default();
    let connect = Connect::open(&uri).await?;
    let domain = connect.define_domain(GUEST, DomainDefineFlags::empty()).await?;
    let mut events = domain.lifecycle_events().await?;
    domain.start(DomainCreateFlags::empty()).await?;
    while let Some(event) = events.next().await {
        println!("{} {}", event.domain.name(), event.what);
        if event.what == Lifecycle::Started {
            break;
        }
    }
    println!("{} is {}", domain.name(), domain.info().await?.state);
    domain.destroy(DomainDestroyFlags::empty()).await?;
    domain.undefine(DomainUndefineFlags::empty()).await?;
    connect.close().await
}
