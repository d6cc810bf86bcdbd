//! Against a scripted QEMU that keeps the protocol, and against ones that do not.

use std::future::poll_fn;
use std::io::{BufRead, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use virtwire_qmp::commands::*;
use virtwire_qmp::replies::RunState;
use virtwire_qmp::scripted::ScriptedQmp;
use virtwire_qmp::{CommandError, ErrorClass, EventKind, LINE_MAX, Monitor, ProtocolError, QmpError};

#[tokio::test]
async fn replies_may_come_in_any_order() {
    let qemu = ScriptedQmp::new()
        .expect("query-status", json!({}))
        .expect("query-kvm", json!({}))
        .reply(json!({"enabled": true, "present": true}))
        .reply_back(1, json!({"running": true, "status": "running"}))
        .run()
        .await;
    let (status, kvm) =
        tokio::join!(qemu.monitor.execute(&QueryStatus {}), qemu.monitor.execute(&QueryKvm {}));
    assert_eq!(status.unwrap().status, RunState::Running);
    assert!(kvm.unwrap().enabled);
    qemu.finish().await;
}

#[tokio::test]
async fn a_refusal_is_typed_and_ends_nothing() {
    let qemu = ScriptedQmp::new()
        .expect("query-balloon", json!({}))
        .refuse("DeviceNotActive", "No balloon device has been activated")
        .expect("stop", json!({}))
        .reply(json!({}))
        .run()
        .await;
    let error = qemu.monitor.execute(&QueryBalloon {}).await.unwrap_err();
    assert!(matches!(error, QmpError::Command(CommandError { class: ErrorClass::DeviceNotActive, desc, .. })
        if desc == "No balloon device has been activated"));
    qemu.monitor.execute(&Stop {}).await.unwrap();
    qemu.finish().await;
}

#[tokio::test]
async fn a_reply_of_another_shape_ends_only_its_command() {
    let qemu = ScriptedQmp::new()
        .expect("query-kvm", json!({}))
        .reply(json!(["what"]))
        .expect("stop", json!({}))
        .reply(json!({}))
        .run()
        .await;
    assert!(matches!(qemu.monitor.execute(&QueryKvm {}).await, Err(QmpError::Reply { .. })));
    qemu.monitor.execute(&Stop {}).await.unwrap();
    qemu.finish().await;
}

#[tokio::test]
async fn half_lines_are_put_together() {
    let whole =
        r#"{"timestamp": {"seconds": 5, "microseconds": 6}, "event": "RTC_CHANGE", "data": {"offset": 7}}"#;
    for cut in 1..whole.len() {
        let (first, rest) = whole.split_at(cut);
        let mut qemu = ScriptedQmp::new()
            .bytes(first)
            .expect("stop", json!({}))
            .bytes(format!("{rest}\r\n"))
            .reply(json!({}))
            .run()
            .await;
        qemu.monitor.execute(&Stop {}).await.unwrap();
        let event = qemu.events.recv().await.unwrap();
        assert_eq!((event.kind(), event.seconds), (EventKind::RtcChange { offset: 7 }, 5), "cut at {cut}");
        qemu.finish().await;
    }
}

#[tokio::test]
async fn events_between_replies_keep_their_order() {
    let mut qemu = ScriptedQmp::new()
        .event("RESUME", json!({}))
        .expect("cont", json!({}))
        .event("STOP", json!({}))
        .reply(json!({}))
        .event("NEWER_THAN_THIS_TABLE", json!({"x": [1]}))
        .hangup()
        .run()
        .await;
    qemu.monitor.execute(&Cont {}).await.unwrap();
    let mut names = Vec::new();
    while let Some(event) = qemu.events.recv().await {
        names.push((event.name, event.data.unwrap().get().to_owned()));
    }
    let expected = [("RESUME", "{}"), ("STOP", "{}"), ("NEWER_THAN_THIS_TABLE", r#"{"x":[1]}"#)];
    assert_eq!(names, expected.map(|(name, data)| (name.to_owned(), data.to_owned())));
    assert!(matches!(qemu.monitor.execute(&Cont {}).await, Err(QmpError::Closed)));
}

#[tokio::test]
async fn nobody_needs_to_listen_to_events() {
    let mut script = ScriptedQmp::new().expect("stop", json!({}));
    for _ in 0..2 * virtwire_qmp::EVENTS_MAX {
        script = script.event("BALLOON_CHANGE", json!({"actual": 1}));
    }
    let mut qemu = script.reply(json!({})).run().await;
    qemu.events.close();
    qemu.monitor.execute(&Stop {}).await.unwrap();
    qemu.finish().await;
}

#[tokio::test]
async fn so_many_events_wait_and_with_one_more_nothing_is_read_until_one_is_taken() {
    let script = |events: usize| {
        let event = |script: ScriptedQmp, _| script.event("BALLOON_CHANGE", json!({"actual": 1}));
        (0..events).fold(ScriptedQmp::new().expect("stop", json!({})), event).reply(json!({}))
    };
    let qemu = script(virtwire_qmp::EVENTS_MAX).run().await;
    qemu.monitor.execute(&Stop {}).await.unwrap();
    let mut qemu = script(virtwire_qmp::EVENTS_MAX + 1).run().await;
    let monitor = qemu.monitor.clone();
    let mut stop = tokio::spawn(async move { monitor.execute(&Stop {}).await });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut stop).await.is_err());
    qemu.events.recv().await.unwrap();
    stop.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_may_leave_and_its_reply_come_late() {
    let qemu = ScriptedQmp::new()
        .expect("query-status", json!({}))
        .expect("stop", json!({}))
        .reply_back(1, json!({"running": true, "status": "running"}))
        .reply(json!({}))
        .run()
        .await;
    {
        let mut leaving = pin!(qemu.monitor.execute(&QueryStatus {}));
        assert!(poll_fn(|cx| Poll::Ready(leaving.as_mut().poll(cx))).await.is_pending());
    }
    qemu.monitor.execute(&Stop {}).await.unwrap();
    qemu.finish().await;
}

#[tokio::test]
async fn death_wakes_every_caller() {
    let qemu = ScriptedQmp::new()
        .expect("query-status", json!({}))
        .expect("stop", json!({}))
        .bytes(r#"{"return": {"runn"#)
        .hangup()
        .run()
        .await;
    let (status, stop) = tokio::join!(qemu.monitor.execute(&QueryStatus {}), qemu.monitor.execute(&Stop {}));
    assert!(matches!(status, Err(QmpError::Closed)), "{status:?}");
    assert!(matches!(stop, Err(QmpError::Closed)), "{stop:?}");
    qemu.finish().await;
}

#[tokio::test]
async fn what_is_not_qmp_ends_the_connection() {
    let deep = "[".repeat(1 << 20);
    for garbage in
        ["\u{0}\u{1}\n", "qemu-system: error\n", "{}\n", "[]\n", "{\"event\": 5}\n", &format!("{deep}\n")]
    {
        let qemu = ScriptedQmp::new().expect("stop", json!({})).bytes(garbage).run().await;
        let error = qemu.monitor.execute(&Stop {}).await.unwrap_err();
        assert!(
            matches!(error, QmpError::Protocol(ProtocolError::NotQmp { .. })),
            "{garbage:.40?}: {error:?}"
        );
        assert!(error.to_string().len() < 300, "{error}");
    }
}

#[tokio::test]
async fn a_reply_nobody_can_have_asked_for_ends_the_connection() {
    for reply in [json!({"return": {}, "id": 99}), json!({"error": {"class": "GenericError", "desc": "x"}})] {
        let qemu = ScriptedQmp::new().expect("stop", json!({})).say(reply).run().await;
        let error = qemu.monitor.execute(&Stop {}).await.unwrap_err();
        assert!(matches!(error, QmpError::Protocol(ProtocolError::UnknownId { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn an_error_or_nothing_before_the_greeting() {
    let refused = json!({"error": {"class": "GenericError", "desc": "busy"}});
    let error = ScriptedQmp::silent().say(refused).run_to_error().await;
    assert!(matches!(error, QmpError::Protocol(ProtocolError::NoGreeting { .. })), "{error:?}");
    let error = ScriptedQmp::silent().hangup().run_to_error().await;
    assert!(matches!(error, QmpError::Closed), "{error:?}");
}

#[tokio::test]
async fn commands_wait_for_a_greeting_that_comes_late() {
    let (stream, mut peer) = tokio::net::UnixStream::pair().unwrap();
    let (monitor, _events) = Monitor::resume("guest", stream, Duration::from_secs(60)).unwrap();
    assert!(monitor.greeting().is_none() && !monitor.is_at_least(1, 0));
    let mut status = pin!(monitor.execute(&QueryStatus {}));
    poll_fn(|cx| {
        assert!(status.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let greeting = json!({"QMP": {
        "version": {"qemu": {"micro": 1, "minor": 2, "major": 10}, "package": ""}, "capabilities": []}});
    let (ready, answer) =
        (json!({"return": {}, "id": 1}), json!({"return": {"running": true, "status": "running"}, "id": 2}));
    peer.write_all(format!("{greeting}\n{ready}\n{answer}\n").as_bytes()).await.unwrap();
    assert!(status.await.unwrap().running);
    assert!(monitor.is_at_least(10, 2) && !monitor.is_at_least(10, 3));
}

#[tokio::test]
async fn an_endless_line_ends_in_an_error() {
    let (stream, mut peer) = tokio::net::UnixStream::pair().unwrap();
    let chunk = vec![b' '; 1 << 20];
    let endless = async {
        let mut sent = 0_usize;
        while peer.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        sent
    };
    let (error, sent) = tokio::join!(Monitor::connect(stream), endless);
    let error = error.err().unwrap();
    assert!(matches!(error, QmpError::Protocol(ProtocolError::LineTooLong { limit: LINE_MAX })), "{error:?}");
    assert!(sent <= LINE_MAX + 2 * chunk.len(), "took {sent} bytes");
}

#[tokio::test]
async fn a_reply_of_many_megabytes_arrives() {
    let text = "x".repeat(LINE_MAX - 100);
    let qemu = ScriptedQmp::new()
        .expect("human-monitor-command", json!({"command-line": "info everything"}))
        .reply(json!(text))
        .run()
        .await;
    let command = HumanMonitorCommand { command_line: "info everything".to_owned(), cpu_index: None };
    assert_eq!(qemu.monitor.execute(&command).await.unwrap().len(), text.len());
    qemu.finish().await;
}

#[tokio::test]
async fn commands_longer_than_the_socket_takes_are_written_whole() {
    let line = "y".repeat(4 << 20);
    let qemu = ScriptedQmp::new()
        .expect("human-monitor-command", json!({"command-line": line}))
        .expect("stop", json!({}))
        .reply(json!({}))
        .run()
        .await;
    {
        // Even when its caller leaves in the middle of it.
        let command = HumanMonitorCommand { command_line: line.clone(), cpu_index: None };
        let mut leaving = pin!(qemu.monitor.execute(&command));
        assert!(poll_fn(|cx| Poll::Ready(leaving.as_mut().poll(cx))).await.is_pending());
    }
    qemu.monitor.execute(&Stop {}).await.unwrap();
    qemu.finish().await;
}

#[tokio::test]
async fn a_descriptor_travels_with_its_command() {
    let (stream, peer) = tokio::net::UnixStream::pair().unwrap();
    let qemu = tokio::spawn(async move {
        let greeting =
            r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}}}"#;
        let mut peer = peer;
        peer.write_all(format!("{greeting}\n{{\"return\": {{}}, \"id\": 1}}\n").as_bytes()).await.unwrap();
        let mut received: Vec<OwnedFd> = Vec::new();
        while received.is_empty() {
            peer.readable().await.unwrap();
            let mut bytes = [0; 512];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let _ = peer.try_io(tokio::io::Interest::READABLE, || {
                Ok(recvmsg(&peer, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty())?)
            });
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    received.extend(fds);
                }
            }
        }
        peer.write_all(b"{\"return\": {}, \"id\": 2}\n").await.unwrap();
        received
    });
    let (monitor, _events) = Monitor::connect(stream).await.unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let command = Getfd { fdname: "pipe".to_owned() };
    monitor.execute_with_fds(&command, vec![writer.into()]).await.unwrap();
    let received = qemu.await.unwrap();
    assert_eq!(received.len(), 1);
    // Ours was closed with the command: the received one is the last.
    drop(received);
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let mut qemu = ScriptedQmp::new().run().await;
    drop(qemu.monitor);
    assert!(qemu.events.recv().await.is_none());
}

/// A QEMU in a thread of its own, with the monitor of a runtime that has ended.
#[test]
fn the_end_of_a_runtime_is_not_qemus() {
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let qemu = std::thread::spawn(move || {
        let version = r#"{"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}"#;
        writeln!(theirs, r#"{{"QMP": {{"version": {version}, "capabilities": []}}}}"#).unwrap();
        let mut lines = std::io::BufReader::new(theirs.try_clone().unwrap()).lines();
        lines.next().unwrap().unwrap();
        writeln!(theirs, r#"{{"return": {{}}, "id": 1}}"#).unwrap();
        // Until the other side has gone.
        assert!(lines.next().is_none());
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let connected = runtime.block_on(async {
        ours.set_nonblocking(true).unwrap();
        Monitor::connect(tokio::net::UnixStream::from_std(ours).unwrap()).await
    });
    let (monitor, mut events) = connected.unwrap();
    drop(runtime);
    assert!(events.blocking_recv().is_none());
    assert!(!monitor.is_over());
    drop(monitor);
    qemu.join().unwrap();
}

#[tokio::test]
async fn qemus_end_is_known() {
    let mut qemu = ScriptedQmp::new().hangup().run().await;
    assert!(qemu.events.recv().await.is_none());
    assert!(qemu.monitor.is_over());
    qemu.finish().await;
}
