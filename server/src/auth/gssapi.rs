//! The server's side of GSSAPI with Kerberos (RFC 4752). The keys are those of the host's `krb5.tab`: where they are, the
//! environment says (`KRB5_KTNAME`).

use std::io;

use libgssapi::context::{SecurityContext, ServerCtx};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, OidSet};
use virtwire_socket::{PACKET_MAX, Seal};

use super::Refused;

/// The principals that clients of libvirt ask for are `libvirt/HOST`.
const SERVICE: &[u8] = b"libvirt/";

//= RFC 4752, section 3.3
//# 1 No security layer
//# 2 Integrity protection.
//# 4 Confidentiality protection.
const NO_LAYER: u8 = 1;
const ENCRYPTED: u8 = 4;

/// What encryption adds to a packet at most: header, confounder, checksum and padding of any of Kerberos' types.
const OVERHEAD: usize = 128;

/// A login on its way.
pub(crate) struct Login {
    context: ServerCtx,
    /// The layer that there must be: [`NO_LAYER`] where the transport has its own.
    layer: u8,
    offered: bool,
}

/// What comes next of it.
pub(crate) enum Next {
    /// The client must answer this.
    Goes(Login, Vec<u8>),
    /// It is this principal, and this encrypts.
    Done(String, Option<Box<dyn Seal>>),
}

fn refused(error: impl std::fmt::Display, reason: &'static str) -> Refused {
    tracing::debug!(%error, "GSSAPI");
    Refused(reason)
}

impl Login {
    /// Takes the client's first message. `encrypts` is whether what follows the login must be encrypted.
    pub(crate) fn start(first: &[u8], encrypts: bool) -> Result<Next, Refused> {
        let keys = || {
            let mut kerberos = OidSet::new();
            kerberos.add(GSS_MECH_KRB5)?;
            Cred::acquire(None, None, CredUsage::Accept, Some(&kerberos))
        };
        let keys = keys().map_err(|error| {
            tracing::error!(%error, "no keys for GSSAPI; KRB5_KTNAME says where they are looked for");
            Refused("there are no keys for GSSAPI")
        })?;
        let layer = if encrypts { ENCRYPTED } else { NO_LAYER };
        Self { context: ServerCtx::new(Some(keys)), layer, offered: false }.step(first)
    }

    /// Takes the client's next message.
    pub(crate) fn step(mut self, message: &[u8]) -> Result<Next, Refused> {
        if self.offered {
            return self.chosen(message);
        }
        if !self.context.is_complete() {
            let token = self.context.step(message, None);
            let token = token.map_err(|error| refused(error, "no ticket, or one that is not good"))?;
            if let Some(token) = token {
                return Ok(Next::Goes(self, token.to_vec()));
            }
        }
        let service = self.context.target_name().and_then(|name| name.display_name());
        if !service.is_ok_and(|name| name.starts_with(SERVICE)) {
            return Err(Refused("the ticket is for another service"));
        }
        self.offer()
    }

    //= RFC 4752, section 3.2
    //# the first octet containing a bit-mask specifying the security layers supported by the server, and the second
    //# through fourth octets containing the maximum size output_message the server is able to receive
    fn offer(mut self) -> Result<Next, Refused> {
        let most = if self.layer == NO_LAYER { 0 } else { PACKET_MAX as u32 };
        let [_, high, middle, low] = most.to_be_bytes();
        let offer = self.context.wrap(false, &[self.layer, high, middle, low]);
        let offer = offer.map_err(|error| refused(error, "the layers cannot be offered"))?;
        self.offered = true;
        Ok(Next::Goes(self, offer.to_vec()))
    }

    /// The layer that the client has chosen, what it takes at once, and whom it wants to be.
    fn chosen(mut self, message: &[u8]) -> Result<Next, Refused> {
        let chosen = self.context.unwrap(message);
        let chosen = chosen.map_err(|error| refused(error, "malformed GSSAPI message"))?;
        let [layer, high, middle, low, authzid @ ..] = &chosen[..] else {
            return Err(Refused("malformed GSSAPI message"));
        };
        if *layer != self.layer {
            return Err(Refused("the layer that the client has chosen was not offered"));
        }
        let client = self.context.source_name().map_err(|error| refused(error, "a client without a name"))?;
        if !authzid.is_empty() && !same(&client, authzid) {
            return Err(Refused("nobody speaks for others here"));
        }
        let name = shown(&client).ok_or(Refused("a client without a name"))?;
        let most = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        if *layer == NO_LAYER {
            return Ok(Next::Done(name, None));
        }
        let most = most.min(PACKET_MAX).checked_sub(OVERHEAD).filter(|most| *most > 0);
        let most = most.ok_or(Refused("the client takes no packets"))?;
        Ok(Next::Done(name, Some(Box::new(Sealed { context: self.context, most }))))
    }
}

/// The principal's name as Cyrus' library gives it to libvirtd: without the realm where that is the host's own.
fn shown(client: &Name) -> Option<String> {
    let full = String::from_utf8(client.display_name().ok()?.to_vec()).ok()?;
    let short = full.rsplit_once('@').map(|(short, _)| short).filter(|short| same(client, short.as_bytes()));
    Some(short.map_or(full.clone(), str::to_owned))
}

/// Whether a name, with its realm or without the host's own, is this principal's.
fn same(client: &Name, name: &[u8]) -> bool {
    let of = |name: &Name| name.canonicalize(Some(GSS_MECH_KRB5)).and_then(|name| name.export());
    let name = Name::new(name, None).and_then(|name| of(&name));
    name.is_ok_and(|name| of(client).is_ok_and(|client| *client == *name))
}

/// What encrypts behind a login.
struct Sealed {
    context: ServerCtx,
    most: usize,
}

impl Seal for Sealed {
    fn most(&self) -> usize {
        self.most
    }

    fn seal(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        self.context.wrap(true, plain).map(|sealed| sealed.to_vec()).map_err(io::Error::other)
    }

    fn open(&mut self, sealed: &[u8]) -> io::Result<Vec<u8>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        self.context.unwrap(sealed).map(|plain| plain.to_vec()).map_err(invalid)
    }
}
