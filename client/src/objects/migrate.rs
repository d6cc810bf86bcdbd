//! Migration, by the daemons between themselves or managed from here.

use std::time::Duration;

use tokio::sync::oneshot;
use virtwire_protocol::remote::*;

use super::table::{object, text};
use super::{Connect, Domain, MigrateFlags, MigrateParameters};
use crate::{Connection, Error};

/// `VIR_DRV_FEATURE_…`: what a daemon is asked before.
mod feature {
    pub(super) const CHANGE_PROTECTION: i32 = 7;
    pub(super) const OFFLINE: i32 = 12;
    pub(super) const PARAMS: i32 = 13;
}

/// The parameter that has a guest's name on the other host.
const NAME: &str = "destination_name";
/// Sending a guest takes as long as its memory is large, and the deadline of other calls is not its own.
const FOR_EVER: Duration = Duration::MAX;

impl Domain {
    /// Migrates it: the daemons do it between themselves (`MIGRATE_PEER2PEER`), and `to` is the other's URI as this
    /// daemon reaches it. Returns when the guest runs there.
    ///
    /// # Errors
    /// The daemon refuses, or the migration fails; then the guest goes on here.
    pub async fn migrate(
        &self,
        to: &str,
        parameters: &MigrateParameters,
        flags: MigrateFlags,
    ) -> Result<(), Error> {
        let args = DomainMigratePerform3ParamsArgs {
            dom: self.raw().clone(),
            dconnuri: Some(to.into()),
            params: parameters.write(),
            cookie_in: Vec::new(),
            flags: (flags | MigrateFlags::PEER2PEER).bits(),
        };
        self.connection().domain_migrate_perform3_params(&args).within(FOR_EVER).await.map(drop)
    }

    /// Migrates it to the daemon of another connection, managed from here: the daemons need not reach each other, only
    /// their hypervisors. Returns the guest as it is there.
    ///
    /// Whatever step fails, both daemons are told, so that the guest goes on here and leaves nothing behind there.
    /// Dropping the call does the same, in a task of its own. [`job_stats`](Self::job_stats) shows how far it is.
    ///
    /// # Errors
    /// The first step that fails; [`Error::Unsupported`] where a daemon cannot be managed so.
    pub async fn migrate_to(
        &self,
        to: &Connect,
        parameters: &MigrateParameters,
        flags: MigrateFlags,
    ) -> Result<Self, Error> {
        if flags.intersects(MigrateFlags::PEER2PEER | MigrateFlags::TUNNELLED) {
            return Err(Error::Unsupported("a tunnel, or peers, in a migration that is managed from here"));
        }
        let (source, target) = (self.connection().clone(), to.connection().clone());
        for connection in [&source, &target] {
            if !connection.supports_feature(feature::PARAMS).await? {
                return Err(Error::Unsupported("migration with parameters"));
            }
        }
        if flags.contains(MigrateFlags::OFFLINE) && !target.supports_feature(feature::OFFLINE).await? {
            return Err(Error::Unsupported("migration of a guest that does not run"));
        }
        let mut at_source = flags.bits();
        if source.supports_feature(feature::CHANGE_PROTECTION).await? {
            at_source |= MigrateFlags::CHANGE_PROTECTION.bits();
        }
        let course = Course {
            dom: self.raw().clone(),
            source,
            target,
            params: parameters.write(),
            at_source,
            at_target: (flags - MigrateFlags::ABORT_ON_ERROR - MigrateFlags::AUTO_CONVERGE).bits(),
            offline: flags.contains(MigrateFlags::OFFLINE),
        };
        // It must come to its end, whatever becomes of the caller: half of a migration is a lost guest.
        let (caller, gone) = oneshot::channel();
        let result = tokio::spawn(course.run(gone)).await;
        drop::<oneshot::Sender<()>>(caller);
        result.unwrap_or(Err(Error::Closed))
    }
}

/// A migration in five steps: begin here, prepare there, perform here, finish there, confirm here. Each hands the next
/// a cookie, which goes to the other daemon unread.
struct Course {
    dom: NonnullDomain,
    source: Connection,
    target: Connection,
    params: Vec<TypedParam>,
    at_source: u32,
    at_target: u32,
    offline: bool,
}

impl Course {
    async fn run(mut self, caller: oneshot::Receiver<()>) -> Result<Domain, Error> {
        let begin = DomainMigrateBegin3ParamsArgs {
            dom: self.dom.clone(),
            params: self.params.clone(),
            flags: self.at_source,
        };
        let begun = self.source.domain_migrate_begin3_params(&begin).await?;
        self.set("destination_xml", &text(&begun.xml));
        let prepare = DomainMigratePrepare3ParamsArgs {
            params: self.params.clone(),
            cookie_in: begun.cookie_out,
            flags: self.at_target,
        };
        let prepared = match self.target.domain_migrate_prepare3_params(&prepare).await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.confirm(Vec::new(), true).await;
                return Err(error);
            }
        };
        if let Some(uri) = &prepared.uri_out {
            self.set("migrate_uri", &text(uri));
        }
        let performed =
            if self.offline { Ok(Vec::new()) } else { self.perform(prepared.cookie_out, caller).await };
        let (cookie, failed) = match performed {
            Ok(cookie) => (cookie, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        // From here on the guest goes by its name there.
        if !self.params.iter().any(|param| param.field == NAME) {
            let name = text(&self.dom.name);
            self.set(NAME, &name);
        }
        let finish = DomainMigrateFinish3ParamsArgs {
            params: self.params.clone(),
            cookie_in: cookie,
            flags: self.at_target,
            cancelled: failed.is_some().into(),
        };
        let finished = self.target.domain_migrate_finish3_params(&finish).await;
        match (failed, finished) {
            (None, Ok(finished)) => {
                self.confirm(finished.cookie_out, false).await;
                Ok(object(&self.target, finished.dom))
            }
            // The first of the errors is the one that tells what happened.
            (Some(error), _) | (None, Err(error)) => {
                self.confirm(Vec::new(), true).await;
                Err(error)
            }
        }
    }

    /// Sends the guest over. Given up where the caller has gone.
    async fn perform(&self, cookie_in: Vec<u8>, mut caller: oneshot::Receiver<()>) -> Result<Vec<u8>, Error> {
        let args = DomainMigratePerform3ParamsArgs {
            dom: self.dom.clone(),
            dconnuri: None,
            params: self.params.clone(),
            cookie_in,
            flags: self.at_source,
        };
        let performing = self.source.domain_migrate_perform3_params(&args).within(FOR_EVER);
        tokio::pin!(performing);
        let performed = tokio::select! {
            performed = &mut performing => performed,
            _ = &mut caller => {
                self.abort().await;
                performing.await
            }
        };
        performed.map(|performed| performed.cookie_out)
    }

    /// Ends the job of a guest that is being sent; the daemon then answers the call that sends it.
    async fn abort(&self) {
        // There may be no job yet, or none any more.
        let _ = self.source.domain_abort_job(&DomainAbortJobArgs { dom: self.dom.clone() }).await;
    }

    /// Tells the source how it ended: it forgets the guest, or lets it go on.
    async fn confirm(&self, cookie_in: Vec<u8>, cancelled: bool) {
        let args = DomainMigrateConfirm3ParamsArgs {
            dom: self.dom.clone(),
            params: self.params.clone(),
            cookie_in,
            flags: self.at_source,
            cancelled: cancelled.into(),
        };
        // The guest is where it is, whatever the source makes of it.
        let _ = self.source.domain_migrate_confirm3_params(&args).await;
    }

    fn set(&mut self, name: &str, value: &str) {
        self.params.retain(|param| param.field != name);
        self.params.push(TypedParam { field: name.into(), value: value.into() });
    }
}
