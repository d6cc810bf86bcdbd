//! Jobs that make a chain shorter: the image that is written to takes in those below, or images are merged down.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use virtwire_conf::domain::disk::Disk;
use virtwire_protocol::remote::*;
use virtwire_protocol::{ErrorDomain, XdrString};

use super::layers::{Layer, alone, layers, mirror, nodes};
use super::{BlockJob, Kind, check_idle, free_disk, meant, speed, written};
use crate::chain;
use crate::disks::target;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, not_running};
use crate::guest::Live;
use crate::overlay::check_lasting;

/// `VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES`
const PULL_BYTES: u32 = 1 << 6;

/// `VIR_DOMAIN_BLOCK_COMMIT_…`
mod flag {
    pub(super) const SHALLOW: u32 = 1 << 0;
    pub(super) const DELETE: u32 = 1 << 1;
    pub(super) const ACTIVE: u32 = 1 << 2;
    pub(super) const RELATIVE: u32 = 1 << 3;
    pub(super) const BYTES: u32 = 1 << 4;
}

pub(crate) async fn pull(driver: &Qemu, args: DomainBlockPullArgs) -> Result<()> {
    check_flags(args.flags, PULL_BYTES, "qemuDomainBlockPull")?;
    let speed = speed(args.bandwidth, args.flags & PULL_BYTES != 0)?;
    pull_to(driver, &args.dom, &args.path.to_str_lossy(), (None, false), speed).await
}

/// Has the image that is written to take in all those above `base`.
pub(super) async fn pull_to(
    driver: &Qemu,
    dom: &NonnullDomain,
    path: &str,
    (base, relative): (Option<&str>, bool),
    speed: u64,
) -> Result<()> {
    let guest = driver.guest(dom)?;
    let _job = guest.job.lock().await;
    let live = guest.live()?;
    let (disk, images) = free_disk(&live, path)?;
    let base = base.map(|name| image(disk, &images, name, Some(0))).transpose()?;
    let device = nodes(disk, written(&images)?).0;
    let name = format!("pull-{}-{device}", target(disk));
    let mut job = BlockJob::new(name.clone(), Kind::Pull, target(disk));
    let mut arguments =
        json!({"job-id": name, "device": device, "auto-finalize": true, "auto-dismiss": false});
    if speed > 0 {
        arguments["speed"] = speed.into();
    }
    if let Some(base) = base {
        let node = images.get(base).map(|base| nodes(disk, base).0).unwrap_or_default();
        arguments["base-node"] = node.clone().into();
        name_below(&live, &mut arguments, &images, (0, base), relative)?;
        job.base = Some(node);
    }
    driver.begin_job(&guest, &live, job, "block-stream", arguments).await
}

/// Says what the image `above` is to say of the one below it, once that is `base`.
fn name_below(
    live: &Live,
    arguments: &mut Value,
    images: &[Layer],
    (above, base): (usize, usize),
    relative: bool,
) -> Result<()> {
    let path = match relative {
        true => Some(from_image_to_image(images.get(above..base).unwrap_or_default())?),
        false => images.get(base).and_then(Layer::path).map(str::to_owned),
    };
    if let Some(path) = path {
        arguments["backing-file"] = path.into();
        if live.monitor.is_at_least(9, 0) {
            arguments["backing-mask-protocol"] = true.into();
        }
    }
    Ok(())
}

/// The way from the first of some images to the one below the last, where each says it from its own place.
fn from_image_to_image(images: &[Layer]) -> Result<String> {
    let absolute = || QEMU.operation_invalid("can't keep relative backing relationship");
    let mut way = PathBuf::new();
    for image in images {
        let next = image.path().map(Path::new).map(chain::said_below).transpose()?.flatten();
        let next = next.filter(|next| next.is_relative()).ok_or_else(absolute)?;
        way.pop();
        way.push(next);
    }
    Ok(way.display().to_string())
}

/// The place of the image that a client means: by number, as in `vda[3]`, or by its path; below one of them, if that
/// is said.
fn image(disk: &Disk, images: &[Layer], name: &str, beneath: Option<usize>) -> Result<usize> {
    const STORAGE: ErrorDomain = ErrorDomain::STORAGE;
    let own = target(disk);
    let numbered = name.strip_suffix(']').and_then(|name| name.split_once('['));
    let numbered = numbered.and_then(|(of, number)| Some((of, number.parse::<u32>().ok()?)));
    if let Some((of, _)) = numbered.filter(|(of, _)| *of != own) {
        let text = format_args!("requested target '{of}' does not match target '{own}'");
        return Err(STORAGE.invalid_arg(text));
    }
    let is = |image: &Layer| match numbered {
        Some((_, number)) => image.index == Some(number),
        None => image.path() == Some(name),
    };
    let first = beneath.map_or(0, |beneath| beneath + 1);
    let found = images.iter().skip(first).position(is).map(|at| first + at);
    found.ok_or_else(|| match (numbered, beneath.and_then(|at| images.get(at)).and_then(Layer::path)) {
        (Some((_, number)), _) => STORAGE
            .invalid_arg(format_args!("could not find backing store index '{number}' in chain for '{own}'")),
        (None, Some(above)) => STORAGE.invalid_arg(format_args!(
            "could not find image '{name}' beneath '{above}' in chain for '{own}'"
        )),
        (None, None) => {
            STORAGE.invalid_arg(format_args!("could not find image '{name}' in chain for '{own}'"))
        }
    })
}

/// What a client wants merged: the places of the uppermost image that goes, and of the one that gets all.
fn asked(disk: &Disk, images: &[Layer], args: &DomainBlockCommitArgs) -> Result<(usize, usize)> {
    let named = |name: &Option<XdrString>, beneath| {
        name.as_ref().map(|name| image(disk, images, &name.to_str_lossy(), beneath)).transpose()
    };
    let path = |at: usize| images.get(at).and_then(Layer::path).unwrap_or_default();
    let top = named(&args.top, None)?.unwrap_or(0);
    let shallow = args.flags & flag::SHALLOW != 0;
    let base = match named(&args.base, Some(top))? {
        Some(base) => base,
        None if shallow => top + 1,
        None => images.len().saturating_sub(1),
    };
    if base <= top || base >= images.len() {
        let text = format_args!("could not find base image in chain for '{}'", target(disk));
        return Err(ErrorDomain::STORAGE.invalid_arg(text));
    }
    let active = args.flags & flag::ACTIVE != 0;
    if (top == 0) != active {
        return Err(QEMU.invalid_arg(match active {
            true => format!("active commit requested but '{}' is not active", path(top)),
            false => format!("commit of '{}' active layer requires active flag", target(disk)),
        }));
    }
    if shallow && base != top + 1 {
        let (base, top, own) = (path(base), path(top), path(0));
        let text = format_args!("base '{base}' is not immediately below '{top}' in chain for '{own}'");
        return Err(QEMU.invalid_arg(text));
    }
    Ok((top, base))
}

pub(crate) async fn commit(driver: &Qemu, args: DomainBlockCommitArgs) -> Result<()> {
    use flag::{ACTIVE, BYTES, DELETE, RELATIVE, SHALLOW};
    check_flags(args.flags, SHALLOW | DELETE | ACTIVE | RELATIVE | BYTES, "qemuDomainBlockCommit")?;
    let speed = speed(args.bandwidth, args.flags & BYTES != 0)?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let path = args.disk.to_str_lossy();
    let now = guest.lock().current().ok_or_else(not_running)?;
    let disk = meant(&now, &path)?;
    if let Ok(live) = guest.live() {
        check_lasting(disk)?;
        check_idle(&live, target(disk))?;
    }
    let (images, _) = layers(disk);
    let (top, base) = asked(disk, &images, &args)?;
    let live = guest.live()?;
    let (Some(top_image), Some(base_image)) = (images.get(top), images.get(base)) else { return Ok(()) };
    let (top_node, base_node) = (nodes(disk, top_image).0, nodes(disk, base_image).0);
    let kind = if top == 0 { Kind::ActiveCommit } else { Kind::Commit };
    let name = format!("commit-{}-{top_node}", target(disk));
    let mut arguments = json!({"job-id": name, "device": nodes(disk, written(&images)?).0,
        "top-node": top_node, "base-node": base_node, "auto-finalize": true, "auto-dismiss": false});
    if speed > 0 {
        arguments["speed"] = speed.into();
    }
    if let Some(above) = top.checked_sub(1) {
        name_below(&live, &mut arguments, &images, (above, base), args.flags & RELATIVE != 0)?;
    }
    let job = BlockJob {
        base: Some(base_node),
        top: Some(top_node),
        delete: args.flags & DELETE != 0,
        ..BlockJob::new(name, kind, target(disk))
    };
    let given = driver.give_disk(&live, &alone(disk, base_image))?;
    if kind == Kind::ActiveCommit {
        driver.set_mirror(&guest, target(disk), Some(mirror(base_image, "active-commit")));
    }
    let begun = driver.begin_job(&guest, &live, job, "block-commit", arguments).await;
    match &begun {
        Ok(()) => given.keep(),
        Err(_) => driver.set_mirror(&guest, target(disk), None),
    }
    begun
}

#[cfg(test)]
mod tests {
    use virtwire_conf::domain::disk::{DiskSource, DiskTarget};

    use super::*;

    fn chain() -> (Disk, Vec<Layer>) {
        let layer = |path: &str, index| {
            let source = DiskSource { file: Some(path.to_owned()), ..DiskSource::default() };
            Layer { format: "qcow2".to_owned(), source, index: Some(index), ..Layer::default() }
        };
        let target = DiskTarget { dev: Some("vda".to_owned()), ..DiskTarget::default() };
        let images = vec![layer("/c", 1), layer("/b", 2), layer("/a", 3)];
        (Disk { target: Some(target), ..Disk::default() }, images)
    }

    fn places(top: Option<&str>, base: Option<&str>, flags: u32) -> Result<(usize, usize), String> {
        let (disk, images) = chain();
        let (top, base) = (top.map(Into::into), base.map(Into::into));
        let args = DomainBlockCommitArgs { disk: "vda".into(), base, top, flags, ..Default::default() };
        asked(&disk, &images, &args).map_err(|error| error.message)
    }

    #[test]
    fn images_are_meant_by_path_or_number() {
        assert_eq!(places(None, None, flag::ACTIVE), Ok((0, 2)));
        assert_eq!(places(None, None, flag::ACTIVE | flag::SHALLOW), Ok((0, 1)));
        assert_eq!(places(Some("/b"), None, 0), Ok((1, 2)));
        assert_eq!(places(Some("vda[2]"), Some("vda[3]"), flag::SHALLOW), Ok((1, 2)));
        for (wrong, why) in [
            ("/nosuch", "could not find image '/nosuch' in chain for 'vda'"),
            ("vda[9]", "could not find backing store index '9' in chain for 'vda'"),
            ("vdb[2]", "requested target 'vdb' does not match target 'vda'"),
            ("vda[x]", "could not find image 'vda[x]' in chain for 'vda'"),
        ] {
            assert!(places(Some(wrong), None, 0).unwrap_err().ends_with(why), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_merged_is_refused() {
        assert!(places(None, None, 0).unwrap_err().contains("requires active flag"));
        assert!(places(Some("/b"), None, flag::ACTIVE).unwrap_err().contains("is not active"));
        assert!(places(Some("/a"), None, 0).unwrap_err().contains("could not find base image"));
        assert!(places(Some("/b"), Some("/c"), 0).unwrap_err().contains("'/c' beneath '/b'"));
        let shallow = flag::ACTIVE | flag::SHALLOW;
        assert!(places(None, Some("/a"), shallow).unwrap_err().contains("is not immediately below"));
    }
}
