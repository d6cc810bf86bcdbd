//! What a guest's agent says, behind a sound answer to who is there or (first byte 0) in place of it.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use virtwire_fuzz::run;
use virtwire_qmp::agent::{Agent, Patience};

fuzz_target!(|data: &[u8]| {
    let [how, bytes @ ..] = data else { return };
    run(async {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let (mut from, mut to) = theirs.into_split();
        let guest = async {
            if *how != 0 {
                let _ = to.write_all(b"\xff{\"return\": 1}\n").await;
            }
            let _ = to.write_all(bytes).await;
            let _ = to.shutdown().await;
            let _ = from.read_to_end(&mut Vec::new()).await;
        };
        let client = async {
            let mut agent = Agent::on(ours);
            let patience = Patience { sync: Duration::from_secs(5), answer: None };
            while agent.execute(&json!({"execute": "guest-info"}), patience).await.is_ok() {}
        };
        tokio::join!(guest, client);
    });
});
