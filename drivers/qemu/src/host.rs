//! The host: processors, memory and their layout, from `/proc` and `/sys`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One second in the kernel's counts of CPU time (`USER_HZ`), the same on every Linux of our architectures.
const TICKS_PER_SECOND: u64 = 100;

/// Where the host describes itself.
#[derive(Clone, Debug)]
pub struct Host {
    proc: PathBuf,
    sys: PathBuf,
}

/// A processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub id: u32,
    /// Its socket.
    pub socket: i64,
    /// The die in the socket.
    pub die: i64,
    /// The cluster in the die.
    pub cluster: i64,
    /// The core.
    pub core: i64,
    /// Which processors share the core, as in `0-1`.
    pub siblings: String,
}

/// A memory node with its processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its number.
    pub id: u32,
    /// KiB in all.
    pub memory: u64,
    /// KiB not used.
    pub free: u64,
    /// Its processors.
    pub cpus: Vec<Cpu>,
    /// How far the other nodes are.
    pub distances: Vec<u32>,
}

/// How one processor, or all of them, spent their time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// In the kernel, interrupts included.
    pub kernel: u64,
    /// In programs, niced ones included.
    pub user: u64,
    /// Doing nothing.
    pub idle: u64,
    /// Waiting for a disk.
    pub iowait: u64,
}

/// What `virNodeGetInfo` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// The architecture.
    pub model: String,
    /// KiB.
    pub memory: u64,
    /// Active processors.
    pub cpus: u32,
    /// Expected speed.
    pub mhz: u32,
    /// Memory nodes.
    pub nodes: u32,
    /// Sockets per node.
    pub sockets: u32,
    /// Cores per socket.
    pub cores: u32,
    /// Threads per core.
    pub threads: u32,
}

/// A cache that some processors share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheBank {
    /// 1 to 3.
    pub level: u32,
    /// Its number.
    pub id: u32,
    /// `both`, `code` or `data`.
    pub kind: &'static str,
    /// Bytes.
    pub size: u64,
    /// Whose, as in `0-1`.
    pub cpus: String,
}

impl Default for Host {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

impl Host {
    /// A host described below other directories, for tests.
    pub fn below(root: &Path) -> Self {
        Self { proc: root.join("proc"), sys: root.join("sys") }
    }

    /// The value after `key` and a colon in `/proc/cpuinfo`, of the first processor.
    pub fn cpuinfo(&self, key: &str) -> Option<String> {
        let text = fs::read_to_string(self.proc.join("cpuinfo")).ok()?;
        let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    }

    /// The memory nodes; a host without has one.
    pub fn cells(&self) -> Vec<Cell> {
        let cpus = self.cpus();
        let nodes = self.numbers("devices/system/node/online");
        let cells: Vec<Cell> = nodes.iter().filter_map(|&id| self.cell(id, &cpus)).collect();
        if !cells.is_empty() {
            return cells;
        }
        let (memory, free) = (self.memory("MemTotal"), self.memory("MemFree"));
        vec![Cell { id: 0, memory, free, cpus, distances: Vec::new() }]
    }

    fn cell(&self, id: u32, cpus: &[Cpu]) -> Option<Cell> {
        let dir = format!("devices/system/node/node{id}");
        let text = fs::read_to_string(self.sys.join(&dir).join("meminfo")).ok()?;
        let kib = |key: &str| {
            let line = text.lines().find_map(|line| line.split_once(key));
            line.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let own: BTreeSet<u32> = self.numbers(&format!("{dir}/cpulist")).into_iter().collect();
        Some(Cell {
            id,
            memory: kib("MemTotal:"),
            free: kib("MemFree:"),
            cpus: cpus.iter().filter(|cpu| own.contains(&cpu.id)).cloned().collect(),
            distances: self
                .sys_text(&format!("{dir}/distance"))
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect(),
        })
    }

    /// The processors that are on.
    pub fn cpus(&self) -> Vec<Cpu> {
        let online = self.numbers("devices/system/cpu/online");
        online.into_iter().map(|id| self.cpu(id)).collect()
    }

    fn cpu(&self, id: u32) -> Cpu {
        let dir = format!("devices/system/cpu/cpu{id}/topology");
        let number = |name: &str| self.sys_number::<i64>(&format!("{dir}/{name}")).unwrap_or(0);
        Cpu {
            id,
            socket: number("physical_package_id"),
            die: number("die_id").max(0),
            cluster: number("cluster_id"),
            core: number("core_id"),
            siblings: self.sys_text(&format!("{dir}/thread_siblings_list")).unwrap_or_else(|| id.to_string()),
        }
    }

    /// The processors that are there, on or off; how many there could be at most is not said.
    pub fn present(&self) -> Vec<u32> {
        self.numbers("devices/system/cpu/present")
    }

    /// What `virNodeGetInfo` tells.
    pub fn node_info(&self) -> NodeInfo {
        let cells = self.cells();
        let cpus: Vec<&Cpu> = cells.iter().flat_map(|cell| &cell.cpus).collect();
        let count = |set: BTreeSet<(i64, i64)>| u32::try_from(set.len()).unwrap_or(u32::MAX).max(1);
        let nodes = u32::try_from(cells.len()).unwrap_or(u32::MAX);
        let sockets = count(cpus.iter().map(|cpu| (cpu.socket, 0)).collect());
        let cores = count(cpus.iter().map(|cpu| (cpu.socket, cpu.core)).collect());
        let total = u32::try_from(cpus.len()).unwrap_or(u32::MAX);
        NodeInfo {
            model: std::env::consts::ARCH.to_owned(),
            memory: cells.iter().map(|cell| cell.memory).sum(),
            cpus: total,
            mhz: self.cpuinfo("cpu MHz").and_then(|mhz| mhz.split('.').next()?.parse().ok()).unwrap_or(0),
            nodes,
            sockets: (sockets / nodes).max(1),
            cores: cores / sockets,
            threads: (total / cores).max(1),
        }
    }

    /// How processor `cpu`, or all of them, spent their time since the start.
    pub fn cpu_times(&self, cpu: Option<u32>) -> Option<CpuTimes> {
        let text = fs::read_to_string(self.proc.join("stat")).ok()?;
        let name = cpu.map_or_else(|| "cpu".to_owned(), |cpu| format!("cpu{cpu}"));
        let line = text.lines().map(str::split_whitespace).find_map(|mut words| {
            (words.next() == Some(&name))
                .then(|| words.filter_map(|word| word.parse().ok()).collect::<Vec<u64>>())
        })?;
        let nanos = |at: usize| line.get(at).map_or(0, |ticks| ticks * (1_000_000_000 / TICKS_PER_SECOND));
        Some(CpuTimes {
            user: nanos(0) + nanos(1),
            kernel: nanos(2) + nanos(5) + nanos(6),
            idle: nanos(3),
            iowait: nanos(4),
        })
    }

    /// A line of `/proc/meminfo`, KiB.
    pub fn memory(&self, key: &str) -> u64 {
        let text = fs::read_to_string(self.proc.join("meminfo")).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let value =
            lines.find(|(name, _)| *name == key).and_then(|(_, value)| value.split_whitespace().next());
        value.and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }

    /// Sizes of huge pages, KiB, smallest first.
    pub fn huge_pages(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.sys.join("kernel/mm/hugepages")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let sizes: BTreeSet<u64> = names
            .filter_map(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
            .collect();
        sizes.into_iter().collect()
    }

    /// How many huge pages of a size a node has, and how many are free.
    pub fn huge_page_counts(&self, cell: u32, size: u64) -> (u64, u64) {
        let dir = format!("devices/system/node/node{cell}/hugepages/hugepages-{size}kB");
        let count = |name: &str| self.sys_number(&format!("{dir}/{name}")).unwrap_or(0);
        (count("nr_hugepages"), count("free_hugepages"))
    }

    /// The caches of levels 2 and 3, or whatever the last two are.
    pub fn caches(&self) -> Vec<CacheBank> {
        let mut banks = BTreeSet::new();
        for cpu in self.numbers("devices/system/cpu/online") {
            for index in 0..8 {
                let dir = format!("devices/system/cpu/cpu{cpu}/cache/index{index}");
                let text = |name: &str| self.sys_text(&format!("{dir}/{name}"));
                let (Some(level), Some(size)) = (text("level"), text("size")) else { break };
                banks.insert(CacheBank {
                    level: level.parse().unwrap_or(0),
                    id: text("id").and_then(|id| id.parse().ok()).unwrap_or(0),
                    kind: match text("type").as_deref() {
                        Some("Data") => "data",
                        Some("Instruction") => "code",
                        _ => "both",
                    },
                    size: size.strip_suffix('K').and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10,
                    cpus: text("shared_cpu_list").unwrap_or_default(),
                });
            }
        }
        banks.into_iter().filter(|bank| bank.level >= 2).collect()
    }

    /// Where the kernel keeps the pool of huge pages of a size (KiB), of a node or of the whole host, if it has one.
    pub fn pool(&self, cell: Option<u32>, size: u64) -> Option<PathBuf> {
        let dir = match cell {
            Some(cell) => format!("devices/system/node/node{cell}/hugepages"),
            None => "kernel/mm/hugepages".to_owned(),
        };
        Some(self.sys.join(dir).join(format!("hugepages-{size}kB"))).filter(|pool| pool.is_dir())
    }

    /// The file of a parameter of memory merging.
    pub fn merging(&self, name: &str) -> PathBuf {
        self.sys.join("kernel/mm/ksm").join(name)
    }

    /// Parameters of memory merging, from `/sys/kernel/mm/ksm`.
    pub fn shared_memory(&self, name: &str) -> Option<u64> {
        self.sys_number(&format!("kernel/mm/ksm/{name}"))
    }

    /// The host's name.
    pub fn name(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    /// A list like `0-3,8`.
    fn numbers(&self, path: &str) -> Vec<u32> {
        let text = self.sys_text(path).unwrap_or_default();
        let ranges = text.split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
        });
        ranges.flatten().collect()
    }

    fn sys_number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.sys_text(path)?.parse().ok()
    }

    fn sys_text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.sys.join(path)).ok().map(|text| text.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtwire_store::Scratch;

    fn host(files: &[(&str, &str)]) -> (Scratch, Host) {
        let dir = Scratch::new();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::below(dir.path());
        (dir, host)
    }

    #[test]
    fn two_nodes_with_threads() {
        let cpu = |id: u32, name: &str| format!("sys/devices/system/cpu/cpu{id}/topology/{name}");
        let mut files = vec![
            ("proc/cpuinfo".to_owned(), "processor\t: 0\ncpu MHz\t\t: 2596.134\n".to_owned()),
            ("sys/devices/system/cpu/online".to_owned(), "0-3\n".to_owned()),
            ("sys/devices/system/node/online".to_owned(), "0,1\n".to_owned()),
        ];
        for node in 0..2 {
            let dir = format!("sys/devices/system/node/node{node}");
            files.push((
                format!("{dir}/meminfo"),
                format!("Node {node} MemTotal:   1000 kB\nNode {node} MemFree: 7 kB\n"),
            ));
            files.push((format!("{dir}/cpulist"), format!("{}-{}\n", 2 * node, 2 * node + 1)));
        }
        for id in 0..4 {
            files.push((cpu(id, "physical_package_id"), format!("{}\n", id / 2)));
            files.push((cpu(id, "core_id"), "0\n".to_owned()));
        }
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let (_dir, host) = host(&files);
        let info = host.node_info();
        assert_eq!((info.memory, info.cpus, info.mhz), (2000, 4, 2596));
        assert_eq!((info.nodes, info.sockets, info.cores, info.threads), (2, 1, 1, 2));
        assert_eq!(host.cells()[1].cpus.iter().map(|cpu| cpu.id).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_host_that_says_little() {
        let (_dir, host) = host(&[("proc/meminfo", "MemTotal:  5 kB\nMemFree: 3 kB\n")]);
        assert_eq!(host.cells(), [Cell { id: 0, memory: 5, free: 3, cpus: vec![], distances: vec![] }]);
        assert_eq!(host.node_info().threads, 1);
    }

    #[test]
    fn times_are_nanoseconds() {
        let (_dir, host) = host(&[("proc/stat", "cpu  9 1 4 7 2 1 3 0 0 0\ncpu0 1 0 0 0 0\nintr 5\n")]);
        let all = CpuTimes { user: 100_000_000, kernel: 80_000_000, idle: 70_000_000, iowait: 20_000_000 };
        assert_eq!(host.cpu_times(None), Some(all));
        assert_eq!(host.cpu_times(Some(0)).unwrap().user, 10_000_000);
        assert_eq!(host.cpu_times(Some(1)), None);
    }
}
