//! Every stub against the test hypervisor: each gets an answer or libvirt's error, and none ends the connection.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use virtwire_client::protocol::procedures::Direction;
use virtwire_client::protocol::sample::{Pick, Sample};
use virtwire_client::protocol::{admin, lxc, qemu, remote};
use virtwire_client::{Call, Connection, Error};

use crate::daemon::Daemon;

/// What became of a call.
type Outcome = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Makes a call with the sample of this seed.
type Stub = fn(&Connection, u64) -> Outcome;

fn outcome<T: 'static>(call: Call<T>) -> Outcome {
    Box::pin(async { call.within(PATIENCE).await.map(drop) })
}

const PATIENCE: Duration = Duration::from_secs(20);

include!(concat!(env!("OUT_DIR"), "/exercises.rs"));

/// What ends a connection, as it should.
const GOODBYES: [&str; 2] = ["connect_close", "admin_connect_close"];

#[tokio::test]
async fn every_stub_gets_an_answer_or_an_error_of_libvirts() {
    let daemon = Daemon::start();
    let admin = format!("libvirtd:///system?socket={}", daemon.dir.join("libvirt-admin-sock").display());
    let (mut answered, mut refused) = (0, 0);
    for seed in 0..2 {
        let connection = Connection::open(&daemon.uri()).await.unwrap();
        let administration = Connection::open_admin(&admin).await.unwrap();
        for (name, stub) in STUBS.iter().filter(|(name, _)| !GOODBYES.contains(name)) {
            let over = if name.starts_with("admin_") { &administration } else { &connection };
            match stub(over, seed).await {
                Ok(()) => answered += 1,
                Err(Error::Remote(error)) => {
                    // What the daemon says when a handler has panicked.
                    assert!(!error.message.contains("the handler of this call failed"), "{name}: {error}");
                    refused += 1;
                }
                Err(other) => panic!("{name}, seed {seed}: {other}"),
            }
            assert!(over.is_open(), "{name} has ended the connection");
        }
        assert!(connection.connect_get_lib_version().await.is_ok());
        assert!(administration.admin_connect_get_lib_version().await.is_ok());
    }
    let programs = [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM, &admin::PROGRAM];
    let procedures = programs.iter().flat_map(|program| program.procedures).flatten();
    let calls = procedures.filter(|procedure| procedure.direction == Direction::Call).count();
    assert_eq!(STUBS.len(), calls);
    assert!(answered > 50 && refused > 300, "{answered} answered, {refused} refused");
}
