//! `test:///default` inside this process, as libvirt's own library has it: a daemon without sockets at the other end of
//! a socket pair. What is said goes through the same frames as over any other connection.

use std::sync::{Arc, OnceLock};

use tokio::net::UnixStream;
use virtwire_driver_test::TestDriver;
use virtwired::{Access, Limits, Program, Service};

use super::Wire;
use crate::Error;

/// Connects to the process's own hypervisor: all its connections see the same, which is gone with the last of them.
pub(super) fn connect(read_only: bool) -> Result<Wire, Error> {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    let service = SERVICE.get_or_init(|| Service::new(vec![Arc::new(TestDriver::new())], Limits::default()));
    let (ours, theirs) = UnixStream::pair()?;
    let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
    let service = service.clone();
    tokio::spawn(async move { service.serve(theirs, Program::Remote, access).await });
    Ok(ours.into())
}
