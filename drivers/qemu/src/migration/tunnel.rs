//! A guest's memory in a stream between two daemons: QEMU at either end has a pipe to its own.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use virtwire_driver_api::{FromClient, StreamEnd, ToClient, Tunnel};
use virtwire_protocol::error::{ErrorDomain, VirtError};

use super::params::{Asked, flag, name};
use crate::error::{QEMU, Result};

/// How much is read at a time.
const CHUNK: usize = 64 << 10;

/// What has no place in a tunnel, and what is said of it.
const ELSEWHERE: [(&str, &str); 3] = [
    (name::URI, "migration URI is not supported by tunnelled migration"),
    (name::LISTEN_ADDRESS, "listen address is not supported by tunnelled migration"),
    (name::DISKS_PORT, "disk port address is not supported by tunnelled migration"),
];

/// What is asked of a migration says nothing of another way than the tunnel, if it is to go by one.
///
/// # Errors
/// It does.
pub(super) fn check(asked: &Asked) -> Result<()> {
    match ELSEWHERE.iter().find(|(name, _)| asked.has(flag::TUNNELLED) && asked.has_param(name)) {
        Some((_, text)) => Err(QEMU.argument_unsupported(text)),
        None => Ok(()),
    }
}

/// What a guest needs to go along fits into a tunnel, if it is to go by one.
///
/// # Errors
/// It does not.
pub(super) fn fits(asked: &Asked) -> Result<()> {
    if !asked.has(flag::TUNNELLED) {
        return Ok(());
    }
    if asked.has(flag::POSTCOPY) {
        return Err(QEMU.argument_unsupported("post-copy is not supported with tunnelled migration"));
    }
    if asked.has(flag::NON_SHARED_DISK) || asked.has(flag::NON_SHARED_INC) {
        let text = "migration of non-shared storage is not supported with tunnelled migration and this QEMU";
        return Err(QEMU.operation_unsupported(text));
    }
    Ok(())
}

/// The target is asked for the kind of way that it is to be.
///
/// # Errors
/// It is asked for another.
pub(super) fn is_meant(asked: &Asked, tunnel: bool) -> Result<()> {
    match (asked.has(flag::TUNNELLED), tunnel) {
        (true, false) => {
            Err(QEMU.internal_error("Tunnelled migration requested but invalid RPC method called"))
        }
        (false, true) => Err(QEMU.internal_error("PrepareTunnel called but no TUNNELLED flag set")),
        _ => Ok(()),
    }
}

/// What is said of a pipe that fails.
pub(super) fn broken(error: &io::Error) -> VirtError {
    VirtError::system(ErrorDomain::QEMU, error, "tunnel between a guest and its daemon")
}

/// The source's half: what QEMU writes goes to the other daemon.
pub(super) struct Outlet {
    result: oneshot::Receiver<Result<()>>,
    /// Ends with it, and gives up the other daemon's half.
    _carrier: JoinSet<()>,
}

impl Outlet {
    /// One with the descriptor that QEMU is to write to.
    ///
    /// # Errors
    /// No pipe is to be had.
    pub(super) fn open(tunnel: Box<dyn Tunnel>) -> Result<(Self, OwnedFd)> {
        let pipe = || {
            let (from, to) = io::pipe()?;
            Ok((pipe::Receiver::from_owned_fd(from.into())?, OwnedFd::from(to)))
        };
        let (mut from, to) = pipe().map_err(|error| broken(&error))?;
        let (done, result) = oneshot::channel();
        let mut carrier = JoinSet::new();
        carrier.spawn(async move {
            let carried = carry(&mut from, tunnel).await;
            // Whoever waits knows why before QEMU finds its pipe closed.
            let _ = done.send(carried);
            drop(from);
        });
        Ok((Self { result, _carrier: carrier }, to))
    }

    /// Waits until the other daemon has it all, once QEMU has sent it.
    ///
    /// # Errors
    /// It does not have it.
    pub(super) async fn arrives(self) -> Result<()> {
        self.result.await.unwrap_or_else(|_| Err(QEMU.internal_error("the tunnel was dropped")))
    }

    /// Why QEMU could not send, if it was for the tunnel.
    pub(super) fn failure(mut self) -> Option<VirtError> {
        self.result.try_recv().ok()?.err()
    }
}

async fn carry(from: &mut pipe::Receiver, tunnel: Box<dyn Tunnel>) -> Result<()> {
    let mut buf = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buf).await.map_err(|error| broken(&error))?;
        match buf.get(..count) {
            None | Some([]) => return tunnel.finish().await,
            Some(bytes) => tunnel.send(bytes).await?,
        }
    }
}

/// The target's half: what the other daemon sends goes to QEMU.
pub(super) struct Inlet {
    to: pipe::Sender,
    stream: StreamEnd,
}

impl Inlet {
    /// One with the descriptor that QEMU is to read from.
    ///
    /// # Errors
    /// No pipe is to be had.
    pub(super) fn open(stream: StreamEnd) -> Result<(Self, OwnedFd)> {
        let pipe = || {
            let (from, to) = io::pipe()?;
            Ok((OwnedFd::from(from), pipe::Sender::from_owned_fd(to.into())?))
        };
        let (from, to) = pipe().map_err(|error| broken(&error))?;
        Ok((Self { to, stream }, from))
    }

    /// Lets flow what comes, until all has come or one of both ends is gone.
    pub(super) fn flow(self) {
        tokio::spawn(self.run());
    }

    async fn run(mut self) {
        while let Some(item) = self.stream.incoming.recv().await {
            match item {
                FromClient::Data(bytes) => {
                    if let Err(error) = self.to.write_all(&bytes).await {
                        let _ = self.stream.outgoing.send(ToClient::Error(broken(&error))).await;
                        return;
                    }
                }
                // The session lets none through.
                FromClient::Hole(_) => {}
                FromClient::Finish => {
                    drop(self.to);
                    let _ = self.stream.outgoing.send(ToClient::End).await;
                    return;
                }
                FromClient::Abort => return,
            }
        }
    }
}
