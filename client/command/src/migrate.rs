//! `virtwire migrate`: a guest goes to another host while it runs.

use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use virtwire_client::{Domain, DomainState, MigrateFlags, MigrateParameters};

use crate::copy;
use crate::failure::Failure;
use crate::guests;
use crate::hosts::Hosts;

/// Move a guest to another host while it runs
///
/// This command leads both daemons, which need not reach each other; their hypervisors must. Whatever fails, and with
/// Ctrl-C, the guest goes on where it was.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The guest by name, UUID or id
    guest: String,

    /// The daemon that it goes to
    #[arg(value_name = "URI")]
    to: String,

    /// Let the daemons do it between themselves: URI is the other one as this one reaches it
    #[arg(long)]
    peer_to_peer: bool,

    /// How the other hypervisor is reached, such as tcp:10.0.0.2 or unix:///run/socket
    #[arg(long, value_name = "URI")]
    via: Option<String>,

    /// Define it there, so that it is still known when it has ended
    #[arg(long)]
    persist: bool,

    /// Remove its definition here
    #[arg(long)]
    undefine: bool,

    /// Copy its disks as well
    #[arg(long)]
    copy_disks: bool,

    /// MiB per second of the network that it may take
    #[arg(long, value_name = "MIB")]
    bandwidth: Option<u64>,

    #[command(flatten)]
    hosts: Hosts,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let connect = options.hosts.only().await?;
    let domain = guests::find(&connect, &options.guest).await?;
    let (parameters, flags) = (options.parameters(), options.flags(&domain).await?);
    let bar = copy::bar(0, &options.guest);
    let moved = async {
        if options.peer_to_peer {
            return Ok(domain.migrate(&options.to, &parameters, flags).await?);
        }
        let target = options.hosts.open(&options.to).await?;
        domain.migrate_to(&target, &parameters, flags).await?;
        target.close().await?;
        Ok::<_, Failure>(())
    };
    tokio::pin!(moved);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio::select! {
        ended = &mut moved => ended,
        () = progress(&domain, &bar) => Ok(()),
        _ = interrupt.recv() => tokio::select! {
            // It may have come to its end all the same.
            ended = moved => ended.map_err(|_| Failure::Interrupted(format!("{} stays where it was", options.guest))),
            () = abort(&domain) => Ok(()),
        }
    };
    bar.finish_and_clear();
    ended?;
    if options.hosts.json {
        println!("{}", json!({"uri": connect.uri(), "guest": options.guest, "to": options.to}));
    } else {
        println!("{} runs at {}", options.guest, options.to);
    }
    Ok(connect.close().await?)
}

/// Ends the job, for ever: there may be none yet.
async fn abort(domain: &Domain) {
    let mut pause = tokio::time::interval(Duration::from_millis(100));
    loop {
        pause.tick().await;
        let _ = domain.abort_job().await;
    }
}

/// Shows how far it is, for ever.
async fn progress(domain: &Domain, bar: &ProgressBar) {
    let mut pause = tokio::time::interval(Duration::from_millis(250));
    loop {
        pause.tick().await;
        // There are no figures before something is sent.
        if let Ok(stats) = domain.job_stats(0).await
            && let (Some(total), Some(done)) = (stats.data_total, stats.data_processed)
        {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

impl Options {
    fn parameters(&self) -> MigrateParameters {
        let mut parameters = MigrateParameters::default();
        parameters.migrate_uri = self.via.clone();
        parameters.bandwidth = self.bandwidth;
        parameters
    }

    async fn flags(&self, domain: &Domain) -> Result<MigrateFlags, Failure> {
        let runs = !matches!(domain.state(0).await?.0, DomainState::ShutOff);
        // What does not run has only its definition to be moved.
        let mut flags =
            if runs { MigrateFlags::LIVE } else { MigrateFlags::OFFLINE | MigrateFlags::PERSIST_DEST };
        for (asked, flag) in [
            (self.persist, MigrateFlags::PERSIST_DEST),
            (self.undefine, MigrateFlags::UNDEFINE_SOURCE),
            (self.copy_disks, MigrateFlags::NON_SHARED_DISK),
        ] {
            flags.set(flag, asked || flags.contains(flag));
        }
        Ok(flags)
    }
}
