//! File systems of the host that the guest sees.

use virtwire_conf::Domain;
use virtwire_conf::domain::disk::{AccessMode, Filesystem, FilesystemDriverType, Multidevs};

use super::chardev::Backend;
use super::{Context, Json, alias};
use crate::command::{CommandLine, escape};
use crate::virtiofs;

pub(super) fn filesystem(
    line: &mut CommandLine,
    domain: &Domain,
    filesystem: &Filesystem,
    context: &Context<'_>,
) {
    match filesystem.driver.as_ref().and_then(|driver| driver.type_) {
        Some(FilesystemDriverType::Virtiofs) => virtiofs(line, filesystem, context),
        Some(FilesystemDriverType::Mtp) => mtp(filesystem),
        _ => plan9(line, filesystem),
    }
    .at(domain, &filesystem.info)
    .add(line);
}

fn tag(filesystem: &Filesystem) -> Option<String> {
    filesystem.target.as_ref().and_then(|target| target.dir.clone())
}

/// Served by QEMU itself over 9p.
fn plan9(line: &mut CommandLine, filesystem: &Filesystem) -> Json {
    let name = alias(&filesystem.info);
    let id = format!("fsdev-{name}");
    let driver = filesystem.driver.as_ref();
    let security = match filesystem.accessmode {
        Some(AccessMode::Mapped) => ",security_model=mapped",
        Some(AccessMode::Squash) => ",security_model=none",
        Some(AccessMode::Passthrough) => ",security_model=passthrough",
        None => "",
    };
    let dir = filesystem.source.as_ref().and_then(|source| source.dir.as_deref()).unwrap_or_default();
    let wrpolicy = driver.and_then(|driver| driver.wrpolicy.as_deref());
    let said =
        |key: &str, value: Option<&str>| value.map_or(String::new(), |value| format!(",{key}={value}"));
    let kind = match driver.and_then(|driver| driver.type_) {
        Some(FilesystemDriverType::Handle) => "handle".to_owned(),
        _ => format!("local{security}"),
    };
    let text = format!(
        "{kind}{}{}{}{},id={id},path={}{}",
        said("multidevs", filesystem.multidevs.map(Multidevs::as_str)),
        said("writeout", wrpolicy),
        said("fmode", filesystem.fmode.as_deref()),
        said("dmode", filesystem.dmode.as_deref()),
        escape(dir),
        if filesystem.readonly { ",readonly" } else { "" },
    );
    line.option("-fsdev", text);
    let options = driver.map(|driver| &driver.virtio);
    Json::virtio("virtio-9p", filesystem.info.address.as_ref(), filesystem.model, options)
        .with("id", name)
        .with("fsdev", id)
        .with_if("mount_tag", tag(filesystem))
}

/// Served by a process beside QEMU: the daemon's own, or one whose socket is named.
fn virtiofs(line: &mut CommandLine, filesystem: &Filesystem, context: &Context<'_>) -> Json {
    let name = alias(&filesystem.info);
    let id = format!("chr-vu-{name}");
    let socket = filesystem.source.as_ref().and_then(|source| source.socket.clone());
    let socket = socket.unwrap_or_else(|| virtiofs::socket(context.dir, name).display().to_string());
    Backend::new("socket").with("path", socket).add(line, &id);
    let driver = filesystem.driver.as_ref();
    let options = driver.map(|driver| &driver.virtio);
    Json::virtio("vhost-user-fs", filesystem.info.address.as_ref(), filesystem.model, options)
        .with("id", name)
        .with("chardev", id)
        .with_some("queue-size", driver.and_then(|driver| driver.queue))
        .with_if("tag", tag(filesystem))
        .with_if("bootindex", filesystem.info.boot.as_ref().map(|boot| boot.order.get()))
}

/// As a camera or a phone would.
fn mtp(filesystem: &Filesystem) -> Json {
    let dir = filesystem.source.as_ref().and_then(|source| source.dir.clone());
    Json::new("usb-mtp")
        .with("id", alias(&filesystem.info))
        .with_if("rootdir", dir)
        .with_if("desc", tag(filesystem))
        .with("readonly", filesystem.readonly)
}
