//! From a call's header to the generated function that serves it.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use virtwire_driver_api::{
    CallCx, Connection, HypervisorDriver, InterfaceDriver, NetworkDriver, NodeDeviceDriver, NwfilterDriver,
    SecretDriver, StorageDriver, StreamEnd,
};
use virtwire_protocol::codec::{self, Decode, Encode};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::frame;
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::procedures::ProcedureInfo;
use virtwire_protocol::remote::StoragePoolLookupByNameArgs;

use crate::access::{self, Attributes, Object, Resolve};
use crate::session::Session;
use crate::trace;

/// What serves a procedure: decodes the payload and returns the work, not yet begun.
pub(crate) type Serve = fn(Call, &[u8]) -> Serving;
/// The work of a call, or why it cannot begin.
pub(crate) type Serving = Result<Work, VirtError>;
/// The work of a call.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Reply, VirtError>> + Send>>;

/// A question about what a client may do; whom it is asked may take its time.
pub(crate) type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A whole reply frame and the descriptors behind it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) frame: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// One call, decoded as far as its header.
pub(crate) struct Call {
    pub(crate) header: MessageHeader,
    pub(crate) info: &'static ProcedureInfo,
    pub(crate) cx: CallCx,
    pub(crate) session: Arc<Session>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

mod generated {
    #![allow(clippy::unit_arg, clippy::let_unit_value, unreachable_pub)]
    use super::{Call, Serve, Serving, SessionProcedures};

    include!(concat!(env!("OUT_DIR"), "/remote_procs.rs"));
    include!(concat!(env!("OUT_DIR"), "/qemu_procs.rs"));
    include!(concat!(env!("OUT_DIR"), "/lxc_procs.rs"));

    /// The admin program numbers and names its procedures anew.
    pub(crate) mod admin {
        use super::super::{AdminProcedures, Call, Serve, Serving};

        include!(concat!(env!("OUT_DIR"), "/admin_procs.rs"));
    }
}

/// The traits of what the daemon answers itself.
mod own {
    #![allow(unreachable_pub)]
    use virtwire_driver_api::CallCx;
    use virtwire_protocol::error::{ErrorDomain, VirtError};

    include!(concat!(env!("OUT_DIR"), "/session.rs"));
    include!(concat!(env!("OUT_DIR"), "/admin.rs"));
}

pub(crate) use generated::admin::ADMIN_PROCS;
pub(crate) use generated::{LXC_PROCS, QEMU_PROCS, REMOTE_PROCS};
pub(crate) use own::{AdminProcedures, SessionProcedures};

macro_rules! families {
    ($($(#[$doc:meta])* $family:ident $driver:ident;)*) => {
        $($(#[$doc])*
        pub(crate) fn $family(&self) -> Result<Arc<dyn $driver>, VirtError> {
            self.connection()?.$family.ok_or_else(|| self.info.no_support())
        })*
    };
}

impl Call {
    /// The arguments.
    pub(crate) fn decode<'a, T: Decode<'a>>(&self, payload: &'a [u8]) -> Result<T, VirtError> {
        codec::decode(payload).map_err(|error| {
            tracing::debug!(procedure = self.info.name, %error, "arguments do not decode");
            ErrorDomain::RPC.rpc("Unable to decode message payload")
        })
    }

    /// For procedures that a read-only connection may call only in part.
    pub(crate) fn refuse_read_only_if(&self, forbidden: bool) -> Result<(), VirtError> {
        if forbidden && self.cx.read_only { Err(self.info.read_only_refusal()) } else { Ok(()) }
    }

    /// Refuses a call whose arguments break a rule of its procedure.
    pub(crate) fn refuse_if(
        &self,
        broken: bool,
        rule: usize,
        value: impl std::fmt::Display,
    ) -> Result<(), VirtError> {
        match self.info.checks.get(rule) {
            Some(check) if broken => Err(check.refusal(self.info, value)),
            _ => Ok(()),
        }
    }

    /// Whether anybody decides on single calls.
    pub(crate) fn is_guarded(&self) -> bool {
        self.session.service.policy.is_guarded()
    }

    /// Whether the client has a permission on an object.
    pub(crate) fn permits<O: Object + ?Sized>(
        &self,
        kind: &'static str,
        permission: &'static str,
        object: &O,
    ) -> Asked<'_, bool> {
        let attributes = self.session.attributes(kind, object);
        Box::pin(self.is_permitted(kind, permission, attributes))
    }

    /// Refuses the call where the client has not.
    pub(crate) fn permit<O: Object + ?Sized>(
        &self,
        kind: &'static str,
        permission: &'static str,
        object: &O,
    ) -> Asked<'_, Result<(), VirtError>> {
        let attributes = self.session.attributes(kind, object);
        Box::pin(async move {
            let driver = attributes.get("connect_driver").unwrap_or_default().to_owned();
            if self.is_permitted(kind, permission, attributes).await {
                return Ok(());
            }
            tracing::info!(
                client = self.session.id,
                procedure = self.info.name,
                kind,
                permission,
                "access denied"
            );
            Err(access::denied(&driver))
        })
    }

    /// Leaves in a list what the client has a permission on. `part` is what stands for the object.
    pub(crate) fn retain<'a, T: Send, O: Object + 'a>(
        &'a self,
        list: &'a mut Vec<T>,
        kind: &'static str,
        permission: &'static str,
        part: fn(&T) -> &O,
    ) -> Asked<'a, ()> {
        Box::pin(async move {
            let mut shown = Vec::with_capacity(list.len());
            for item in std::mem::take(list) {
                let attributes = self.session.attributes(kind, part(&item));
                if self.is_permitted(kind, permission, attributes).await {
                    shown.push(item);
                }
            }
            *list = shown;
        })
    }

    async fn is_permitted(&self, kind: &str, permission: &str, mut attributes: Attributes) -> bool {
        if kind == "storage_vol"
            && let Some(uuid) = self.pool_of(&attributes).await
        {
            attributes.uuid("pool_uuid", &uuid);
        }
        let asked = trace::access(&self.session, kind, permission, &attributes);
        let granted = self.session.permits(kind, permission, &attributes).await;
        asked.record("granted", granted);
        granted
    }

    /// The pool of a volume: a volume on the wire has its name only.
    async fn pool_of(&self, volume: &Attributes) -> Option<[u8; 16]> {
        if volume.get("pool_uuid").is_some() {
            return None;
        }
        let args = StoragePoolLookupByNameArgs { name: volume.get("pool_name")?.into() };
        Some(self.storage().ok()?.storage_pool_lookup_by_name(&self.cx, args).await.ok()?.pool.uuid)
    }

    /// Puts what the driver knows of an object in the place of what the client calls it.
    pub(crate) async fn resolve(&self, object: &mut (impl Resolve + Send)) -> Result<(), VirtError> {
        object.resolve(self).await
    }

    fn connection(&self) -> Result<Connection, VirtError> {
        self.session
            .connection()
            .ok_or_else(|| ErrorDomain::RPC.internal_error("hypervisor connection not open"))
    }

    /// What the daemon answers itself.
    pub(crate) fn session(&self) -> Result<Arc<Session>, VirtError> {
        Ok(Arc::clone(&self.session))
    }

    /// The daemon's administration.
    pub(crate) fn admin(&self) -> Result<Arc<Session>, VirtError> {
        Ok(Arc::clone(&self.session))
    }

    /// The hypervisor.
    pub(crate) fn hypervisor(&self) -> Result<Arc<dyn HypervisorDriver>, VirtError> {
        Ok(self.connection()?.hypervisor)
    }

    families! {
        /// Virtual networks.
        network NetworkDriver;
        /// Storage pools and volumes.
        storage StorageDriver;
        /// Host network interfaces.
        interface InterfaceDriver;
        /// Host devices.
        node_device NodeDeviceDriver;
        /// Secrets.
        secret SecretDriver;
        /// Network filters.
        nwfilter NwfilterDriver;
    }

    /// The driver's end of a new stream.
    pub(crate) fn open_stream(&self, sparse: bool) -> Result<StreamEnd, VirtError> {
        self.session.open_stream(&self.header, sparse)
    }

    /// The descriptors that came with the call.
    pub(crate) fn take_descriptors(&mut self, min: u32, max: u32) -> Result<Vec<OwnedFd>, VirtError> {
        let descriptors = std::mem::take(&mut self.descriptors);
        if descriptors.len() < min as usize {
            return Err(ErrorDomain::RPC
                .internal_error(format_args!("No FD available at slot {}", descriptors.len())));
        }
        if descriptors.len() > max as usize {
            return Err(ErrorDomain::RPC
                .internal_error(format_args!("{} FDs sent, {max} allowed", descriptors.len())));
        }
        Ok(descriptors)
    }

    /// An empty reply.
    pub(crate) fn done(&self) -> Result<Reply, VirtError> {
        self.reply(&())
    }

    /// An empty reply with descriptors.
    pub(crate) fn done_with(&self, descriptors: Vec<OwnedFd>) -> Result<Reply, VirtError> {
        self.reply_with(&(), descriptors)
    }

    /// A reply.
    pub(crate) fn reply<T: Encode>(&self, value: &T) -> Result<Reply, VirtError> {
        self.reply_with(value, Vec::new())
    }

    /// A reply with descriptors.
    pub(crate) fn reply_with<T: Encode>(
        &self,
        value: &T,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Reply, VirtError> {
        let mut header = frame::reply_to(&self.header, MessageStatus::OK);
        if !descriptors.is_empty() {
            header.r#type = MessageType::REPLY_WITH_FDS;
        }
        let frame = frame::encode(&header, descriptors.len(), value).map_err(|error| {
            tracing::warn!(procedure = self.info.name, %error, "a result is too large for the wire");
            ErrorDomain::RPC.rpc("Unable to encode message payload")
        })?;
        Ok(Reply { frame, descriptors })
    }
}
