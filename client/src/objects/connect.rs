//! A host's objects.

use uuid::Uuid;
use virtwire_protocol::remote::{ConnectGetAllDomainStatsArgs, ConnectGetCpuModelNamesArgs};

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
        let args = ConnectGetAllDomainStatsArgs { doms, stats: stats.bits(), flags: flags.bits() };
        let records = self.connection.connect_get_all_domain_stats(&args).await?.ret_stats;
        Ok(DomainStats::all(&self.connection, records))
    }

    /// Whether nobody can listen on the way to the daemon.
    pub async fn is_secure(&self) -> Result<bool, Error> {
        Ok(self.connection.connect_is_secure().await?.secure != 0)
    }

    /// Memory of the host that nobody uses, in bytes.
    pub async fn free_memory(&self) -> Result<u64, Error> {
        Ok(self.connection.node_get_free_memory().await?.free_mem)
    }

    /// The CPU models that guests of an architecture, such as `x86_64`, may have.
    pub async fn cpu_models(&self, arch: &str) -> Result<Vec<String>, Error> {
        let args = ConnectGetCpuModelNamesArgs { arch: arch.into(), need_results: 1, flags: 0 };
        let ret = self.connection.connect_get_cpu_model_names(&args).await?;
        Ok(ret.models.iter().map(text).collect())
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
    /// The most CPUs that a guest of this kind, such as `kvm`, may have.
    fn max_vcpus(r#type: Option<&str>) -> i32 =
        connect_get_max_vcpus ConnectGetMaxVcpusArgs |_, ret| ret.max_vcpus;
    /// What the firmware says of the host.
    fn sysinfo(flags: u32) -> String = connect_get_sysinfo ConnectGetSysinfoArgs |_, ret| text(&ret.sysinfo);
    /// How the host's CPU compares to one that is described: `virCPUCompareResult`.
    fn compare_cpu(xml: &str, flags: u32) -> i32 = connect_compare_cpu ConnectCompareCpuArgs |_, ret| ret.result;
    /// The CPU that all of these have in common.
    fn baseline_cpu(xml_cpus: &[&str], flags: u32) -> String =
        connect_baseline_cpu ConnectBaselineCpuArgs |_, ret| text(&ret.cpu);
    /// The command line, or another form of the hypervisor's own, of a definition.
    fn domain_to_native(native_format: &str, domain_xml: &str, flags: u32) -> String =
        connect_domain_xml_to_native ConnectDomainXmlToNativeArgs |_, ret| text(&ret.native_config);
    /// The definition of what the hypervisor's own form says.
    fn domain_from_native(native_format: &str, native_config: &str, flags: u32) -> String =
        connect_domain_xml_from_native ConnectDomainXmlFromNativeArgs |_, ret| text(&ret.domain_xml);
    /// Which pools and volumes there can be.
    fn storage_pool_capabilities(flags: u32) -> String =
        connect_get_storage_pool_capabilities ConnectGetStoragePoolCapabilitiesArgs |_, ret| text(&ret.capabilities);
    /// What a pool of this type could be made of.
    fn find_storage_pool_sources(r#type: &str, src_spec: Option<&str>, flags: u32) -> String =
        connect_find_storage_pool_sources ConnectFindStoragePoolSourcesArgs |_, ret| text(&ret.xml);
    /// The interface with this hardware address.
    fn interface_by_mac(mac: &str) -> Interface =
        interface_lookup_by_mac_string InterfaceLookupByMacStringArgs |c, ret| object(c, ret.iface);
    /// Defines an interface of the host.
    fn define_interface(xml: &str, flags: u32) -> Interface =
        interface_define_xml InterfaceDefineXmlArgs |c, ret| object(c, ret.iface);
    /// Makes a device of the host.
    fn create_node_device(xml_desc: &str, flags: u32) -> NodeDevice =
        node_device_create_xml NodeDeviceCreateXmlArgs |c, ret| object(c, ret.dev);
    /// The secret of this use: `virSecretUsageType`, and what it is for.
    fn secret_by_usage(usage_type: i32, usage_id: &str) -> Secret =
        secret_lookup_by_usage SecretLookupByUsageArgs |c, ret| object(c, ret.secret);
    /// The filter of this UUID.
    fn nwfilter_by_uuid(uuid: Uuid) -> NwFilter =
        nwfilter_lookup_by_uuid NwfilterLookupByUuidArgs |c, ret| object(c, ret.nwfilter);
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
