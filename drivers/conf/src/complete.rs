//! What is checked and filled in after reading.

use virtwire_protocol::VirtError;

use crate::{
    Checkpoint, Domain, Interface, Network, NodeDevice, Nwfilter, ParseOptions, Secret, Snapshot,
    StoragePool, StorageVol,
};

macro_rules! nothing_to_complete {
    ($($name:ident)*) => {$(
        impl $name {
            #[allow(clippy::unnecessary_wraps, reason = "all definitions are completed alike")]
            pub(crate) fn complete(&mut self, _options: &ParseOptions) -> Result<(), VirtError> {
                Ok(())
            }
        }
    )*};
}

nothing_to_complete! {
    Domain Network StoragePool StorageVol Secret Interface NodeDevice Nwfilter Snapshot Checkpoint
}
