//! The daemon's own administration, as `virt-admin` asks for it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use virtwire_driver_api::CallCx;
use virtwire_protocol::admin::*;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::{XdrString, admin};

use crate::config::Program;
use crate::dispatch::AdminProcedures;
use crate::procedures::LIB_VERSION;
use crate::session::{Phase, Session};

/// The servers of a daemon: a name, and the program of its clients.
const SERVERS: [(&str, Program); 2] = [("libvirtd", Program::Remote), ("admin", Program::Admin)];

/// `VIR_CLIENT_TRANS_UNIX`
const TRANSPORT_UNIX: u32 = 0;

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
        transport: TRANSPORT_UNIX,
    }
}

impl Session {
    fn lookup(&self, of: Program, id: u64) -> Result<Arc<Session>, VirtError> {
        let missing = || ErrorDomain::RPC.no_client(format_args!("No client with matching ID '{id}'"));
        self.service.clients(of).into_iter().find(|client| client.id == id).ok_or_else(missing)
    }
}

#[async_trait]
impl AdminProcedures for Session {
    async fn connect_open(&self, _: &CallCx, _: ConnectOpenArgs) -> Result<(), VirtError> {
        Ok(())
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
        let servers = SERVERS.iter().map(|(name, _)| NonnullServer { name: (*name).into() });
        let servers = if args.need_results != 0 { servers.collect() } else { Vec::new() };
        Ok(ConnectListServersRet { servers, ret: SERVERS.len() as u32 })
    }

    async fn connect_lookup_server(
        &self,
        _: &CallCx,
        args: ConnectLookupServerArgs,
    ) -> Result<ConnectLookupServerRet, VirtError> {
        server(&args.name)?;
        Ok(ConnectLookupServerRet { srv: NonnullServer { name: args.name } })
    }

    async fn server_list_clients(
        &self,
        _: &CallCx,
        args: ServerListClientsArgs,
    ) -> Result<ServerListClientsRet, VirtError> {
        let sessions = self.service.clients(server(&args.srv.name)?);
        let clients: Vec<_> = sessions.iter().map(|session| client(&args.srv.name, session)).collect();
        let ret = clients.len() as u32;
        Ok(ServerListClientsRet { clients: if args.need_results != 0 { clients } else { Vec::new() }, ret })
    }

    async fn server_lookup_client(
        &self,
        _: &CallCx,
        args: ServerLookupClientArgs,
    ) -> Result<ServerLookupClientRet, VirtError> {
        let session = self.lookup(server(&args.srv.name)?, args.id)?;
        Ok(ServerLookupClientRet { clnt: client(&args.srv.name, &session) })
    }

    async fn client_get_info(
        &self,
        _: &CallCx,
        args: ClientGetInfoArgs,
    ) -> Result<ClientGetInfoRet, VirtError> {
        let session = self.lookup(server(&args.clnt.srv.name)?, args.clnt.id)?;
        let mut params = vec![param("readonly", TypedParamValue::Boolean(session.is_read_only().into()))];
        if let Some(peer) = session.peer {
            params.push(param("unix_user_id", TypedParamValue::Int(peer.uid as i32)));
            params.push(param("unix_group_id", TypedParamValue::Int(peer.gid as i32)));
            params.push(param("unix_process_id", TypedParamValue::Int(peer.pid)));
        }
        Ok(ClientGetInfoRet { params })
    }

    async fn client_close(&self, _: &CallCx, args: ClientCloseArgs) -> Result<(), VirtError> {
        self.lookup(server(&args.clnt.srv.name)?, args.clnt.id)?.close();
        Ok(())
    }

    async fn server_get_client_limits(
        &self,
        _: &CallCx,
        args: ServerGetClientLimitsArgs,
    ) -> Result<ServerGetClientLimitsRet, VirtError> {
        let clients = self.service.clients(server(&args.srv.name)?);
        let unauthenticated = clients.iter().filter(|client| !client.is_authenticated()).count();
        let limit = self.limits().clients as u32;
        let number = |field, value| param(field, admin::TypedParamValue::Uint(value));
        Ok(ServerGetClientLimitsRet {
            params: vec![
                number("nclients_max", limit),
                number("nclients", clients.len() as u32),
                number("nclients_unauth_max", limit),
                number("nclients_unauth", unauthenticated as u32),
            ],
        })
    }
}
