//! Older procedures that do what newer ones do when no flag is set, for daemons that lack the newer.

use virtwire_protocol::error::{ErrorCode, ErrorDomain};
use virtwire_protocol::frame::HEAD;
use virtwire_protocol::remote::{self, Procedure};

use crate::Error;
use crate::call::Request;

/// The newer, and the older. The newer takes what the older takes, and `flags` behind it; they give the same.
const OLDER: &[(Procedure, Procedure)] = &[
    (Procedure::DOMAIN_ABORT_JOB_FLAGS, Procedure::DOMAIN_ABORT_JOB),
    (Procedure::DOMAIN_DEFINE_XML_FLAGS, Procedure::DOMAIN_DEFINE_XML),
    (Procedure::DOMAIN_DESTROY_FLAGS, Procedure::DOMAIN_DESTROY),
    (Procedure::DOMAIN_SHUTDOWN_FLAGS, Procedure::DOMAIN_SHUTDOWN),
    (Procedure::DOMAIN_UNDEFINE_FLAGS, Procedure::DOMAIN_UNDEFINE),
    (Procedure::NETWORK_CREATE_XML_FLAGS, Procedure::NETWORK_CREATE_XML),
    (Procedure::NETWORK_DEFINE_XML_FLAGS, Procedure::NETWORK_DEFINE_XML),
    (Procedure::NWFILTER_DEFINE_XML_FLAGS, Procedure::NWFILTER_DEFINE_XML),
];

/// Bytes of `flags`.
const FLAGS: usize = 4;

/// The older form of a call, if it has one and sets no flag.
pub(crate) fn older(request: &Request) -> Option<Request> {
    let header = &request.header;
    let called = Procedure(header.proc);
    let (_, older) =
        OLDER.iter().find(|(newer, _)| header.prog == remote::PROGRAM.number && *newer == called)?;
    let (rest, flags) = request.frame.split_last_chunk::<FLAGS>()?;
    if *flags != [0; FLAGS] || rest.len() < HEAD {
        return None;
    }
    let mut frame = rest.to_vec();
    frame.get_mut(LENGTH)?.copy_from_slice(&u32::try_from(rest.len()).ok()?.to_be_bytes());
    frame.get_mut(PROCEDURE)?.copy_from_slice(&older.0.to_be_bytes());
    let mut header = header.clone();
    header.proc = older.0;
    Some(Request { frame, header, descriptors: Vec::new(), purpose: Default::default() })
}

/// Where a frame has its length and its procedure.
const LENGTH: std::ops::Range<usize> = 0..4;
const PROCEDURE: std::ops::Range<usize> = 12..16;

/// Whether the daemon says that it does not know the procedure.
pub(crate) fn is_unknown(error: &Error) -> bool {
    error.remote().is_some_and(|error| {
        let from = (error.code, error.domain);
        from == (ErrorCode::RPC, ErrorDomain::RPC) && error.message.contains("unknown procedure")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtwire_protocol::schema::Ty;

    #[test]
    fn each_pair_differs_by_flags_alone() {
        for (newer, older) in OLDER {
            let info = |procedure: &Procedure| remote::PROGRAM.procedure(procedure.0).unwrap();
            let (newer, older) = (info(newer), info(older));
            let (flags, rest) = newer.args.unwrap().fields.split_last().unwrap();
            assert!(matches!(flags, ("flags", Ty::U32)), "{}: {flags:?}", newer.name);
            assert_eq!(format!("{rest:?}"), format!("{:?}", older.args.unwrap().fields), "{}", newer.name);
            let ret = |of: Option<&'static virtwire_protocol::schema::StructDef>| {
                of.map(|of| format!("{:?}", of.fields))
            };
            assert_eq!(ret(newer.ret), ret(older.ret), "{}", newer.name);
        }
    }
}
