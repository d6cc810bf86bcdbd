//! What a daemon says to a client. The first byte says whether it greets the client as it should; then, for each call, a
//! byte with what comes (a result, an error, another frame before them, or any bytes and the end), one with the length,
//! and that many bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use virtwire_client::{Connection, Options};
use virtwire_fuzz::run;
use virtwire_protocol::frame::{self, FrameBuffer};
use virtwire_protocol::net::{MessageHeader, MessageStatus, MessageType};
use virtwire_protocol::remote::*;

/// What a sound daemon answers to the calls that open a connection.
fn greeting(procedure: i32) -> Option<Vec<u8>> {
    match Procedure(procedure) {
        // One way to authenticate: none.
        Procedure::AUTH_LIST => Some(vec![0, 0, 0, 1, 0, 0, 0, 0]),
        Procedure::CONNECT_SUPPORTS_FEATURE => Some(vec![0, 0, 0, 1]),
        Procedure::CONNECT_OPEN => Some(Vec::new()),
        _ => None,
    }
}

async fn daemon(socket: UnixStream, greets: bool, mut pieces: &[u8]) {
    let (mut from, mut to) = socket.into_split();
    let (mut frames, mut buffer) = (FrameBuffer::default(), vec![0; 65536]);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        frames.feed(&buffer[..count]);
        while let Some(call) = frames.next_frame().expect("the client writes whole frames") {
            if let Some(answer) = greeting(call.header.proc).filter(|_| greets) {
                let _ = to.write_all(&reply(&call.header, MessageStatus::OK, &answer)).await;
                continue;
            }
            loop {
                let [what, length, more @ ..] = pieces else { return };
                let (piece, more) = more.split_at(usize::from(*length).min(more.len()));
                let (is_reply, bytes) = match what % 4 {
                    0 => (true, reply(&call.header, MessageStatus::OK, piece)),
                    1 => (true, reply(&call.header, MessageStatus::ERROR, piece)),
                    2 => (false, [&(piece.len() as u32 + 4).to_be_bytes(), piece].concat()),
                    _ => {
                        let _ = to.write_all(&pieces[1..]).await;
                        return;
                    }
                };
                pieces = more;
                let _ = to.write_all(&bytes).await;
                if is_reply {
                    break;
                }
            }
            if call.header.proc == Procedure::DOMAIN_OPEN_CONSOLE.0 {
                // What is left is the stream's, and nobody asks for it.
                let _ = to.write_all(pieces).await;
                return;
            }
        }
    }
}

fn reply(call: &MessageHeader, status: MessageStatus, payload: &[u8]) -> Vec<u8> {
    let header = MessageHeader { r#type: MessageType::REPLY, status, ..call.clone() };
    frame::encode_bytes(&header, payload).expect("a short payload fits")
}

async fn client(socket: UnixStream) {
    let Ok(connection) = Connection::over_with(socket, "test:///default", Options::default()).await else {
        return;
    };
    let domain = NonnullDomain { name: "a".into(), uuid: [0; 16], id: 1 };
    let list = ConnectListAllDomainsArgs { need_results: 1, flags: 0 };
    let _ = connection.connect_list_all_domains(&list).await;
    let events = connection.register_domain_event(0, None).await;
    let _ = connection.domain_get_xml_desc(&DomainGetXmlDescArgs { dom: domain.clone(), flags: 0 }).await;
    let stats = ConnectGetAllDomainStatsArgs { doms: Vec::new(), stats: 0, flags: 0 };
    let _ = connection.connect_get_all_domain_stats(&stats).await;
    let console = DomainOpenConsoleArgs { dom: domain, dev_name: None, flags: 0 };
    if let Ok(stream) = connection.domain_open_console(&console).await {
        while let Ok(Some(_)) = stream.recv().await {}
    }
    if let Ok(mut events) = events {
        while events.try_next().is_some() {}
    }
    let _ = connection.close().await;
}

fuzz_target!(|data: &[u8]| {
    let [greets, pieces @ ..] = data else { return };
    run(async {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        tokio::join!(daemon(theirs, *greets != 0, pieces), client(ours));
    });
});
