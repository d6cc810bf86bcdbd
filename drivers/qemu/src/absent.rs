//! What a guest of this driver does not have yet, said in libvirt's words.

use virtwire_protocol::remote::*;

use crate::driver::Qemu;
use crate::error::{QEMU, Result};

pub(crate) async fn sev_info(_: &Qemu, _: NodeGetSevInfoArgs) -> Result<NodeGetSevInfoRet> {
    Err(QEMU.operation_unsupported("QEMU does not support SEV guest"))
}

/// Lists that are empty as long as nothing can be put into them.
macro_rules! empty {
    ($($name:ident($args:ty) -> $ret:ty;)*) => {
        $(pub(crate) async fn $name(driver: &Qemu, args: $args) -> Result<$ret> {
            driver.guest(&args.dom)?;
            Ok(<$ret>::default())
        })*
    };
}

empty! {
    disk_errors(DomainGetDiskErrorsArgs) -> DomainGetDiskErrorsRet;
    launch_security(DomainGetLaunchSecurityInfoArgs) -> DomainGetLaunchSecurityInfoRet;
}
