//! A daemon to fuzz: the test hypervisor behind a socket pair, on one thread.

use std::cell::LazyCell;
use std::future::Future;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use virtwire_driver_test::TestDriver;
use virtwire_protocol::admin;
use virtwire_protocol::frame::{self, FrameBuffer};
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::remote::{self, ConnectOpenArgs, Procedure};
use virtwired::{Access, Limits, Program, Service};

thread_local! {
    static RUNTIME: LazyCell<Runtime> =
        LazyCell::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime starts"));
}

/// Runs a future to its end on this thread's runtime, which serves all inputs.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// The header of a call.
pub fn header(prog: u32, proc: i32, serial: u32) -> MessageHeader {
    MessageHeader { prog, vers: 1, proc, r#type: MessageType::CALL, serial, status: MessageStatus::OK }
}

/// The frames that open a connection to the test hypervisor, or to the administration: serials 0 and 1.
pub fn opening(server: Program) -> Vec<u8> {
    let encoded = match server {
        Program::Remote => {
            let auth = header(remote::PROGRAM.number, Procedure::AUTH_LIST.0, 0);
            let open = header(remote::PROGRAM.number, Procedure::CONNECT_OPEN.0, 1);
            let args = ConnectOpenArgs { name: Some("test:///default".into()), flags: 0 };
            vec![frame::encode_bytes(&auth, &[]), frame::encode(&open, 0, &args)]
        }
        Program::Admin => {
            let open = header(admin::PROGRAM.number, admin::Procedure::CONNECT_OPEN.0, 1);
            vec![frame::encode(&open, 0, &admin::ConnectOpenArgs { flags: 0 })]
        }
    };
    encoded.into_iter().flat_map(|frame| frame.expect("short arguments fit a frame")).collect()
}

/// Connects to a fresh daemon.
pub fn daemon_of(server: Program) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let service = Service::new(vec![Arc::new(TestDriver::new())], Limits::default());
    tokio::spawn(async move { service.serve(theirs, server, Access::ReadWrite).await });
    ours
}

/// Writes in pieces, then reads until the daemon has answered `serial` (`None`: all there is) or hung up.
pub async fn converse(socket: UnixStream, bytes: &[u8], piece: usize, serial: Option<u32>) {
    let (mut from, mut to) = socket.into_split();
    let write = async {
        for part in bytes.chunks(piece.max(1)) {
            // It may hang up at any byte.
            if to.write_all(part).await.is_err() {
                break;
            }
        }
        if serial.is_none() {
            let _ = to.shutdown().await;
        }
    };
    let read = async {
        let mut frames = FrameBuffer::default();
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            frames.feed(&buffer[..count]);
            while let Some(frame) = frames.next_frame().expect("the daemon writes whole frames") {
                if serial == Some(frame.header.serial) {
                    return;
                }
            }
        }
    };
    tokio::join!(write, read);
}
