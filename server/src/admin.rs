//! The daemon's own administration, as `virt-admin` asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use virtwire_driver_api::CallCx;
use virtwire_protocol::XdrString;
use virtwire_protocol::admin::*;
use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::clients::Clients;
use crate::config::{Program, Settings};
use crate::dispatch::AdminProcedures;
use crate::procedures::LIB_VERSION;
use crate::session::{Phase, Session};
use crate::transport;
use crate::users;

/// The servers of a daemon: a name, and the program of its clients.
const SERVERS: [(&str, Program); 2] = [("admin", Program::Admin), ("libvirtd", Program::Remote)];

fn param(field: &str, value: TypedParamValue) -> TypedParam {
    TypedParam { field: field.into(), value }
}

fn server(name: &XdrString) -> Result<Program, VirtError> {
    let found = SERVERS.iter().find(|(known, _)| name == *known);
    found
        .map(|(_, program)| *program)
        .ok_or_else(|| ErrorDomain::RPC.no_server(format_args!("No server named '{name}'")))
}

fn client(name: &XdrString, session: &Session) -> NonnullClient {
    let since = session.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    NonnullClient {
        srv: NonnullServer { name: name.clone() },
        id: session.id,
        timestamp: since as i64,
        transport: transport::number(session.socket()),
    }
}

/// The worker threads of a server. Calls are polled where they are read, so there are no such threads; the numbers
/// are kept and shown, as libvirt's clients expect.
pub(crate) struct Workers {
    min: AtomicU32,
    max: AtomicU32,
    priority: AtomicU32,
}

impl Workers {
    /// Those of the two servers, in the order of [`SERVERS`].
    pub(crate) fn of(settings: &Settings) -> [Self; 2] {
        let new = |min: u32, max: u32, priority: u32| Self {
            min: min.into(),
            max: max.into(),
            priority: priority.into(),
        };
        [
            new(settings.admin_min_workers, settings.admin_max_workers, 0),
            new(settings.min_workers, settings.max_workers, settings.prio_workers),
        ]
    }
}

/// Whether a flag is set that nobody knows: this protocol has none.
fn no_flags(flags: u32, api: &str) -> Result<(), VirtError> {
    if flags == 0 {
        return Ok(());
    }
    Err(ErrorDomain::RPC.invalid_arg(format_args!("unsupported flags (0x{flags:x}) in function {api}")))
}

/// The unsigned parameters of a call, by name; others are refused.
fn numbers<const N: usize>(params: &[TypedParam], names: [&str; N]) -> Result<[Option<u32>; N], VirtError> {
    let mut found = [None; N];
    for TypedParam { field, value } in params {
        let Some(index) = names.iter().position(|name| field == *name) else {
            let text = format_args!("parameter '{field}' not supported");
            return Err(ErrorDomain::RPC.argument_unsupported(text));
        };
        let TypedParamValue::Uint(number) = value else {
            let text = format_args!("invalid type for parameter '{field}', expected 'uint'");
            return Err(ErrorDomain::RPC.invalid_arg(text));
        };
        if found[index].replace(*number).is_some() {
            return Err(
                ErrorDomain::RPC.invalid_arg(format_args!("parameter '{field}' occurs multiple times"))
            );
        }
    }
    Ok(found)
}

fn number(field: &str, value: usize) -> TypedParam {
    param(field, TypedParamValue::Uint(value.try_into().unwrap_or(u32::MAX)))
}

impl Session {
    fn clients_of(&self, name: &XdrString) -> Result<&Arc<Clients>, VirtError> {
        Ok(self.service.clients(server(name)?))
    }

    fn workers_of(&self, name: &XdrString) -> Result<&Workers, VirtError> {
        let program = server(name)?;
        let [admin, remote] = &self.service.workers;
        Ok(if program == Program::Admin { admin } else { remote })
    }

    fn lookup(&self, of: &XdrString, id: u64) -> Result<Arc<Session>, VirtError> {
        let missing = || ErrorDomain::RPC.no_client(format_args!("No client with matching ID '{id}'"));
        self.clients_of(of)?.get(id).ok_or_else(missing)
    }
}

#[async_trait]
impl AdminProcedures for Session {
    async fn connect_open(&self, _: &CallCx, args: ConnectOpenArgs) -> Result<(), VirtError> {
        no_flags(args.flags, "adminConnectOpen")
    }

    async fn connect_close(&self, _: &CallCx) -> Result<(), VirtError> {
        *self.phase() = Phase::Closed;
        Ok(())
    }

    async fn connect_get_lib_version(&self, _: &CallCx) -> Result<ConnectGetLibVersionRet, VirtError> {
        Ok(ConnectGetLibVersionRet { lib_ver: LIB_VERSION })
    }

    async fn connect_list_servers(
        &self,
        _: &CallCx,
        args: ConnectListServersArgs,
    ) -> Result<ConnectListServersRet, VirtError> {
        no_flags(args.flags, "adminConnectListServers")?;
        let servers = SERVERS.iter().map(|(name, _)| NonnullServer { name: (*name).into() });
        let servers = if args.need_results != 0 { servers.collect() } else { Vec::new() };
        Ok(ConnectListServersRet { servers, ret: SERVERS.len() as u32 })
    }

    async fn connect_lookup_server(
        &self,
        _: &CallCx,
        args: ConnectLookupServerArgs,
    ) -> Result<ConnectLookupServerRet, VirtError> {
        no_flags(args.flags, "adminConnectLookupServer")?;
        server(&args.name)?;
        Ok(ConnectLookupServerRet { srv: NonnullServer { name: args.name } })
    }

    async fn server_get_threadpool_parameters(
        &self,
        _: &CallCx,
        args: ServerGetThreadpoolParametersArgs,
    ) -> Result<ServerGetThreadpoolParametersRet, VirtError> {
        no_flags(args.flags, "adminServerGetThreadPoolParameters")?;
        let workers = self.workers_of(&args.srv.name)?;
        let load = |number: &AtomicU32| number.load(Ordering::Relaxed) as usize;
        // The call that asks is one that is being worked on.
        let busy = usize::from(server(&args.srv.name)? == Program::Admin);
        let min = load(&workers.min);
        Ok(ServerGetThreadpoolParametersRet {
            params: vec![
                number("minWorkers", min),
                number("maxWorkers", load(&workers.max)),
                number("nWorkers", min),
                number("freeWorkers", min.saturating_sub(busy)),
                number("prioWorkers", load(&workers.priority)),
                number("jobQueueDepth", 0),
            ],
        })
    }

    async fn server_set_threadpool_parameters(
        &self,
        _: &CallCx,
        args: ServerSetThreadpoolParametersArgs,
    ) -> Result<(), VirtError> {
        no_flags(args.flags, "adminServerSetThreadPoolParameters")?;
        let workers = self.workers_of(&args.srv.name)?;
        let [min, max, priority] = numbers(&args.params, ["minWorkers", "maxWorkers", "prioWorkers"])?;
        let new_min = min.unwrap_or_else(|| workers.min.load(Ordering::Relaxed));
        let new_max = max.unwrap_or_else(|| workers.max.load(Ordering::Relaxed));
        if new_min > new_max {
            return Err(ErrorDomain::RPC.invalid_arg("minWorkers cannot be larger than maxWorkers"));
        }
        for (number, to) in [(min, &workers.min), (max, &workers.max), (priority, &workers.priority)] {
            if let Some(number) = number {
                to.store(number, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn server_list_clients(
        &self,
        _: &CallCx,
        args: ServerListClientsArgs,
    ) -> Result<ServerListClientsRet, VirtError> {
        no_flags(args.flags, "adminServerListClients")?;
        let sessions = self.clients_of(&args.srv.name)?.all();
        let clients: Vec<_> = sessions.iter().map(|session| client(&args.srv.name, session)).collect();
        let ret = clients.len() as u32;
        Ok(ServerListClientsRet { clients: if args.need_results != 0 { clients } else { Vec::new() }, ret })
    }

    async fn server_lookup_client(
        &self,
        _: &CallCx,
        args: ServerLookupClientArgs,
    ) -> Result<ServerLookupClientRet, VirtError> {
        no_flags(args.flags, "adminServerLookupClient")?;
        let session = self.lookup(&args.srv.name, args.id)?;
        Ok(ServerLookupClientRet { clnt: client(&args.srv.name, &session) })
    }

    async fn client_get_info(
        &self,
        _: &CallCx,
        args: ClientGetInfoArgs,
    ) -> Result<ClientGetInfoRet, VirtError> {
        no_flags(args.flags, "adminClientGetInfo")?;
        let session = self.lookup(&args.clnt.srv.name, args.clnt.id)?;
        let mut params = vec![param("readonly", TypedParamValue::Boolean(session.is_read_only().into()))];
        let text = |text: String| TypedParamValue::String(text.into());
        params.extend(session.identity().sasl.map(|name| param("sasl_user_name", text(name))));
        if let Some(peer) = session.peer {
            params.push(param("unix_user_id", TypedParamValue::Int(peer.uid as i32)));
            params.extend(users::user(peer.uid).map(|name| param("unix_user_name", text(name))));
            params.push(param("unix_group_id", TypedParamValue::Int(peer.gid as i32)));
            params.extend(users::group(peer.gid).map(|name| param("unix_group_name", text(name))));
            params.push(param("unix_process_id", TypedParamValue::Int(peer.pid)));
        }
        let address = session.socket().address();
        params.extend(address.map(|address| param("sock_addr", text(address.to_string()))));
        params
            .extend(session.socket().peer_name().map(|name| param("tls_x509_dname", text(name.to_owned()))));
        Ok(ClientGetInfoRet { params })
    }

    async fn client_close(&self, _: &CallCx, args: ClientCloseArgs) -> Result<(), VirtError> {
        no_flags(args.flags, "adminClientClose")?;
        self.lookup(&args.clnt.srv.name, args.clnt.id)?.close();
        Ok(())
    }

    async fn server_get_client_limits(
        &self,
        _: &CallCx,
        args: ServerGetClientLimitsArgs,
    ) -> Result<ServerGetClientLimitsRet, VirtError> {
        no_flags(args.flags, "adminServerGetClientLimits")?;
        let clients = self.clients_of(&args.srv.name)?;
        let ((max, max_anonymous), (all, anonymous)) = (clients.maxima(), clients.counts());
        Ok(ServerGetClientLimitsRet {
            params: vec![
                number("nclients_max", max),
                number("nclients", all),
                number("nclients_unauth_max", max_anonymous),
                number("nclients_unauth", anonymous),
            ],
        })
    }

    async fn server_set_client_limits(
        &self,
        _: &CallCx,
        args: ServerSetClientLimitsArgs,
    ) -> Result<(), VirtError> {
        no_flags(args.flags, "adminServerSetClientLimits")?;
        let clients = self.clients_of(&args.srv.name)?;
        let [max, max_anonymous] = numbers(&args.params, ["nclients_max", "nclients_unauth_max"])?;
        let (old, old_anonymous) = clients.maxima();
        let max = max.map_or(old, |max| max as usize);
        let max_anonymous = max_anonymous.map_or(old_anonymous, |max| max as usize);
        if max < max_anonymous {
            return Err(ErrorDomain::RPC.invalid_arg(
                "The overall maximum number of clients must not be less than the number of clients waiting for \
                 authentication",
            ));
        }
        clients.set_maxima(max, max_anonymous);
        Ok(())
    }

    async fn connect_get_logging_outputs(
        &self,
        _: &CallCx,
        args: ConnectGetLoggingOutputsArgs,
    ) -> Result<ConnectGetLoggingOutputsRet, VirtError> {
        no_flags(args.flags, "adminConnectGetLoggingOutputs")?;
        let outputs = self.service.log.outputs();
        Ok(ConnectGetLoggingOutputsRet {
            outputs: outputs.to_string().into(),
            noutputs: outputs.len() as u32,
        })
    }

    async fn connect_get_logging_filters(
        &self,
        _: &CallCx,
        args: ConnectGetLoggingFiltersArgs,
    ) -> Result<ConnectGetLoggingFiltersRet, VirtError> {
        no_flags(args.flags, "adminConnectGetLoggingFilters")?;
        let filters = self.service.log.filters();
        Ok(ConnectGetLoggingFiltersRet {
            filters: (!filters.is_empty()).then(|| filters.to_string().into()),
            nfilters: filters.len() as u32,
        })
    }

    async fn connect_set_logging_outputs(
        &self,
        _: &CallCx,
        args: ConnectSetLoggingOutputsArgs,
    ) -> Result<(), VirtError> {
        no_flags(args.flags, "adminConnectSetLoggingOutputs")?;
        let outputs = args.outputs.unwrap_or_default();
        self.service.log.set_outputs(outputs.to_str_lossy().parse()?)
    }

    async fn connect_set_logging_filters(
        &self,
        _: &CallCx,
        args: ConnectSetLoggingFiltersArgs,
    ) -> Result<(), VirtError> {
        no_flags(args.flags, "adminConnectSetLoggingFilters")?;
        let filters = args.filters.unwrap_or_default();
        self.service.log.set_filters(filters.to_str_lossy().parse()?);
        Ok(())
    }

    async fn server_update_tls_files(
        &self,
        _: &CallCx,
        args: ServerUpdateTlsFilesArgs,
    ) -> Result<(), VirtError> {
        no_flags(args.flags, "adminServerUpdateTlsFiles")?;
        let tls = match server(&args.srv.name)? {
            Program::Remote => self.service.tls.as_ref(),
            Program::Admin => None,
        };
        let missing = "no tls service found, unable to update tls files";
        let tls = tls.ok_or_else(|| ErrorDomain::RPC.internal_error(missing))?;
        tls.reload().map_err(|error| ErrorDomain::RPC.system_error(error))
    }

    async fn connect_set_daemon_timeout(
        &self,
        _: &CallCx,
        args: ConnectSetDaemonTimeoutArgs,
    ) -> Result<(), VirtError> {
        no_flags(args.flags, "adminConnectSetDaemonTimeout")?;
        let timeout = (args.timeout > 0).then(|| Duration::from_secs(args.timeout.into()));
        self.service.lifetime.set_timeout(timeout);
        Ok(())
    }

    async fn connect_daemon_shutdown(
        &self,
        _: &CallCx,
        args: ConnectDaemonShutdownArgs,
    ) -> Result<(), VirtError> {
        no_flags(args.flags, "adminConnectDaemonShutdown")?;
        self.service.lifetime.stop();
        Ok(())
    }
}
