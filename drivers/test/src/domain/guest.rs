//! A guest: its definitions, its state, its past.

use std::cell::OnceCell;

use virtwire_conf::domain::{Domain, LifecycleAction};
use virtwire_conf::{FormatOptions, ParseOptions};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::XdrString;
use virtwire_protocol::remote as wire;
use virtwire_protocol::remote::Event;

use super::lifecycle::Fate;
use super::moment_xml::{Checkpoint, Snapshot};
use super::state::{Lifecycle, State, Status, Step};
use crate::error::{Result, bad_argument, not_running};
use crate::registry::{Object, Uuid};
use virtwire_conf::moments::Moments;

/// `virDomainModificationImpact`
pub(crate) mod affect {
    /// Only the running guest.
    pub(crate) const LIVE: u32 = 1;
    /// Only the definition that stays.
    pub(crate) const CONFIG: u32 = 2;
}

/// A definition, and its text as soon as somebody has asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    domain: Box<Domain>,
    /// As of a running guest, and as stored.
    texts: [OnceCell<XdrString>; 2],
}

impl Definition {
    /// Reads a definition; what it leaves open gets this hypervisor's defaults.
    pub(crate) fn parse(xml: &str) -> Result<Self> {
        Domain::parse(xml, &ParseOptions::test()).map(Self::of)
    }

    /// A definition made of a complete domain.
    pub(crate) fn of(domain: Domain) -> Self {
        Self { domain: Box::new(domain), texts: Default::default() }
    }

    /// What it says.
    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// What it says, to be changed.
    pub(crate) fn edit(&mut self) -> &mut Domain {
        self.texts = Default::default();
        &mut self.domain
    }

    /// The guest's name.
    pub(crate) fn name(&self) -> &str {
        &self.domain.name
    }

    /// The guest's UUID; every definition has one after parsing.
    pub(crate) fn uuid(&self) -> Uuid {
        self.domain.uuid.map(|uuid| *uuid.as_bytes()).unwrap_or_default()
    }

    /// Its text. Only texts without secrets are kept.
    pub(crate) fn text(&self, options: FormatOptions) -> XdrString {
        let format = || XdrString::from(self.domain.to_xml(&options));
        if options == (FormatOptions { inactive: options.inactive, ..FormatOptions::default() }) {
            self.texts[usize::from(options.inactive)].get_or_init(format).clone()
        } else {
            format()
        }
    }
}

/// A guest, running or not.
#[derive(Debug)]
pub(crate) struct Guest {
    name: String,
    /// Name, UUID and id as clients get them.
    pub(crate) wire: wire::NonnullDomain,
    /// State and reason.
    pub(crate) status: Status,
    /// What the running guest is made of.
    running: Option<Definition>,
    /// The definition that the next start is made from.
    pub(crate) stored: Definition,
    /// Whether that definition stays when the guest stops.
    pub(crate) persistent: bool,
    /// Whether it was undefined while it ran.
    pub(crate) undefined: bool,
    /// Whether it would start with the daemon.
    pub(crate) autostart: bool,
    /// Whether the next start would go on from saved memory.
    pub(crate) managed_save: bool,
    /// Its snapshots.
    pub(crate) snapshots: Moments<Snapshot>,
    /// Its checkpoints.
    pub(crate) checkpoints: Moments<Checkpoint>,
    /// Which of its file systems are frozen.
    pub(crate) frozen: [bool; 2],
    /// Its clock: seconds and nanoseconds.
    pub(crate) time: (i64, u32),
}

/// Where the clock of every guest stands until it is set.
const BIRTH: (i64, u32) = (627_319_920, 0);

impl Object for Guest {
    fn name(&self) -> &str {
        &self.name
    }

    fn uuid(&self) -> Option<Uuid> {
        Some(self.wire.uuid)
    }

    fn is_active(&self) -> bool {
        self.is_running()
    }
}

impl Guest {
    /// A guest that is defined, and off.
    pub(crate) fn defined(definition: Definition) -> Self {
        let name = definition.name().to_owned();
        Self {
            wire: wire::NonnullDomain { name: name.as_str().into(), uuid: definition.uuid(), id: -1 },
            name,
            status: Status::unknown(State::SHUTOFF),
            running: None,
            stored: definition,
            persistent: true,
            undefined: false,
            autostart: false,
            managed_save: false,
            snapshots: Moments::default(),
            checkpoints: Moments::default(),
            frozen: [false; 2],
            time: BIRTH,
        }
    }

    /// A guest that runs and will be gone when it stops.
    pub(crate) fn transient(id: i32, definition: Definition, step: Step) -> (Self, Event) {
        let mut guest = Self { persistent: false, ..Self::defined(definition.clone()) };
        let event = guest.start(id, definition, step);
        (guest, event)
    }

    /// A guest that has run for a while, and stays when it stops.
    pub(crate) fn running(id: i32, definition: Definition, status: Status) -> Self {
        let mut guest = Self::defined(definition.clone());
        guest.start(id, definition, Step::BOOT);
        guest.status = status;
        guest
    }

    /// Whether it runs, paused or not.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a definition stays when it stops.
    pub(crate) fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// The guest must run.
    pub(crate) fn check_running(&self) -> Result<()> {
        if self.is_running() { Ok(()) } else { Err(not_running()) }
    }

    /// What it is made of now: the running definition, else the stored one.
    pub(crate) fn definition(&self) -> &Definition {
        self.running.as_ref().unwrap_or(&self.stored)
    }

    /// The definition that stays, else the running one.
    pub(crate) fn stored_definition(&self) -> &Definition {
        if self.persistent { &self.stored } else { self.definition() }
    }

    /// Which definitions `flags` (see [`affect`]) mean: the running one, the stored one.
    fn affected(&self, flags: u32) -> Result<(bool, bool)> {
        let (mut live, config) = (flags & affect::LIVE != 0, flags & affect::CONFIG != 0);
        if !live && !config {
            live = self.is_running();
            return Ok((live, !live));
        }
        if live {
            self.check_running()?;
        }
        if config && !self.is_persistent() {
            return Err(
                ErrorDomain::DOMAIN.operation_invalid("transient domains do not have any persistent config")
            );
        }
        Ok((live, config))
    }

    /// The one definition that `flags` mean, to be read.
    pub(crate) fn one_definition(&self, flags: u32) -> Result<&Definition> {
        check_one(flags)?;
        let (live, _) = self.affected(flags)?;
        Ok(if live { self.definition() } else { self.stored_definition() })
    }

    /// The one definition that `flags` mean, to be changed.
    pub(crate) fn one_definition_mut(&mut self, flags: u32) -> Result<&mut Definition> {
        check_one(flags)?;
        let (live, _) = self.affected(flags)?;
        if live { self.running.as_mut().ok_or_else(not_running) } else { Ok(&mut self.stored) }
    }

    /// All definitions that `flags` mean.
    pub(crate) fn definitions(&self, flags: u32) -> Result<Vec<&Definition>> {
        let (live, config) = self.affected(flags)?;
        let running = self.running.as_ref().filter(|_| live);
        Ok(running.into_iter().chain(config.then_some(&self.stored)).collect())
    }

    /// All definitions that `flags` mean, to be changed.
    pub(crate) fn definitions_mut(&mut self, flags: u32) -> Result<Vec<&mut Definition>> {
        let (live, config) = self.affected(flags)?;
        let running = self.running.as_mut().filter(|_| live);
        Ok(running.into_iter().chain(config.then_some(&mut self.stored)).collect())
    }

    /// Changes the one definition that `flags` mean.
    pub(crate) fn change_one(
        &mut self,
        flags: u32,
        change: impl Fn(&mut Domain) -> Result<()>,
    ) -> Result<()> {
        check_one(flags)?;
        self.change(flags, change)
    }

    /// Changes all definitions that `flags` mean, or none if one of them refuses.
    pub(crate) fn change(&mut self, flags: u32, change: impl Fn(&mut Domain) -> Result<()>) -> Result<()> {
        let changed: Result<Vec<Domain>> = self
            .definitions(flags)?
            .into_iter()
            .map(|definition| {
                let mut domain = definition.domain().clone();
                change(&mut domain).map(|()| domain)
            })
            .collect();
        for (definition, domain) in self.definitions_mut(flags)?.into_iter().zip(changed?) {
            *definition = Definition::of(domain);
        }
        Ok(())
    }

    /// The event that tells of this guest.
    pub(crate) fn lifecycle(&self, what: Lifecycle) -> Event {
        Event::DomainLifecycle(wire::DomainEventCallbackLifecycleMsg {
            callback_id: 0,
            msg: wire::DomainEventLifecycleMsg {
                dom: self.wire.clone(),
                event: what.event,
                detail: what.detail,
            },
        })
    }

    /// A step that leaves the guest running or not as it is.
    pub(crate) fn go(&mut self, step: Step) -> Event {
        self.status = step.to;
        self.lifecycle(step.event)
    }

    /// Runs from `definition`.
    pub(crate) fn start(&mut self, id: i32, mut definition: Definition, step: Step) -> Event {
        definition.edit().id = Some(id);
        self.running = Some(definition);
        self.wire.id = id;
        self.go(step)
    }

    /// Runs from the stored definition.
    pub(crate) fn start_again(&mut self, id: i32, step: Step) -> Event {
        let definition = self.stored_definition().clone();
        self.start(id, definition, step)
    }

    /// Stops. The event of a guest that never had a definition of its own still has its id.
    pub(crate) fn stop(&mut self, step: Step) -> Event {
        self.running = None;
        if self.is_persistent() || self.undefined {
            self.wire.id = -1;
        }
        self.frozen = [false; 2];
        self.go(step)
    }

    /// Gives it another name.
    pub(crate) fn set_name(&mut self, name: &str) {
        self.name = name.to_owned();
        self.wire.name = name.into();
        for definition in self.running.iter_mut().chain([&mut self.stored]) {
            definition.edit().name = name.to_owned();
        }
    }

    /// What follows when it powers off.
    pub(crate) fn fate_at_poweroff(&self) -> Fate {
        fate(self.definition().domain().on_poweroff)
    }

    /// What follows when it reboots.
    pub(crate) fn fate_at_reboot(&self) -> Fate {
        fate(self.definition().domain().on_reboot)
    }
}

fn fate(action: Option<LifecycleAction>) -> Fate {
    match action {
        Some(LifecycleAction::Restart | LifecycleAction::RenameRestart) => Fate::Restart,
        _ => Fate::Stop,
    }
}

/// Reading, and changes of some kinds, need one definition.
fn check_one(flags: u32) -> Result<()> {
    if flags & affect::LIVE != 0 && flags & affect::CONFIG != 0 {
        let text = "Flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG' are mutually exclusive";
        return Err(bad_argument(ErrorDomain::DOMAIN, "virDomainObjGetOneDefState", "flags", text));
    }
    Ok(())
}
