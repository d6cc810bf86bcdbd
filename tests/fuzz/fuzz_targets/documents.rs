//! XML of each kind, as a client or an administrator gives it: the first byte chooses the kind, its highest bit whether
//! the document may say only what is known, the next whose rules hold. What was read is written, and read again.
#![no_main]

use std::cell::LazyCell;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use virtwire_conf::domain::one::Device;
use virtwire_conf::*;
use virtwire_cpu::{Cpu, Expect};

thread_local! {
    static HOST: LazyCell<Arc<QemuHost>> =
        LazyCell::new(|| Arc::new(QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0.0", true)));
}

macro_rules! kinds {
    ($which:expr, $xml:expr, $options:expr, $($name:ident),*) => {{
        let read: &[fn(&str, &ParseOptions)] = &[
            $(|xml, options| {
                if let Ok(read) = $name::parse(xml, options) {
                    let shown = read.to_xml(&FormatOptions::default());
                    let _ = $name::parse(&shown, options);
                    for flags in [1, 2, 8] {
                        let _ = read.to_xml(&FormatOptions::from_flags(flags));
                    }
                }
            },)*
            |xml, _| drop(Device::parse(xml).map(|device| device.to_xml(&FormatOptions::default()))),
            |xml, _| drop(Capabilities::parse(xml)),
            |xml, _| drop([Expect::Host, Expect::Either].map(|expect| Cpu::parse(xml, expect))),
        ];
        read[usize::from($which) % read.len()]($xml, $options)
    }};
}

fuzz_target!(|data: &[u8]| {
    let [which, bytes @ ..] = data else { return };
    let xml = String::from_utf8_lossy(bytes);
    let qemu = || HOST.with(|host| ParseOptions::qemu(Arc::clone(host)));
    let options = if which & 0x40 == 0 { qemu() } else { ParseOptions::test() };
    let options = options.validating(which & 0x80 != 0);
    kinds!(
        which & 0x3f,
        &xml,
        &options,
        Domain,
        Network,
        StoragePool,
        StorageVol,
        Secret,
        Interface,
        NodeDevice,
        Nwfilter,
        Snapshot,
        Checkpoint,
        Backup,
        NetworkPort,
        NwfilterBinding,
        NwfilterBindingStatus
    );
});
