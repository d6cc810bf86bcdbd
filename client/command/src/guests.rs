//! Guests by their names, and what is done to them: start, stop and the rest.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use virtwire_client::protocol::error::ErrorCode;
use virtwire_client::{
    Connect, Domain, DomainCreateFlags, DomainDestroyFlags, DomainShutdownFlags, DomainUndefineFlags, Error,
    Lifecycle,
};

use crate::failure::Failure;
use crate::hosts::Hosts;

/// The guests that a command is for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Guests by name, UUID or id
    #[arg(required = true, value_name = "GUEST")]
    guests: Vec<String>,

    /// Wait until it is done, so many seconds at most
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60")]
    wait: Option<u64>,

    #[command(flatten)]
    hosts: Hosts,
}

/// Guests that are started.
#[derive(Args, Clone, Debug)]
pub(crate) struct Start {
    /// Before their first instruction they wait for `virtwire resume`
    #[arg(short, long)]
    paused: bool,

    #[command(flatten)]
    pub(crate) options: Options,
}

impl Start {
    pub(crate) fn action(&self) -> Action {
        if self.paused { Action::StartPaused } else { Action::Start }
    }
}

/// What is done to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    StartPaused,
    Stop,
    Reboot,
    Reset,
    Suspend,
    Resume,
    Destroy,
    Undefine,
}

impl Action {
    /// What has been done, and the event that says so where the call alone does not.
    fn outcome(self) -> (&'static str, Option<Lifecycle>) {
        match self {
            Self::Start => ("started", None),
            Self::StartPaused => ("started, paused", None),
            Self::Stop => ("is asked to shut down", Some(Lifecycle::Stopped)),
            Self::Reboot => ("is asked to boot again", None),
            Self::Reset => ("reset", None),
            Self::Suspend => ("paused", None),
            Self::Resume => ("goes on", None),
            Self::Destroy => ("ended", None),
            Self::Undefine => ("undefined", None),
        }
    }

    async fn on(self, domain: &Domain) -> Result<(), Error> {
        match self {
            Self::Start => domain.start(DomainCreateFlags::empty()).await,
            Self::StartPaused => domain.start(DomainCreateFlags::PAUSED).await,
            Self::Stop => domain.shutdown(DomainShutdownFlags::empty()).await,
            Self::Reboot => domain.reboot(DomainShutdownFlags::empty()).await,
            Self::Reset => domain.reset(0).await,
            Self::Suspend => domain.suspend().await,
            Self::Resume => domain.resume().await,
            Self::Destroy => domain.destroy(DomainDestroyFlags::empty()).await,
            Self::Undefine => domain.undefine(DomainUndefineFlags::empty()).await,
        }
    }
}

pub(crate) async fn run(action: Action, options: Options) -> Result<(), Failure> {
    let Options { guests, wait, hosts } = options;
    let many = hosts.are_many();
    let work = move |connect: Connect| {
        let guests = guests.clone();
        async move {
            let mut done = Vec::new();
            for name in guests {
                let domain = find(&connect, &name).await?;
                done.push((name, act(action, &domain, wait).await?));
            }
            Ok(done)
        }
    };
    let json = hosts.json;
    hosts
        .each(work, |uri, done| {
            for (name, outcome) in done {
                if json {
                    println!("{}", json!({"uri": uri, "guest": name, "outcome": outcome}));
                } else if many {
                    println!("{uri}: {name} {outcome}");
                } else {
                    println!("{name} {outcome}");
                }
            }
        })
        .await
}

async fn act(action: Action, domain: &Domain, wait: Option<u64>) -> Result<&'static str, Failure> {
    let (outcome, last) = action.outcome();
    let (Some(seconds), Some(last)) = (wait, last) else {
        action.on(domain).await?;
        return Ok(outcome);
    };
    // Registered before the call, so that its event cannot be missed.
    let mut events = domain.lifecycle_events().await?;
    action.on(domain).await?;
    let stopped = async {
        while let Some(event) = events.next().await {
            if event.what == last {
                return Ok("shut off");
            }
        }
        Err(domain.connection().closed().await.into())
    };
    let time = Duration::from_secs(seconds);
    tokio::time::timeout(time, stopped).await.unwrap_or(Err(Error::Deadline(time).into()))
}

/// The guest of this name, UUID or id.
pub(crate) async fn find(connect: &Connect, name: &str) -> Result<Domain, Failure> {
    let unknown = |error: &Error| error.remote().is_some_and(|error| error.code == ErrorCode::NO_DOMAIN);
    let error = match connect.domain_by_name(name).await {
        Ok(domain) => return Ok(domain),
        Err(error) if unknown(&error) => error,
        Err(error) => return Err(error.into()),
    };
    if let Ok(uuid) = name.parse() {
        return Ok(connect.domain_by_uuid(uuid).await?);
    }
    match name.parse() {
        Ok(id) => Ok(connect.domain_by_id(id).await?),
        Err(_) => Err(error.into()),
    }
}
