//! A host's objects.

use uuid::Uuid;

use super::events::DomainEvents;
use super::stats::DomainStats;
use super::table::{object, text};
use super::*;
use crate::{Connection, Error, Options};

/// A connection to a hypervisor, by its objects.
///
/// ```no_run
/// # async fn list() -> Result<(), virtwire_client::Error> {
/// use virtwire_client::{Connect, DomainListFlags};
///
/// let connect = Connect::open("qemu:///system").await?;
/// for domain in connect.domains(DomainListFlags::ACTIVE).await? {
///     let info = domain.info().await?;
///     println!("{}: {}, {} MiB", domain.name(), info.state, info.memory_kib / 1024);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Connect {
    connection: Connection,
}

impl From<Connection> for Connect {
    fn from(connection: Connection) -> Self {
        Self { connection }
    }
}

impl Connect {
    /// [`Connection::open`]
    pub async fn open(uri: &str) -> Result<Self, Error> {
        Ok(Connection::open(uri).await?.into())
    }

    /// [`Connection::open_with`]
    pub async fn open_with(uri: &str, options: Options) -> Result<Self, Error> {
        Ok(Connection::open_with(uri, options).await?.into())
    }

    /// The connection below, which has a method for every procedure.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The URI it was opened with, or the daemon's own if it was opened without one.
    pub fn uri(&self) -> &str {
        self.connection.uri()
    }

    /// Says goodbye and ends the connection.
    pub async fn close(&self) -> Result<(), Error> {
        self.connection.close().await
    }

    /// The host's name.
    pub async fn hostname(&self) -> Result<String, Error> {
        Ok(text(&self.connection.connect_get_hostname().await?.hostname))
    }

    /// libvirt's version there, `11003000` for 11.3.0.
    pub async fn lib_version(&self) -> Result<u64, Error> {
        Ok(self.connection.connect_get_lib_version().await?.lib_ver)
    }

    /// The hypervisor's name, such as `QEMU`.
    pub async fn hypervisor(&self) -> Result<String, Error> {
        Ok(text(&self.connection.connect_get_type().await?.r#type))
    }

    /// The hypervisor's version, `10000000` for 10.0.0.
    pub async fn version(&self) -> Result<u64, Error> {
        Ok(self.connection.connect_get_version().await?.hv_ver)
    }

    /// What host and hypervisor can do, in XML.
    pub async fn capabilities(&self) -> Result<String, Error> {
        Ok(text(&self.connection.connect_get_capabilities().await?.capabilities))
    }

    /// The host's memory and CPUs.
    pub async fn node_info(&self) -> Result<NodeInfo, Error> {
        Ok(self.connection.node_get_info().await?.into())
    }

    /// Figures of guests: of those given, or of all that `flags` choose if none is.
    pub async fn domain_stats(
        &self,
        domains: &[Domain],
        stats: DomainStatsTypes,
        flags: DomainStatsFlags,
    ) -> Result<Vec<DomainStats>, Error> {
        let doms = domains.iter().map(|domain| domain.raw().clone()).collect();
        let args = virtwire_protocol::remote::ConnectGetAllDomainStatsArgs {
            doms,
            stats: stats.bits(),
            flags: flags.bits(),
        };
        let records = self.connection.connect_get_all_domain_stats(&args).await?.ret_stats;
        Ok(DomainStats::all(&self.connection, records))
    }

    /// What happens to the lives of all guests, from now on.
    pub async fn lifecycle_events(&self) -> Result<DomainEvents, Error> {
        DomainEvents::register(&self.connection, None).await
    }
}

lists! { Connect [] {
    /// Guests.
    fn domains(DomainListFlags) -> Domain = connect_list_all_domains ConnectListAllDomainsArgs domains;
    /// Networks.
    fn networks(NetworkListFlags) -> Network = connect_list_all_networks ConnectListAllNetworksArgs nets;
    /// Storage pools.
    fn storage_pools(StoragePoolListFlags) -> StoragePool =
        connect_list_all_storage_pools ConnectListAllStoragePoolsArgs pools;
    /// The host's devices.
    fn node_devices(NodeDeviceListFlags) -> NodeDevice =
        connect_list_all_node_devices ConnectListAllNodeDevicesArgs devices;
    /// The host's network interfaces.
    fn interfaces(InterfaceListFlags) -> Interface =
        connect_list_all_interfaces ConnectListAllInterfacesArgs ifaces;
    /// Secrets.
    fn secrets(SecretListFlags) -> Secret = connect_list_all_secrets ConnectListAllSecretsArgs secrets;
    /// Network filters; there are no flags yet.
    fn nwfilters(u32) -> NwFilter = connect_list_all_nwfilters ConnectListAllNwfiltersArgs filters;
} }

methods! { Connect [] {
    /// The guest of this name.
    fn domain_by_name(name: &str) -> Domain =
        domain_lookup_by_name DomainLookupByNameArgs |c, ret| object(c, ret.dom);
    /// The guest of this UUID.
    fn domain_by_uuid(uuid: Uuid) -> Domain =
        domain_lookup_by_uuid DomainLookupByUuidArgs |c, ret| object(c, ret.dom);
    /// The running guest of this id.
    fn domain_by_id(id: i32) -> Domain = domain_lookup_by_id DomainLookupByIdArgs |c, ret| object(c, ret.dom);
    /// Defines a guest by its XML, or changes one that is defined already.
    fn define_domain(xml: &str, flags: DomainDefineFlags) -> Domain =
        domain_define_xml_flags DomainDefineXmlFlagsArgs |c, ret| object(c, ret.dom);
    /// Starts a guest that is gone when it ends.
    fn create_domain(xml_desc: &str, flags: DomainCreateFlags) -> Domain =
        domain_create_xml DomainCreateXmlArgs |c, ret| object(c, ret.dom);
    /// Starts a guest from the file that it was saved to; the file is on the daemon's host.
    fn restore_domain(from: &str) = domain_restore DomainRestoreArgs;
    /// The network of this name.
    fn network_by_name(name: &str) -> Network =
        network_lookup_by_name NetworkLookupByNameArgs |c, ret| object(c, ret.net);
    /// The network of this UUID.
    fn network_by_uuid(uuid: Uuid) -> Network =
        network_lookup_by_uuid NetworkLookupByUuidArgs |c, ret| object(c, ret.net);
    /// Defines a network.
    fn define_network(xml: &str) -> Network =
        network_define_xml NetworkDefineXmlArgs |c, ret| object(c, ret.net);
    /// Starts a network that is gone when it ends.
    fn create_network(xml: &str) -> Network =
        network_create_xml NetworkCreateXmlArgs |c, ret| object(c, ret.net);
    /// The pool of this name.
    fn storage_pool_by_name(name: &str) -> StoragePool =
        storage_pool_lookup_by_name StoragePoolLookupByNameArgs |c, ret| object(c, ret.pool);
    /// The pool of this UUID.
    fn storage_pool_by_uuid(uuid: Uuid) -> StoragePool =
        storage_pool_lookup_by_uuid StoragePoolLookupByUuidArgs |c, ret| object(c, ret.pool);
    /// Defines a pool; there are no flags but 1, which validates the XML.
    fn define_storage_pool(xml: &str, flags: u32) -> StoragePool =
        storage_pool_define_xml StoragePoolDefineXmlArgs |c, ret| object(c, ret.pool);
    /// Starts a pool that is gone when it ends.
    fn create_storage_pool(xml: &str, flags: StoragePoolCreateFlags) -> StoragePool =
        storage_pool_create_xml StoragePoolCreateXmlArgs |c, ret| object(c, ret.pool);
    /// The volume at this path of the daemon's host.
    fn storage_vol_by_path(path: &str) -> StorageVol =
        storage_vol_lookup_by_path StorageVolLookupByPathArgs |c, ret| object(c, ret.vol);
    /// The volume of this key.
    fn storage_vol_by_key(key: &str) -> StorageVol =
        storage_vol_lookup_by_key StorageVolLookupByKeyArgs |c, ret| object(c, ret.vol);
    /// The device of this name.
    fn node_device_by_name(name: &str) -> NodeDevice =
        node_device_lookup_by_name NodeDeviceLookupByNameArgs |c, ret| object(c, ret.dev);
    /// The interface of this name.
    fn interface_by_name(name: &str) -> Interface =
        interface_lookup_by_name InterfaceLookupByNameArgs |c, ret| object(c, ret.iface);
    /// The secret of this UUID.
    fn secret_by_uuid(uuid: Uuid) -> Secret =
        secret_lookup_by_uuid SecretLookupByUuidArgs |c, ret| object(c, ret.secret);
    /// Defines a secret; there are no flags but 1, which validates the XML.
    fn define_secret(xml: &str, flags: u32) -> Secret =
        secret_define_xml SecretDefineXmlArgs |c, ret| object(c, ret.secret);
    /// The filter of this name.
    fn nwfilter_by_name(name: &str) -> NwFilter =
        nwfilter_lookup_by_name NwfilterLookupByNameArgs |c, ret| object(c, ret.nwfilter);
    /// Defines a filter.
    fn define_nwfilter(xml: &str) -> NwFilter =
        nwfilter_define_xml NwfilterDefineXmlArgs |c, ret| object(c, ret.nwfilter);
    /// What guests of this kind may have, in XML. What is `None` is the host's usual.
    fn domain_capabilities(
        emulatorbin: Option<&str>,
        arch: Option<&str>,
        machine: Option<&str>,
        virttype: Option<&str>,
        flags: u32
    ) -> String =
        connect_get_domain_capabilities ConnectGetDomainCapabilitiesArgs |_, ret| text(&ret.capabilities);
} }
