//! Jobs in a guest's status file, as libvirt writes them down there.

use virtwire_conf::FormatOptions;
use virtwire_conf::xml::{Node, Writer};

use super::{BlockJob, Kind, Phase};

/// libvirt's words.
const PHASES: [(Phase, &str); 4] = [
    (Phase::Running, "running"),
    (Phase::Ready, "ready"),
    (Phase::Aborting, "aborting"),
    (Phase::Pivoting, "pivoting"),
];

/// The element of a status file.
pub(crate) fn write(jobs: &[BlockJob]) -> String {
    let options = FormatOptions::default();
    let mut out = Writer::new(&options);
    out.open("blockjobs");
    out.attribute("active", if jobs.is_empty() { "no" } else { "yes" });
    for job in jobs {
        out.open("blockjob");
        out.attribute("name", &job.name);
        out.attribute("type", job.kind.row().2);
        out.attribute("state", PHASES.iter().find(|row| row.0 == job.phase).map_or("running", |row| row.1));
        out.open("disk");
        out.attribute("dst", &job.disk);
        if job.kind.waits() {
            out.attribute("mirror", "yes");
        }
        out.close("disk");
        for (word, node) in [("base", &job.base), ("top", &job.top)] {
            if let Some(node) = node {
                out.open(word);
                out.attribute("node", node);
                out.close(word);
            }
        }
        for (word, is) in [("shallownew", job.shallow), ("deleteCommittedImages", job.delete)] {
            if is {
                out.empty(word);
            }
        }
        out.close("blockjob");
    }
    out.close("blockjobs");
    out.finish()
}

/// The jobs of a status file; what is not understood is left out.
pub(crate) fn read(status: Node<'_>) -> Vec<BlockJob> {
    status.child("blockjobs").into_iter().flat_map(Node::children).filter_map(one).collect()
}

fn one(node: Node<'_>) -> Option<BlockJob> {
    let node_of = |name: &str| Some(node.child(name)?.attribute("node")?.to_owned());
    let kind = Kind::ALL.into_iter().find(|row| Some(row.2) == node.attribute("type"))?.0;
    let phase = PHASES.iter().find(|row| Some(row.1) == node.attribute("state")).map(|row| row.0);
    Some(BlockJob {
        phase: phase.unwrap_or(Phase::Running),
        base: node_of("base"),
        top: node_of("top"),
        shallow: node.child("shallownew").is_some(),
        delete: node.child("deleteCommittedImages").is_some(),
        ..BlockJob::new(node.attribute("name")?.to_owned(), kind, node.child("disk")?.attribute("dst")?)
    })
}

#[cfg(test)]
mod tests {
    use virtwire_conf::xml::Document;
    use virtwire_protocol::ErrorDomain;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut jobs = vec![
            BlockJob::new("commit-vda-libvirt-1-format".into(), Kind::ActiveCommit, "vda"),
            BlockJob::new("copy-v'b-libvirt-2-format".into(), Kind::Copy, "v'b"),
        ];
        jobs[0].base = Some("libvirt-3-format".into());
        jobs[0].top = Some("libvirt-1-format".into());
        (jobs[0].phase, jobs[0].delete, jobs[1].shallow) = (Phase::Pivoting, true, true);
        let text = format!("<domstatus>{}</domstatus>", write(&jobs));
        let document = Document::parse(&text, ErrorDomain::QEMU).unwrap();
        let again = read(document.root());
        assert_eq!(write(&again), write(&jobs));
        assert_eq!((again[0].phase, again[1].disk.as_str()), (Phase::Pivoting, "v'b"));
        assert_eq!(write(&[]), "<blockjobs active='no'/>\n");
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let text = "<x><blockjobs><blockjob/><blockjob name='a' type='x'/><y/></blockjobs></x>";
        assert!(read(Document::parse(text, ErrorDomain::QEMU).unwrap().root()).is_empty());
    }
}
