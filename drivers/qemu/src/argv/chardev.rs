//! The host's end of a character device: a `-chardev`, whatever the guest's end is.

use virtwire_conf::domain::chardev::{CharMode, CharProtocol, CharSource, CharType, Chardev, Log, Protocol};
use virtwire_conf::{OnOff, YesNo};
use virtwire_protocol::VirtError;

use super::Json;
use crate::command::{CommandLine, Options};
use crate::error::{QEMU, file};

/// Where certificates are, unless qemu.conf names another place.
const CERTIFICATES: &str = "/etc/pki/qemu";

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
    pub(crate) fn add(self, line: &mut CommandLine, alias: &str) -> Result<String, VirtError> {
        let id = format!("char{alias}");
        let source = self.source.first();
        let path = source.and_then(|source| source.path.as_deref()).unwrap_or_default();
        let begin = |kind: &str| Options::new(kind).with("id", &id);
        let options = match self.type_ {
            CharType::Pty | CharType::Null | CharType::Stdio | CharType::Vc => begin(self.type_.as_str()),
            CharType::Dev if alias.starts_with("parallel") => begin("parallel").with("path", path),
            CharType::Dev => begin("serial").with("path", path),
            CharType::Pipe => begin("pipe").with("path", path),
            CharType::File => {
                let append = source.and_then(|source| source.append);
                begin("file").with("path", path).with_if("append", append.map(|append| append.as_str()))
            }
            CharType::Udp => self.udp(begin("udp")),
            CharType::Unix => {
                let (name, value) = self.socket(line, path)?;
                self.listening(begin("socket").with(name, value), CharMode::Bind)
            }
            CharType::Tcp => self.tcp(line, begin("socket"), &id),
            CharType::Dbus => {
                let named = source.and_then(|source| source.channel.as_deref());
                let usual = alias.starts_with("redir").then_some("org.qemu.usbredir");
                begin("dbus").with_if("name", named.or(usual))
            }
            CharType::QemuVdagent => agent(begin("qemu-vdagent").with("name", "vdagent"), source),
            CharType::Spicevmc => begin("spicevmc").with("name", self.spice_name(alias)),
            CharType::Spiceport => {
                begin("spiceport").with_if("name", source.and_then(|source| source.channel.as_ref()))
            }
            CharType::Nmdm => {
                let kind = self.type_.as_str();
                return Err(QEMU.config_unsupported(format_args!("unsupported chardev '{kind}'")));
            }
        };
        let options = self.logged(line, options, alias)?;
        line.option("-chardev", options);
        Ok(id)
    }

    /// Where a copy goes of what comes through it.
    fn logged(self, line: &mut CommandLine, options: Options, alias: &str) -> Result<Options, VirtError> {
        let Some((log, path)) = self.log.and_then(|log| Some((log, log.file.as_deref()?))) else {
            return Ok(options);
        };
        let appends = log.append != Some(OnOff::Off);
        let cannot = |error| file(&error, format_args!("Unable to open file: {path}"));
        let name = line.log(path, appends, &format!("{alias}-log")).map_err(cannot)?;
        // A file that was opened here has been emptied already.
        let append = if name == path { log.append.map(OnOff::as_str) } else { Some("on") };
        Ok(options.with("logfile", name).with_if("logappend", append))
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
    fn udp(self, options: Options) -> Options {
        let end = |mode: CharMode| {
            let source = self.source.iter().find(|source| source.mode.unwrap_or(CharMode::Connect) == mode);
            let part = |part: Option<&String>| part.cloned().unwrap_or_default();
            let host = part(source.and_then(|source| source.host.as_ref()));
            (host, part(source.and_then(|source| source.service.as_ref())))
        };
        let ((host, port), (near, near_port)) = (end(CharMode::Connect), end(CharMode::Bind));
        let near_port = if near_port.is_empty() { "0".to_owned() } else { near_port };
        options.with("host", host).with("port", port).with("localaddr", near).with("localport", near_port)
    }

    fn tcp(self, line: &mut CommandLine, options: Options, id: &str) -> Options {
        let source = self.source.first();
        let telnet = self.protocol.is_some_and(|protocol| protocol.type_ == CharProtocol::Telnet);
        let binds = source.and_then(|source| source.mode) == Some(CharMode::Bind);
        let options = options
            .with_if("host", source.and_then(|source| source.host.as_ref()))
            .with_if("port", source.and_then(|source| source.service.as_ref()))
            .with_if("telnet", telnet.then_some("on"));
        let options = self.listening(options, CharMode::Connect);
        if source.and_then(|source| source.tls) != Some(YesNo::Yes) {
            return options;
        }
        let credentials = format!("obj{id}_tls0");
        Json::object("tls-creds-x509", credentials.as_str())
            .with("dir", CERTIFICATES)
            .with("endpoint", if binds { "server" } else { "client" })
            .with("verify-peer", true)
            .add(line);
        options.with("tls-creds", credentials)
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
    fn listening(self, options: Options, default: CharMode) -> Options {
        let source = self.source.first();
        match source.and_then(|source| source.mode).unwrap_or(default) {
            CharMode::Bind | CharMode::Server => options.with("server", "on").with("wait", "off"),
            CharMode::Connect | CharMode::Client => {
                let reconnect = source.and_then(|source| source.reconnect.as_ref());
                let seconds = reconnect.map(|again| match again.enabled {
                    Some(YesNo::No) => 0,
                    _ => u64::from(again.timeout.unwrap_or_default()),
                });
                options.with_if("reconnect-ms", seconds.map(|seconds| seconds * 1000))
            }
        }
    }
}

/// What an agent shares with who looks at the guest.
fn agent(options: Options, source: Option<&CharSource>) -> Options {
    let copies =
        source.and_then(|source| source.clipboard.as_ref()).map(|board| board.copypaste == YesNo::Yes);
    let mouse = source.and_then(|source| source.mouse.as_ref()).map(|mouse| mouse.mode == CharMode::Client);
    let word = |on: bool| if on { "on" } else { "off" };
    options.with_if("clipboard", copies.map(word)).with_if("mouse", mouse.map(word))
}
