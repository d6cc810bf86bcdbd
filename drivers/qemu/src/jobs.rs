//! What a guest's migrations are to be like, what its jobs are, and how fast it writes to its memory.

use serde_json::{Map, Value, json};
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::backup;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, bad_flags, check_flags, monitor};
use crate::guest::Live;
use crate::migration;

/// `VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY`
const POSTCOPY: u32 = 1;
/// MiB per second that QEMU is not kept from, unless somebody says otherwise.
pub(crate) const NO_LIMIT: u64 = i64::MAX as u64 / (1 << 20);

/// One of QEMU's parameters of migration.
async fn parameter(live: &Live, name: &str) -> Result<u64> {
    let all = live.monitor.execute_raw("query-migrate-parameters", &Map::new()).await.map_err(monitor)?;
    let all: Value = serde_json::from_str(all.get()).map_err(|error| QEMU.internal_error(error))?;
    Ok(all[name].as_u64().unwrap_or_default())
}

async fn set_parameter(live: &Live, name: &str, value: u64) -> Result<()> {
    let arguments = Map::from_iter([(name.to_owned(), value.into())]);
    live.monitor.execute_raw("migrate-set-parameters", &arguments).await.map_err(monitor)?;
    Ok(())
}

pub(crate) async fn set_max_speed(driver: &Qemu, args: DomainMigrateSetMaxSpeedArgs) -> Result<()> {
    check_flags(args.flags, POSTCOPY, "qemuDomainMigrateSetMaxSpeed")?;
    let guest = driver.guest(&args.dom)?;
    if args.bandwidth > NO_LIMIT {
        let text = format_args!("bandwidth must be less than {}", NO_LIMIT + 1);
        return Err(QEMU.overflow(text));
    }
    let _turn = guest.turn_aside().await?;
    let live = guest.lock().live.clone();
    if args.flags & POSTCOPY != 0 {
        return set_parameter(&guest.live()?, "max-postcopy-bandwidth", args.bandwidth << 20).await;
    }
    if let Some(live) = live {
        set_parameter(&live, "max-bandwidth", args.bandwidth << 20).await?;
    }
    guest.lock().migration_speed = Some(args.bandwidth);
    Ok(())
}

pub(crate) async fn max_speed(
    driver: &Qemu,
    args: DomainMigrateGetMaxSpeedArgs,
) -> Result<DomainMigrateGetMaxSpeedRet> {
    check_flags(args.flags, POSTCOPY, "qemuDomainMigrateGetMaxSpeed")?;
    let guest = driver.guest(&args.dom)?;
    let bandwidth = match args.flags & POSTCOPY {
        0 => guest.lock().migration_speed.unwrap_or(NO_LIMIT),
        _ => parameter(&guest.live()?, "max-postcopy-bandwidth").await? >> 20,
    };
    Ok(DomainMigrateGetMaxSpeedRet { bandwidth })
}

pub(crate) async fn set_max_downtime(driver: &Qemu, args: DomainMigrateSetMaxDowntimeArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainMigrateSetMaxDowntime")?;
    set_parameter(&driver.guest(&args.dom)?.live()?, "downtime-limit", args.downtime).await
}

pub(crate) async fn max_downtime(
    driver: &Qemu,
    args: DomainMigrateGetMaxDowntimeArgs,
) -> Result<DomainMigrateGetMaxDowntimeRet> {
    check_flags(args.flags, 0, "qemuDomainMigrateGetMaxDowntime")?;
    let downtime = parameter(&driver.guest(&args.dom)?.live()?, "downtime-limit").await?;
    Ok(DomainMigrateGetMaxDowntimeRet { downtime })
}

pub(crate) async fn set_cache(driver: &Qemu, args: DomainMigrateSetCompressionCacheArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainMigrateSetCompressionCache")?;
    set_parameter(&driver.guest(&args.dom)?.live()?, "xbzrle-cache-size", args.cache_size).await
}

pub(crate) async fn cache(
    driver: &Qemu,
    args: DomainMigrateGetCompressionCacheArgs,
) -> Result<DomainMigrateGetCompressionCacheRet> {
    check_flags(args.flags, 0, "qemuDomainMigrateGetCompressionCache")?;
    let cache_size = parameter(&driver.guest(&args.dom)?.live()?, "xbzrle-cache-size").await?;
    Ok(DomainMigrateGetCompressionCacheRet { cache_size })
}

pub(crate) async fn start_post_copy(driver: &Qemu, args: DomainMigrateStartPostCopyArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainMigrateStartPostCopy")?;
    migration::post_copy(&*driver.guest(&args.dom)?).await
}

/// `VIR_DOMAIN_JOB_STATS_…`
const COMPLETED: u32 = 1;
const KEEP_COMPLETED: u32 = 2;

pub(crate) async fn stats(driver: &Qemu, args: DomainGetJobStatsArgs) -> Result<DomainGetJobStatsRet> {
    check_flags(args.flags, COMPLETED | KEEP_COMPLETED, "qemuDomainGetJobStats")?;
    let guest = driver.guest(&args.dom)?;
    if args.flags & COMPLETED != 0 {
        let mut inner = guest.lock();
        let keep = args.flags & KEEP_COMPLETED != 0;
        let told = if keep { inner.completed.clone() } else { inner.completed.take() };
        let (r#type, params) = told.unwrap_or_default();
        return Ok(DomainGetJobStatsRet { r#type, params });
    }
    match backup::params(&guest.live()?).await? {
        Some((r#type, params)) => Ok(DomainGetJobStatsRet { r#type, params }),
        None => migration::statistics(&guest).await,
    }
}

pub(crate) async fn abort_job(driver: &Qemu, args: DomainAbortJobArgs) -> Result<()> {
    abort(driver, DomainAbortJobFlagsArgs { dom: args.dom, flags: 0 }).await
}

/// `VIR_DOMAIN_ABORT_JOB_POSTCOPY`
const ABORT_POSTCOPY: u32 = 1;

pub(crate) async fn abort(driver: &Qemu, args: DomainAbortJobFlagsArgs) -> Result<()> {
    check_flags(args.flags, ABORT_POSTCOPY, "qemuDomainAbortJobFlags")?;
    let guest = driver.guest(&args.dom)?;
    let live = guest.live()?;
    if args.flags & ABORT_POSTCOPY != 0 {
        return migration::pause(&guest).await;
    }
    match live.backup {
        Some(_) => backup::abort(driver, &guest).await,
        None => migration::abort(&guest).await,
    }
}

/// `VIR_DOMAIN_DIRTYRATE_MODE_…`: by a bitmap, by the processors' rings; by samples where neither is said.
const BITMAP: u32 = 1;
const RING: u32 = 2;
/// Seconds that a measurement may take.
const LONGEST: i32 = 60;

pub(crate) async fn start_dirty_rate(driver: &Qemu, args: DomainStartDirtyRateCalcArgs) -> Result<()> {
    check_flags(args.flags, BITMAP | RING, "qemuDomainStartDirtyRateCalc")?;
    let seconds = args.seconds;
    if !(1..=LONGEST).contains(&seconds) {
        let text = format_args!("seconds={seconds} is invalid, please choose value within [1, {LONGEST}].");
        return Err(QEMU.config_unsupported(text));
    }
    if args.flags == BITMAP | RING {
        let text = "Flags 'VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_BITMAP' and 'VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_RING' \
                    are mutually exclusive";
        return Err(bad_flags(ErrorDomain::QEMU, "qemuDomainStartDirtyRateCalc", text));
    }
    let guest = driver.guest(&args.dom)?;
    let live = guest.live()?;
    if args.flags & RING != 0 {
        let text = "dirty-ring calculation mode requires dirty-ring feature enabled.";
        return Err(QEMU.operation_unsupported(text));
    }
    let mode = if args.flags & BITMAP != 0 { "dirty-bitmap" } else { "page-sampling" };
    let arguments = json!({"calc-time": seconds, "mode": mode});
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    live.monitor.execute_raw("calc-dirty-rate", &arguments).await.map_err(monitor)?;
    Ok(())
}

/// How fast a guest writes to its memory, as far as that has been measured.
pub(crate) async fn dirty_rate(live: &Live) -> Vec<TypedParam> {
    let Ok(said) = live.monitor.execute_raw("query-dirty-rate", &Map::new()).await else { return Vec::new() };
    let Ok(said) = serde_json::from_str::<Value>(said.get()) else { return Vec::new() };
    let words = ["unstarted", "measuring", "measured"];
    let status = words.iter().position(|word| said["status"] == *word).unwrap_or_default();
    let mut params = vec![
        TypedParam::new("dirtyrate.calc_status", status as i32),
        TypedParam::new("dirtyrate.calc_start_time", said["start-time"].as_i64().unwrap_or_default()),
        TypedParam::new("dirtyrate.calc_period", said["calc-time"].as_i64().unwrap_or_default() as i32),
    ];
    if let Some(rate) = said["dirty-rate"].as_i64() {
        params.push(TypedParam::new("dirtyrate.megabytes_per_second", rate));
    }
    params.push(TypedParam::new("dirtyrate.calc_mode", said["mode"].as_str().unwrap_or("page-sampling")));
    params
}
