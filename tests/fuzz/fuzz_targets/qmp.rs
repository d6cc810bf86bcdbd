//! What QEMU says on its monitor, behind a sound greeting or (first byte 0) in place of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use virtwire_fuzz::run;
use virtwire_qmp::Monitor;
use virtwire_qmp::commands::QueryStatus;

const GREETING: &[u8] = br#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}
{"return": {}, "id": 1}
"#;

fuzz_target!(|data: &[u8]| {
    let [how, bytes @ ..] = data else { return };
    run(async {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let (mut from, mut to) = theirs.into_split();
        let qemu = async {
            if *how != 0 {
                let _ = to.write_all(GREETING).await;
            }
            let _ = to.write_all(bytes).await;
            let _ = to.shutdown().await;
            let _ = from.read_to_end(&mut Vec::new()).await;
        };
        let client = async {
            let Ok((monitor, mut events)) = Monitor::connect(ours).await else { return };
            let _ = monitor.execute(&QueryStatus {}).await;
            while let Some(event) = events.recv().await {
                event.kind();
            }
        };
        tokio::join!(qemu, client);
    });
});
