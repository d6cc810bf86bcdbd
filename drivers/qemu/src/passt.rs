//! `passt`, which carries the packets of a guest without privileges (`<backend type='passt'/>`): one process for each
//! interface, which ends when QEMU leaves it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use virtwire_conf::domain::net::{Interface, InterfaceType, PortForward, PortRange};
use virtwire_conf::{Domain, YesNo};

use crate::argv::alias;
use crate::command::quote;
use crate::driver::Qemu;
use crate::error::{Result, child, file};
use crate::log::GuestLog;
use crate::probe::find_in_path;
use crate::process::{Process, helper, spawn};
use crate::security::make_dir;

/// Whether passt stands behind an interface.
pub(crate) fn is_behind(interface: &Interface) -> bool {
    let named = interface.backend.as_ref().and_then(|backend| backend.type_.as_deref());
    interface.type_ == InterfaceType::User && named == Some("passt")
}

/// Starts it for an interface; returned is the socket where it waits for QEMU.
///
/// # Errors
/// It is not there, or does not start.
pub(crate) async fn start(driver: &Qemu, domain: &Domain, interface: &Interface) -> Result<PathBuf> {
    let missing = || file(&rustix::io::Errno::NOENT.into(), "Cannot find 'passt' in path");
    let program = find_in_path("passt").ok_or_else(missing)?;
    let socket = socket(driver, domain.id.unwrap_or(-1), &domain.name, interface);
    let dac = driver.shared.security.as_ref();
    if let Some(dir) = socket.parent() {
        make_dir(dac, &dir.to_owned())
            .map_err(|e| file(&e, format_args!("cannot create directory '{}'", dir.display())))?;
    }
    let words = words(interface, &socket);
    let line = [&"passt".to_owned()].into_iter().chain(&words).map(|word| quote(word)).collect::<Vec<_>>();
    let line = line.join(" ");
    let log = driver.shared.dirs.log(&domain.name);
    let cannot = |e| file(&e, format_args!("failed to open '{}'", log.display()));
    let mut log = GuestLog::open(&log).map_err(cannot)?;
    log.note(&format!("Starting external device: passt\n{line}")).map_err(cannot)?;
    let mut command = helper(program);
    command.args(words).stdout(Stdio::null()).stderr(Stdio::piped());
    let who = dac.map(|dac| dac.credentials(domain)).transpose()?;
    let spawned = spawn(command, who.as_ref());
    // Its first process ends when what it leaves in the background is ready.
    let output = match spawned {
        Ok(child) => child.wait_with_output().await,
        Err(error) => Err(error),
    };
    let output = output.map_err(|e| file(&e, "Cannot run 'passt'"))?;
    if output.status.success() {
        return Ok(socket);
    }
    Err(child(&line, &output))
}

/// Ends one that QEMU has not come to, and removes what is left of it.
pub(crate) fn end(driver: &Qemu, id: i32, guest: &str, interface: &Interface) {
    let socket = socket(driver, id, guest, interface);
    let file = pid_file(&socket);
    let pid = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    if let Some(Ok(process)) = pid.map(|pid| Process::adopt(pid, &socket.to_string_lossy())) {
        process.signal(Signal::TERM);
    }
    for left in [socket, file] {
        let _ = fs::remove_file(left);
    }
}

/// The socket between QEMU and passt.
fn socket(driver: &Qemu, id: i32, guest: &str, interface: &Interface) -> PathBuf {
    let name = format!("{id}-{guest}-{}.socket", alias(&interface.info));
    driver.shared.dirs.run.join("passt").join(name)
}

fn pid_file(socket: &Path) -> PathBuf {
    let mut file = socket.with_extension("").into_os_string();
    file.push("-passt.pid");
    file.into()
}

/// The options of passt(1).
fn words(interface: &Interface, socket: &Path) -> Vec<String> {
    let (pid, socket) = (pid_file(socket).display().to_string(), socket.display().to_string());
    let mut words: Vec<String> = ["--one-off", "--socket", &socket, "--pid", &pid].map(str::to_owned).into();
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    };
    option("--interface", interface.source.as_ref().and_then(|source| source.dev.clone()));
    option("--log-file", interface.backend.as_ref().and_then(|backend| backend.log_file.clone()));
    for ip in &interface.ip {
        option("--address", ip.address.clone());
        option("--netmask", ip.prefix.map(|prefix| prefix.to_string()));
    }
    for forward in &interface.port_forward {
        option(&format!("--{}-ports", forward.proto), Some(ports(forward)));
    }
    words
}

/// What is forwarded: `ADDRESS%INTERFACE/FROM-TO:AT-AT,~EXCLUDED`.
fn ports(forward: &PortForward) -> String {
    let range = |first: u32, last: Option<u32>| match last {
        Some(last) => format!("{first}-{last}"),
        None => first.to_string(),
    };
    let one = |port: &PortRange| {
        let start = port.start.unwrap_or_default();
        let not = if port.exclude == Some(YesNo::Yes) { "~" } else { "" };
        let end = port.end.filter(|_| port.start.is_some());
        let to = port.to.map(|to| {
            let last = end.map(|end| to.saturating_add(end.saturating_sub(start)));
            format!(":{}", range(to, last))
        });
        format!("{not}{}{}", range(start, end), to.unwrap_or_default())
    };
    let mut place = forward.address.clone().unwrap_or_default();
    place.extend(forward.dev.iter().flat_map(|dev| ["%", dev]));
    if forward.range.is_empty() {
        let all = if place.is_empty() { "" } else { "/" };
        return format!("{place}{all}all");
    }
    let between = if place.is_empty() { "" } else { "/" };
    let ranges: Vec<_> = forward.range.iter().map(one).collect();
    format!("{place}{between}{}", ranges.join(","))
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;

    use super::*;

    #[test]
    fn options_are_those_that_libvirt_gives() {
        let xml = "<domain type='test'><name>g</name><memory>8192</memory><os><type>hvm</type></os><devices>
            <interface type='user'><backend type='passt' logFile='/var/log/passt'/><source dev='eth0'/>
            <ip family='ipv4' address='172.17.2.4' prefix='24'/>
            <portForward proto='tcp' address='127.0.0.1'><range start='2022' to='22'/></portForward>
            <portForward proto='udp' dev='eth1'><range start='5000' end='5020' to='6000'/>
            <range start='5010' end='5015' exclude='yes'/></portForward>
            <portForward proto='tcp'/></interface></devices></domain>";
        let domain = Domain::parse(xml, &ParseOptions::default()).unwrap();
        let interface = &domain.devices.interfaces[0];
        assert!(is_behind(interface));
        assert_eq!(
            words(interface, Path::new("/run/1-g-net0.socket")).join(" "),
            "--one-off --socket /run/1-g-net0.socket --pid /run/1-g-net0-passt.pid --interface eth0 \
             --log-file /var/log/passt --address 172.17.2.4 --netmask 24 --tcp-ports 127.0.0.1/2022:22 \
             --udp-ports %eth1/5000-5020:6000-6020,~5010-5015 --tcp-ports all"
        );
    }
}
