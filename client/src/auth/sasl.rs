//! SASL (RFC 4422) as libvirt carries it: one procedure to begin, one for each further step.

use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::prelude::{Mechname, MessageSent, SASLClient, SASLConfig, Session, SessionError, State};
use rsasl::property::{AuthId, Password};
use virtwire_protocol::remote::{AuthSaslStartArgs, AuthSaslStepArgs};

use super::{AuthError, Login, Source};
use crate::{Connection, Error};

/// Mechanisms, best first, and whether they need a name and a password.
const MECHANISMS: [(&str, bool); 4] =
    [("SCRAM-SHA-512", true), ("SCRAM-SHA-256", true), ("PLAIN", true), ("EXTERNAL", false)];

/// Rounds of PBKDF2 that a daemon may ask for: more would only keep us busy.
const ROUNDS_MAX: u32 = 1_000_000;

/// Steps of one login; no mechanism here needs more than three.
const STEPS_MAX: usize = 10;

/// Logs in by the best mechanism that both sides know and we have what it needs for.
pub(super) async fn login(connection: &Connection, source: &Source<'_>) -> Result<(), Error> {
    if !source.private {
        return Err(AuthError::Unprotected.into());
    }
    let offered = connection.auth_sasl_init().await?.mechlist.to_str_lossy().into_owned();
    let (mechanism, login) = choose(&offered, source)?;
    let mut exchange = Exchange::new(mechanism, login)?;

    let first = exchange.step(None)?;
    let args =
        AuthSaslStartArgs { mech: mechanism.into(), nil: nil(&first), data: first.unwrap_or_default() };
    let ret = connection.auth_sasl_start(&args).await?;
    let (mut complete, mut answer) = (ret.complete != 0, (ret.nil == 0).then_some(ret.data));
    for _ in 0..STEPS_MAX {
        let mut next = None;
        if !exchange.done {
            let input = answer.take();
            // A daemon that says we are in must have shown first that it knows the password too.
            if complete && input.is_none() {
                break;
            }
            next = exchange.step(Some(&input.unwrap_or_default()))?;
        }
        if complete {
            return if exchange.done { Ok(()) } else { Err(unproven().into()) };
        }
        let args = AuthSaslStepArgs { nil: nil(&next), data: next.unwrap_or_default() };
        let ret = connection.auth_sasl_step(&args).await?;
        (complete, answer) = (ret.complete != 0, (ret.nil == 0).then_some(ret.data));
        if complete && exchange.done {
            return Ok(());
        }
    }
    Err(unproven().into())
}

fn unproven() -> AuthError {
    AuthError::Exchange("the daemon has not shown that it knows the password".into())
}

fn nil(message: &Option<Vec<u8>>) -> i32 {
    i32::from(message.is_none())
}

fn choose(offered: &str, source: &Source<'_>) -> Result<(&'static str, Option<Login>), AuthError> {
    let names: Vec<_> = offered.split([',', ' ']).collect();
    let mut usable = MECHANISMS.iter().filter(|(name, _)| names.contains(name)).peekable();
    let Some((first, _)) = usable.peek() else { return Err(AuthError::NoMechanism(offered.to_owned())) };
    // Nobody is asked twice.
    let mut login = None;
    if usable.clone().any(|(_, needs)| *needs) {
        login = source.login(first)?;
    }
    let chosen = usable.find(|(_, needs)| !needs || login.is_some());
    let (name, needs) = chosen.ok_or_else(|| AuthError::NoCredentials(source.target.host().to_owned()))?;
    Ok((name, login.filter(|_| *needs)))
}

/// Our side of a login.
struct Exchange {
    session: Session,
    scram: bool,
    done: bool,
}

struct Answers(Option<Login>);

impl SessionCallback for Answers {
    fn callback(
        &self,
        _: &SessionData,
        _: &Context<'_>,
        request: &mut Request<'_>,
    ) -> Result<(), SessionError> {
        if let Some(login) = &self.0 {
            request.satisfy::<AuthId>(&login.name)?.satisfy::<Password>(login.password.as_bytes())?;
        }
        Ok(())
    }
}

impl Exchange {
    fn new(mechanism: &str, login: Option<Login>) -> Result<Self, AuthError> {
        let failed = |error: &dyn std::fmt::Display| AuthError::Exchange(error.to_string());
        let config = SASLConfig::builder().with_default_mechanisms().with_callback(Answers(login));
        let name = Mechname::parse(mechanism.as_bytes()).map_err(|error| failed(&error))?;
        let client = SASLClient::new(config.map_err(|error| failed(&error))?);
        let session = client.start_suggested(&[name]).map_err(|error| failed(&error))?;
        Ok(Self { session, scram: mechanism.starts_with("SCRAM"), done: false })
    }

    /// Takes the daemon's message, gives ours.
    fn step(&mut self, input: Option<&[u8]>) -> Result<Option<Vec<u8>>, AuthError> {
        if self.scram && input.and_then(rounds).is_some_and(|rounds| rounds > ROUNDS_MAX) {
            return Err(AuthError::Exchange(format!("the daemon asks for more than {ROUNDS_MAX} rounds")));
        }
        let mut out = Vec::new();
        let state = self.session.step(input, &mut out);
        match state.map_err(|error| AuthError::Exchange(error.to_string()))? {
            State::Running => Ok(Some(out)),
            State::Finished(sent) => {
                self.done = true;
                Ok(matches!(sent, MessageSent::Yes).then_some(out))
            }
        }
    }
}

/// The rounds in the first message of a SCRAM server, `r=…,s=…,i=4096`; what is no number counts as too many.
fn rounds(message: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(message).ok()?;
    let rounds = text.split(',').find_map(|part| part.strip_prefix("i="))?;
    Some(rounds.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677 has a nonce of its own, so only the shape of ours can be compared.
    #[test]
    fn the_first_message_names_the_user() {
        let login = Login { name: "anna".into(), password: "pencil".into() };
        let mut exchange = Exchange::new("SCRAM-SHA-256", Some(login.clone())).unwrap();
        let first = String::from_utf8(exchange.step(None).unwrap().unwrap()).unwrap();
        assert!(first.starts_with("n,,n=anna,r="), "{first}");
        let nonce = first.split_once("r=").unwrap().1;
        let flood = format!("r={nonce}x,s=QUFB,i=4000000000");
        assert!(matches!(exchange.step(Some(flood.as_bytes())), Err(AuthError::Exchange(_))));

        let mut plain = Exchange::new("PLAIN", Some(login)).unwrap();
        assert_eq!(plain.step(None).unwrap().unwrap(), b"\0anna\0pencil");
        assert!(plain.done);
        let mut external = Exchange::new("EXTERNAL", None).unwrap();
        assert_eq!(external.step(None).unwrap(), Some(vec![]));
    }
}
