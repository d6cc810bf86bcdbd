//! Opening, features, closing.

use virtwire_protocol::remote::*;

use super::{OBSERVED, Row, ask, fails};
use crate::case::{Failure, Target, expect};
use crate::peer::{PeerError, text};

pub(super) const CASES: &[Row] = &[
    (
        "connection/open-twice",
        "a second open is refused and the first stays",
        "shared conversations; ours keeps the first on purpose",
        open_twice,
    ),
    ("connection/unknown-driver", "a URI of no driver is refused with code 5", OBSERVED, unknown_driver),
    ("connection/features", "the daemon's own features are answered, unknown ones are 0", OBSERVED, features),
    (
        "connection/feature-before-open",
        "only keepalive can be asked before open",
        OBSERVED,
        feature_before_open,
    ),
    ("connection/close", "the connection ends behind the answer to close", OBSERVED, close),
    ("connection/uri", "the URI comes back without transport", OBSERVED, uri),
    ("connection/auth-first", "root, too, is authenticated first", OBSERVED, auth_first),
];

fn open_twice(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    let args = ConnectOpenArgs { name: Some(target.uri.as_str().into()), flags: 0 };
    let refused = fails(&mut peer, Procedure::CONNECT_OPEN, &args)?;
    expect("error", (1, 7, "internal error: connection already open".to_owned()), refused)
}

fn unknown_driver(target: &Target) -> Result<(), Failure> {
    let mut peer = target.connect()?;
    ask::<AuthListRet>(&mut peer, Procedure::AUTH_LIST, &())?;
    let args = ConnectOpenArgs { name: Some("nosuch:///system".into()), flags: 0 };
    let refused = fails(&mut peer, Procedure::CONNECT_OPEN, &args)?;
    expect("error", (5, 0, "no connection driver available for nosuch:///system".to_owned()), refused)
}

fn features(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    for (feature, supported) in [(0, 0), (8, 1), (10, 1), (14, 1), (15, 1), (1000, 0), (-1, 0)] {
        let args = ConnectSupportsFeatureArgs { feature };
        let got: ConnectSupportsFeatureRet = ask(&mut peer, Procedure::CONNECT_SUPPORTS_FEATURE, &args)?;
        expect(&format!("feature {feature}"), supported, got.supported)?;
    }
    Ok(())
}

fn feature_before_open(target: &Target) -> Result<(), Failure> {
    let mut peer = target.connect()?;
    ask::<AuthListRet>(&mut peer, Procedure::AUTH_LIST, &())?;
    let asks = |feature| ConnectSupportsFeatureArgs { feature };
    let got: ConnectSupportsFeatureRet = ask(&mut peer, Procedure::CONNECT_SUPPORTS_FEATURE, &asks(10))?;
    expect("keepalive", 1, got.supported)?;
    let refused = fails(&mut peer, Procedure::CONNECT_SUPPORTS_FEATURE, &asks(3))?;
    expect("error", (1, 7, "internal error: hypervisor connection not open".to_owned()), refused)
}

fn close(target: &Target) -> Result<(), Failure> {
    let mut peer = target.open()?;
    ask::<()>(&mut peer, Procedure::CONNECT_CLOSE, &())?;
    match peer.receive() {
        Err(PeerError::Closed) => Ok(()),
        other => Err(Failure::Differs(format!("expected the end of the connection, got {other:?}"))),
    }
}

fn uri(target: &Target) -> Result<(), Failure> {
    let got: ConnectGetUriRet = ask(&mut target.open()?, Procedure::CONNECT_GET_URI, &())?;
    expect("uri", target.uri.clone(), got.uri.to_string())
}

fn auth_first(target: &Target) -> Result<(), Failure> {
    let mut peer = target.connect()?;
    let args = ConnectOpenArgs { name: Some(target.uri.as_str().into()), flags: 0 };
    match peer.call(Procedure::CONNECT_OPEN, &args)?.error()? {
        Some(error) => {
            expect("error", (39, "authentication required".to_owned()), (error.code, text(&error)))
        }
        None => Err(Failure::Skipped("the daemon asks for no authentication")),
    }
}
