//! SPICE.

use virtwire_conf::YesNo;
use virtwire_conf::domain::display::{Graphics, ListenType};
use virtwire_protocol::VirtError;

use super::graphics::rendernode;
use crate::command::Options;
use crate::error::QEMU;
use crate::policy::Screens;

/// A channel, or all of them that are not named, is never encrypted.
const PLAIN: &str = "insecure";
/// It always is.
const SECURE: &str = "secure";

pub(super) fn spice(screen: &Graphics, policy: &Screens) -> Result<Options, VirtError> {
    let encrypted = policy.tls.enabled;
    let refusals = if encrypted {
        &[][..]
    } else {
        &[
            (
                screen.tls_port.is_some_and(|port| port > 0),
                "spice TLS port set in XML configuration, but TLS is disabled in qemu.conf",
            ),
            (
                screen.default_mode.as_deref() == Some(SECURE),
                "spice defaultMode secure requested in XML configuration, but TLS connection is not available",
            ),
            (
                screen.channel.iter().any(|channel| channel.mode == SECURE),
                "spice secure channels set in XML configuration, but TLS connection is not available",
            ),
        ]
    };
    if let Some((_, text)) = refusals.iter().find(|(wrong, _)| *wrong) {
        return Err(QEMU.config_unsupported(text));
    }
    let mouse = screen.mouse.as_ref().and_then(|mouse| mouse.mode.as_deref());
    let open = screen.passwd.is_none() && policy.password.is_none();
    let options = place(screen)
        .with_if("sasl", policy.sasl.then_some("on"))
        .with_if("agent-mouse", mouse.map(|mode| if mode == "client" { "on" } else { "off" }))
        .with_if("disable-ticketing", open.then_some("on"))
        .with_if("x509-dir", screen.tls_port.filter(|port| *port > 0).map(|_| &policy.tls.dir));
    let usual = screen.default_mode.as_deref().map(|mode| (mode, "default"));
    let named = screen.channel.iter().map(|channel| (channel.mode.as_str(), channel.name.as_str()));
    let options = usual.into_iter().chain(named).fold(options, |options, (mode, name)| match mode {
        SECURE => options.with("tls-channel", name),
        PLAIN => options.with("plaintext-channel", name),
        _ => options,
    });
    let image = screen.image.as_ref().and_then(|image| image.compression.as_ref());
    let jpeg = screen.jpeg.as_ref().and_then(|jpeg| jpeg.compression.as_ref());
    let zlib = screen.zlib.as_ref().and_then(|zlib| zlib.compression.as_ref());
    let playback = screen.playback.as_ref().and_then(|playback| playback.compression.as_ref());
    let streaming = screen.streaming.as_ref().and_then(|streaming| streaming.mode.as_ref());
    let copies = screen.clipboard.as_ref().and_then(|clipboard| clipboard.copypaste);
    let files = screen.filetransfer.as_ref().and_then(|transfer| transfer.enable);
    let forbidden = |answer: Option<YesNo>| (answer == Some(YesNo::No)).then_some("on");
    let drawn = screen.gl.as_ref().is_some_and(|gl| gl.enable == Some(YesNo::Yes));
    Ok(options
        .with_if("image-compression", image)
        .with_if("jpeg-wan-compression", jpeg)
        .with_if("zlib-glz-wan-compression", zlib)
        .with_if("playback-compression", playback)
        .with_if("streaming-video", streaming)
        .with_if("disable-copy-paste", forbidden(copies))
        .with_if("disable-agent-file-xfer", forbidden(files))
        .with_if("gl", drawn.then_some("on"))
        .with_if("rendernode", rendernode(screen).filter(|_| drawn))
        .with("seamless-migration", "on"))
}

/// Where it listens.
fn place(screen: &Graphics) -> Options {
    let listen = screen.listens.first();
    let [port, tls] = [screen.port, screen.tls_port].map(|port| port.filter(|port| *port > 0));
    match (listen.map(|listen| listen.type_), port.or(tls)) {
        (Some(ListenType::Socket), _) => Options::new("")
            .with("unix", "on")
            .with_if("addr", listen.and_then(|listen| listen.socket.as_ref())),
        (Some(ListenType::Address | ListenType::Network), Some(_)) => {
            let address =
                listen.and_then(|listen| listen.address.as_deref()).or(screen.listen_attr.as_deref());
            let ports = Options::new("").with_if("port", port).with_if("tls-port", tls);
            ports.with("addr", address.unwrap_or("127.0.0.1"))
        }
        _ => Options::new("").with("port", 0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use virtwire_conf::{Domain, ParseOptions, QemuHost};

    use super::*;

    fn options(screen: &str) -> Result<String, String> {
        let xml = format!(
            "<domain type='qemu'><name>a</name><memory>65536</memory><os><type machine='q35'>hvm</type></os>\
             <devices>{screen}</devices></domain>"
        );
        let host = QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", false);
        let domain = Domain::parse(&xml, &ParseOptions::qemu(Arc::new(host))).unwrap();
        spice(&domain.devices.graphics[0], &Screens::default())
            .map(String::from)
            .map_err(|error| error.message)
    }

    /// As libvirtd 11.3 starts QEMU 10.0.
    #[test]
    fn screens_listen_where_they_say() {
        for (screen, expected) in [
            ("<graphics type='spice'/>", "port=0,disable-ticketing=on,seamless-migration=on"),
            (
                "<graphics type='spice' port='5901' listen='::1'/>",
                "port=5901,addr=::1,disable-ticketing=on,seamless-migration=on",
            ),
            (
                "<graphics type='spice' port='5901' listen='0.0.0.0' passwd='x' connected='keep'/>",
                "port=5901,addr=0.0.0.0,seamless-migration=on",
            ),
            (
                "<graphics type='spice'><listen type='socket' socket='/tmp/s'/></graphics>",
                "unix=on,addr=/tmp/s,disable-ticketing=on,seamless-migration=on",
            ),
            (
                "<graphics type='spice'><listen type='none'/><gl enable='yes' rendernode='/dev/r'/></graphics>",
                "port=0,disable-ticketing=on,gl=on,rendernode=/dev/r,seamless-migration=on",
            ),
            (
                "<graphics type='spice' port='5901' defaultMode='insecure'><mouse mode='server'/></graphics>",
                "port=5901,addr=127.0.0.1,agent-mouse=off,disable-ticketing=on,plaintext-channel=default,seamless-migration=on",
            ),
            (
                "<graphics type='spice' port='5901'><channel name='record' mode='insecure'/>\
                 <channel name='main' mode='any'/><image compression='auto_glz'/><jpeg compression='auto'/>\
                 <zlib compression='never'/><playback compression='on'/><streaming mode='filter'/>\
                 <mouse mode='client'/><clipboard copypaste='no'/><filetransfer enable='no'/></graphics>",
                "port=5901,addr=127.0.0.1,agent-mouse=on,disable-ticketing=on,plaintext-channel=record,\
                 image-compression=auto_glz,jpeg-wan-compression=auto,zlib-glz-wan-compression=never,\
                 playback-compression=on,streaming-video=filter,disable-copy-paste=on,disable-agent-file-xfer=on,\
                 seamless-migration=on",
            ),
        ] {
            assert_eq!(options(screen).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn nothing_is_encrypted() {
        for screen in [
            "<graphics type='spice' port='5901' tlsPort='5902' autoport='no'/>",
            "<graphics type='spice' port='5901' defaultMode='secure'/>",
            "<graphics type='spice' port='5901'><channel name='main' mode='secure'/></graphics>",
        ] {
            assert!(options(screen).unwrap_err().contains("TLS"), "{screen}");
        }
    }
}
