//! What the daemon answers itself: authentication, open and close, features, event registration.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use virtwire_driver_api::{CallCx, Connection, EventSink};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::qemu::{
    ConnectDomainMonitorEventDeregisterArgs, ConnectDomainMonitorEventRegisterArgs,
    ConnectDomainMonitorEventRegisterRet,
};
use virtwire_protocol::remote::*;
use virtwire_protocol::{qemu, remote};

use crate::access::stated;
use crate::auth::Message;
use crate::config::Auth;
use crate::dispatch::SessionProcedures;
use crate::events::{Filter, MONITOR, MonitorFilter, Registration};
use crate::forward::{self, Upstream};
use crate::reached::Limit;
use crate::session::{OpenPhase, Phase, Session};

/// The libvirt release whose behaviour this is: 11.3.0.
pub(crate) const LIB_VERSION: u64 = 11_003_000;

/// `VIR_CONNECT_RO`: the client only wants to look.
const OPEN_READ_ONLY: u32 = 1;

/// Features (`VIR_DRV_FEATURE_…`) that the daemon has whatever the driver.
mod feature {
    pub(super) const FD_PASSING: i32 = 8;
    pub(super) const PROGRAM_KEEPALIVE: i32 = 10;
    pub(super) const REMOTE_EVENT_CALLBACK: i32 = 14;
    pub(super) const REMOTE_CLOSE_CALLBACK: i32 = 15;
}

fn rpc(detail: impl std::fmt::Display) -> VirtError {
    ErrorDomain::RPC.internal_error(detail)
}

impl Session {
    fn open_connection(&self) -> Result<Connection, VirtError> {
        self.connection().ok_or_else(|| rpc("hypervisor connection not open"))
    }

    /// Whether daemon and driver know events of this class and id.
    fn known(class: &str, id: i32, legacy: bool) -> Result<(), VirtError> {
        let events = remote::PROGRAM.procedures.iter().flatten().filter_map(|info| info.event);
        if events.into_iter().any(|event| (event.class, event.id, event.legacy) == (class, id, legacy)) {
            return Ok(());
        }
        // Events of domains came first, and are just events.
        let which = if class == "domain" { String::new() } else { class.replace('_', " ") + " " };
        Err(rpc(format_args!("unsupported {which}event ID {id}")))
    }

    fn register(&self, connection: &Connection, registration: Registration) -> Result<i32, VirtError> {
        let mut registrations = self.registrations();
        if registrations.iter().any(|other| other.class != MONITOR && other.same(&registration)) {
            return Err(ErrorDomain::NONE.invalid_arg("event callback already tracked"));
        }
        if registrations.len() >= self.limits().registrations {
            self.reached(Limit::Registrations);
            return Err(rpc("too many event callbacks"));
        }
        let first = registrations.is_empty();
        let id = connection.events.next_id(registration.class);
        let callback = registration.callback.map(|_| id);
        registrations.push(Registration { callback, ..registration });
        drop(registrations);
        if first && let Some(me) = self.me.upgrade() {
            if self.service.policy.is_guarded() {
                self.watched.begin(&self.me);
            }
            let sink: Arc<dyn EventSink> = me;
            connection.events.subscribe(&sink);
        }
        Ok(id)
    }

    fn register_callback(
        &self,
        class: &'static str,
        event: i32,
        filter: Option<Filter>,
    ) -> Result<i32, VirtError> {
        let connection = self.open_connection()?;
        Self::known(class, event, false)?;
        let (is_served, procedure) = match class {
            "network" => (connection.network.is_some(), Procedure::CONNECT_NETWORK_EVENT_REGISTER_ANY),
            "storage_pool" => {
                (connection.storage.is_some(), Procedure::CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY)
            }
            "node_device" => {
                (connection.node_device.is_some(), Procedure::CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY)
            }
            "secret" => (connection.secret.is_some(), Procedure::CONNECT_SECRET_EVENT_REGISTER_ANY),
            _ => (connection.domain_events, Procedure::CONNECT_DOMAIN_EVENT_REGISTER_ANY),
        };
        if !is_served {
            return Err(no_support(procedure));
        }
        self.register(&connection, Registration { class, event, callback: Some(0), filter, monitor: None })
    }

    fn deregister(
        &self,
        class: &str,
        matches: impl Fn(&Registration) -> bool,
        name: std::fmt::Arguments<'_>,
    ) -> Result<(), VirtError> {
        self.open_connection()?;
        let mut registrations = self.registrations();
        let Some(index) = registrations.iter().position(|r| r.class == class && matches(r)) else {
            let class = class.replace('_', " ");
            return Err(rpc(format_args!("{class} {name} not registered")));
        };
        registrations.remove(index);
        Ok(())
    }

    /// Makes the client one of the daemon's at this socket.
    async fn forward(&self, socket: PathBuf, name: &str, flags: u32) -> Result<(), VirtError> {
        let args = ConnectOpenArgs { name: Some(name.into()), flags };
        let (upstream, buffer) = Upstream::open(&socket, &args, &self.identity()).await?;
        let upstream = Arc::new(upstream);
        let me = self.me.upgrade().ok_or_else(|| rpc("connection not open"))?;
        self.upstream.set(Arc::clone(&upstream)).map_err(|_| rpc("connection already open"))?;
        tokio::spawn(upstream.carry(me, buffer));
        Ok(())
    }

    fn deregister_callback(&self, class: &str, id: i32) -> Result<(), VirtError> {
        self.deregister(
            class,
            |registration| registration.callback == Some(id),
            format_args!("event callback {id}"),
        )
    }
}

fn no_support(procedure: Procedure) -> VirtError {
    match remote::PROGRAM.procedure(procedure.0) {
        Some(info) => info.no_support(),
        None => ErrorDomain::NONE.no_support(""),
    }
}

#[async_trait]
impl SessionProcedures for Session {
    async fn auth_list(&self, _: &CallCx) -> Result<AuthListRet, VirtError> {
        if !self.needs_login() {
            self.authenticated(None);
        }
        let types = match self.auth() {
            _ if !self.needs_login() => AuthType::NONE,
            Auth::None => AuthType::NONE,
            Auth::Sasl => AuthType::SASL,
            Auth::Polkit => AuthType::POLKIT,
        };
        Ok(AuthListRet { types: vec![types] })
    }

    async fn auth_sasl_init(&self, _: &CallCx) -> Result<AuthSaslInitRet, VirtError> {
        Ok(AuthSaslInitRet { mechlist: self.sasl_init()?.into() })
    }

    async fn auth_sasl_start(
        &self,
        _: &CallCx,
        args: AuthSaslStartArgs,
    ) -> Result<AuthSaslStartRet, VirtError> {
        let data = (args.nil == 0).then_some(args.data);
        let Message { complete, data } = self.sasl_start(args.mech, data).await?;
        let nil = data.is_none().into();
        Ok(AuthSaslStartRet { complete: complete.into(), nil, data: data.unwrap_or_default() })
    }

    async fn auth_sasl_step(&self, _: &CallCx, args: AuthSaslStepArgs) -> Result<AuthSaslStepRet, VirtError> {
        let data = (args.nil == 0).then_some(args.data);
        let Message { complete, data } = self.sasl_step(data).await?;
        let nil = data.is_none().into();
        Ok(AuthSaslStepRet { complete: complete.into(), nil, data: data.unwrap_or_default() })
    }

    async fn auth_polkit(&self, _: &CallCx) -> Result<AuthPolkitRet, VirtError> {
        self.polkit().await?;
        Ok(AuthPolkitRet { complete: 1 })
    }

    async fn connect_open(&self, cx: &CallCx, args: ConnectOpenArgs) -> Result<(), VirtError> {
        let already = || rpc("connection already open");
        if self.connection().is_some() {
            return Err(already());
        }
        let Some(name) = args.name else { return Err(ErrorDomain::NONE.no_connect("(null)")) };
        let name = name.to_str_lossy();
        let read_only = args.flags & OPEN_READ_ONLY != 0 || cx.read_only;
        if let Some(dir) = &self.service.proxy {
            return self.forward(forward::socket(dir, &name, read_only)?, &name, args.flags).await;
        }
        let (driver, uri) = self.service.driver(&name)?;
        let cx = CallCx { read_only, ..cx.clone() };
        let connection = driver.open(&cx, &uri).await?;
        let mut phase = self.phase();
        match *phase {
            Phase::Authenticated => {
                *phase = Phase::Open(Box::new(OpenPhase { connection, read_only }));
                Ok(())
            }
            Phase::Open(_) => Err(already()),
            Phase::Greeting | Phase::Sealing { .. } | Phase::Closed => Err(rpc("connection not open")),
        }
    }

    /// Of those who come through a proxy: whom the rules are asked about from now on.
    async fn connect_set_identity(&self, _: &CallCx, args: ConnectSetIdentityArgs) -> Result<(), VirtError> {
        self.open_connection()?;
        let own = rustix::process::geteuid().as_raw();
        if !stated::is_believed(self.peer, own, self.is_read_only()) {
            return Err(ErrorDomain::RPC.access_denied("only a proxy of root's may speak for others"));
        }
        let who = stated::identity(&args.params)?;
        tracing::info!(client = self.id, ?who, "speaks for somebody");
        if self.login.state(who) { Ok(()) } else { Err(rpc("an identity was set already")) }
    }

    async fn connect_close(&self, _: &CallCx) -> Result<(), VirtError> {
        self.registrations().clear();
        // The old phase, and the driver in it, is dropped outside the lock.
        let _open = std::mem::replace(&mut *self.phase(), Phase::Closed);
        Ok(())
    }

    async fn connect_get_lib_version(&self, _: &CallCx) -> Result<ConnectGetLibVersionRet, VirtError> {
        self.open_connection()?;
        Ok(ConnectGetLibVersionRet { lib_ver: LIB_VERSION })
    }

    async fn connect_get_uri(&self, _: &CallCx) -> Result<ConnectGetUriRet, VirtError> {
        Ok(ConnectGetUriRet { uri: self.open_connection()?.uri.into() })
    }

    async fn connect_supports_feature(
        &self,
        _: &CallCx,
        args: ConnectSupportsFeatureArgs,
    ) -> Result<ConnectSupportsFeatureRet, VirtError> {
        let supported = match args.feature {
            // The only one that is answered before a hypervisor is open; asking it says the client can be pinged.
            feature::PROGRAM_KEEPALIVE => {
                self.announce_pingable();
                true
            }
            feature::FD_PASSING | feature::REMOTE_EVENT_CALLBACK | feature::REMOTE_CLOSE_CALLBACK => {
                self.open_connection()?;
                true
            }
            other => self.open_connection()?.features.contains(&other),
        };
        Ok(ConnectSupportsFeatureRet { supported: supported.into() })
    }

    async fn connect_register_close_callback(&self, _: &CallCx) -> Result<(), VirtError> {
        self.open_connection()?;
        Ok(())
    }

    async fn connect_unregister_close_callback(&self, _: &CallCx) -> Result<(), VirtError> {
        self.open_connection()?;
        Ok(())
    }

    async fn connect_domain_event_register(
        &self,
        _: &CallCx,
    ) -> Result<ConnectDomainEventRegisterRet, VirtError> {
        let connection = self.open_connection()?;
        if !connection.domain_events {
            return Err(no_support(Procedure::CONNECT_DOMAIN_EVENT_REGISTER));
        }
        self.register(&connection, legacy(VIR_DOMAIN_EVENT_ID_LIFECYCLE))?;
        Ok(ConnectDomainEventRegisterRet { cb_registered: 0 })
    }

    async fn connect_domain_event_deregister(
        &self,
        _: &CallCx,
    ) -> Result<ConnectDomainEventDeregisterRet, VirtError> {
        let event = VIR_DOMAIN_EVENT_ID_LIFECYCLE;
        let name = format_args!("event {event}");
        self.deregister("domain", |r| r.callback.is_none() && r.event == event, name)?;
        Ok(ConnectDomainEventDeregisterRet { cb_registered: 0 })
    }

    async fn connect_domain_event_register_any(
        &self,
        _: &CallCx,
        args: ConnectDomainEventRegisterAnyArgs,
    ) -> Result<(), VirtError> {
        let connection = self.open_connection()?;
        Self::known("domain", args.event_id, true)?;
        if !connection.domain_events {
            return Err(no_support(Procedure::CONNECT_DOMAIN_EVENT_REGISTER_ANY));
        }
        self.register(&connection, legacy(args.event_id)).map(drop)
    }

    async fn connect_domain_event_deregister_any(
        &self,
        _: &CallCx,
        args: ConnectDomainEventDeregisterAnyArgs,
    ) -> Result<(), VirtError> {
        let event = args.event_id;
        let name = format_args!("event {event}");
        self.deregister("domain", |r| r.callback.is_none() && r.event == event, name)
    }

    async fn connect_domain_event_callback_register_any(
        &self,
        _: &CallCx,
        args: ConnectDomainEventCallbackRegisterAnyArgs,
    ) -> Result<ConnectDomainEventCallbackRegisterAnyRet, VirtError> {
        let callback_id = self.register_callback("domain", args.event_id, args.dom.map(Filter::Domain))?;
        Ok(ConnectDomainEventCallbackRegisterAnyRet { callback_id })
    }

    async fn connect_domain_event_callback_deregister_any(
        &self,
        _: &CallCx,
        args: ConnectDomainEventCallbackDeregisterAnyArgs,
    ) -> Result<(), VirtError> {
        self.deregister_callback("domain", args.callback_id)
    }

    async fn connect_network_event_register_any(
        &self,
        _: &CallCx,
        args: ConnectNetworkEventRegisterAnyArgs,
    ) -> Result<ConnectNetworkEventRegisterAnyRet, VirtError> {
        let callback_id = self.register_callback("network", args.event_id, args.net.map(Filter::Network))?;
        Ok(ConnectNetworkEventRegisterAnyRet { callback_id })
    }

    async fn connect_network_event_deregister_any(
        &self,
        _: &CallCx,
        args: ConnectNetworkEventDeregisterAnyArgs,
    ) -> Result<(), VirtError> {
        self.deregister_callback("network", args.callback_id)
    }

    async fn connect_storage_pool_event_register_any(
        &self,
        _: &CallCx,
        args: ConnectStoragePoolEventRegisterAnyArgs,
    ) -> Result<ConnectStoragePoolEventRegisterAnyRet, VirtError> {
        let callback_id =
            self.register_callback("storage_pool", args.event_id, args.pool.map(Filter::StoragePool))?;
        Ok(ConnectStoragePoolEventRegisterAnyRet { callback_id })
    }

    async fn connect_storage_pool_event_deregister_any(
        &self,
        _: &CallCx,
        args: ConnectStoragePoolEventDeregisterAnyArgs,
    ) -> Result<(), VirtError> {
        self.deregister_callback("storage_pool", args.callback_id)
    }

    async fn connect_node_device_event_register_any(
        &self,
        _: &CallCx,
        args: ConnectNodeDeviceEventRegisterAnyArgs,
    ) -> Result<ConnectNodeDeviceEventRegisterAnyRet, VirtError> {
        let callback_id =
            self.register_callback("node_device", args.event_id, args.dev.map(Filter::NodeDevice))?;
        Ok(ConnectNodeDeviceEventRegisterAnyRet { callback_id })
    }

    async fn connect_node_device_event_deregister_any(
        &self,
        _: &CallCx,
        args: ConnectNodeDeviceEventDeregisterAnyArgs,
    ) -> Result<(), VirtError> {
        self.deregister_callback("node_device", args.callback_id)
    }

    async fn connect_secret_event_register_any(
        &self,
        _: &CallCx,
        args: ConnectSecretEventRegisterAnyArgs,
    ) -> Result<ConnectSecretEventRegisterAnyRet, VirtError> {
        let callback_id = self.register_callback("secret", args.event_id, args.secret.map(Filter::Secret))?;
        Ok(ConnectSecretEventRegisterAnyRet { callback_id })
    }

    async fn connect_secret_event_deregister_any(
        &self,
        _: &CallCx,
        args: ConnectSecretEventDeregisterAnyArgs,
    ) -> Result<(), VirtError> {
        self.deregister_callback("secret", args.callback_id)
    }

    async fn qemu_connect_domain_monitor_event_register(
        &self,
        _: &CallCx,
        args: ConnectDomainMonitorEventRegisterArgs,
    ) -> Result<ConnectDomainMonitorEventRegisterRet, VirtError> {
        /// `VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_…`
        const REGEX: u32 = 1;
        const NOCASE: u32 = 2;
        let connection = self.open_connection()?;
        if !connection.monitor_events {
            let info = qemu::PROGRAM.procedure(qemu::Procedure::CONNECT_DOMAIN_MONITOR_EVENT_REGISTER.0);
            return Err(info.map_or_else(|| no_support(Procedure::default()), |info| info.no_support()));
        }
        let monitor = args.event.map(|name| {
            let name = name.to_str_lossy();
            // Of regular expressions the form that people use: a beginning, `DEVICE_.*`.
            let beginning =
                (args.flags & REGEX != 0).then(|| name.trim_start_matches('^').trim_end_matches(".*"));
            MonitorFilter {
                name: beginning.unwrap_or(&name).to_owned(),
                prefix: beginning.is_some(),
                ignore_case: args.flags & NOCASE != 0,
            }
        });
        let filter = args.dom.map(Filter::Domain);
        let registration = Registration { class: MONITOR, event: 0, callback: Some(0), filter, monitor };
        Ok(ConnectDomainMonitorEventRegisterRet { callback_id: self.register(&connection, registration)? })
    }

    async fn qemu_connect_domain_monitor_event_deregister(
        &self,
        _: &CallCx,
        args: ConnectDomainMonitorEventDeregisterArgs,
    ) -> Result<(), VirtError> {
        self.deregister_callback(MONITOR, args.callback_id)
    }
}

/// The event that the oldest registration is for.
const VIR_DOMAIN_EVENT_ID_LIFECYCLE: i32 = 0;

/// A registration without callback id.
fn legacy(event: i32) -> Registration {
    Registration { class: "domain", event, callback: None, filter: None, monitor: None }
}
