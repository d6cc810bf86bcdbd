//! Cases: a recorded conversation, from `virtwire trace --json` (a line per happening) or a capture of exact frames.
//!
//! Of streams it has how much went which way, of descriptors how many there were. What cannot be replayed is left out:
//! keepalive, and whatever was malformed on purpose.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use virtwire_protocol::codec;
use virtwire_protocol::net::{MessageError, MessageStatus, StreamHole};
use virtwire_protocol::procedures::ProcedureInfo;
use virtwire_protocol::schema;
use virtwire_protocol::{ErrorCode, ErrorDomain, admin, lxc, qemu, remote};

const CONTINUE: i64 = MessageStatus::CONTINUE.0 as i64;
const ERROR: i64 = MessageStatus::ERROR.0 as i64;

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
        /// Its serial.
        #[serde(default)]
        serial: u64,
        /// Its arguments.
        args: Value,
        /// Descriptors with the call and with the reply.
        #[serde(default)]
        descriptors: (usize, usize),
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
    /// A stream, when it has ended.
    Stream {
        /// Which connection.
        connection: u64,
        /// The call that opened it.
        procedure: String,
        /// That call's serial.
        serial: u64,
        /// Bytes to the daemon and to the client, holes left out.
        bytes: (usize, usize),
        /// What the client sent, where more is known of it than how much.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sent: Vec<Piece>,
        /// How it ended: `finished`, `aborted`, or with an error.
        end: String,
    },
}

/// What a client sent on a stream: so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Piece {
    /// Of data.
    Data(usize),
    /// Of a hole.
    Hole(i64),
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
            Self::Call { connection, .. }
            | Self::Event { connection, .. }
            | Self::Stream { connection, .. } => *connection,
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

/// Lines of a trace. Calls are there in the order in which they ended, and are made in that in which they began; streams
/// are played when they ended.
fn from_lines(text: &str) -> Result<Case, String> {
    let mut case = Case { socket: "libvirt-sock".to_owned(), steps: Vec::new() };
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line: Value = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", number + 1))?;
        match line["what"].as_str() {
            Some("recorded-at") => line["socket"].as_str().unwrap_or_default().clone_into(&mut case.socket),
            Some("call" | "event" | "stream") => {
                let step = Step::deserialize(&line).map_err(|e| format!("line {}: {e}", number + 1))?;
                let took = if matches!(step, Step::Stream { .. }) { &line["took_us"] } else { &Value::Null };
                let at = line["at_us"].as_u64().unwrap_or_default() + took.as_u64().unwrap_or_default();
                if replayable(&step) {
                    steps.push((at, step));
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
    find(program, procedure).is_some()
}

pub(super) fn find(program: &str, procedure: &str) -> Option<&'static ProcedureInfo> {
    let programs = [&remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM, &admin::PROGRAM];
    programs.into_iter().find(|known| known.name == program)?.procedure_by_name(procedure)
}

/// Exact frames. Calls without a reply are left out.
fn from_capture(capture: &Value) -> Case {
    let mut steps: Vec<Option<Step>> = Vec::new();
    // By connection and serial: a call's arguments, its descriptors and its place.
    let mut waiting: HashMap<(u64, u64), (Value, usize, usize)> = HashMap::new();
    let mut streams: HashMap<(u64, u64), Flow> = HashMap::new();
    for frame in capture["frames"].as_array().into_iter().flatten() {
        let header = &frame["header"];
        let (Some(program), Some(procedure)) =
            (header["program_name"].as_str(), header["procedure_name"].as_str())
        else {
            continue;
        };
        let Some(info) = find(program, procedure) else { continue };
        let odd = |key: &str| frame.get(key).is_some();
        let descriptors = frame["fds"].as_u64().unwrap_or_default() as usize;
        // With descriptors, their number stands before everything else.
        let counted = header["type_name"].as_str().is_some_and(|name| name.ends_with("-with-fds"));
        let payload = unhex(frame["payload"].as_str().unwrap_or_default());
        let payload = payload.get(if counted { 4 } else { 0 }..).unwrap_or_default().to_vec();
        let connection = frame["conn"].as_u64().unwrap_or_default();
        let serial = header["serial"].as_u64().unwrap_or_default();
        let key = (connection, serial);
        let from_client = frame["dir"] == "c>s";
        match header["type_name"].as_str() {
            Some("call" | "call-with-fds") if !odd("malformed_on_purpose") && !odd("truncated") => {
                let args = info.args.map_or(Ok(json!({})), |shape| schema::to_json(shape, &payload));
                if let Ok(args) = args {
                    waiting.insert(key, (args, descriptors, steps.len()));
                    steps.push(None);
                }
            }
            Some("reply" | "reply-with-fds") => {
                let call = waiting.remove(&key).zip(answer(info, header, &payload));
                let Some(((args, sent, place), answer)) = call else { continue };
                let (program, procedure) = (program.to_owned(), procedure.to_owned());
                let descriptors = (sent, descriptors);
                let call = Step::Call { connection, program, procedure, serial, args, descriptors, answer };
                steps[place] = Some(call);
            }
            Some("event") => {
                let content = info.msg.and_then(|shape| schema::to_json(shape, &payload).ok());
                let step = |content| Step::Event { connection, procedure: procedure.to_owned(), content };
                steps.extend(content.map(|content| Some(step(content))));
            }
            Some(kind @ ("stream" | "stream-hole")) if !odd("malformed_on_purpose") => {
                let length = frame["payload_length"].as_u64().map_or(payload.len(), |length| length as usize);
                let flow = streams.entry(key).or_default();
                let Some(end) = flow.take(from_client, kind, header, length, &payload) else { continue };
                let Flow { sent, bytes, .. } = streams.remove(&key).unwrap_or_default();
                let procedure = procedure.to_owned();
                steps.push(Some(Step::Stream { connection, procedure, serial, bytes, sent, end }));
            }
            _ => {}
        }
    }
    let socket = capture["server_socket"].as_str().unwrap_or_default().to_owned();
    Case { socket, steps: steps.into_iter().flatten().collect() }
}

/// A stream that has not ended.
#[derive(Default)]
struct Flow {
    sent: Vec<Piece>,
    bytes: (usize, usize),
    aborted: bool,
}

impl Flow {
    /// Takes a frame in; how the stream ended, if that was its end.
    fn take(
        &mut self,
        from_client: bool,
        kind: &str,
        header: &Value,
        length: usize,
        payload: &[u8],
    ) -> Option<String> {
        match (from_client, kind, header["status"].as_i64()) {
            (true, "stream-hole", _) => {
                let hole: Option<StreamHole> = codec::decode(payload).ok();
                self.sent.extend(hole.map(|hole| Piece::Hole(hole.length)));
            }
            (true, _, Some(CONTINUE)) => {
                self.bytes.0 += length;
                self.sent.push(Piece::Data(length));
            }
            (true, _, status) => self.aborted = status == Some(ERROR),
            (false, "stream", Some(CONTINUE)) => self.bytes.1 += length,
            (false, "stream", Some(ERROR)) => return codec::decode(payload).ok().map(failed),
            (false, "stream", _) => {
                return Some(if self.aborted { "aborted" } else { "finished" }.to_owned());
            }
            _ => {}
        }
        None
    }
}

/// How a stream has failed.
pub(super) fn failed(error: MessageError) -> String {
    let code = named(ErrorCode(error.code).name(), error.code);
    format!("{code}: {}", error.message.map(|text| text.to_string()).unwrap_or_default())
}

/// A name, or a number that has none.
pub(super) fn named(name: Option<&str>, number: i32) -> String {
    name.map_or_else(|| number.to_string(), str::to_owned)
}

fn answer(info: &ProcedureInfo, header: &Value, payload: &[u8]) -> Option<Answer> {
    if header["status"] == 0 {
        let result = info.ret.map_or(Ok(json!({})), |shape| schema::to_json(shape, payload));
        return result.ok().map(Answer::Result);
    }
    let error: MessageError = codec::decode(payload).ok()?;
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
{"connection":0,"at_us":10,"what":"stream","procedure":"STORAGE_VOL_UPLOAD","serial":3,"bytes":[5,0],"took_us":3,"end":"finished"}
{"connection":0,"at_us":9,"what":"event","program":"remote","procedure":"DOMAIN_EVENT_CALLBACK_LIFECYCLE","content":{}}"#;
        let case = from_lines(lines).unwrap();
        assert_eq!(case.steps.len(), 5, "{case:?}");
        assert_eq!(from_lines(&case.lines()).unwrap(), case);
    }

    #[test]
    fn frames_of_streams_become_what_went_which_way() {
        let case = Case::read(&crate::repo::file("captures/vw-streams-sparse.json")).unwrap();
        let streams: Vec<_> = case.steps.iter().filter(|step| matches!(step, Step::Stream { .. })).collect();
        let [Step::Stream { sent, bytes: up, end, .. }, Step::Stream { bytes: down, .. }] = streams[..]
        else {
            panic!("{streams:?}")
        };
        let (data, hole) = (Piece::Data(4096), Piece::Hole(0xf_f000));
        assert_eq!((sent, *up, end.as_str()), (&vec![data, hole, data, hole], (8192, 0), "finished"));
        assert_eq!(*down, (0, 274_432));
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
