//! The tour: one call, `virDomainSuspend`, from a typed method to the test hypervisor and back, hop by hop.
//!
//! ```text
//! client                         daemon                              driver
//! connection.domain_suspend() ─▶ frame ─▶ ProcedureInfo ─▶ session ─▶ HypervisorDriver::domain_suspend()
//!            Ok(()) ◀─────────── reply ◀────────────────────────────── Ok(()), and an event
//! ```

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use virtwire_client::Connection;
use virtwire_driver_test::TestDriver;
use virtwire_protocol::codec;
use virtwire_protocol::frame::FrameBuffer;
use virtwire_protocol::net::{MessageStatus, MessageType};
use virtwire_protocol::procedures::{Direction, Family, ReadOnly};
use virtwire_protocol::remote::*;
use virtwired::{Access, Limits, Program, Service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call() {
    // A daemon without sockets, and a wire to it that shows what passes.
    let service = Service::new(vec![Arc::new(TestDriver::new())], Limits::default());
    let (client, wire) = UnixStream::pair().unwrap();
    let (other, daemon) = UnixStream::pair().unwrap();
    daemon.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    let daemon = tokio::net::UnixStream::from_std(daemon).unwrap();
    tokio::spawn(async move { service.serve(daemon, Program::Remote, Access::ReadWrite).await });
    let calls = watch(wire.try_clone().unwrap(), other.try_clone().unwrap());
    let replies = watch(other, wire);

    let client = tokio::net::UnixStream::from_std(client).unwrap();
    let connection = Connection::over(client, "test:///default").await.unwrap();
    let name = "test".into();
    let dom = connection.domain_lookup_by_name(&DomainLookupByNameArgs { name }).await.unwrap().dom;
    assert_eq!((dom.name.to_string(), dom.id), ("test".to_owned(), 1));
    let before = (calls.try_iter().count() as u32, replies.try_iter().count() as u32);
    assert_eq!(before.0, before.1, "each call so far has its reply");

    // 1. The client's method is generated: it encodes the arguments and sends one frame.
    let args = DomainSuspendArgs { dom: dom.clone() };
    connection.domain_suspend(&args).await.unwrap();
    let call = calls.recv().unwrap();

    // 2. The frame: a length, a header of six words, the arguments in XDR.
    let word = |at: usize| u32::from_be_bytes(call[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), call.len()), (56, 56), "the length counts itself");
    assert_eq!((word(4), word(8), word(12)), (0x2000_8086, 1, 34), "program remote, version, procedure");
    assert_eq!((word(16), word(20), word(24)), (0, before.0, 0), "a call, its serial, status ok");
    assert_eq!(&call[28..36], b"\0\0\0\x04test", "a string is its length and its bytes");
    assert_eq!(&call[36..52], &dom.uuid, "a UUID is 16 bytes");
    assert_eq!(word(52), 1, "the id");

    // 3. The daemon cuts it from its buffer and finds the procedure's row by number.
    let mut buffer = FrameBuffer::default();
    buffer.feed(&call);
    let frame = buffer.next_frame().unwrap().unwrap();
    let info = PROGRAM.procedure(frame.header.proc).unwrap();
    assert_eq!((info.name, info.api), ("DOMAIN_SUSPEND", "virDomainSuspend"));
    assert_eq!((info.direction, info.family), (Direction::Call, Family::Hypervisor));

    // 4. The row says who may call; then the payload is decoded, to its last byte.
    assert_eq!(info.readonly, ReadOnly::Refused, "not over the read-only socket");
    assert_eq!(codec::decode::<DomainSuspendArgs>(frame.payload).unwrap(), args);

    // 5. The test driver did it: the guest is paused, by its user.
    let state = connection.domain_get_state(&DomainGetStateArgs { dom, flags: 0 }).await.unwrap();
    assert_eq!((state.state, state.reason), (3, 1), "VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER");

    // 6. The reply: the call's own header with another type, and no result behind it.
    let reply = replies.recv().unwrap();
    buffer.feed(&reply);
    let frame = buffer.next_frame().unwrap().unwrap();
    assert_eq!((frame.header.r#type, frame.header.status), (MessageType::REPLY, MessageStatus::OK));
    assert_eq!((frame.header.serial, frame.payload), (before.0, &b""[..]));
}

/// Passes on what comes, a frame per read since calls here follow one another, and shows it.
fn watch(mut from: UnixStream, mut to: UnixStream) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            // Shown before it is passed on, so that who has an answer finds it here.
            let _ = sender.send(buffer[..count].to_vec());
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    seen
}
