//! A SASL login: a byte for the mechanism, then the client's messages, each behind a byte with its length.
#![no_main]

use std::cell::LazyCell;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tokio::net::UnixStream;
use virtwire_driver_test::TestDriver;
use virtwire_fuzz::{converse, header, run};
use virtwire_protocol::codec::Encode;
use virtwire_protocol::frame;
use virtwire_protocol::remote::{self, AuthSaslStartArgs, AuthSaslStepArgs, Procedure};
use virtwired::config::{Auth, Settings};
use virtwired::log::Log;
use virtwired::{Access, Config, Program, Service};

thread_local! {
    static SERVICE: LazyCell<Service> = LazyCell::new(|| {
        let mechanisms = ["SCRAM-SHA-256", "PLAIN", "EXTERNAL"].map(str::to_owned).into();
        let users = "/nonexistent/users".to_owned();
        let settings = Settings {
            auth_unix_rw: Auth::Sasl,
            sasl_mechanisms: mechanisms,
            sasl_users_file: users,
            ..Settings::default()
        };
        let config = Config { settings, ..Config::default() };
        Service::with(vec![Arc::new(TestDriver::new())], &config, Log::new(None)).expect("a service without TLS")
    });
}

fn call(procedure: Procedure, serial: u32, args: &impl Encode) -> Vec<u8> {
    frame::encode(&header(remote::PROGRAM.number, procedure.0, serial), 0, args).expect("short arguments fit")
}

fuzz_target!(|data: &[u8]| {
    let [mechanism, rest @ ..] = data else { return };
    let mut rest = rest;
    let mech = ["SCRAM-SHA-256", "PLAIN", "EXTERNAL", "\u{0}"][usize::from(mechanism % 4)];
    let mut all = call(Procedure::AUTH_SASL_INIT, 0, &());
    let mut serial = 0;
    while let [length, more @ ..] = rest {
        let (message, more) = more.split_at(usize::from(*length).min(more.len()));
        (rest, serial) = (more, serial + 1);
        let data = message.to_vec();
        all.extend(if serial == 1 {
            call(Procedure::AUTH_SASL_START, serial, &AuthSaslStartArgs { mech: mech.into(), nil: 0, data })
        } else {
            call(Procedure::AUTH_SASL_STEP, serial, &AuthSaslStepArgs { nil: 0, data })
        });
    }
    run(async {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let service = SERVICE.with(|service| Service::clone(service));
        tokio::spawn(async move { service.serve(theirs, Program::Remote, Access::ReadWrite).await });
        converse(ours, &all, all.len(), None).await;
    });
});
