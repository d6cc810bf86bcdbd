//! Pools that are file systems: mounted when they start and unmounted when they stop, by the system's `mount` and
//! `umount`, which know every kind.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use virtwire_conf::StoragePool;
use virtwire_conf::storage::PoolType;

use crate::program::{output, run};
use crate::{Result, STORAGE};

/// What every file system is mounted with: nothing in a pool is a device or a program of this host.
const OPTIONS: &str = "nodev,nosuid,noexec";

/// What a pool mounts, as `mount` calls it; `None` for a directory.
pub(crate) fn source(definition: &StoragePool) -> Option<String> {
    let from = &definition.source;
    let host = from.hosts.first().and_then(|host| host.name.as_deref()).unwrap_or_default();
    let dir = from.dir.as_ref().and_then(|dir| dir.path.as_deref()).unwrap_or_default();
    match (definition.type_, format(definition)) {
        (PoolType::Fs, _) => {
            Some(from.devices.first().and_then(|device| device.path.clone()).unwrap_or_default())
        }
        (PoolType::Netfs, "cifs") => Some(format!("//{host}/{dir}")),
        (PoolType::Netfs, _) => Some(format!("{host}:{dir}")),
        _ => None,
    }
}

fn format(definition: &StoragePool) -> &str {
    definition.source.format.as_ref().and_then(|format| format.type_.as_deref()).unwrap_or("auto")
}

/// The words that mount it: `mount -o … -t … SOURCE TARGET`.
fn words(definition: &StoragePool, source: &str, target: &str) -> Vec<String> {
    let format = format(definition);
    let mut options = vec![OPTIONS.to_owned()];
    match format {
        "cifs" => options.push("guest".to_owned()),
        "glusterfs" => options.push("direct-io-mode=1".to_owned()),
        _ => {}
    }
    let version = definition.source.protocol.as_ref().and_then(|protocol| protocol.ver.as_ref());
    options.extend(version.map(|version| format!("nfsvers={version}")));
    options
        .extend(definition.mount_opts.iter().flat_map(|own| &own.option).map(|option| option.name.clone()));
    let mut words = vec!["-o".to_owned(), options.join(",")];
    // The kind of a network's file system is told by how its source is written.
    if definition.type_ == PoolType::Fs || format != "auto" {
        words.extend(["-t".to_owned(), format.to_owned()]);
    }
    words.extend([source.to_owned(), target.to_owned()]);
    words
}

/// Mounts what the pool is made of, unless it is already there.
pub(crate) async fn mount(definition: &StoragePool, target: &Path) -> Result<()> {
    let Some(source) = source(definition) else { return Ok(()) };
    if source.starts_with('-') {
        return Err(STORAGE.config_unsupported(format_args!("'{source}' cannot be mounted")));
    }
    if is_mounted(&source, target) {
        return Ok(());
    }
    run("mount", &words(definition, &source, &target.to_string_lossy())).await
}

/// Unmounts it, if it is mounted.
pub(crate) async fn unmount(definition: &StoragePool, target: &Path) -> Result<()> {
    match source(definition) {
        Some(source) if is_mounted(&source, target) => run("umount", &[target]).await,
        _ => Ok(()),
    }
}

/// Makes a new file system on the device of a pool.
///
/// # Errors
/// `VIR_ERR_OPERATION_INVALID` without such a device; `VIR_ERR_STORAGE_POOL_BUILT` if there is something on it that is
/// not to be overwritten.
pub(crate) async fn make_file_system(definition: &StoragePool, overwrite: bool) -> Result<()> {
    let name = definition.name.as_deref().unwrap_or_default();
    let device = source(definition).filter(|device| definition.type_ == PoolType::Fs && !device.is_empty());
    let Some(device) = device else {
        let text = format_args!("No source device specified when formatting pool '{name}'");
        return Err(STORAGE.operation_invalid(text));
    };
    if !Path::new(&device).exists() {
        let text = format_args!("Source device does not exist when formatting pool '{name}'");
        return Err(STORAGE.operation_invalid(text));
    }
    let format = format(definition);
    if !overwrite {
        match probe(&device).await?.as_deref() {
            None => {}
            Some(found) if found == format => {
                let text = format_args!("Device '{device}' already formatted using '{format}'");
                return Err(STORAGE.storage_pool_built(text));
            }
            Some(_) => {
                return Err(STORAGE.storage_pool_built(format_args!(
                    "Format of device '{device}' does not match the expected format '{format}', forced \
                     overwrite is necessary"
                )));
            }
        }
    }
    let force = match format {
        "ext2" | "ext3" | "ext4" => Some("-F"),
        "xfs" => Some("-f"),
        _ => None,
    };
    let words: Vec<_> = ["-t", format].into_iter().chain(force).chain([device.as_str()]).collect();
    run("mkfs", &words).await
}

/// What is on a device, by blkid(8): a file system's kind, nothing, or (as an empty text) something else.
async fn probe(device: &str) -> Result<Option<String>> {
    const NOTHING: Option<i32> = Some(2);
    let told = output("blkid", &["-p", "-o", "value", "-s", "TYPE", device]).await?;
    match told.status.code() {
        Some(0) => Ok(Some(String::from_utf8_lossy(&told.stdout).trim().to_owned())),
        // So it ends as well where there is nothing to read.
        NOTHING if can_hold(device) => Ok(None),
        _ => Err(STORAGE
            .storage_probe_failed(format_args!("Failed to create filesystem probe for device {device}"))),
    }
}

/// Whether this is something that a file system can be on.
fn can_hold(device: &str) -> bool {
    let kind = std::fs::File::open(device).and_then(|file| file.metadata()).map(|meta| meta.file_type());
    kind.is_ok_and(|kind| kind.is_block_device() || kind.is_file())
}

/// Whether the last file system that was mounted at `target` is `source`.
fn is_mounted(source: &str, target: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    last_at(&table, &target.to_string_lossy()).is_some_and(|mounted| mounted == source)
}

/// What is mounted at a place, by a table as `/proc/self/mounts` is (proc_pid_mounts(5)).
fn last_at(table: &str, target: &str) -> Option<String> {
    let mut found = None;
    for line in table.lines() {
        let mut fields = line.split(' ').map(plain);
        if let (Some(source), Some(at)) = (fields.next(), fields.next())
            && at == target
        {
            found = Some(source);
        }
    }
    found
}

/// A field of the table, in which blanks, tabs, line ends and backslashes are written in octal.
fn plain(field: &str) -> String {
    let escapes = [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")];
    escapes.iter().fold(field.to_owned(), |text, (escape, is)| text.replace(escape, is))
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;

    use super::*;

    #[test]
    fn every_kind_is_mounted_in_its_way() {
        let nas = |format: &str, dir: &str, rest: &str| {
            format!(
                "<pool type='netfs'><name>p</name><source><host name='nas'/><dir path='{dir}'/>
                 <format type='{format}'/>{rest}</source><target><path>/srv/p</path></target></pool>"
            )
        };
        let fs =
            "<pool type='fs'><name>p</name><source><device path='/dev/sdb1'/><format type='ext4'/></source>
            <target><path>/srv/p</path></target></pool>";
        let tuned = nas("nfs", "/x", "")
            .replace("<pool ", "<pool xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0' ");
        let tuned = tuned.replace(
            "</pool>",
            "<fs:mount_opts><fs:option name='sync'/><fs:option name='ro'/></fs:mount_opts></pool>",
        );
        for (xml, line) in [
            (nas("auto", "/x", ""), "nodev,nosuid,noexec nas:/x"),
            (nas("nfs", "/x", "<protocol ver='4.1'/>"), "nodev,nosuid,noexec,nfsvers=4.1 -t nfs nas:/x"),
            (nas("cifs", "x", ""), "nodev,nosuid,noexec,guest -t cifs //nas/x"),
            (nas("glusterfs", "x", ""), "nodev,nosuid,noexec,direct-io-mode=1 -t glusterfs nas:x"),
            (tuned, "nodev,nosuid,noexec,sync,ro -t nfs nas:/x"),
            (fs.to_owned(), "nodev,nosuid,noexec -t ext4 /dev/sdb1"),
            (fs.replace("<format type='ext4'/>", ""), "nodev,nosuid,noexec -t auto /dev/sdb1"),
        ] {
            let definition = StoragePool::parse(&xml, &ParseOptions::default()).unwrap();
            let source = source(&definition).unwrap();
            assert_eq!(words(&definition, &source, "/srv/p").join(" "), format!("-o {line} /srv/p"));
        }
    }

    #[test]
    fn the_last_mount_at_a_place_counts() {
        let table =
            "none / tmpfs rw 0 0\nnas:/a\\040b /srv/p\\134q nfs rw 0 0\nnas:/c /srv/p\\134q nfs rw 0 0\n";
        assert_eq!(last_at(table, r"/srv/p\q").as_deref(), Some("nas:/c"));
        assert_eq!(last_at("nas:/a\\040b /srv nfs rw 0 0\n", "/srv").as_deref(), Some("nas:/a b"));
        assert_eq!(last_at(table, "/srv"), None);
    }

    #[tokio::test]
    async fn no_source_is_an_option_of_mount() {
        let xml = "<pool type='fs'><name>p</name><source><device path='-B'/></source>
            <target><path>/nowhere</path></target></pool>";
        let definition = StoragePool::parse(xml, &ParseOptions::default()).unwrap();
        let error = mount(&definition, Path::new("/nowhere")).await.unwrap_err();
        assert_eq!(error.message, "unsupported configuration: '-B' cannot be mounted");
    }
}
