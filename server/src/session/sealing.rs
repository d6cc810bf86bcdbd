//! What is encrypted behind a login, and what comes unencrypted there.

use std::io::{self, Read, Write};
use std::net::TcpListener;

use virtwire_protocol::frame;
use virtwire_protocol::net::{MessageStatus, MessageType};
use virtwire_protocol::remote::{self, Procedure};

use super::*;
use crate::Service;
use crate::config::{Config, Settings};
use crate::log::Log;
use crate::transport::TcpSocket;

/// Turns every bit.
struct Turned;

impl Seal for Turned {
    fn most(&self) -> usize {
        1000
    }

    fn seal(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        Ok(turned(plain))
    }

    fn open(&mut self, sealed: &[u8]) -> io::Result<Vec<u8>> {
        Ok(turned(sealed))
    }
}

fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

/// A session that wants a login and is not served yet, and its client.
async fn session() -> (Arc<Session>, std::net::TcpStream) {
    let settings = Settings { auth_tcp: Auth::Sasl, ..Settings::default() };
    let config = Config::default().with(settings).unwrap();
    let service = Service::with(Vec::new(), &config, Log::new(None)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    let socket = Socket::Tcp(TcpSocket::new(tokio::net::TcpStream::from_std(ours).unwrap()));
    let entrance = Entrance { program: Program::Remote, access: Access::ReadWrite, auth: Auth::Sasl };
    let session = Session::new(Arc::clone(&service.shared), socket, 1, entrance);
    (session, client)
}

fn call(procedure: Procedure) -> Vec<u8> {
    frame::encode(&header(procedure), 0, &()).unwrap()
}

fn header(procedure: Procedure) -> MessageHeader {
    let (prog, status) = (remote::PROGRAM.number, MessageStatus::OK);
    MessageHeader { prog, vers: 1, proc: procedure.0, r#type: MessageType::CALL, serial: 0, status }
}

/// The next frame, as it is or sealed in one packet; `None` at the end.
fn receive(mut client: &std::net::TcpStream, sealed: bool) -> Option<Vec<u8>> {
    let mut word = [0; 4];
    client.read_exact(&mut word).ok()?;
    let length = u32::from_be_bytes(word) as usize;
    let mut bytes = vec![0; if sealed { length } else { length - 4 }];
    client.read_exact(&mut bytes).ok()?;
    Some(if sealed { turned(&bytes) } else { bytes })
}

/// The login is done: the last answer, and what is agreed on.
fn let_in(session: &Session) {
    session.authenticated(Some(Box::new(Turned)));
    let answer = frame::reply_to(&header(Procedure::AUTH_SASL_STEP), MessageStatus::OK);
    session.send(frame::encode_bytes(&answer, &[]).unwrap(), Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_login_has_agreed_on_holds_behind_its_last_answer() {
    let (session, mut client) = session().await;
    let_in(&session);
    tokio::spawn(session.run());
    assert!(receive(&client, false).is_some());
    let sealed = turned(&call(Procedure::CONNECT_GET_LIB_VERSION));
    client.write_all(&(sealed.len() as u32).to_be_bytes()).unwrap();
    client.write_all(&sealed).unwrap();
    let answer = receive(&client, true).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("hypervisor connection not open"));
}

#[tokio::test(flavor = "multi_thread")]
async fn class_sasl_what_comes_unencrypted_behind_a_login_ends_the_connection() {
    // Before the daemon has seen the end of the login, and behind it.
    for early in [true, false] {
        let (session, mut client) = session().await;
        tokio::spawn(Arc::clone(&session).run());
        // The first would be the length of a packet, and the second must be there for it to be whole.
        let next = call(Procedure::CONNECT_GET_LIB_VERSION).repeat(2);
        let (first, rest) = next.split_at(if early { 10 } else { 0 });
        client.write_all(&[&call(Procedure::AUTH_LIST), first].concat()).unwrap();
        assert!(receive(&client, false).is_some());
        let_in(&session);
        assert!(receive(&client, false).is_some());
        let _ = client.write_all(rest);
        assert_eq!(receive(&client, true), None, "{early}");
    }
}
