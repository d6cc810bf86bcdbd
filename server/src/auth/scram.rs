//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding. Pure: messages in, messages out.
//!
//! Written here since the libraries that have a server's side panic on short messages, or tell who is known.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};

use super::Refused;
use super::verifier::{Sum, Verifier, mac, sum};

/// A login of which the client's proof is still to come.
pub(crate) struct Challenge {
    name: String,
    gs2_header: String,
    nonce: String,
    /// `client-first-message-bare "," server-first-message ","`
    auth_message: String,
    keys: Verifier,
}

/// `name=` and the rest of an attribute.
fn attribute<'a>(text: Option<&'a str>, name: &str) -> Result<&'a str, Refused> {
    text.and_then(|text| text.strip_prefix(name)?.strip_prefix('=')).ok_or(Refused("malformed SCRAM message"))
}

/// A `saslname`: `=2C` is a comma, `=3D` an equals sign, and neither comes in other forms.
fn saslname(text: &str) -> Result<String, Refused> {
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return Err(Refused("malformed SCRAM name")),
        };
        name.push(sign);
        name.push_str(rest);
    }
    if name.is_empty() || name.contains('\0') { Err(Refused("malformed SCRAM name")) } else { Ok(name) }
}

fn text(message: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(message).map_err(|_| Refused("malformed SCRAM message"))
}

impl Challenge {
    /// Takes the client's first message; `keys` are those of a name. Returns the server's answer as well.
    pub(crate) fn new(
        first: &[u8],
        keys: impl FnOnce(&str) -> Result<Verifier, Refused>,
    ) -> Result<(Self, Vec<u8>), Refused> {
        let mut random = [0; 18];
        SystemRandom::new().fill(&mut random).map_err(|_| Refused("no random numbers"))?;
        Self::with_nonce(first, &BASE64.encode(random), keys)
    }

    fn with_nonce(
        first: &[u8],
        ours: &str,
        keys: impl FnOnce(&str) -> Result<Verifier, Refused>,
    ) -> Result<(Self, Vec<u8>), Refused> {
        let first = text(first)?;
        let mut header = first.splitn(3, ',');
        let (flag, authzid, bare) = (header.next(), header.next(), header.next().unwrap_or_default());
        // `y`: the client could bind the channel and was told that we cannot, which is so.
        if !matches!(flag, Some("n" | "y")) {
            return Err(Refused("channel binding is not offered"));
        }
        let mut parts = bare.split(',');
        let name = saslname(attribute(parts.next(), "n")?)?;
        let theirs = attribute(parts.next(), "r")?;
        if theirs.is_empty() || !theirs.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refused("malformed SCRAM nonce"));
        }
        let authzid = authzid.unwrap_or_default();
        if !authzid.is_empty() && saslname(attribute(Some(authzid), "a")?)? != name {
            return Err(Refused("nobody speaks for others here"));
        }
        let keys = keys(&name)?;
        let nonce = format!("{theirs}{ours}");
        let answer = format!("r={nonce},s={},i={}", BASE64.encode(&keys.salt), keys.iterations);
        let gs2_header = first[..first.len() - bare.len()].to_owned();
        let auth_message = format!("{bare},{answer},");
        Ok((Self { name, gs2_header, nonce, auth_message, keys }, answer.into_bytes()))
    }

    /// Takes the client's proof. Returns who it is, and our own proof that we know the user.
    pub(crate) fn prove(self, last: &[u8]) -> Result<(String, Vec<u8>), Refused> {
        let last = text(last)?;
        let (without_proof, proof) = last.rsplit_once(",p=").ok_or(Refused("malformed SCRAM message"))?;
        let mut parts = without_proof.split(',');
        if attribute(parts.next(), "c")? != BASE64.encode(&self.gs2_header) {
            return Err(Refused("the SCRAM header has been changed"));
        }
        if attribute(parts.next(), "r")? != self.nonce {
            return Err(Refused("the SCRAM nonce has been changed"));
        }
        let proof = BASE64.decode(proof).ok().and_then(|proof| Sum::try_from(proof).ok());
        let mut client_key = proof.ok_or(Refused("malformed SCRAM proof"))?;
        let auth_message = self.auth_message + without_proof;
        let signature = mac(&self.keys.stored_key, auth_message.as_bytes());
        client_key.iter_mut().zip(signature).for_each(|(byte, sign)| *byte ^= sign);
        if sum(&client_key) != self.keys.stored_key {
            return Err(Refused("no such user, or the wrong password"));
        }
        let ours = format!("v={}", BASE64.encode(mac(&self.keys.server_key, auth_message.as_bytes())));
        Ok((self.name, ours.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::verifier::tests::pencil;
    use super::*;

    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn challenge(first: &str) -> Result<(Challenge, Vec<u8>), Refused> {
        Challenge::with_nonce(first.as_bytes(), NONCE, |_| Ok(pencil()))
    }

    #[test]
    //= RFC 7677, section 3 (test)
    fn the_example_of_the_standard() {
        let (challenge, answer) = challenge(FIRST).unwrap();
        assert_eq!(
            String::from_utf8(answer).unwrap(),
            format!("r=rOprNGfwEbeRWgbNEkqO{NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
        );
        let (name, proof) = challenge.prove(LAST.as_bytes()).unwrap();
        assert_eq!(name, "user");
        assert_eq!(proof, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn any_change_of_a_message_is_refused() {
        for at in 0..LAST.len() {
            let mut last = LAST.as_bytes().to_vec();
            last[at] ^= 1;
            let (challenge, _) = challenge(FIRST).unwrap();
            assert!(challenge.prove(&last).is_err(), "{at}");
            let (challenge, _) = self::challenge(FIRST).unwrap();
            assert!(challenge.prove(&LAST.as_bytes()[..at]).is_err(), "cut at {at}");
        }
        for at in 0..FIRST.len() {
            let mut first = FIRST.as_bytes().to_vec();
            first[at] ^= 1;
            let begun = Challenge::with_nonce(&first, NONCE, |_| Ok(pencil()));
            assert!(begun.and_then(|(challenge, _)| challenge.prove(LAST.as_bytes())).is_err(), "{at}");
        }
    }

    #[test]
    fn first_messages_that_cannot_be_meant() {
        for first in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,,",
            "n,,n",
            "n,,n=",
            "n,,n=user",
            "n,,n=user,",
            "n,,n=user,r",
            "n,,n=user,r=",
            "n,a,n=user,r=x",
            "n,a=root,n=user,r=x",
            "p=tls-unique,,n=user,r=x",
            "n,,m=x,n=user,r=x",
            "n,,n==,r=x",
            "n,,n==2,r=x",
            "n,,n=a=2Cb=,r=x",
            "n,,n=\0,r=x",
            "n,,n=user,r=a b",
        ] {
            assert!(challenge(first).is_err(), "{first:?}");
        }
        assert!(Challenge::with_nonce(b"n,,n=\xff,r=x", NONCE, |_| Ok(pencil())).is_err());
        assert!(challenge("y,a=a=2Cb=3D,n=a=2Cb=3D,r=x,ext=1").is_ok_and(|(begun, _)| begun.name == "a,b="));
    }
}
