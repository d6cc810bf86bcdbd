//! The host's end of a character device: a `-chardev`, whatever the guest's end is.

use serde_json::{Map, Value, json};
use virtwire_conf::domain::chardev::{CharMode, CharProtocol, CharSource, CharType, Chardev, Log, Protocol};
use virtwire_conf::{OnOff, YesNo};
use virtwire_protocol::VirtError;

use super::device::is_on;
use super::tls::Credentials;
use crate::command::{CommandLine, Options};
use crate::error::{QEMU, file};

/// A `-chardev` in the making: its kind, and what is said of it in the order in which it is added.
pub(super) struct Backend {
    kind: &'static str,
    parts: Vec<(&'static str, Value)>,
}

/// Members of a kind that have another name over the monitor.
const OVER_MONITOR: &[(&str, &str, &str)] = &[
    ("file", "path", "out"),
    ("serial", "path", "device"),
    ("parallel", "path", "device"),
    ("pipe", "path", "device"),
    ("spicevmc", "name", "type"),
    ("spiceport", "name", "fqdn"),
];

impl Backend {
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, parts: Vec::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.parts.push((name, value.into()));
        self
    }

    pub(super) fn with_if<T: Into<Value>>(self, name: &'static str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds it: as a word to a line, as an object to what is said over a monitor.
    pub(super) fn add(self, line: &mut CommandLine, id: &str) {
        if line.is_said() {
            line.json("-chardev", &self.said(id));
        } else {
            line.option("-chardev", self.written(id));
        }
    }

    fn written(self, id: &str) -> Options {
        let begin = Options::new(self.kind).with("id", id);
        self.parts.into_iter().fold(begin, |options, (name, value)| match value {
            Value::Bool(on) => options.with(name, if on { "on" } else { "off" }),
            Value::String(text) => options.with(name, text),
            other => options.with(name, other),
        })
    }

    fn said(self, id: &str) -> Value {
        let kind = self.kind;
        let mut data = Map::new();
        let mut sockets: [Map<String, Value>; 2] = Default::default();
        let [remote, local] = &mut sockets;
        for (name, value) in self.parts {
            match (kind, name) {
                ("socket", "path") => {
                    _ = data.insert("addr".to_owned(), address("unix", json!({"path": value})))
                }
                ("socket", "fd") => _ = data.insert("addr".to_owned(), address("fd", json!({"str": value}))),
                ("socket" | "udp", "host" | "port") => _ = remote.insert(name.to_owned(), value),
                ("udp", "localaddr") => _ = local.insert("host".to_owned(), value),
                ("udp", "localport") => _ = local.insert("port".to_owned(), value),
                ("qemu-vdagent", "name") => {}
                _ => {
                    let other = OVER_MONITOR.iter().find(|row| (row.0, row.1) == (kind, name));
                    data.insert(other.map_or(name, |row| row.2).to_owned(), value);
                }
            }
        }
        if kind == "socket" {
            // Over the monitor a socket listens unless it is told not to.
            data.entry("server").or_insert(false.into());
        }
        for (map, name) in sockets.into_iter().zip([if kind == "udp" { "remote" } else { "addr" }, "local"]) {
            if !map.is_empty() {
                data.insert(name.to_owned(), address("inet", map.into()));
            }
        }
        json!({"id": id, "backend": {"type": kind, "data": data}})
    }
}

fn address(kind: &str, data: Value) -> Value {
    json!({"type": kind, "data": data})
}

/// What hosts' ends need besides what is said of them.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) credentials: Credentials<'a>,
    /// QEMU gets files open, so that it need not be able to open them.
    pub(crate) opens_files: bool,
}

/// A host's end, however the device that has it is written.
#[derive(Clone, Copy)]
pub(crate) struct HostEnd<'a> {
    pub(crate) type_: CharType,
    pub(crate) source: &'a [CharSource],
    pub(crate) protocol: Option<&'a Protocol>,
    pub(crate) log: Option<&'a Log>,
}

impl<'a> From<&'a Chardev> for HostEnd<'a> {
    fn from(chardev: &'a Chardev) -> Self {
        Self {
            type_: chardev.type_,
            source: &chardev.source,
            protocol: chardev.protocol.as_ref(),
            log: chardev.log.as_ref(),
        }
    }
}

impl HostEnd<'_> {
    /// Adds it to the line; `alias` is the device's. The id of the chardev is returned.
    ///
    /// # Errors
    /// A kind that QEMU does not have here.
    pub(crate) fn add(
        self,
        line: &mut CommandLine,
        alias: &str,
        means: Means<'_>,
    ) -> Result<String, VirtError> {
        let id = format!("char{alias}");
        let source = self.source.first();
        let path = source.and_then(|source| source.path.as_deref()).unwrap_or_default();
        let begin = Backend::new;
        let backend = match self.type_ {
            CharType::Pty | CharType::Null | CharType::Stdio | CharType::Vc => begin(self.type_.as_str()),
            CharType::Dev if alias.starts_with("parallel") => begin("parallel").with("path", path),
            CharType::Dev => begin("serial").with("path", path),
            CharType::Pipe => begin("pipe").with("path", path),
            CharType::File => {
                let append = source.and_then(|source| source.append);
                let appends = append != Some(OnOff::Off);
                let cannot = |error| file(&error, format_args!("Unable to open file: {path}"));
                let name = match means.opens_files {
                    true => line.log(path, appends, &format!("{alias}-source")).map_err(cannot)?,
                    false => path.to_owned(),
                };
                // A file that was opened here has been emptied already.
                let append = if name == path { append.map(is_on) } else { Some(true) };
                begin("file").with("path", name).with_if("append", append)
            }
            CharType::Udp => self.udp(begin("udp")),
            CharType::Unix => {
                let (name, value) = self.socket(line, path)?;
                self.listening(begin("socket").with(name, value), CharMode::Bind)
            }
            CharType::Tcp => self.tcp(line, begin("socket"), &id, means.credentials)?,
            CharType::Dbus => {
                let named = source.and_then(|source| source.channel.as_deref());
                let usual = alias.starts_with("redir").then_some("org.qemu.usbredir");
                begin("dbus").with_if("name", named.or(usual))
            }
            CharType::QemuVdagent => agent(begin("qemu-vdagent").with("name", "vdagent"), source),
            CharType::Spicevmc => begin("spicevmc").with("name", self.spice_name(alias)),
            CharType::Spiceport => {
                begin("spiceport").with_if("name", source.and_then(|source| source.channel.clone()))
            }
            CharType::Nmdm => {
                let kind = self.type_.as_str();
                return Err(QEMU.config_unsupported(format_args!("unsupported chardev '{kind}'")));
            }
        };
        self.logged(line, backend, alias)?.add(line, &id);
        Ok(id)
    }

    /// Where a copy goes of what comes through it.
    fn logged(self, line: &mut CommandLine, backend: Backend, alias: &str) -> Result<Backend, VirtError> {
        let Some((log, path)) = self.log.and_then(|log| Some((log, log.file.as_deref()?))) else {
            return Ok(backend);
        };
        let appends = log.append != Some(OnOff::Off);
        let cannot = |error| file(&error, format_args!("Unable to open file: {path}"));
        let name = line.log(path, appends, &format!("{alias}-log")).map_err(cannot)?;
        // A file that was opened here has been emptied already.
        let append = if name == path { log.append.map(is_on) } else { Some(true) };
        Ok(backend.with("logfile", name).with_if("logappend", append))
    }

    /// What a spice client knows the channel by.
    fn spice_name(self, alias: &str) -> &'static str {
        match alias {
            _ if alias.starts_with("redir") => "usbredir",
            _ if alias.starts_with("smartcard") => "smartcard",
            _ => "vdagent",
        }
    }

    /// Both ends; the near one is QEMU's choice where nothing is said.
    fn udp(self, backend: Backend) -> Backend {
        let end = |mode: CharMode| {
            let source = self.source.iter().find(|source| source.mode.unwrap_or(CharMode::Connect) == mode);
            let part = |part: Option<&String>| part.cloned().unwrap_or_default();
            let host = part(source.and_then(|source| source.host.as_ref()));
            (host, part(source.and_then(|source| source.service.as_ref())))
        };
        let ((host, port), (near, near_port)) = (end(CharMode::Connect), end(CharMode::Bind));
        let near_port = if near_port.is_empty() { "0".to_owned() } else { near_port };
        backend.with("host", host).with("port", port).with("localaddr", near).with("localport", near_port)
    }

    fn tcp(
        self,
        line: &mut CommandLine,
        backend: Backend,
        id: &str,
        credentials: Credentials<'_>,
    ) -> Result<Backend, VirtError> {
        let source = self.source.first();
        let telnet = self.protocol.is_some_and(|protocol| protocol.type_ == CharProtocol::Telnet);
        let binds = source.and_then(|source| source.mode) == Some(CharMode::Bind);
        let backend = backend
            .with_if("host", source.and_then(|source| source.host.clone()))
            .with_if("port", source.and_then(|source| source.service.clone()))
            .with_if("telnet", telnet.then_some(true));
        let backend = self.listening(backend, CharMode::Connect);
        if source.and_then(|source| source.tls) != Some(YesNo::Yes) {
            return Ok(backend);
        }
        let name = format!("obj{id}_tls0");
        credentials.add(line, &name, &format!("{id}-secret0"), binds)?;
        Ok(backend.with("tls-creds", name))
    }

    /// A socket by its path, or the one that was made for QEMU to listen on.
    fn socket(self, line: &mut CommandLine, path: &str) -> Result<(&'static str, String), VirtError> {
        let mode = self.source.first().and_then(|source| source.mode);
        match mode.unwrap_or(CharMode::Bind) {
            CharMode::Connect | CharMode::Client => Ok(("path", path.to_owned())),
            CharMode::Bind | CharMode::Server => line
                .listener(path)
                .map_err(|error| file(&error, format_args!("Unable to create socket '{path}'"))),
        }
    }

    /// Who listens, and how often a client tries again; `default` holds where nothing is said.
    fn listening(self, backend: Backend, default: CharMode) -> Backend {
        let source = self.source.first();
        match source.and_then(|source| source.mode).unwrap_or(default) {
            CharMode::Bind | CharMode::Server => backend.with("server", true).with("wait", false),
            CharMode::Connect | CharMode::Client => {
                let reconnect = source.and_then(|source| source.reconnect.as_ref());
                let seconds = reconnect.map(|again| match again.enabled {
                    Some(YesNo::No) => 0,
                    _ => u64::from(again.timeout.unwrap_or_default()),
                });
                backend.with_if("reconnect-ms", seconds.map(|seconds| seconds * 1000))
            }
        }
    }
}

/// What an agent shares with who looks at the guest.
fn agent(backend: Backend, source: Option<&CharSource>) -> Backend {
    let copies =
        source.and_then(|source| source.clipboard.as_ref()).map(|board| board.copypaste == YesNo::Yes);
    let mouse = source.and_then(|source| source.mouse.as_ref()).map(|mouse| mouse.mode == CharMode::Client);
    backend.with_if("clipboard", copies).with_if("mouse", mouse)
}

#[cfg(test)]
mod tests {
    use virtwire_conf::domain::chardev::Serial;
    use virtwire_conf::domain::one::Device;

    use super::*;
    use crate::argv::Vault;
    use crate::policy::Tls;

    /// What is said over the monitor of a character device, as libvirtd 11.3 says it to QEMU 10.0.
    #[track_caller]
    fn said(xml: &str, backend: Value) {
        let Device::Serial(Serial { chardev, .. }) = Device::parse(xml).unwrap() else { panic!("{xml}") };
        let mut line = CommandLine::to_plug(0);
        let (tls, vault) = (Tls::default(), Vault::blank());
        let means = Means { credentials: Credentials { tls: &tls, vault: &vault }, opens_files: false };
        HostEnd::from(&chardev).add(&mut line, "serial1", means).unwrap();
        let value: Value = serde_json::from_str(&line.args()[1]).unwrap();
        assert_eq!(value, json!({"id": "charserial1", "backend": backend}));
    }

    #[test]
    fn over_the_monitor_they_are_objects() {
        said("<serial type='pty'/>", json!({"type": "pty", "data": {}}));
        let inet = |host: &str, port: &str| json!({"type": "inet", "data": {"host": host, "port": port}});
        said(
            "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='45011'/></serial>",
            json!({"type": "socket", "data": {"addr": inet("127.0.0.1", "45011"), "server": true, "wait": false}}),
        );
        said(
            "<serial type='tcp'><source mode='connect' host='127.0.0.1' service='1'/></serial>",
            json!({"type": "socket", "data": {"addr": inet("127.0.0.1", "1"), "server": false}}),
        );
        said(
            "<serial type='unix'><source mode='connect' path='/x'/></serial>",
            json!({"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "/x"}}, "server": false}}),
        );
        said(
            "<serial type='udp'><source mode='bind' host='127.0.0.1' service='45012'/>\
             <source mode='connect' host='127.0.0.1' service='45013'/></serial>",
            json!({"type": "udp", "data": {
                "remote": inet("127.0.0.1", "45013"), "local": inet("127.0.0.1", "45012")}}),
        );
        said(
            "<serial type='file'><source path='/x' append='on'/></serial>",
            json!({"type": "file", "data": {"out": "/x", "append": true}}),
        );
        said(
            "<serial type='dev'><source path='/x'/></serial>",
            json!({"type": "serial", "data": {"device": "/x"}}),
        );
    }
}
