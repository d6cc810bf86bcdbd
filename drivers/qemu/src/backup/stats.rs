//! How far a backup is.

use virtwire_protocol::remote::{DomainGetJobInfoRet, TypedParam};
use virtwire_qmp::commands::QueryJobs;

use super::{Running, now};
use crate::blockjob::Kind;
use crate::error::{Result, monitor};
use crate::guest::Live;

/// `VIR_DOMAIN_JOB_…`: one whose end nobody can tell.
const UNBOUNDED: i32 = 2;
/// `VIR_DOMAIN_JOB_OPERATION_BACKUP`
const OPERATION: i32 = 9;

/// Bytes of a backup: of images to fill, or of those that only keep what the guest writes over meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) total: u64,
    pub(super) processed: u64,
}

impl Running {
    /// What there is to say of it; nobody may know the figures any more.
    pub(super) fn params(&self, figures: Option<Figures>) -> Vec<TypedParam> {
        let mut params = vec![
            TypedParam::new("operation", OPERATION),
            TypedParam::new("time_elapsed", now().saturating_sub(self.began)),
        ];
        let Some(Figures { total, processed }) = figures else { return params };
        let figures = match self.is_pull() {
            true => vec![("disk_temp_used", processed), ("disk_temp_total", total)],
            false => vec![
                ("disk_total", total),
                ("disk_processed", processed),
                ("disk_remaining", total.saturating_sub(processed)),
            ],
        };
        params.extend(figures.into_iter().map(|(name, figure)| TypedParam::new(name, figure)));
        params
    }
}

/// How far a backup is now.
async fn figures(live: &Live, running: &Running) -> Result<Figures> {
    let told = live.monitor.execute(&QueryJobs {}).await.map_err(monitor)?;
    let (mut total, mut processed) = running.ended;
    for job in live.block_jobs.iter().filter(|job| job.kind == Kind::Backup) {
        let Some(told) = told.iter().find(|told| told.id == job.name) else { continue };
        total += told.total_progress.unwrap_or_default();
        processed += told.current_progress.unwrap_or_default();
    }
    Ok(Figures { total, processed })
}

/// `virDomainGetJobStats` of a guest's backup, if there is one.
pub(crate) async fn params(live: &Live) -> Result<Option<(i32, Vec<TypedParam>)>> {
    let Some(running) = &live.backup else { return Ok(None) };
    Ok(Some((UNBOUNDED, running.params(Some(figures(live, running).await?)))))
}

/// `virDomainGetJobInfo` of a guest's backup, if there is one.
pub(crate) async fn info(live: &Live) -> Result<Option<DomainGetJobInfoRet>> {
    let Some(running) = &live.backup else { return Ok(None) };
    let figures = match running.is_pull() {
        true => Figures::default(),
        false => figures(live, running).await?,
    };
    let remaining = figures.total.saturating_sub(figures.processed);
    Ok(Some(DomainGetJobInfoRet {
        r#type: UNBOUNDED,
        time_elapsed: now().saturating_sub(running.began),
        file_total: figures.total,
        file_processed: figures.processed,
        file_remaining: remaining,
        data_total: figures.total,
        data_processed: figures.processed,
        data_remaining: remaining,
        ..DomainGetJobInfoRet::default()
    }))
}
