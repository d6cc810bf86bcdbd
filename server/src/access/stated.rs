//! What a client says of somebody else whom it speaks for: a proxy in front of this daemon, or this daemon where it is
//! one (`CONNECT_SET_IDENTITY`).

use virtwire_driver_api::Peer;
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::{TypedParam, TypedParamValue as Value};

use super::Identity;

// `VIR_CONNECT_IDENTITY_…` of `libvirt/libvirt-host.h`.
const USER: &str = "user-name";
const USER_ID: &str = "unix-user-id";
const GROUP: &str = "group-name";
const GROUP_ID: &str = "unix-group-id";
const PROCESS: &str = "process-id";
const STARTED: &str = "process-time";
const SASL: &str = "sasl-user-name";
const CERTIFICATE: &str = "x509-distinguished-name";
const SELINUX: &str = "selinux-context";

/// Whether a client is believed: root's processes, and where it may do more than look those of the daemon's own user.
pub(crate) fn is_believed(peer: Option<Peer>, own: u32, read_only: bool) -> bool {
    peer.is_some_and(|peer| peer.uid == 0 || (peer.uid == own && !read_only))
}

/// The parameters that say who somebody is.
pub(crate) fn parameters(who: &Identity) -> Vec<TypedParam> {
    let text = |text: &Option<String>| text.as_deref().map(|text| Value::String(text.into()));
    let peer = who.peer.as_ref();
    let all = [
        (USER_ID, peer.map(|peer| Value::Ullong(peer.uid.into()))),
        (GROUP_ID, peer.map(|peer| Value::Ullong(peer.gid.into()))),
        (PROCESS, peer.map(|peer| Value::Llong(peer.pid.into()))),
        (STARTED, who.started.map(Value::Ullong)),
        (SASL, text(&who.sasl)),
        (CERTIFICATE, text(&who.certificate)),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some(TypedParam { field: name.into(), value: value? }))
        .collect()
}

/// Who somebody is by these parameters. Names of users and groups are looked up by their ids; a parameter that nobody
/// knows is an error.
pub(crate) fn identity(parameters: &[TypedParam]) -> Result<Identity, VirtError> {
    let mut who = Identity::default();
    let (mut uid, mut gid, mut pid) = (None, None, None);
    for TypedParam { field, value } in parameters {
        let name = field.to_str_lossy();
        let odd = || ErrorDomain::RPC.invalid_arg(format_args!("identity parameter '{name}'"));
        match (&*name, value) {
            (USER_ID, Value::Ullong(id)) => uid = Some(u32::try_from(*id).map_err(|_| odd())?),
            (GROUP_ID, Value::Ullong(id)) => gid = Some(u32::try_from(*id).map_err(|_| odd())?),
            (PROCESS, Value::Llong(id)) => pid = Some(i32::try_from(*id).map_err(|_| odd())?),
            (STARTED, Value::Ullong(ticks)) => who.started = Some(*ticks),
            (SASL, Value::String(name)) => who.sasl = Some(name.to_str_lossy().into_owned()),
            (CERTIFICATE, Value::String(name)) => who.certificate = Some(name.to_str_lossy().into_owned()),
            (USER | GROUP | SELINUX, Value::String(_)) => {}
            _ => return Err(odd()),
        }
    }
    who.peer = match (uid, gid, pid) {
        (Some(uid), Some(gid), Some(pid)) => Some(Peer { pid, uid, gid }),
        _ => None,
    };
    Ok(who)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_understood() {
        let peer = Some(Peer { pid: 7, uid: 1000, gid: 100 });
        let anna = Some("anna".to_owned());
        for who in [
            Identity::default(),
            Identity { peer, started: Some(42), ..Identity::default() },
            Identity { sasl: anna.clone(), certificate: anna, ..Identity::default() },
        ] {
            assert_eq!(identity(&parameters(&who)), Ok(who));
        }
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        for (name, value) in [
            (USER_ID, Value::Ullong(1 << 32)),
            (USER_ID, Value::Int(0)),
            (PROCESS, Value::Llong(1 << 31)),
            (SASL, Value::Int(0)),
            ("shoe-size", Value::Ullong(42)),
        ] {
            let error = identity(&[TypedParam { field: name.into(), value }]).unwrap_err();
            assert!(error.message.contains(name), "{}", error.message);
        }
    }

    #[test]
    fn class_identity_only_root_and_the_daemons_own_user_speak_for_others() {
        let peer = |uid| Some(Peer { pid: 1, uid, gid: 1 });
        // Whether they are believed, and whether they are on a read-only connection.
        for (peer, own, write, look) in [
            (None, 0, false, false),
            (peer(0), 1000, true, true),
            (peer(1000), 1000, true, false),
            (peer(1001), 0, false, false),
        ] {
            assert_eq!((is_believed(peer, own, false), is_believed(peer, own, true)), (write, look));
        }
    }
}
