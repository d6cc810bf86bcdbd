//! The login procedures of a connection.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use virtwire_driver_api::Peer;
use virtwire_protocol::XdrString;
use virtwire_protocol::error::{ErrorDomain, VirtError};

use super::Refused;
use super::polkit::{self, Authority, Question};
use super::sasl::{Exchange, Sasl, Step};
use crate::access::Identity;
use crate::config::Auth;
use crate::session::{Phase, Session};

/// How far a client has come with its login.
#[derive(Default)]
pub(crate) struct Login {
    exchange: Mutex<Option<Exchange>>,
    name: OnceLock<String>,
    started: OnceLock<Option<u64>>,
    stated: OnceLock<Identity>,
}

/// A message of SASL: whether it is the last, and its data.
pub(crate) struct Message {
    pub(crate) complete: bool,
    pub(crate) data: Option<Vec<u8>>,
}

impl Login {
    /// The name that the client has proved to have.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.get().map(String::as_str)
    }

    /// When the client's process was started, as it was when this was asked first.
    pub(crate) fn started(&self, peer: Peer) -> Option<u64> {
        *self.started.get_or_init(|| polkit::start_time(peer.pid))
    }

    /// Whom the client speaks for.
    pub(crate) fn stated(&self) -> Option<&Identity> {
        self.stated.get()
    }

    /// The client speaks for somebody from now on. `false` if it does already.
    pub(crate) fn state(&self, who: Identity) -> bool {
        self.stated.set(who).is_ok()
    }

    fn put(&self, exchange: Option<Exchange>) -> Option<Exchange> {
        std::mem::replace(&mut self.exchange.lock().unwrap_or_else(PoisonError::into_inner), exchange)
    }
}

impl Session {
    /// Whether this client has to authenticate: root need not ask the host's policy.
    pub(crate) fn needs_login(&self) -> bool {
        match self.auth() {
            Auth::None => false,
            Auth::Sasl => true,
            Auth::Polkit => self.peer.is_none_or(|peer| peer.uid != 0),
        }
    }

    /// Asks the host's policy.
    pub(crate) async fn polkit(&self) -> Result<(), VirtError> {
        let peer = match self.peer {
            Some(peer) if self.auth() == Auth::Polkit && !self.is_authenticated() => peer,
            _ => return Err(self.refuse(Refused("polkit is not the way to authenticate now"))),
        };
        let action = polkit::action(self.access());
        let asked = async {
            let started = self.login.started(peer);
            let started =
                started.ok_or_else(|| ErrorDomain::POLKIT.auth_failed("the client's process has ended"))?;
            let patience = self.limits().auth_timeout;
            let question =
                Question { peer, started, action, details: HashMap::new(), interactive: true, patience };
            Authority::default().check(question).await
        };
        match asked.await {
            Ok(()) => {
                tracing::info!(client = self.id, pid = peer.pid, uid = peer.uid, action, "let in by polkit");
                self.authenticated(None);
                Ok(())
            }
            Err(error) => {
                let reason = error.message.as_str();
                tracing::warn!(
                    client = self.id,
                    pid = peer.pid,
                    uid = peer.uid,
                    action,
                    reason,
                    "not let in by polkit"
                );
                self.turn_away();
                Err(error)
            }
        }
    }

    /// Begins a login: the mechanisms to choose from.
    pub(crate) fn sasl_init(&self) -> Result<String, VirtError> {
        let offer = if self.auth() != Auth::Sasl || self.is_authenticated() {
            Err(Refused("SASL is not the way to authenticate now"))
        } else if self.login.put(Some(Exchange::Offered)).is_some() {
            Err(Refused("a SASL login has begun already"))
        } else {
            self.service.sasl.offer(self.socket())
        };
        offer.map_err(|refused| self.refuse(refused))
    }

    /// The client's first message.
    pub(crate) async fn sasl_start(
        &self,
        mechanism: XdrString,
        data: Option<Vec<u8>>,
    ) -> Result<Message, VirtError> {
        self.sasl(move |sasl, session, exchange| match exchange {
            Exchange::Offered => sasl.start(session.socket(), &mechanism.to_str_lossy(), data.as_deref()),
            _ => Err(Refused("a SASL login has begun already")),
        })
        .await
    }

    /// The client's next message.
    pub(crate) async fn sasl_step(&self, data: Option<Vec<u8>>) -> Result<Message, VirtError> {
        self.sasl(move |sasl, _, exchange| sasl.step(exchange, data.as_deref())).await
    }

    /// One message in, one out. Passwords cost time, and it is not the other clients' time.
    async fn sasl(
        &self,
        step: impl FnOnce(&Sasl, &Self, Exchange) -> Result<Step, Refused> + Send + 'static,
    ) -> Result<Message, VirtError> {
        let (exchange, me) = (self.login.put(None), self.me.upgrade());
        let (Some(exchange), Some(me)) = (exchange, me) else {
            return Err(self.refuse(Refused("no SASL login has begun")));
        };
        let done = tokio::task::spawn_blocking(move || step(&me.service.sasl, &me, exchange)).await;
        match done.unwrap_or(Err(Refused("the login failed in an unforeseen way"))) {
            Ok(Step::Goes(exchange, data)) => {
                self.login.put(Some(exchange));
                Ok(Message { complete: false, data: Some(data) })
            }
            Ok(Step::Done { name, data, seal }) => {
                tracing::info!(client = self.id, name, encrypted = seal.is_some(), "logged in");
                let _ = self.login.name.set(name);
                self.authenticated(seal);
                Ok(Message { complete: true, data })
            }
            Err(refused) => Err(self.refuse(refused)),
        }
    }

    /// The client gets libvirt's one text, whatever the reason, and the connection ends: a guess costs a connection.
    fn refuse(&self, Refused(reason): Refused) -> VirtError {
        let address = self.socket().address();
        tracing::warn!(client = self.id, ?address, reason, "authentication failed");
        self.turn_away();
        ErrorDomain::RPC.auth_failed("authentication failed")
    }

    /// Nothing more is read from a client that has not been let in. Who is in stays so.
    fn turn_away(&self) {
        if let Some(metrics) = &self.service.metrics {
            metrics.refused();
        }
        let mut phase = self.phase();
        if matches!(*phase, Phase::Greeting) {
            *phase = Phase::Closed;
        }
    }
}
