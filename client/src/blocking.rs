//! Everything here without `async`: `.wait()` behind any call does it and gives its result.
//!
//! ```no_run
//! use virtwire_client::blocking::Wait;
//! use virtwire_client::{Connect, DomainListFlags};
//!
//! # fn list() -> Result<(), virtwire_client::Error> {
//! let connect = Connect::open("qemu:///system").wait()?;
//! for domain in connect.domains(DomainListFlags::empty()).wait()? {
//!     println!("{} {}", domain.name(), domain.info().wait()?.state);
//! }
//! # Ok(())
//! # }
//! ```

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// Waits for a future where there is no `async`.
pub trait Wait: Future {
    /// Does the work and gives its result. Connections are served by one thread in the background.
    ///
    /// # Panics
    /// Within an `async` context, where waiting would hold up everybody else; and if no thread can be started.
    fn wait(self) -> Self::Output;
}

impl<F: Future> Wait for F {
    fn wait(self) -> Self::Output {
        runtime().block_on(self)
    }
}

/// One thread for all connections of the process.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("virtwire-client").enable_all();
        builder.build().unwrap_or_else(|error| panic!("no thread for connections: {error}"))
    })
}
