//! A backup in a guest's status file.

use virtwire_conf::table::Element;
use virtwire_conf::xml::{Node, Writer};
use virtwire_conf::{Backup, FormatOptions};

use super::Running;

/// The element of a status file; no backup, no element.
pub(crate) fn write(running: Option<&Running>) -> String {
    let Some(running) = running else { return String::new() };
    let options = FormatOptions::default();
    let mut out = Writer::new(&options);
    out.open("backups");
    let numbers = [("began", running.began), ("total", running.ended.0), ("processed", running.ended.1)];
    for (name, number) in numbers {
        out.attribute(name, &number.to_string());
    }
    if running.reuse {
        out.attribute("reuse", "yes");
    }
    if let Some(error) = &running.error {
        out.attribute("error", error);
    }
    out.open("domainbackup");
    running.shown.write(&mut out);
    out.close("domainbackup");
    out.close("backups");
    out.finish()
}

/// The backup of a status file; one that is not understood is none.
pub(crate) fn read(status: Node<'_>) -> Option<Running> {
    let node = status.child("backups")?;
    let number = |name| node.attribute(name).and_then(|text| text.parse().ok()).unwrap_or_default();
    Some(Running {
        shown: Backup::read(node.child("domainbackup")?).ok()?,
        began: number("began"),
        reuse: node.attribute("reuse").is_some(),
        ended: (number("total"), number("processed")),
        error: node.attribute("error").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use virtwire_conf::ParseOptions;
    use virtwire_conf::xml::Document;
    use virtwire_protocol::ErrorDomain;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "<domainbackup mode='pull'><server transport='unix' socket='/s'/><disks><disk name='vda' \
                    backup='yes' state='failed' type='file' index='7'><driver type='qcow2'/>\
                    <scratch file='/x'/></disk></disks></domainbackup>";
        let shown = Backup::parse(text, &ParseOptions::default()).unwrap();
        let running = Running { error: Some("a'b".into()), ended: (7, 5), ..Running::new(shown, true) };
        let text = format!("<domstatus>{}</domstatus>", write(Some(&running)));
        let document = Document::parse(&text, ErrorDomain::QEMU).unwrap();
        assert_eq!(read(document.root()), Some(running));
        assert!(write(None).is_empty());
    }
}
