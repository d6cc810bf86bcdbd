//! Agents that do what they should, and those that do not.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use virtwire_qmp::ProtocolError;
use virtwire_qmp::agent::{ANSWER_MAX, Agent, AgentError, Patience};

const SHORT: Duration = Duration::from_millis(30);
const PATIENT: Patience = Patience { sync: Duration::from_secs(60), answer: None };

/// An agent that answers each line with what `says` makes of it.
fn agent(says: impl Fn(&Value) -> Option<Vec<u8>> + Send + 'static) -> (Agent, JoinHandle<Vec<Value>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let peer = tokio::spawn(async move {
        let mut stream = BufReader::new(theirs);
        let mut heard = Vec::new();
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            let text = line.strip_prefix(&[0xff]).unwrap_or(&line);
            let command: Value = serde_json::from_slice(text).unwrap();
            line.clear();
            let answer = says(&command);
            heard.push(command);
            let Some(answer) = answer else { break };
            if stream.write_all(&answer).await.is_err() {
                break;
            }
        }
        heard
    });
    (Agent::on(ours), peer)
}

fn synced(command: &Value) -> Option<Vec<u8>> {
    (command["execute"] == "guest-sync-delimited").then(|| {
        [&b"\xff"[..], format!("{}\n", json!({"return": command["arguments"]["id"]})).as_bytes()].concat()
    })
}

fn ping() -> Value {
    json!({"execute": "guest-ping"})
}

#[tokio::test]
async fn commands_are_answered_or_refused() {
    let (mut agent, peer) = agent(|command| {
        synced(command).or_else(|| {
            Some(match command["execute"].as_str()? {
                "guest-ping" => b"\n{\"return\": {\"a\": 1}}\r\n".to_vec(),
                _ => b"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\"}}\n".to_vec(),
            })
        })
    });
    assert_eq!(agent.execute(&ping(), PATIENT).await.unwrap().get(), r#"{"a": 1}"#);
    let error = agent.execute(&json!({"execute": "guest-x"}), PATIENT).await.unwrap_err();
    assert!(matches!(&error, AgentError::Command(error) if error.desc == "no"), "{error}");
    assert!(error.leaves_connection());
    drop(agent);
    let names: Vec<_> = peer.await.unwrap().iter().map(|it| it["execute"].to_string()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[tokio::test]
async fn what_was_said_before_is_skipped() {
    // Late answers, half a line, and the answer to another number come before the right one.
    let (mut agent, _peer) = agent(|command| {
        let answer = synced(command)?;
        Some([&b"{\"return\": 9}\nhalf {\xff{\"return\": 4711}\n\xff\xff"[..], &answer].concat())
    });
    let patience = Patience { sync: PATIENT.sync, answer: Some(SHORT) };
    assert!(matches!(
        agent.execute(&ping(), patience).await,
        Err(AgentError::Closed | AgentError::Silent(_))
    ));

    let (mut late, _peer) = self::agent(|command| match command["execute"].as_str()? {
        "guest-sync-delimited" => synced(command),
        // Said only once the next one is asked: nothing now.
        _ => Some(Vec::new()),
    });
    let error = late.execute(&ping(), patience).await.unwrap_err();
    assert!(
        matches!(error, AgentError::Silent(limit) if limit == SHORT) && error.leaves_connection(),
        "{error}"
    );
}

#[tokio::test]
async fn silence_and_other_numbers_are_nobody() {
    for says in [b"".to_vec(), b"\xff{\"return\": 4711}\n".to_vec(), b"\xff{]\n".to_vec()] {
        let (mut agent, _peer) = agent(move |_| Some(says.clone()));
        let error = agent.execute(&ping(), Patience { sync: SHORT, answer: None }).await.unwrap_err();
        assert!(matches!(error, AgentError::NotThere(limit) if limit == SHORT), "{error}");
    }
}

#[tokio::test]
async fn an_endless_line_ends_the_connection() {
    let (mut agent, _peer) = agent(|_| Some(vec![b'x'; ANSWER_MAX + 2]));
    let error = agent.execute(&ping(), PATIENT).await.unwrap_err();
    let too_long = matches!(error, AgentError::Protocol(ProtocolError::LineTooLong { limit: ANSWER_MAX }));
    assert!(too_long && !error.leaves_connection(), "{error}");
}

#[tokio::test]
async fn answers_that_are_none_end_the_connection() {
    for says in [&b"nonsense\n"[..], b"{}\n", b"[1]\n", b"{\"return\": \xfe}\n"] {
        let (mut agent, _peer) = agent(move |command| synced(command).or(Some(says.to_vec())));
        let error = agent.execute(&ping(), PATIENT).await.unwrap_err();
        assert!(matches!(error, AgentError::Protocol(_)) && !error.leaves_connection(), "{error}");
    }
    let (mut agent, _peer) = agent(|_| None);
    assert!(matches!(agent.execute(&ping(), PATIENT).await, Err(AgentError::Closed)));
}
