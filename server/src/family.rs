//! Connections to one family of objects beside the guests: `network:///system`, `storage:///system`.

use std::sync::Arc;

use virtwire_driver_api::{CallCx, Connection, Driver, HypervisorDriver, async_trait, uri_path};
use virtwire_driver_qemu::{Companions, QemuDriver};
use virtwire_driver_storage as storage;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;

/// The URIs of a family. Its objects are those that connections to QEMU have too.
pub(crate) struct Family {
    name: &'static str,
    /// Gives a connection the driver of the family, if there is one.
    take: fn(&Companions, &mut Connection) -> Option<()>,
    qemu: Arc<QemuDriver>,
}

/// All families that have URIs of their own.
pub(crate) fn all(qemu: &Arc<QemuDriver>) -> impl Iterator<Item = Arc<dyn Driver>> {
    /// A row of the table below: the scheme of the URIs, and what of the companions it leads to.
    macro_rules! families {
        ($($name:literal => $field:ident;)*) => {
            [$(Family {
                name: $name,
                take: |companions, connection| {
                    connection.$field = Some(companions.$field.clone()?);
                    Some(())
                },
                qemu: Arc::clone(qemu),
            }),*]
        };
    }
    let families = families! {
        "network" => network;
        "storage" => storage;
        "secret" => secret;
        "nodedev" => node_device;
        "nwfilter" => nwfilter;
    };
    families.into_iter().map(|family| Arc::new(family) as Arc<dyn Driver>)
}

#[async_trait]
impl Driver for Family {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn open(&self, _: &CallCx, uri: &str) -> Result<Connection, VirtError> {
        let name = self.name;
        let path = uri_path(uri);
        let own = if self.qemu.is_privileged() { "/system" } else { "/session" };
        if path != own {
            let text = format_args!("unexpected {name} URI path '{path}', try {name}://{own}");
            return Err(ErrorDomain::NONE.internal_error(text));
        }
        let (companions, events) = self.qemu.companions().await?;
        let connection = Connection::new(format!("{name}://{own}"), Arc::new(NoGuests { name }), events);
        let mut connection = Connection { domain_events: false, ..connection };
        (self.take)(&companions, &mut connection).ok_or_else(|| ErrorDomain::NONE.no_connect(uri))?;
        Ok(connection)
    }
}

/// What stands in the place of a hypervisor.
struct NoGuests {
    name: &'static str,
}

#[async_trait]
impl HypervisorDriver for NoGuests {
    async fn connect_get_type(&self, _: &CallCx) -> Result<ConnectGetTypeRet, VirtError> {
        Ok(ConnectGetTypeRet { r#type: self.name.into() })
    }

    async fn connect_is_secure(&self, _: &CallCx) -> Result<ConnectIsSecureRet, VirtError> {
        Ok(ConnectIsSecureRet { secure: 1 })
    }

    async fn connect_get_capabilities(&self, _: &CallCx) -> Result<ConnectGetCapabilitiesRet, VirtError> {
        match self.name {
            "storage" => Ok(ConnectGetCapabilitiesRet { capabilities: storage::host_capabilities().into() }),
            _ => Err(ErrorDomain::DOMAIN.no_support("virConnectGetCapabilities")),
        }
    }
}
