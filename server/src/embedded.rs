//! The test hypervisor inside a client's own process.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::net::UnixStream;
use virtwire_driver_test::TestDriver;

use crate::{Access, Limits, Program, Service};

/// From now on `test:///default` is in this process for `virtwire-client`, as it is with libvirt's own library: all its
/// connections see the same, which is gone with the last of them.
pub fn embed() {
    virtwire_client::embed(connect);
}

fn connect(read_only: bool) -> io::Result<UnixStream> {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    let service = SERVICE.get_or_init(|| Service::new(vec![Arc::new(TestDriver::new())], Limits::default()));
    let (ours, theirs) = UnixStream::pair()?;
    let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
    let service = service.clone();
    tokio::spawn(async move { service.serve(theirs, Program::Remote, access).await });
    Ok(ours)
}
