//! Guests that go from one driver to another, each with a host of its own, step by step as a client asks.

mod peers;

use uuid::Uuid;
use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::VirtError;
use virtwire_protocol::remote::*;

use crate::host::Host;
use crate::lives::daemon;
use crate::qemu;

/// `VIR_MIGRATE_…`
const LIVE: u32 = 1;
const PERSIST_DEST: u32 = 8;
const UNDEFINE_SOURCE: u32 = 16;
const PAUSED: u32 = 32;
const NON_SHARED_DISK: u32 = 64;
const CHANGE_PROTECTION: u32 = 256;
const OFFLINE: u32 = 1024;
/// What the client's library adds at the source.
const AT_SOURCE: u32 = CHANGE_PROTECTION;

/// A guest's life in events: `virDomainEventType` and its details.
const DEFINED: (i32, i32) = (0, 0);
const STARTED: (i32, i32) = (2, 0);
const STARTED_MIGRATED: (i32, i32) = (2, 1);
const SUSPENDED_PAUSED: (i32, i32) = (3, 0);
const SUSPENDED_MIGRATED: (i32, i32) = (3, 1);
const RESUMED: (i32, i32) = (4, 0);
const RESUMED_MIGRATED: (i32, i32) = (4, 1);
const STOPPED_MIGRATED: (i32, i32) = (5, 3);
const STOPPED_FAILED: (i32, i32) = (5, 5);

const SHUTDOWN: (i32, i32) = (6, 2);

const RUNNING_MIGRATED: (i32, i32) = (1, 2);

/// Two hosts and the steps between them.
struct Pair {
    source: Host,
    target: Host,
    cx: CallCx,
    params: Vec<TypedParam>,
}

/// What the first step says.
struct Begun {
    cookie: Vec<u8>,
    xml: String,
}

impl Pair {
    async fn new() -> Self {
        let source = Host::new().await;
        let target = Host::known_as(Uuid::new_v4()).await;
        let params = vec![TypedParam::new("migrate_uri", "tcp://127.0.0.1")];
        Self { source, target, cx: CallCx { client: 7, ..CallCx::default() }, params }
    }

    fn with(&self, name: &str, value: &str) -> Vec<TypedParam> {
        let mut params = self.params.clone();
        params.push(TypedParam::new(name, value));
        params
    }

    async fn begin(&self, dom: &NonnullDomain, flags: u32) -> Result<Begun, VirtError> {
        let args = DomainMigrateBegin3ParamsArgs {
            dom: dom.clone(),
            params: self.params.clone(),
            flags: flags | AT_SOURCE,
        };
        let begun = self.source.driver.domain_migrate_begin3_params(&self.cx, args).await?;
        Ok(Begun { cookie: begun.cookie_out, xml: begun.xml.to_string() })
    }

    /// From then on the port is known.
    async fn prepare(&mut self, begun: &Begun, flags: u32) -> Result<Vec<u8>, VirtError> {
        let args = DomainMigratePrepare3ParamsArgs {
            params: self.with("destination_xml", &begun.xml),
            cookie_in: begun.cookie.clone(),
            flags,
        };
        let prepared = self.target.driver.domain_migrate_prepare3_params(&self.cx, args).await?;
        self.params.retain(|param| param.field != "migrate_uri");
        self.params.push(TypedParam::new("migrate_uri", &*prepared.uri_out.unwrap().to_str_lossy()));
        Ok(prepared.cookie_out)
    }

    async fn perform(&self, dom: &NonnullDomain, cookie: Vec<u8>, flags: u32) -> Result<Vec<u8>, VirtError> {
        let args = DomainMigratePerform3ParamsArgs {
            dom: dom.clone(),
            dconnuri: None,
            params: self.params.clone(),
            cookie_in: cookie,
            flags: flags | AT_SOURCE,
        };
        Ok(self.source.driver.domain_migrate_perform3_params(&self.cx, args).await?.cookie_out)
    }

    async fn finish(
        &self,
        name: &str,
        cookie: Vec<u8>,
        flags: u32,
        cancelled: bool,
    ) -> Result<DomainMigrateFinish3ParamsRet, VirtError> {
        let params = self.with("destination_name", name);
        let args =
            DomainMigrateFinish3ParamsArgs { params, cookie_in: cookie, flags, cancelled: cancelled.into() };
        self.target.driver.domain_migrate_finish3_params(&self.cx, args).await
    }

    async fn confirm(
        &self,
        dom: &NonnullDomain,
        cookie: Vec<u8>,
        flags: u32,
        cancelled: bool,
    ) -> Result<(), VirtError> {
        let args = DomainMigrateConfirm3ParamsArgs {
            dom: dom.clone(),
            params: self.params.clone(),
            cookie_in: cookie,
            flags: flags | AT_SOURCE,
            cancelled: cancelled.into(),
        };
        self.source.driver.domain_migrate_confirm3_params(&self.cx, args).await
    }

    /// All steps, as the client's library takes them; the guest over there.
    async fn migrate(
        &mut self,
        dom: &NonnullDomain,
        name: &str,
        flags: u32,
    ) -> Result<NonnullDomain, VirtError> {
        let begun = self.begin(dom, flags).await?;
        let prepared = match self.prepare(&begun, flags).await {
            Ok(cookie) => cookie,
            Err(error) => {
                self.confirm(dom, Vec::new(), flags, true).await?;
                return Err(error);
            }
        };
        let performed = self.perform(dom, prepared, flags).await;
        let (cookie, failed) = match performed {
            Ok(cookie) => (cookie, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let finished = self.finish(name, cookie, flags, failed.is_some()).await;
        // Where the source could not send it, it knows.
        if let Some(error) = failed {
            return Err(error);
        }
        let there = finished;
        let cookie = there.as_ref().map(|there| there.cookie_out.clone()).unwrap_or_default();
        self.confirm(dom, cookie, flags, there.is_err()).await?;
        Ok(there?.dom)
    }

    /// A guest at the source that speaks, with its disk where the target finds it too.
    async fn talking(&mut self) -> NonnullDomain {
        let devices = self.source.talking().replace("</disk>", "<readonly/></disk>");
        let dom = self.source.define("speaks", &devices).await;
        let start = DomainCreateArgs { dom: dom.clone() };
        self.source.driver.domain_create(&self.cx, start).await.unwrap();
        assert_eq!(self.source.lives().await, [DEFINED, RESUMED, STARTED]);
        dom
    }

    /// Has the source send no more than 1 MiB each second, so that there is time to do something meanwhile.
    async fn slow_down(&self, dom: &NonnullDomain) {
        let args = DomainMigrateSetMaxSpeedArgs { dom: dom.clone(), bandwidth: 1, flags: 0 };
        self.source.driver.domain_migrate_set_max_speed(&self.cx, args).await.unwrap();
    }

    /// Waits until the guest is being sent.
    async fn sending(&self, dom: &NonnullDomain) {
        loop {
            let args = DomainGetJobStatsArgs { dom: dom.clone(), flags: 0 };
            let told = self.source.driver.domain_get_job_stats(&self.cx, args).await.unwrap();
            let memory = told.params.iter().find(|param| param.field == "memory_total");
            if memory.is_some_and(|param| !matches!(param.value, TypedParamValue::Ullong(0))) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn destroy_there(&self, dom: NonnullDomain) {
        self.target.driver.domain_destroy(&self.cx, DomainDestroyArgs { dom }).await.unwrap();
    }
}

#[tokio::test]
async fn a_guest_goes_on_at_another_host() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let dom = pair.talking().await;
    pair.source.console(&dom).await.wake().await;
    let there = pair.migrate(&dom, "speaks", LIVE | PERSIST_DEST | UNDEFINE_SOURCE).await.unwrap();
    assert_eq!(pair.target.state(&there).await, RUNNING_MIGRATED);
    let mut console = pair.target.console(&there).await;
    console.say("x").await;
    console.hear("x").await;
    assert_eq!(pair.source.lives().await, [SUSPENDED_MIGRATED, SHUTDOWN, STOPPED_MIGRATED]);
    assert_eq!(pair.target.lives().await, [STARTED_MIGRATED, DEFINED, RESUMED_MIGRATED]);
    let known = DomainLookupByUuidArgs { uuid: dom.uuid };
    assert!(pair.source.driver.domain_lookup_by_uuid(&pair.cx, known).await.is_err());
    pair.destroy_there(there).await;
}

#[tokio::test]
async fn a_guest_may_come_paused_and_under_another_name() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let dom = pair.talking().await;
    pair.params.push(TypedParam::new("destination_name", "other"));
    let there = {
        let flags = LIVE | PAUSED;
        let begun = pair.begin(&dom, flags).await.unwrap();
        let cookie = pair.prepare(&begun, flags).await.unwrap();
        let cookie = pair.perform(&dom, cookie, flags).await.unwrap();
        let args = DomainMigrateFinish3ParamsArgs {
            params: pair.params.clone(),
            cookie_in: cookie,
            flags,
            cancelled: 0,
        };
        let there = pair.target.driver.domain_migrate_finish3_params(&pair.cx, args).await.unwrap();
        pair.confirm(&dom, there.cookie_out, flags, false).await.unwrap();
        there.dom
    };
    assert_eq!(there.name, "other");
    assert_eq!(pair.target.lives().await, [STARTED_MIGRATED, SUSPENDED_PAUSED]);
    assert_eq!(pair.target.state(&there).await.0, 3);
    // At the source it is stored still, and off.
    assert_eq!(pair.source.lives().await, [SUSPENDED_MIGRATED, SHUTDOWN, STOPPED_MIGRATED]);
    assert_eq!(pair.source.state(&dom).await, (5, 4));
    pair.destroy_there(there).await;
}

#[tokio::test]
async fn a_guest_that_does_not_run_goes_as_a_definition() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let dom = pair.source.define("rests", "").await;
    let flags = OFFLINE | PERSIST_DEST | UNDEFINE_SOURCE;
    let begun = pair.begin(&dom, flags).await.unwrap();
    pair.prepare(&begun, flags).await.unwrap();
    let there = pair.finish("rests", Vec::new(), flags, false).await.unwrap();
    pair.confirm(&dom, there.cookie_out, flags, false).await.unwrap();
    assert_eq!((there.dom.uuid, there.dom.id), (dom.uuid, -1));
    assert_eq!(pair.source.lives().await, [DEFINED]);
    assert_eq!(pair.target.lives().await, [DEFINED]);
}

#[tokio::test]
async fn a_guest_does_not_come_from_its_own_host() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let dom = pair.talking().await;
    let begun = pair.begin(&dom, LIVE).await.unwrap();
    let args = DomainMigratePrepare3ParamsArgs {
        params: pair.with("destination_xml", &begun.xml),
        cookie_in: begun.cookie,
        flags: LIVE,
    };
    let error = pair.source.driver.domain_migrate_prepare3_params(&pair.cx, args).await.unwrap_err();
    assert!(error.message.contains("Attempt to migrate guest to the same host"), "{error}");
    pair.confirm(&dom, Vec::new(), LIVE, true).await.unwrap();
    assert_eq!(pair.source.state(&dom).await.0, 1, "it runs on");
    destroy(&pair.source, dom).await;
}

/// Whatever ends a migration before its end, the guest runs at the source and nothing of it is at the target.
async fn stays(pair: &mut Pair, dom: &NonnullDomain) {
    assert_eq!(pair.source.state(dom).await.0, 1, "it runs on");
    let mut console = pair.source.console(dom).await;
    console.say("x").await;
    console.hear("x").await;
    let known = DomainLookupByUuidArgs { uuid: dom.uuid };
    let there = pair.target.driver.domain_lookup_by_uuid(&pair.cx, known).await;
    assert!(there.is_err(), "nothing of it is there");
}

#[tokio::test]
async fn a_guest_stays_where_nobody_listens() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let dom = pair.talking().await;
    let begun = pair.begin(&dom, LIVE).await.unwrap();
    let cookie = pair.prepare(&begun, LIVE).await.unwrap();
    let listening = std::mem::take(&mut pair.params);
    pair.params = vec![TypedParam::new("migrate_uri", "tcp://127.0.0.1:1")];
    let error = pair.perform(&dom, cookie, LIVE).await.unwrap_err();
    assert_eq!(error.code.0, 38, "{error}");
    pair.params = listening;
    pair.finish("speaks", Vec::new(), LIVE, true).await.unwrap_err();
    assert_eq!(pair.target.lives().await, [STARTED_MIGRATED, SHUTDOWN, STOPPED_FAILED]);
    stays(&mut pair, &dom).await;
    destroy(&pair.source, dom).await;
}

/// Ends the emulator of a guest as nobody should.
fn kill_emulator(host: &Host, name: &str) {
    let pid = std::fs::read_to_string(host.dir.join(format!("run/libvirt/qemu/{name}.pid"))).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Sends a guest slowly, and does something meanwhile that it is not sent for; the last steps are taken as a client takes
/// them then. Returns what the source said.
async fn cut_short(
    what: impl AsyncFnOnce(&Pair, &NonnullDomain),
) -> Option<(Pair, NonnullDomain, VirtError)> {
    qemu()?;
    let mut pair = Pair::new().await;
    let dom = pair.talking().await;
    pair.slow_down(&dom).await;
    let begun = pair.begin(&dom, LIVE).await.unwrap();
    let cookie = pair.prepare(&begun, LIVE).await.unwrap();
    let meanwhile = async {
        pair.sending(&dom).await;
        what(&pair, &dom).await;
    };
    let (sent, ()) = tokio::join!(pair.perform(&dom, cookie, LIVE), meanwhile);
    pair.finish("speaks", Vec::new(), LIVE, true).await.unwrap_err();
    Some((pair, dom, sent.unwrap_err()))
}

#[tokio::test]
async fn a_guest_that_is_called_back_stays() {
    let abort = async |pair: &Pair, dom: &NonnullDomain| {
        let args = DomainAbortJobArgs { dom: dom.clone() };
        pair.source.driver.domain_abort_job(&pair.cx, args).await.unwrap();
    };
    let Some((mut pair, dom, error)) = cut_short(abort).await else { return };
    assert_eq!(error.message, "operation aborted: job 'migration out' canceled by client");
    stays(&mut pair, &dom).await;
    destroy(&pair.source, dom).await;
}

#[tokio::test]
async fn a_guest_stays_whose_place_over_there_is_gone() {
    let kill = async |pair: &Pair, _: &NonnullDomain| kill_emulator(&pair.target, "speaks");
    let Some((mut pair, dom, error)) = cut_short(kill).await else { return };
    assert!(error.message.contains("job 'migration out' failed"), "QEMU says why");
    stays(&mut pair, &dom).await;
    destroy(&pair.source, dom).await;
}

#[tokio::test]
async fn a_guest_that_dies_on_its_way_is_nowhere() {
    let kill = async |pair: &Pair, _: &NonnullDomain| kill_emulator(&pair.source, "speaks");
    let Some((mut pair, dom, _)) = cut_short(kill).await else { return };
    assert_eq!(pair.target.lives().await, [STARTED_MIGRATED, SHUTDOWN, STOPPED_FAILED]);
    assert_eq!(pair.source.lives().await, [STOPPED_FAILED]);
    // It can be started again.
    pair.source.driver.domain_create(&pair.cx, DomainCreateArgs { dom: dom.clone() }).await.unwrap();
    destroy(&pair.source, dom).await;
}

impl Pair {
    /// A guest at the source whose disk the hosts do not share, and a door at the target, where the disk is elsewhere.
    async fn with_a_disk_each(&mut self) -> (NonnullDomain, Vec<u8>) {
        let dom = self.source.define("speaks", &self.source.talking()).await;
        let start = DomainCreateArgs { dom: dom.clone() };
        self.source.driver.domain_create(&self.cx, start).await.unwrap();
        assert_eq!(self.source.lives().await, [DEFINED, RESUMED, STARTED]);
        let mut begun = self.begin(&dom, LIVE | NON_SHARED_DISK).await.unwrap();
        let [here, there] = self.disks();
        begun.xml = begun.xml.replace(&*here.to_string_lossy(), &there.to_string_lossy());
        std::fs::write(there, vec![0; std::fs::read(here).unwrap().len()]).unwrap();
        let cookie = self.prepare(&begun, LIVE | NON_SHARED_DISK).await.unwrap();
        (dom, cookie)
    }

    fn disks(&self) -> [std::path::PathBuf; 2] {
        [self.source.dir.join("disk.img"), self.target.dir.join("copy.img")]
    }
}

#[tokio::test]
async fn a_disk_goes_with_its_guest() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let (dom, cookie) = pair.with_a_disk_each().await;
    let flags = LIVE | NON_SHARED_DISK;
    let cookie = pair.perform(&dom, cookie, flags).await.unwrap();
    let there = pair.finish("speaks", cookie, flags, false).await.unwrap();
    pair.confirm(&dom, there.cookie_out, flags, false).await.unwrap();
    let [old, new] = pair.disks().map(|path| std::fs::read(path).unwrap());
    assert!(old == new, "all of it has gone");
    assert_eq!(pair.target.state(&there.dom).await, RUNNING_MIGRATED);
    pair.destroy_there(there.dom).await;
}

#[tokio::test]
async fn a_guest_stays_whose_disk_cannot_go() {
    if qemu().is_none() {
        return;
    }
    let mut pair = Pair::new().await;
    let (dom, cookie) = pair.with_a_disk_each().await;
    kill_emulator(&pair.target, "speaks");
    pair.perform(&dom, cookie, LIVE | NON_SHARED_DISK).await.unwrap_err();
    pair.finish("speaks", Vec::new(), LIVE | NON_SHARED_DISK, true).await.unwrap_err();
    let args = DomainGetBlockJobInfoArgs { dom: dom.clone(), path: "vda".into(), flags: 0 };
    let job = pair.source.driver.domain_get_block_job_info(&pair.cx, args).await.unwrap();
    assert_eq!(job.found, 0, "nothing is copied any more");
    stays(&mut pair, &dom).await;
    destroy(&pair.source, dom).await;
}

/// Daemons that end between two steps, or within one, and those that come after them.
fn daemons_end(while_sending: bool) {
    if qemu().is_none() {
        return;
    }
    let (dom, source, target) = daemon().block_on(async {
        let mut pair = Pair::new().await;
        let dom = pair.talking().await;
        pair.slow_down(&dom).await;
        let begun = pair.begin(&dom, LIVE).await.unwrap();
        let cookie = pair.prepare(&begun, LIVE).await.unwrap();
        if while_sending {
            tokio::select! {
                sent = pair.perform(&dom, cookie, LIVE) => panic!("{sent:?}"),
                () = pair.sending(&dom) => {}
            }
        }
        (dom, pair.source.leave(), pair.target.leave())
    });
    daemon().block_on(async {
        let (source, target) = (Host::at(source).await, Host::at(target).await);
        let known = DomainLookupByUuidArgs { uuid: dom.uuid };
        let there = target.driver.domain_lookup_by_uuid(&CallCx::default(), known).await;
        assert!(there.is_err(), "nothing of it is there");
        let mut console = source.console(&dom).await;
        console.say("x").await;
        console.hear("x").await;
        assert_eq!(source.state(&dom).await.0, 1, "it runs on");
        destroy(&source, dom).await;
    });
}

#[test]
fn a_guest_stays_whose_daemons_end_between_two_steps() {
    daemons_end(false);
}

#[test]
fn a_guest_stays_whose_daemons_end_while_it_is_sent() {
    daemons_end(true);
}

async fn destroy(host: &Host, dom: NonnullDomain) {
    host.driver.domain_destroy(&CallCx::default(), DomainDestroyArgs { dom }).await.unwrap();
}
