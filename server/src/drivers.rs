//! The drivers of this daemon.

use std::io;
use std::path::Path;
use std::sync::Arc;

use virtwire_driver_api::Driver;
use virtwire_driver_qemu::QemuDriver;
use virtwire_driver_test::TestDriver;

/// All drivers; clients that name no URI get the first that has a default. The QEMU driver keeps its files below
/// `root`, and finds the guests that an earlier daemon left running before anybody can ask.
pub async fn all(root: Option<&Path>) -> io::Result<Vec<Arc<dyn Driver>>> {
    let qemu = QemuDriver::new(root.unwrap_or(Path::new("/")).to_owned());
    qemu.load().await?;
    Ok(vec![Arc::new(qemu), Arc::new(TestDriver::new())])
}
