//! A migration in a guest's status file, as libvirt writes it down there.

use virtwire_conf::FormatOptions;
use virtwire_conf::xml::{Node, Writer};

use super::{Moving, Phase, Way};

/// libvirt's words.
const PHASES: [(Phase, &str); 8] = [
    (Phase::Begun, "begin3"),
    (Phase::Performing, "perform3"),
    (Phase::Performed, "perform3_done"),
    (Phase::Staying, "confirm3_cancelled"),
    (Phase::Confirming, "confirm3"),
    (Phase::Prepared, "prepare"),
    (Phase::Finishing, "finish3"),
    (Phase::PostCopyFailed, "postcopy_failed"),
];
const WAYS: [(Way, &str); 2] = [(Way::Out, "migration out"), (Way::In, "migration in")];

/// What a daemon that comes later has to know of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) way: Way,
    pub(crate) phase: Phase,
}

impl From<&Moving> for Record {
    fn from(moving: &Moving) -> Self {
        // Of a guest that runs at the target no later daemon knows more.
        let phase = if moving.post_copy { Phase::PostCopyFailed } else { moving.phase };
        Self { way: moving.way, phase }
    }
}

impl Record {
    /// The element of a status file.
    pub(crate) fn write(self) -> String {
        let options = FormatOptions::default();
        let mut out = Writer::new(&options);
        out.open("job");
        out.attribute("type", "none");
        out.attribute("async", WAYS.iter().find(|row| row.0 == self.way).map_or("none", |row| row.1));
        out.attribute("phase", PHASES.iter().find(|row| row.0 == self.phase).map_or("none", |row| row.1));
        out.close("job");
        out.finish()
    }
}

/// The migration of a status file, if the guest was in one.
pub(crate) fn read(status: Node<'_>) -> Option<Record> {
    let job = status.child("job")?;
    let way = WAYS.iter().find(|row| job.attribute("async") == Some(row.1))?.0;
    let phase = job.attribute("phase").and_then(|word| PHASES.iter().find(|row| word == row.1));
    let unknown = if way == Way::In { Phase::Prepared } else { Phase::Begun };
    Some(Record { way, phase: phase.map_or(unknown, |row| row.0) })
}
