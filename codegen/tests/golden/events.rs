use crate::codec;
use crate::events::{EventKind, Subject};
#[allow(unused_imports)]
use super::*;

/// An event of program `demo`, as it is sent to clients that registered with a callback id.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// `DEMO_PROC_EVENT_CALLBACK_CHANGED` (11).
    EventCallbackChanged(EventCallbackChangedMsg),
}

impl Event {
    /// Its class, id and message.
    pub fn kind(&self) -> EventKind<Procedure> {
        match self {
            Self::EventCallbackChanged(_) => {
                EventKind {
                    class: "domain",
                    id: 0,
                    procedure: Procedure::EVENT_CALLBACK_CHANGED,
                }
            }
        }
    }

    /// The object it is about; a registration may be for that object only.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Self::EventCallbackChanged(msg) => Subject::Domain(&msg.msg.dom),
        }
    }

    /// The callback id it was sent to; a driver leaves it 0, delivery fills it in.
    pub fn callback_id(&self) -> i32 {
        match self {
            Self::EventCallbackChanged(msg) => msg.callback_id,
        }
    }

    /// Appends the message. Its first four bytes are the callback id.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), codec::EncodeError> {
        match self {
            Self::EventCallbackChanged(msg) => codec::encode_into(msg, out),
        }
    }

    /// The message for clients that registered without a callback id, where there is one.
    pub fn legacy(&self) -> Option<(Procedure, Result<Vec<u8>, codec::EncodeError>)> {
        match self {
            Self::EventCallbackChanged(msg) => {
                Some((Procedure::EVENT_CHANGED, codec::encode(&msg.msg)))
            }
        }
    }

    /// Reads a message; `None` if the procedure is no event with a callback id.
    pub fn decode(
        procedure: Procedure,
        payload: &[u8],
    ) -> Result<Option<Self>, codec::DecodeError> {
        match procedure {
            Procedure::EVENT_CALLBACK_CHANGED => {
                codec::decode(payload).map(Self::EventCallbackChanged).map(Some)
            }
            _ => Ok(None),
        }
    }
}
