//! What a guest can do next: states with their reasons, and the event that each step emits.
//!
//! Numbers are those of `libvirt/libvirt-domain.h`.

/// `virDomainState`. The names are what it means, the numbers what the wire says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State(pub(crate) i32);

impl State {
    /// Running.
    pub(crate) const RUNNING: Self = Self(1);
    /// Held by the user.
    pub(crate) const PAUSED: Self = Self(3);
    /// Not running.
    pub(crate) const SHUTOFF: Self = Self(5);
    /// Suspended by its own power management.
    pub(crate) const PM_SUSPENDED: Self = Self(7);
}

/// A state and how it came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    /// The state.
    pub(crate) state: State,
    /// The reason, a number whose meaning depends on the state; 0 is unknown.
    pub(crate) reason: i32,
}

/// `virDomainEventType` and the detail that goes with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lifecycle {
    /// What happened.
    pub(crate) event: i32,
    /// How.
    pub(crate) detail: i32,
}

/// One step of a guest's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// What it leads to.
    pub(crate) to: Status,
    /// What it tells the world.
    pub(crate) event: Lifecycle,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident: $state:ident $reason:literal, $event:literal $detail:literal;)*) => {
        impl Step {
            $($(#[$doc])* pub(crate) const $name: Self = Self {
                to: Status { state: State::$state, reason: $reason },
                event: Lifecycle { event: $event, detail: $detail },
            };)*
        }
    };
}

steps! {
    /// Started afresh.
    BOOT: RUNNING 1, 2 0;
    /// Started from a saved state.
    RESTORE: RUNNING 3, 2 2;
    /// Started from a snapshot.
    START_FROM_SNAPSHOT: RUNNING 4, 2 3;
    /// Paused at once after a start from a snapshot.
    PAUSE_FROM_SNAPSHOT: PAUSED 7, 3 5;
    /// Paused by the user.
    SUSPEND: PAUSED 1, 3 0;
    /// Goes on.
    RESUME: RUNNING 5, 4 0;
    /// Ended by the guest itself.
    SHUTDOWN: SHUTOFF 1, 5 0;
    /// Ended by force.
    DESTROY: SHUTOFF 2, 5 1;
    /// Ended by a crash.
    CRASH: SHUTOFF 3, 5 2;
    /// Ended with its memory in a file.
    SAVE: SHUTOFF 5, 5 4;
    /// Ended by a snapshot: halted after one was taken, or replaced by an older one.
    STOP_FROM_SNAPSHOT: SHUTOFF 7, 5 6;
}

impl Status {
    /// Of a guest that was never seen to change.
    pub(crate) const fn unknown(state: State) -> Self {
        Self { state, reason: 0 }
    }

    /// After a reboot, which emits nothing.
    pub(crate) const REBOOTED: Self = Step::BOOT.to;
}

impl Lifecycle {
    /// Defined, and new.
    pub(crate) const DEFINED: Self = Self { event: 0, detail: 0 };
    /// Defined over an older definition.
    pub(crate) const REDEFINED: Self = Self { event: 0, detail: 1 };
    /// Defined under its new name.
    pub(crate) const DEFINED_RENAMED: Self = Self { event: 0, detail: 2 };
    /// Undefined.
    pub(crate) const UNDEFINED: Self = Self { event: 1, detail: 0 };
    /// Undefined under its old name.
    pub(crate) const UNDEFINED_RENAMED: Self = Self { event: 1, detail: 1 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stop_is_a_stop_and_every_start_a_start() {
        let steps = [
            Step::BOOT,
            Step::RESTORE,
            Step::START_FROM_SNAPSHOT,
            Step::PAUSE_FROM_SNAPSHOT,
            Step::SUSPEND,
            Step::RESUME,
            Step::SHUTDOWN,
            Step::DESTROY,
            Step::CRASH,
            Step::SAVE,
            Step::STOP_FROM_SNAPSHOT,
        ];
        for step in steps {
            let expected = match step.event.event {
                2 | 4 => State::RUNNING,
                3 => State::PAUSED,
                _ => State::SHUTOFF,
            };
            assert_eq!(step.to.state, expected, "{step:?}");
        }
    }
}
