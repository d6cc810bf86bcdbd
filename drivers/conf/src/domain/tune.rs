//! How much a guest may use, and where it runs.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::Domain;
use crate::table::{Cpuset, KiB, Positive, unit};
use crate::{YesNo, element, keywords};

keywords! {
    /// Who decides where processors run.
    pub enum Placement { Static = "static", Auto = "auto" }
    /// How memory is spread over nodes.
    pub enum NumaMode { Strict = "strict", Preferred = "preferred", Interleave = "interleave", Restrictive = "restrictive" }
    /// Where guest memory comes from.
    pub enum MemorySource { File = "file", Anonymous = "anonymous", Memfd = "memfd", _ = "none", _ = "" }
    /// When guest memory is allocated.
    pub enum AllocationMode { Immediate = "immediate", Ondemand = "ondemand", _ = "" }
    /// A host scheduler.
    pub enum Scheduler { Batch = "batch", Idle = "idle", Fifo = "fifo", Rr = "rr" }
}

element! {
    /// `<vcpu>`: how many virtual processors.
    pub struct Vcpu {
        attr placement: Option<Placement>;
        attr cpuset: Option<Cpuset>;
        attr current: Option<u32>;
        text count: u32 => DOMAIN.xml_error "maximum vcpus count must be an integer";
    }

    /// `<vcpus>`: each virtual processor alone.
    pub struct Vcpus {
        child vcpu: Vec<VcpuState>;
    }

    /// `<vcpu>` of `<vcpus>`.
    pub struct VcpuState {
        attr id: u32;
        attr enabled: YesNo;
        attr hotpluggable: Option<YesNo>;
        attr order: Option<u32>;
    }

    /// `<maxMemory>`: memory with all slots filled.
    pub struct MaxMemory {
        attr slots: Option<u32> => DOMAIN.xml_error "Failed to parse memory slot count";
        flat size: KiB;
    }

    /// `<iothreadids>`.
    pub struct IothreadIds {
        child iothread: Vec<Iothread>;
    }

    /// `<iothread>`: one I/O thread.
    pub struct Iothread {
        attr id: Positive;
        attr thread_pool_min: Option<i32>;
        attr thread_pool_max: Option<i32>;
        child poll: Option<IothreadPoll>;
    }

    /// `<poll>` of an I/O thread: nanoseconds.
    pub struct IothreadPoll {
        attr max: Option<u64>;
        attr grow: Option<u64>;
        attr shrink: Option<u64>;
    }

    /// `<defaultiothread>`: QEMU's main loop.
    pub struct DefaultIothread {
        attr thread_pool_min: Option<i32>;
        attr thread_pool_max: Option<i32>;
    }

    /// `<cputune>`.
    pub struct Cputune {
        leaf shares: Option<u64> => DOMAIN.xml_error "can't parse cputune shares value";
        leaf period: Option<u64> => DOMAIN.xml_error "can't parse cputune period value";
        leaf quota: Option<i64> => DOMAIN.xml_error "can't parse cputune quota value";
        leaf global_period: Option<u64> => DOMAIN.xml_error "can't parse cputune global period value";
        leaf global_quota: Option<i64> => DOMAIN.xml_error "can't parse cputune global quota value";
        leaf emulator_period: Option<u64> => DOMAIN.xml_error "can't parse cputune emulator period value";
        leaf emulator_quota: Option<i64> => DOMAIN.xml_error "can't parse cputune emulator quota value";
        leaf iothread_period: Option<u64> => DOMAIN.xml_error "can't parse cputune iothread period value";
        leaf iothread_quota: Option<i64> => DOMAIN.xml_error "can't parse cputune iothread quota value";
        child vcpupin: Vec<VcpuPin>;
        sole emulatorpin: Option<EmulatorPin> => DOMAIN.xml_error "only one emulatorpin is supported";
        child iothreadpin: Vec<IothreadPin>;
        child vcpusched: Vec<VcpuSched>;
        child iothreadsched: Vec<IothreadSched>;
        sole emulatorsched: Option<EmulatorSched> => DOMAIN.xml_error "only one emulatorsched is supported";
        child cachetune: Vec<CacheTune>;
        child memorytune: Vec<MemoryTune>;
    }

    /// `<vcpupin>`.
    pub struct VcpuPin {
        attr vcpu: u32;
        attr cpuset: Option<Cpuset>;
    }

    /// `<emulatorpin>`.
    pub struct EmulatorPin {
        attr cpuset: Option<Cpuset>;
    }

    /// `<iothreadpin>`.
    pub struct IothreadPin {
        attr iothread: u32;
        attr cpuset: Option<Cpuset>;
    }

    /// `<vcpusched>`.
    pub struct VcpuSched {
        attr vcpus: Option<Cpuset>;
        attr scheduler: Scheduler;
        attr priority: Option<i32>;
    }

    /// `<iothreadsched>`.
    pub struct IothreadSched {
        attr iothreads: Option<Cpuset>;
        attr scheduler: Scheduler;
        attr priority: Option<i32>;
    }

    /// `<emulatorsched>`.
    pub struct EmulatorSched {
        attr scheduler: Scheduler;
        attr priority: Option<i32>;
    }

    /// `<cachetune>`: shares of the host's cache.
    pub struct CacheTune {
        attr vcpus: Option<Cpuset>;
        attr id if live: Option<String>;
        child cache: Vec<CacheShare>;
        child monitor: Vec<CacheMonitor>;
    }

    /// `<cache>` of `<cachetune>`.
    pub struct CacheShare {
        attr id: u32;
        attr level: u32;
        attr type_ "type": String | "both" | "code" | "data";
        attr size: u64;
        attr unit: Option<String>;
    }

    /// `<monitor>`.
    pub struct CacheMonitor {
        attr level: Option<u32>;
        attr vcpus: Option<Cpuset>;
    }

    /// `<memorytune>`: shares of the host's memory bandwidth.
    pub struct MemoryTune {
        attr vcpus: Option<Cpuset>;
        attr id if live: Option<String>;
        child node: Vec<BandwidthNode>;
        child monitor: Vec<CacheMonitor>;
    }

    /// `<node>` of `<memorytune>`.
    pub struct BandwidthNode {
        attr id: u32;
        attr bandwidth: u32;
    }

    /// `<memtune>`.
    pub struct Memtune {
        child hard_limit: Option<KiB>;
        child soft_limit: Option<KiB>;
        child min_guarantee: Option<KiB>;
        child swap_hard_limit: Option<KiB>;
    }

    /// `<blkiotune>`.
    pub struct Blkiotune {
        leaf weight: Option<u32>;
        child device: Vec<BlkioDevice>;
    }

    /// `<device>` of `<blkiotune>`.
    pub struct BlkioDevice {
        leaf path: String;
        leaf weight: Option<u32> => DOMAIN.config_unsupported "could not parse weight {}";
        leaf read_iops_sec: Option<u32> => DOMAIN.config_unsupported "could not parse read iops sec {}";
        leaf write_iops_sec: Option<u32> => DOMAIN.config_unsupported "could not parse write iops sec {}";
        leaf read_bytes_sec: Option<u64> => DOMAIN.config_unsupported "could not parse read bytes sec {}";
        leaf write_bytes_sec: Option<u64> => DOMAIN.config_unsupported "could not parse write bytes sec {}";
    }

    /// `<numatune>`.
    pub struct Numatune {
        child memory: Option<NumaMemory>;
        child memnode: Vec<MemNode>;
    }

    /// `<memory>` of `<numatune>`.
    pub struct NumaMemory {
        attr mode: Option<NumaMode> => DOMAIN.config_unsupported "Unsupported NUMA memory tuning mode '{}'";
        attr nodeset: Option<Cpuset>;
        attr placement: Option<Placement> => DOMAIN.config_unsupported "Unsupported NUMA memory placement mode '{}'";
    }

    /// `<memnode>`: policy of one guest node.
    pub struct MemNode {
        attr cellid: u32;
        attr mode: Option<NumaMode>;
        attr nodeset: Option<Cpuset>;
    }

    /// `<memoryBacking>`: what guest memory is made of.
    pub struct MemoryBacking {
        kept hugepages: Option<Hugepages>;
        flag nosharepages;
        flag locked;
        child source: Option<BackingSource>;
        child access: Option<BackingAccess>;
        child allocation: Option<BackingAllocation>;
        flag discard;
    }

    /// `<hugepages>`.
    pub struct Hugepages {
        child page: Vec<HugePage>;
    }

    /// `<page>`.
    pub struct HugePage {
        attr size: u64 => XML.xml_error "Invalid value for attribute 'size' in element 'page': '{}'. Expected non-negative integer value",
            XML.xml_error "missing element or attribute './@size'";
        attr unit: Option<String>;
        attr nodeset: Option<Cpuset>;
    }

    /// `<source>` of memory.
    pub struct BackingSource {
        attr type_ "type": Option<MemorySource> => DOMAIN.config_unsupported "unknown memoryBacking/source/type '{}'";
    }

    /// `<access>` to memory.
    pub struct BackingAccess {
        attr mode: Option<super::features::MemAccess> => DOMAIN.config_unsupported "unknown memoryBacking/access/mode '{}'";
    }

    /// `<allocation>` of memory.
    pub struct BackingAllocation {
        attr mode: Option<AllocationMode> => DOMAIN.config_unsupported "unknown memoryBacking/allocation/mode '{}'";
        attr threads: Option<u32> => DOMAIN.xml_error "Failed to parse memory allocation threads";
    }

    /// `<resource>`: where the guest's control groups are.
    pub struct Resource {
        leaf partition: Option<String>;
        child fibrechannel: Option<Fibrechannel>;
    }

    /// `<fibrechannel>`.
    pub struct Fibrechannel {
        attr appid: Option<String>;
    }

    /// `<throttlegroups>`.
    pub struct ThrottleGroups {
        child throttlegroup: Vec<crate::domain::disk::ThrottleGroup>;
    }
}

impl HugePage {
    /// The size in KiB.
    pub fn kib(&self) -> u64 {
        let unit = unit(self.unit.as_deref(), 1024).unwrap_or(1024);
        self.size.saturating_mul(unit).div_ceil(1024)
    }
}

impl Domain {
    /// All I/O threads: those that are named, and as many more as are counted, with the lowest free numbers. More than
    /// 4,096 are not counted.
    pub fn all_iothreads(&self) -> Vec<Iothread> {
        const MOST: usize = 4096;
        let mut all = self.iothreadids.as_ref().map_or_else(Vec::new, |ids| ids.iothread.clone());
        let missing = (self.iothreads.unwrap_or(0) as usize).min(MOST).saturating_sub(all.len());
        let known: BTreeSet<u32> = all.iter().map(|thread| thread.id.get()).collect();
        let free = (1..).filter(|id| !known.contains(id)).filter_map(NonZeroU32::new);
        all.extend(free.take(missing).map(|id| Iothread { id: Positive(id), ..Iothread::default() }));
        all
    }
}
