//! Where storage is: the properties of the lowest node, by kind of source.

use std::fmt::Write;

use serde_json::Value;
use virtwire_conf::YesNo;
use virtwire_conf::domain::device::PciAddress;
use virtwire_conf::domain::disk::{
    DiskDevice, DiskIo, DiskSource, StorageAuth, StorageHost, StorageProtocol, StorageType,
};
use virtwire_protocol::VirtError;

use super::super::Json;
use super::image::{Image, unsupported};

/// The lowest node, without its name and what it shares with others.
pub(super) fn storage(image: &Image<'_>) -> Result<Json, VirtError> {
    let source = image.source;
    Ok(match image.kind {
        StorageType::File => local(image, "file", source.file.as_ref()),
        StorageType::Block => local(image, "host_device", source.dev.as_ref()),
        StorageType::Dir => fat(image),
        StorageType::Nvme => nvme(source),
        StorageType::Network => network(image)?,
        StorageType::Vhostvdpa => Json::node("virtio-blk-vhost-vdpa").with_if("path", source.dev.clone()),
        other @ (StorageType::Volume | StorageType::Vhostuser) => {
            return Err(unsupported(format_args!(
                "storage source type '{}' has no block node",
                other.as_str()
            )));
        }
    })
}

fn local(image: &Image<'_>, driver: &str, path: Option<&String>) -> Json {
    let io = image.disk.driver.as_ref().and_then(|driver| driver.io);
    Json::node(driver)
        .with_if("filename", path.cloned())
        .with_if("aio", io.map(DiskIo::as_str))
        .with_if("pr-manager", image.reservations())
}

/// A directory as a FAT file system; the guest cannot write to it.
fn fat(image: &Image<'_>) -> Json {
    Json::node("vvfat")
        .with_if("dir", image.source.dir.clone())
        .with("floppy", image.disk.device == DiskDevice::Floppy)
        .with("rw", false)
}

fn nvme(source: &DiskSource) -> Json {
    let device = source.address.as_ref().map(PciAddress::shown);
    Json::node("nvme").with_if("device", device).with_if("namespace", source.namespace)
}

fn network(image: &Image<'_>) -> Result<Json, VirtError> {
    let source = image.source;
    let protocol = source.protocol.unwrap_or_default();
    Ok(match protocol {
        StorageProtocol::Nbd => nbd(image)?,
        StorageProtocol::Rbd => rbd(image),
        StorageProtocol::Gluster => gluster(source)?,
        StorageProtocol::Iscsi => iscsi(source, image.auth(), image.auth_secret())?,
        StorageProtocol::Http | StorageProtocol::Https | StorageProtocol::Ftp | StorageProtocol::Ftps => {
            curl(image, protocol)
        }
        StorageProtocol::Ssh => ssh(source),
        StorageProtocol::Nfs => nfs(source)?,
        StorageProtocol::Tftp => {
            return Err(unsupported(format_args!("'tftp' protocol is not supported with this QEMU binary")));
        }
        StorageProtocol::Vxhs => {
            return Err(unsupported(format_args!("VxHS protocol is not supported with this QEMU binary")));
        }
        StorageProtocol::Sheepdog => {
            return Err(unsupported(format_args!(
                "'sheepdog' protocol is no longer supported by any hypervisor driver"
            )));
        }
    })
}

/// The port of a protocol where none is given; 0 leaves it to the library.
fn default_port(protocol: StorageProtocol) -> &'static str {
    match protocol {
        StorageProtocol::Nbd => "10809",
        StorageProtocol::Gluster => "24007",
        StorageProtocol::Iscsi => "3260",
        StorageProtocol::Http => "80",
        StorageProtocol::Https => "443",
        StorageProtocol::Ftp => "21",
        StorageProtocol::Ftps => "990",
        StorageProtocol::Tftp => "69",
        StorageProtocol::Ssh => "22",
        StorageProtocol::Vxhs => "9999",
        StorageProtocol::Sheepdog => "7000",
        StorageProtocol::Nfs => "2049",
        StorageProtocol::Rbd => "0",
    }
}

fn name(host: &StorageHost) -> &str {
    host.name.as_deref().unwrap_or_default()
}

fn port(host: &StorageHost, protocol: StorageProtocol) -> &str {
    host.port.as_deref().unwrap_or(default_port(protocol))
}

fn host_and_port(host: &StorageHost, protocol: StorageProtocol) -> Json {
    Json::part().with("host", name(host)).with("port", port(host, protocol))
}

/// A host as it stands in a URI.
fn uri_host(host: &StorageHost) -> String {
    let name = name(host);
    if name.contains(':') { format!("[{name}]") } else { name.to_owned() }
}

/// QEMU's `SocketAddress`.
fn address(host: &StorageHost, protocol: StorageProtocol) -> Result<Json, VirtError> {
    match host.transport.as_deref() {
        Some("unix") => Ok(Json::part().with("type", "unix").with_if("path", host.socket.clone())),
        Some("tcp") | None => Ok(Json::part().with("type", "inet").and(host_and_port(host, protocol))),
        Some(other) => Err(unsupported(format_args!("transport protocol '{other}' is not yet supported"))),
    }
}

/// The only host that a protocol takes.
fn only<'a>(source: &'a DiskSource, text: &str) -> Result<&'a StorageHost, VirtError> {
    match source.host.as_slice() {
        [host] => Ok(host),
        _ => Err(crate::error::QEMU.internal_error(format_args!("{text} protocol accepts only one host"))),
    }
}

fn nbd(image: &Image<'_>) -> Result<Json, VirtError> {
    let source = image.source;
    let server = address(only(source, "nbd")?, StorageProtocol::Nbd)?;
    let delay = source.reconnect.as_ref().and_then(|reconnect| reconnect.delay);
    Ok(Json::node("nbd")
        .with("server", server)
        .with_if("export", source.name.clone())
        .with_if("tls-creds", image.uses_tls().then(|| image.tls_object()))
        .with_if("tls-hostname", source.tls_hostname.clone())
        .with_some("reconnect-delay", delay))
}

fn rbd(image: &Image<'_>) -> Json {
    let source = image.source;
    let (pool, volume) = split(source.name.as_deref().unwrap_or_default());
    let hosts: Vec<Value> =
        source.host.iter().map(|host| host_and_port(host, StorageProtocol::Rbd).into()).collect();
    let encrypt = image.encryption().map(|encryption| {
        let layer = |place: usize| {
            Json::part()
                .with("format", encryption.format.as_str())
                .with("key-secret", image.encryption_secret(place))
        };
        // Each layer has its secret; the last one is that of the image at the bottom.
        let count = encryption.secret.len().max(1);
        (0..count)
            .rev()
            .fold(None, |parent: Option<Json>, place| Some(layer(place).with_if("parent", parent)))
    });
    let user = image.auth();
    let modes = user.map(|_| Value::from(vec!["cephx", "none"]));
    Json::node("rbd")
        .with("pool", pool)
        .with("image", volume)
        .with_if("snapshot", source.snapshot.as_ref().and_then(|snapshot| snapshot.name.clone()))
        .with_if("conf", source.config.as_ref().and_then(|config| config.file.clone()))
        .with_if("server", (!hosts.is_empty()).then_some(hosts))
        .with_if("encrypt", encrypt.flatten())
        .with_if("user", user.and_then(|user| user.username.clone()))
        .with_if("auth-client-required", modes)
        .with_if("key-secret", user.map(|_| image.auth_secret()))
}

fn gluster(source: &DiskSource) -> Result<Json, VirtError> {
    let (volume, path) = split(source.name.as_deref().unwrap_or_default());
    let hosts = source.host.iter().map(|host| address(host, StorageProtocol::Gluster).map(Value::from));
    Ok(Json::node("gluster")
        .with("volume", volume)
        .with("path", path)
        .with("server", hosts.collect::<Result<Vec<_>, _>>()?)
        .with("debug", GLUSTER_DEBUG))
}

/// How much gluster's library says, as qemu.conf has it by default.
const GLUSTER_DEBUG: u32 = 4;

/// iSCSI, for disks and for devices passed through.
pub(super) fn iscsi(
    source: &DiskSource,
    user: Option<&StorageAuth>,
    secret: String,
) -> Result<Json, VirtError> {
    let host = only(source, "iSCSI")?;
    let (target, lun) = split(source.name.as_deref().unwrap_or_default());
    let portal = format!("{}:{}", uri_host(host), port(host, StorageProtocol::Iscsi));
    let initiator = source.initiator.as_ref().and_then(|initiator| initiator.iqn.as_ref()?.name.clone());
    Ok(Json::node("iscsi")
        .with("portal", portal)
        .with("target", target)
        .with("lun", lun.parse::<u32>().unwrap_or_default())
        .with("transport", "tcp")
        .with_if("user", user.and_then(|user| user.username.clone()))
        .with_if("password-secret", user.map(|_| secret))
        .with_if("initiator-name", initiator))
}

fn curl(image: &Image<'_>, protocol: StorageProtocol) -> Json {
    let source = image.source;
    let host = source.host.first();
    let place = host.map(|host| format!("{}:{}", uri_host(host), port(host, protocol))).unwrap_or_default();
    let path = source.name.as_deref().unwrap_or_default();
    let mut url = format!("{}://{place}/{}", protocol.as_str(), path.trim_start_matches('/'));
    if let Some(query) = &source.query {
        // Writing to a string cannot fail.
        let _ = write!(url, "?{query}");
    }
    let user = image.auth();
    let verify = source.ssl.as_ref().and_then(|ssl| ssl.verify).map(|verify| verify == YesNo::Yes);
    let timeout = source.timeout.as_ref().and_then(|timeout| timeout.seconds);
    Json::node(protocol.as_str())
        .with("url", url)
        .with_if("username", user.and_then(|user| user.username.clone()))
        .with_if("password-secret", user.map(|_| image.auth_secret()))
        .with_if("sslverify", verify)
        .with_if("cookie-secret", source.cookies.as_ref().map(|_| image.cookie_secret()))
        .with_some("timeout", timeout)
        .with_some("readahead", source.readahead.as_ref().and_then(|ahead| ahead.size))
}

fn ssh(source: &DiskSource) -> Json {
    let server = source.host.first().map(|host| host_and_port(host, StorageProtocol::Ssh));
    let user = source.identity.as_ref().and_then(|identity| identity.username.clone());
    Json::node("ssh").with_if("path", source.name.clone()).with_if("server", server).with_if("user", user)
}

fn nfs(source: &DiskSource) -> Result<Json, VirtError> {
    let server = only(source, "NFS")?;
    let server = Json::part().with("host", name(server)).with("type", "inet");
    let identity = source.owner.as_ref();
    let id = |id: Option<&String>| id.and_then(|id| id.strip_prefix('+').unwrap_or(id).parse::<u32>().ok());
    Ok(Json::node("nfs")
        .with("server", server)
        .with_if("path", source.name.clone())
        .with_if("user", id(identity.and_then(|identity| identity.user.as_ref())))
        .with_if("group", id(identity.and_then(|identity| identity.group.as_ref()))))
}

/// A name of two parts.
fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or((name, ""))
}
