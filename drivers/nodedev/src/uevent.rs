//! What the kernel, or udev, says of devices that come and go.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Weak;

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::Inner;
use crate::sysfs::pair;

/// Where udev's daemon listens, while it runs.
const UDEV: &str = "/run/udev/control";
/// Who a message is for.
const FROM_KERNEL: u32 = 1;
const FROM_UDEV: u32 = 2;
/// No message is longer.
const MOST: usize = 1 << 16;

/// Messages about devices. Those of the kernel come when a device does, those of udev when its rules are done.
pub(crate) struct Messages {
    socket: AsyncFd<OwnedFd>,
}

impl Messages {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        let group = if Path::new(UDEV).exists() { FROM_UDEV } else { FROM_KERNEL };
        bind(&socket, &SocketAddrNetlink::new(0, group))?;
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd keeps its descriptor for life")]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { socket })
    }

    /// Tells of each message, until nobody is left to be told.
    pub(crate) async fn follow(self, whom: Weak<Inner>) {
        let mut buffer = vec![0; MOST];
        loop {
            let read = self.socket.async_io(Interest::READABLE, |socket| {
                Ok(recv(socket, &mut buffer[..], RecvFlags::empty())?.0)
            });
            let length = match read.await {
                Ok(length) => length,
                // More came than was read; what they were about is not known any more.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "devices that come and go are not noticed any more");
                    return;
                }
            };
            let paths = buffer.get(..length).map(about).unwrap_or_default();
            let Some(inner) = whom.upgrade() else { return };
            let told = tokio::task::spawn_blocking(move || {
                paths.iter().for_each(|path| inner.changed(&inner.places.sys.join(path)));
            });
            if let Err(error) = told.await {
                tracing::warn!(%error, "a message about a device was not understood");
            }
        }
    }
}

/// The places, below `/sys`, of the devices that a message is about: where it was and where it is.
fn about(message: &[u8]) -> Vec<PathBuf> {
    let properties = match message.strip_prefix(b"libudev\0") {
        // Of udev's header: eight bytes of name, a number and the header's size, then where the properties begin.
        Some(rest) => {
            let start = rest.get(8..12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
            start.and_then(|start| message.get(start as usize..)).unwrap_or_default()
        }
        None => message,
    };
    let lines = properties.split(|byte| *byte == 0).filter_map(|line| pair(&String::from_utf8_lossy(line)));
    let mut found: Vec<_> = lines
        .filter(|(key, _)| key == "DEVPATH" || key == "DEVPATH_OLD")
        .map(|(_, path)| PathBuf::from(path.trim_start_matches('/')))
        .collect();
    found.retain(|path| path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_kernel_and_of_udev_say_the_same() {
        let properties = b"ACTION=move\0DEVPATH=/devices/new\0DEVPATH_OLD=/devices/old\0";
        let expected = [PathBuf::from("devices/new"), PathBuf::from("devices/old")];
        let kernel = [b"move@/devices/new\0".as_slice(), properties].concat();
        assert_eq!(about(&kernel), expected);
        let mut udev = b"libudev\0".to_vec();
        for number in [0xfeed_cafe_u32, 40, 40, 60, 0, 0, 0, 0] {
            udev.extend(number.to_ne_bytes());
        }
        assert_eq!(about(&[udev.as_slice(), properties].concat()), expected);
    }

    #[test]
    fn a_message_leads_nowhere_else() {
        assert!(about(b"libudev\0").is_empty() && about(b"").is_empty());
        assert!(about(b"DEVPATH=/devices/../../etc\0").is_empty());
    }
}
