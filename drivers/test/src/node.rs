//! The imaginary host: what it is made of, and what it says about itself.

use std::fmt::Write as _;

/// Sizes of memory pages that the host knows, in KiB.
pub(crate) const PAGE_SIZES: [u32; 4] = [4, 8, 2048, 1024 * 1024];

/// The most virtual CPUs that a guest may have.
pub(crate) const MAX_VCPUS: i32 = 32;

/// CPUs that a guest can be pinned to.
pub(crate) const PIN_CPUS: usize = 8;

/// The hypervisor's own version.
pub(crate) const VERSION: u64 = 2;

/// Model, domain of interpretation and label of the imaginary security driver.
pub(crate) const SECURITY_MODEL: &str = "testSecurity";
/// The label of every running guest.
pub(crate) const SECURITY_LABEL: &str = "libvirt-test";

/// The host's processors and memory, as `<node>` can set them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Name of the processor model.
    pub(crate) model: String,
    /// CPUs that are switched on.
    pub(crate) active: u32,
    /// Clock in MHz.
    pub(crate) mhz: u32,
    /// NUMA nodes.
    pub(crate) nodes: u32,
    /// Sockets in each node.
    pub(crate) sockets: u32,
    /// Cores in each socket.
    pub(crate) cores: u32,
    /// Threads of each core.
    pub(crate) threads: u32,
    /// Memory in KiB.
    pub(crate) memory: u64,
    /// NUMA cells with their memory.
    pub(crate) cells: Vec<Cell>,
}

/// A NUMA cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Memory in KiB; all of it free.
    pub(crate) memory: u64,
    /// Size of its pages in KiB.
    pub(crate) page: u64,
    /// Pages of that size.
    pub(crate) pages: u64,
    /// CPUs of the cell.
    pub(crate) cpus: std::ops::Range<u32>,
}

impl Default for Node {
    /// What a `<node>` that says nothing describes.
    fn default() -> Self {
        Self {
            model: "i686".into(),
            active: 16,
            mhz: 1400,
            nodes: 2,
            sockets: 2,
            cores: 2,
            threads: 2,
            memory: 3 * 1024 * 1024,
            cells: Vec::new(),
        }
    }
}

impl Node {
    /// The host of `test:///default`: as [`Node::default`], with two NUMA cells.
    pub(crate) fn with_cells() -> Self {
        let cell = |n: u32| Cell {
            memory: u64::from(n + 1) * 2 * 1024 * 1024,
            page: u64::from(n + 1) * 4,
            pages: 512 * 1024,
            cpus: n * 8..(n + 1) * 8,
        };
        Self { cells: (0..2).map(cell).collect(), ..Self::default() }
    }

    /// CPUs that a guest may run on.
    pub(crate) fn cpus(&self) -> u32 {
        self.active
    }

    /// Free memory in bytes, and it stays so: guests take none of it.
    pub(crate) fn free(&self) -> u64 {
        self.cells.iter().map(|cell| cell.memory).sum::<u64>() / 2
    }

    /// The capabilities document.
    pub(crate) fn capabilities(&self) -> String {
        let mut pages = String::new();
        for size in PAGE_SIZES {
            let _ = writeln!(pages, "      <pages unit='KiB' size='{size}'/>");
        }
        let mut cells = String::new();
        for (id, cell) in self.cells.iter().enumerate() {
            cell.describe(id, &mut cells);
        }
        let guests: String = ["hvm", "xen"].iter().map(|kind| GUEST.replace("OS_TYPE", kind)).collect();
        HOST.replace("PAGES", pages.trim_end())
            .replace("COUNT", &self.cells.len().to_string())
            .replace("CELLS\n", &cells)
            .replace("GUESTS", &guests)
    }
}

impl Cell {
    fn describe(&self, id: usize, out: &mut String) {
        let _ = writeln!(out, "        <cell id='{id}'>");
        let _ = writeln!(out, "          <memory unit='KiB'>{}</memory>", self.memory);
        let _ = writeln!(out, "          <pages unit='KiB' size='{}'>{}</pages>", self.page, self.pages);
        for size in &PAGE_SIZES[2..] {
            let _ = writeln!(out, "          <pages unit='KiB' size='{size}'>0</pages>");
        }
        let _ = writeln!(out, "          <cpus num='{}'>", self.cpus.len());
        for (core, cpu) in self.cpus.clone().enumerate() {
            let _ = writeln!(
                out,
                "            <cpu id='{cpu}' socket_id='{id}' die_id='0' cluster_id='0' core_id='{core}' \
                 siblings='{cpu}'/>"
            );
        }
        out.push_str("          </cpus>\n        </cell>\n");
    }
}

const HOST: &str = "<capabilities>

  <host>
    <cpu>
      <arch>i686</arch>
      <features>
        <pae/>
        <nonpae/>
      </features>
PAGES
    </cpu>
    <power_management/>
    <iommu support='no'/>
    <topology>
      <cells num='COUNT'>
CELLS
      </cells>
    </topology>
    <secmodel>
      <model>testSecurity</model>
      <doi></doi>
    </secmodel>
  </host>

GUESTS</capabilities>
";

const GUEST: &str = "  <guest>
    <os_type>OS_TYPE</os_type>
    <arch name='i686'>
      <wordsize>32</wordsize>
      <emulator>/usr/bin/test-hv</emulator>
      <domain type='test'/>
    </arch>
    <features>
      <pae/>
      <nonpae/>
    </features>
  </guest>

";

/// The host's firmware tables.
pub(crate) const SYSINFO: &str = "<sysinfo type='smbios'>
  <bios>
    <entry name='vendor'>LENOVO</entry>
    <entry name='version'>G4ETA1WW (2.61 )</entry>
    <entry name='date'>05/07/2014</entry>
    <entry name='release'>2.61</entry>
  </bios>
</sysinfo>
";

/// What a guest of that kind may be made of: next to nothing.
pub(crate) fn domain_capabilities(
    emulator: Option<&str>,
    machine: Option<&str>,
    arch: &str,
    kind: &str,
) -> String {
    let mut xml = String::from("<domainCapabilities>\n");
    let mut line = |name: &str, text: Option<&str>| {
        if let Some(text) = text {
            let _ = writeln!(xml, "  <{name}>{}</{name}>", escaped(text));
        }
    };
    line("path", emulator);
    line("domain", Some(kind));
    line("machine", machine);
    line("arch", Some(arch));
    xml.push_str("  <cpu>\n");
    for mode in ["host-passthrough", "maximum", "host-model", "custom"] {
        let _ = writeln!(xml, "    <mode name='{mode}' supported='no'/>");
    }
    xml.push_str("  </cpu>\n  <devices>\n  </devices>\n  <features>\n");
    for feature in ["sev", "sgx"] {
        let _ = writeln!(xml, "    <{feature} supported='no'/>");
    }
    xml.push_str("  </features>\n</domainCapabilities>\n");
    xml
}

/// Text with markup characters replaced.
pub(crate) fn escaped(text: &str) -> String {
    let replaced = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    replaced.replace('\'', "&apos;").replace('"', "&quot;")
}

/// Text in the form of `char[]`: with the zero that ends it.
pub(crate) fn c_text(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

/// Text in a `char[N]`, cut if need be, zeroes behind.
pub(crate) fn c_array<const N: usize>(text: &str) -> [u8; N] {
    let mut array = [0; N];
    for (to, from) in array.iter_mut().zip(text.bytes().take(N.saturating_sub(1))) {
        *to = from;
    }
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_list_cells_and_their_cpus() {
        let xml = Node::with_cells().capabilities();
        assert!(xml.contains("      <cells num='2'>\n        <cell id='0'>\n"));
        assert!(xml.contains("<pages unit='KiB' size='8'>524288</pages>"));
        assert!(
            xml.contains("<cpu id='15' socket_id='1' die_id='0' cluster_id='0' core_id='7' siblings='15'/>")
        );
        assert!(xml.ends_with("  </guest>\n\n</capabilities>\n"));
        assert!(Node::default().capabilities().contains("      <cells num='0'>\n      </cells>\n"));
    }

    #[test]
    fn half_of_the_cells_memory_is_free() {
        assert_eq!(Node::with_cells().free(), 3 * 1024 * 1024);
    }
}
