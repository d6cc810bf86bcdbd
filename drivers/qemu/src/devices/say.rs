//! Options of a command line, said to a QEMU that runs, and taken back.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};
use virtwire_conf::Domain;
use virtwire_conf::domain::net::InterfaceType;
use virtwire_conf::domain::one::Device;
use virtwire_qmp::Monitor;
use virtwire_qmp::commands::{AddFd, Getfd, QueryFdsets};

use super::attach::alone;
use crate::argv::{self, Context, Made, Vault};
use crate::command::{CommandLine, FdSet};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, monitor};
use crate::guest::Live;
use crate::plug::HostEnd;
use crate::prepare;

/// An option, and the commands for it.
struct Words {
    option: &'static str,
    add: &'static str,
    /// The command that takes it back; a device goes when the guest lets it go.
    remove: Option<&'static str>,
    /// The member that names it, in both commands.
    name: &'static str,
}

const fn words(
    option: &'static str,
    add: &'static str,
    remove: Option<&'static str>,
    name: &'static str,
) -> Words {
    Words { option, add, remove, name }
}

const WORDS: &[Words] = &[
    words("-blockdev", "blockdev-add", Some("blockdev-del"), "node-name"),
    words("-object", "object-add", Some("object-del"), "id"),
    words("-chardev", "chardev-add", Some("chardev-remove"), "id"),
    words("-netdev", "netdev_add", Some("netdev_del"), "id"),
    words(DEVICE, "device_add", None, "id"),
];

/// What the guest sees; all others are behind such.
const DEVICE: &str = "-device";

/// What the command line would say of the devices of a running guest, to be said over its monitor.
///
/// # Errors
/// What they need is not there, or `add` refuses them.
pub(crate) async fn line_of(
    driver: &Qemu,
    live: &Live,
    domain: &Domain,
    add: impl FnOnce(&mut CommandLine, &Domain, &Context<'_>) -> Result<()>,
) -> Result<CommandLine> {
    let (id, dirs) = (domain.id.unwrap_or(-1), &driver.shared.dirs);
    let (dir, memory) = (dirs.domain(id, &domain.name), dirs.domain_memory(id, &domain.name));
    let caps = driver.caps_of(Path::new(domain.devices.emulator.as_deref().unwrap_or_default())).await?;
    let found = prepare::volumes(driver, domain).await?;
    let vault = prepare::unlock(driver, &found, prepare::vault_of(&dir)?).await?;
    let context = Context::apart(&dir, &memory, &caps, vault, &driver.shared.policy);
    let sets = live.monitor.execute(&QueryFdsets {}).await.map_err(monitor)?;
    let taken = sets.iter().map(|set| set.fdset_id + 1).max().unwrap_or_default();
    let taken = taken.max(live.sets.load(Ordering::Relaxed));
    let mut line = CommandLine::to_plug(taken);
    add(&mut line, &found, &context)?;
    live.sets.fetch_max(line.sets(), Ordering::Relaxed);
    Ok(line)
}

/// What QEMU has for a device, in the order in which it was made. Only those that are made for the device alone count.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Behind(Vec<(&'static str, &'static str, String)>);

impl Behind {
    /// Of a device of a running guest.
    pub(crate) async fn of(driver: &Qemu, domain: &Domain, device: &Device) -> Self {
        let args = shown(driver, domain, device).await;
        let said = args.chunks(2).filter_map(|pair| {
            let [option, value] = pair else { return None };
            let words = WORDS.iter().find(|words| words.option == option)?;
            Some((words.remove?, words.name, name_of(value, words.name)?))
        });
        Self(said.collect())
    }

    /// Removes it, the uppermost first. What is gone already is no matter.
    pub(crate) async fn remove(self, qemu: &Monitor) {
        for (command, name, value) in self.0.into_iter().rev() {
            let arguments = Map::from_iter([(name.to_owned(), json!(value))]);
            if let Err(error) = qemu.execute_raw(command, &arguments).await {
                tracing::debug!(command, value, %error, "was gone before");
            }
        }
    }
}

/// What a command line would say of a device of a running guest. What cannot be said any more is said as far as it goes.
async fn shown(driver: &Qemu, domain: &Domain, device: &Device) -> Vec<String> {
    let (id, dirs) = (domain.id.unwrap_or(-1), &driver.shared.dirs);
    let (dir, memory) = (dirs.domain(id, &domain.name), dirs.domain_memory(id, &domain.name));
    let program = Path::new(domain.devices.emulator.as_deref().unwrap_or_default());
    let Ok(caps) = driver.caps_of(program).await else { return Vec::new() };
    let context = Context::apart(&dir, &memory, &caps, Vault::blank(), &driver.shared.policy);
    // A volume has the nodes of what it is.
    let found = match device {
        Device::Disk(_) => {
            let only = alone(domain, device);
            let found = prepare::volumes(driver, &only).await;
            found.ok().and_then(|found| device.newest(&found.devices))
        }
        _ => None,
    };
    let device = found.as_ref().unwrap_or(device);
    // The host's end is gone, or known by its name.
    let end = match device {
        Device::Interface(net) if net.type_ != InterfaceType::Vhostuser => {
            Some(HostEnd::Stream(PathBuf::new()))
        }
        _ => None,
    };
    let mut line = CommandLine::default();
    let _ = argv::one(&mut line, domain, device, &context, Made { end, ..Made::default() });
    line.into_parts().0
}

/// Whether a device is one of QEMU's, which knows it by its name.
pub(super) async fn is_known(driver: &Qemu, domain: &Domain, device: &Device) -> bool {
    let name = device.info().map(argv::alias);
    let args = shown(driver, domain, device).await;
    args.chunks(2).any(|pair| match pair {
        [option, value] => option == DEVICE && name_of(value, "id").as_deref() == name,
        _ => false,
    })
}

/// What names an option: a member of an object, or of a list of words.
fn name_of(value: &str, name: &str) -> Option<String> {
    match serde_json::from_str::<Map<String, Value>>(value) {
        Ok(object) => object.get(name)?.as_str().map(str::to_owned),
        Err(_) => {
            let mut parts = value.split(',').filter_map(|part| part.split_once('='));
            parts.find(|part| part.0 == name).map(|part| part.1.to_owned())
        }
    }
}

/// What the command line says of devices, said over the monitor, each device after what is behind it. When one part
/// fails, those before it are taken back.
pub(crate) async fn run(qemu: &Monitor, mut line: CommandLine) -> Result<()> {
    let sets = line.take_fdsets();
    let (args, fds) = line.into_parts();
    for FdSet { set, opaque, fd } in sets {
        let add = AddFd { fdset_id: Some(set.into()), opaque: Some(opaque) };
        qemu.execute_with_fds(&add, vec![fd]).await.map_err(monitor)?;
    }
    for fd in fds {
        let fdname = CommandLine::name_of(fd.as_raw_fd());
        qemu.execute_with_fds(&Getfd { fdname }, vec![fd]).await.map_err(monitor)?;
    }
    let mut pairs: Vec<_> = args.chunks(2).collect();
    pairs.sort_by_key(|pair| pair.first().is_some_and(|option| option == DEVICE));
    let mut said = Behind::default();
    for pair in pairs {
        let [option, value] = pair else { continue };
        let words = WORDS.iter().find(|words| words.option == option);
        let words =
            words.ok_or_else(|| QEMU.internal_error(format_args!("{option} is not a device's option")))?;
        let object: Map<String, Value> =
            serde_json::from_str(value).map_err(|error| QEMU.internal_error(error))?;
        if let Err(error) = qemu.execute_raw(words.add, &object).await {
            said.remove(qemu).await;
            return Err(monitor(error));
        }
        said.0.extend(
            words.remove.zip(name_of(value, words.name)).map(|(remove, id)| (remove, words.name, id)),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use virtwire_qmp::scripted::ScriptedQmp;

    use super::*;

    /// A serial port on USB behind a socket of a memory device, to have one of each.
    fn line() -> CommandLine {
        let mut line = CommandLine::to_plug(0);
        line.option("-device", r#"{"driver":"usb-serial","chardev":"charserial1","id":"serial1"}"#);
        line.option("-chardev", r#"{"id":"charserial1","backend":{"type":"null","data":{}}}"#);
        line.option("-object", r#"{"qom-type":"rng-builtin","id":"objrng0"}"#);
        line.option("-netdev", r#"{"type":"user","id":"hostnet1"}"#);
        line
    }

    #[tokio::test]
    async fn a_device_comes_after_all_that_is_behind_it() {
        let chardev = json!({"id": "charserial1", "backend": {"type": "null", "data": {}}});
        let device = json!({"driver": "usb-serial", "chardev": "charserial1", "id": "serial1"});
        let qemu = ScriptedQmp::new()
            .expect("chardev-add", chardev)
            .reply(json!({}))
            .expect("object-add", json!({"qom-type": "rng-builtin", "id": "objrng0"}))
            .reply(json!({}))
            .expect("netdev_add", json!({"type": "user", "id": "hostnet1"}))
            .reply(json!({}))
            .expect("device_add", device)
            .reply(json!({}))
            .run()
            .await;
        run(&qemu.monitor, line()).await.unwrap();
        qemu.finish().await;
    }

    #[tokio::test]
    async fn what_was_begun_is_taken_back_the_last_first() {
        let chardev = json!({"id": "charserial1", "backend": {"type": "null", "data": {}}});
        let device = json!({"driver": "usb-serial", "chardev": "charserial1", "id": "serial1"});
        let qemu = ScriptedQmp::new()
            .expect("chardev-add", chardev)
            .reply(json!({}))
            .expect("object-add", json!({"qom-type": "rng-builtin", "id": "objrng0"}))
            .reply(json!({}))
            .expect("netdev_add", json!({"type": "user", "id": "hostnet1"}))
            .reply(json!({}))
            .expect("device_add", device)
            .refuse("GenericError", "no free port")
            .expect("netdev_del", json!({"id": "hostnet1"}))
            .reply(json!({}))
            .expect("object-del", json!({"id": "objrng0"}))
            .refuse("GenericError", "it is in use")
            .expect("chardev-remove", json!({"id": "charserial1"}))
            .reply(json!({}))
            .run()
            .await;
        let refused = run(&qemu.monitor, line()).await.unwrap_err();
        assert_eq!(
            refused.message,
            "internal error: unable to execute QEMU command 'device_add': no free port"
        );
        qemu.finish().await;
    }

    #[tokio::test]
    async fn where_nothing_was_begun_nothing_is_taken_back() {
        let chardev = json!({"id": "charserial1", "backend": {"type": "null", "data": {}}});
        let qemu = ScriptedQmp::new().expect("chardev-add", chardev).refuse("GenericError", "no").run().await;
        assert!(run(&qemu.monitor, line()).await.is_err());
        qemu.finish().await;
    }

    #[test]
    fn options_are_known_by_their_names() {
        assert_eq!(name_of(r#"{"driver":"a","id":"x"}"#, "id").as_deref(), Some("x"));
        assert_eq!(name_of("socket,id=charx,path=/a", "id").as_deref(), Some("charx"));
        assert_eq!(name_of("pty", "id"), None);
    }
}
