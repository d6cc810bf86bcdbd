//! Cases: a recorded conversation, from `virtwire trace --json` (a line per happening) or a capture of exact frames.
//!
//! What cannot be replayed is left out: streams and the calls that open them, descriptors, keepalive, and whatever was
//! malformed on purpose.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use virtwire_protocol::codec;
use virtwire_protocol::net::MessageError;
use virtwire_protocol::procedures::ProcedureInfo;
use virtwire_protocol::schema;
use virtwire_protocol::{ErrorCode, ErrorDomain, admin, lxc, qemu, remote};

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Case {
    /// The daemon's socket it was recorded at.
    pub socket: String,
    /// Calls and events, in order.
    pub steps: Vec<Step>,
}

/// Something that happened. As JSON, it is a line of `virtwire trace`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Step {
    /// A call.
    Call {
        /// Which connection.
        connection: u64,
        /// The program, `remote`.
        program: String,
        /// The procedure, `DOMAIN_SUSPEND`.
        procedure: String,
        /// Its arguments.
        args: Value,
        /// What came.
        #[serde(flatten)]
        answer: Answer,
    },
    /// An event.
    Event {
        /// Which connection.
        connection: u64,
        /// The message.
        procedure: String,
        /// What it says.
        content: Value,
    },
}

/// How a call was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// With a result.
    Result(#[serde(serialize_with = "as_result")] Value),
    /// With an error.
    Error {
        /// `NO_DOMAIN`
        code: String,
        /// `QEMU`
        domain: String,
        /// The whole text.
        message: String,
    },
    /// Not at all.
    Unanswered,
}

fn as_result<S: serde::Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    json!({ "result": value }).serialize(serializer)
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(match (text("code"), text("domain")) {
            (Some(code), Some(domain)) => {
                Self::Error { code, domain, message: text("message").unwrap_or_default() }
            }
            _ => fields.remove("result").map_or(Self::Unanswered, Self::Result),
        })
    }
}

impl Step {
    /// Which connection.
    pub fn connection(&self) -> u64 {
        match self {
            Self::Call { connection, .. } | Self::Event { connection, .. } => *connection,
        }
    }
}

impl Case {
    /// Reads a case of either form.
    ///
    /// # Errors
    /// If the file can't be read, or is neither.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
        match serde_json::from_str::<Value>(&text) {
            Ok(capture) if capture["format"] == "wire-capture/1" => Ok(from_capture(&capture)),
            _ => from_lines(&text).map_err(named),
        }
    }

    /// As lines of JSON, to be kept.
    pub fn lines(&self) -> String {
        let head = json!({ "what": "recorded-at", "socket": self.socket });
        let steps = self.steps.iter().map(|step| serde_json::to_string(step).unwrap_or_default() + "\n");
        format!("{head}\n{}", steps.collect::<String>())
    }
}

/// Lines of a trace. Calls are there in the order in which they ended, and are made in that in which they began.
fn from_lines(text: &str) -> Result<Case, String> {
    let mut case = Case { socket: "libvirt-sock".to_owned(), steps: Vec::new() };
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line: Value = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", number + 1))?;
        match line["what"].as_str() {
            Some("recorded-at") => line["socket"].as_str().unwrap_or_default().clone_into(&mut case.socket),
            Some("call" | "event") => {
                let step = Step::deserialize(&line).map_err(|e| format!("line {}: {e}", number + 1))?;
                if replayable(&step) {
                    steps.push((line["at_us"].as_u64().unwrap_or_default(), step));
                }
            }
            Some(_) => {}
            None => return Err(format!("line {}: not a line of a trace", number + 1)),
        }
    }
    steps.sort_by_key(|(begin, _)| *begin);
    case.steps = steps.into_iter().map(|(_, step)| step).collect();
    Ok(case)
}

fn replayable(step: &Step) -> bool {
    let Step::Call { program, procedure, .. } = step else { return true };
    find(program, procedure).is_some_and(can_replay)
}

fn can_replay(info: &ProcedureInfo) -> bool {
    info.stream.is_none() && info.fds_call.1 == 0 && info.fds_reply.1 == 0
}

fn find(program: &str, procedure: &str) -> Option<&'static ProcedureInfo> {
    let programs = [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM, &admin::PROGRAM];
    programs.into_iter().find(|known| known.name == program)?.procedure_by_name(procedure)
}

/// Exact frames. Calls without a reply are left out.
fn from_capture(capture: &Value) -> Case {
    let mut steps: Vec<Option<Step>> = Vec::new();
    // Arguments, and the call's place.
    let mut waiting: HashMap<(u64, u64), (Value, usize)> = HashMap::new();
    for frame in capture["frames"].as_array().into_iter().flatten() {
        let header = &frame["header"];
        let (Some(program), Some(procedure)) =
            (header["program_name"].as_str(), header["procedure_name"].as_str())
        else {
            continue;
        };
        let Some(info) = find(program, procedure) else { continue };
        let odd = ["malformed_on_purpose", "truncated"].iter().any(|key| frame.get(*key).is_some());
        let payload = unhex(frame["payload"].as_str().unwrap_or_default());
        let connection = frame["conn"].as_u64().unwrap_or_default();
        let key = (connection, header["serial"].as_u64().unwrap_or_default());
        match header["type_name"].as_str() {
            Some("call") if can_replay(info) && !odd => {
                let args = info.args.map_or(Ok(json!({})), |shape| schema::to_json(shape, &payload));
                if let Ok(args) = args {
                    waiting.insert(key, (args, steps.len()));
                    steps.push(None);
                }
            }
            Some("reply") => {
                let call = waiting.remove(&key).zip(answer(info, header, &payload));
                let Some(((args, place), answer)) = call else { continue };
                let (program, procedure) = (program.to_owned(), procedure.to_owned());
                steps[place] = Some(Step::Call { connection, program, procedure, args, answer });
            }
            Some("event") => {
                let content = info.msg.and_then(|shape| schema::to_json(shape, &payload).ok());
                let step = |content| Step::Event { connection, procedure: procedure.to_owned(), content };
                steps.extend(content.map(|content| Some(step(content))));
            }
            _ => {}
        }
    }
    let socket = capture["server_socket"].as_str().unwrap_or_default().to_owned();
    Case { socket, steps: steps.into_iter().flatten().collect() }
}

fn answer(info: &ProcedureInfo, header: &Value, payload: &[u8]) -> Option<Answer> {
    if header["status"] == 0 {
        let result = info.ret.map_or(Ok(json!({})), |shape| schema::to_json(shape, payload));
        return result.ok().map(Answer::Result);
    }
    let error: MessageError = codec::decode(payload).ok()?;
    let named = |name: Option<&str>, number: i32| name.map_or_else(|| number.to_string(), str::to_owned);
    Some(Answer::Error {
        code: named(ErrorCode(error.code).name(), error.code),
        domain: named(ErrorDomain(error.domain).name(), error.domain),
        message: error.message.map(|text| text.to_string()).unwrap_or_default(),
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_same_after_it_was_written_down() {
        let lines = r#"{"connection":0,"at_us":5,"what":"connected","pid":1,"uid":0}
{"connection":0,"at_us":9,"what":"call","program":"remote","procedure":"CONNECT_GET_TYPE","serial":1,"args":{},"descriptors":[0,0],"took_us":3,"result":{"type":"TEST"}}
{"connection":0,"at_us":9,"what":"call","program":"remote","procedure":"DOMAIN_LOOKUP_BY_NAME","serial":2,"args":{"name":"x"},"descriptors":[0,0],"took_us":3,"code":"NO_DOMAIN","domain":"TEST","message":"m"}
{"connection":0,"at_us":9,"what":"call","program":"remote","procedure":"STORAGE_VOL_UPLOAD","serial":3,"args":{},"descriptors":[0,0],"took_us":3,"result":{}}
{"connection":0,"at_us":9,"what":"event","program":"remote","procedure":"DOMAIN_EVENT_CALLBACK_LIFECYCLE","content":{}}"#;
        let case = from_lines(lines).unwrap();
        assert_eq!(case.steps.len(), 3, "{case:?}");
        assert_eq!(from_lines(&case.lines()).unwrap(), case);
    }

    #[test]
    fn frames_become_calls_with_their_answers() {
        let case = Case::read(&crate::repo::file("captures/vw-test-errors.json")).unwrap();
        let Step::Call { procedure, answer, .. } = &case.steps[0] else { panic!("{case:?}") };
        assert_eq!((procedure.as_str(), case.socket.as_str()), ("AUTH_LIST", "libvirt-sock"));
        assert!(matches!(answer, Answer::Result(_)));
        let errors =
            case.steps.iter().filter(|step| matches!(step, Step::Call { answer: Answer::Error { .. }, .. }));
        assert!(errors.count() > 5);
    }
}
