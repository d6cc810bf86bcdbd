//! The QEMU driver under stock virsh: it shows what libvirtd shows, and runs real guests.

use virtwire_tests::compare::compare;
use virtwire_tests::daemon::{Daemon, virsh};
use virtwire_tests::guest;
use virtwire_tests::peers::{self, Peer};
use virtwire_tests::repo;

use crate::clients::all_as_expected;

const SYSTEM: &str = "qemu:///system";

#[test]
fn virsh_shows_the_qemu_driver_as_libvirtd_has_it() {
    if !peers::here(&[Peer::Root, Peer::Libvirtd, Peer::Virsh, Peer::Qemu, Peer::Kvm]) {
        return;
    }
    // By the same means, so that both find the same files at the same paths.
    let (real, own) = (Daemon::libvirtd(), Daemon::private_virtwired());
    for daemon in [&real, &own] {
        guest::write_image(&daemon.folder().join("lib/images/guest.img")).expect("the image is written");
    }
    let file = repo::file("compare/qemu_driver.txt");
    let answers =
        compare(virsh, [&real.uri(SYSTEM), &own.uri(SYSTEM)], &file).expect("the sessions can be read");
    all_as_expected(&file, &answers);
}
