//! Connections that are made again.

use std::time::Duration;

use virtwire_client::protocol::remote::{DomainLookupByNameArgs, DomainSuspendArgs};
use virtwire_client::{Backoff, Connection, Error, Happening, Options, Reconnecting};

use crate::daemon::Daemon;

const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(20), tries: 3 };

async fn suspend(connection: &Connection) {
    let found = connection.domain_lookup_by_name(&DomainLookupByNameArgs { name: "test".into() }).await;
    connection.domain_suspend(&DomainSuspendArgs { dom: found.unwrap().dom }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_behind_a_new_connection() {
    let daemon = Daemon::start();
    let connection = Reconnecting::open(&daemon.uri(), Options::default(), BACKOFF).await.unwrap();
    let mut events = connection.events(|connection| connection.register_domain_event(0, None));
    events.ready().await.unwrap();
    let first = connection.connection().await.unwrap();
    suspend(&first).await;
    assert!(matches!(events.next().await.unwrap(), Happening::Event(_)));

    first.close().await.unwrap();
    first.closed().await;
    assert_eq!(events.next().await.unwrap(), Happening::Reconnected);
    // test:///default is each connection's own: this one has a guest that runs.
    suspend(&connection.connection().await.unwrap()).await;
    assert!(matches!(events.next().await.unwrap(), Happening::Event(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_given_up_after_so_many_tries() {
    let daemon = Daemon::start();
    let connection = Reconnecting::open(&daemon.uri(), Options::default(), BACKOFF).await.unwrap();
    let first = connection.connection().await.unwrap();
    let dir = daemon.end().await;
    first.close().await.ok();
    first.closed().await;
    let _ = std::fs::remove_dir_all(dir);
    let error = connection.connection().await.unwrap_err();
    assert!(matches!(error, Error::Connect(..)), "{error:?}");
}
