//! File descriptors, both ways.

use std::fs::File;
use std::io::{Read, Write};

use virtwire_client::protocol::net::MessageType;
use virtwire_client::protocol::remote::{DomainOpenGraphicsArgs, DomainOpenGraphicsFdArgs, Procedure};

use crate::peer::connected;

#[tokio::test]
async fn a_reply_brings_a_descriptor() {
    let (connection, mut peer) = connected().await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let daemon = async {
        let call = peer.expect(Procedure::DOMAIN_OPEN_GRAPHICS_FD).await;
        assert_eq!(call.header.r#type, MessageType::CALL);
        peer.reply_with_descriptor(&call, &writer).await;
        drop(writer);
    };
    let args = DomainOpenGraphicsFdArgs::default();
    let (got, ()) = tokio::join!(connection.domain_open_graphics_fd(&args), daemon);
    let [descriptor] = <[_; 1]>::try_from(got.unwrap()).unwrap();
    File::from(descriptor).write_all(b"through").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[tokio::test]
async fn a_call_takes_a_descriptor_along() {
    let (connection, mut peer) = connected().await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let daemon = async {
        let mut call = peer.expect(Procedure::DOMAIN_OPEN_GRAPHICS).await;
        assert_eq!(call.header.r#type, MessageType::CALL_WITH_FDS);
        assert_eq!(call.args::<DomainOpenGraphicsArgs>().idx, 3);
        let mut file = File::from(call.descriptors.pop().unwrap());
        file.write_all(b"through").unwrap();
        peer.reply(&call, &()).await;
    };
    let args = DomainOpenGraphicsArgs { idx: 3, ..Default::default() };
    let call = connection.domain_open_graphics(&args, vec![writer.into()]);
    let (done, ()) = tokio::join!(call, daemon);
    done.unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}
