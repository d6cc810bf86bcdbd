//! The values that groups have.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use virtwire_conf::domain::tune::BlkioDevice;
use virtwire_conf::table::Cpuset;
use virtwire_protocol::VirtError;
use virtwire_protocol::error::ErrorDomain;

use super::{Controller, Group, Place, Version};
use crate::error::Result;

/// `VIR_DOMAIN_MEMORY_PARAM_UNLIMITED`: as much as there is, in KiB.
pub(crate) const UNLIMITED: u64 = 9_007_199_254_740_991;

/// Microseconds of a processor's time in each period; a quota below zero is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bandwidth {
    pub(crate) period: u64,
    pub(crate) quota: i64,
}

impl Bandwidth {
    /// The kernel's own.
    pub(crate) const USUAL: Self = Self { period: 100_000, quota: -1 };
}

/// Limits of memory, KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) hard: u64,
    pub(crate) soft: u64,
    /// Of memory and swap together.
    pub(crate) swap_hard: u64,
}

impl Memory {
    pub(crate) const USUAL: Self = Self { hard: UNLIMITED, soft: UNLIMITED, swap_hard: UNLIMITED };
}

/// Writes a value as the kernel takes it.
///
/// # Errors
/// The kernel's, in libvirt's words.
pub(super) fn write(path: &Path, value: impl std::fmt::Display) -> Result<()> {
    let value = value.to_string();
    fs::write(path, &value).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return VirtError::system(
                ErrorDomain::CGROUP,
                &error,
                format_args!("Invalid value '{value}' for '{name}'"),
            );
        }
        VirtError::system(
            ErrorDomain::CGROUP,
            &error,
            format_args!("Unable to write to '{}'", path.display()),
        )
    })
}

fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|error| {
        VirtError::system(
            ErrorDomain::CGROUP,
            &error,
            format_args!("Unable to read from '{}'", path.display()),
        )
    })?;
    Ok(text.trim().to_owned())
}

/// From how many bytes on a limit is none: the kernel rounds the largest number down to whole pages.
const NO_LIMIT: u64 = i64::MAX as u64 - 0xffff;

/// KiB of a file that has bytes, or a word for no limit.
fn kib(path: &Path) -> Result<u64> {
    let bytes = read(path)?.parse().ok().filter(|bytes| *bytes < NO_LIMIT);
    Ok(bytes.map_or(UNLIMITED, |bytes: u64| bytes / 1024))
}

/// What is written for KiB.
fn bytes(kib: u64, none: &str) -> String {
    if kib >= UNLIMITED { none.to_owned() } else { (kib * 1024).to_string() }
}

/// The names of the same thing in both versions.
fn named(place: &Place, v1: &str, v2: &str) -> std::path::PathBuf {
    place.dir.join(if place.hierarchy.version == Version::V1 { v1 } else { v2 })
}

impl Group {
    /// Time that it has had in user mode and in the kernel, in nanoseconds; `None` where only a hierarchy of version 1
    /// counts it.
    pub(crate) fn cpu_time(&self) -> Option<[u64; 2]> {
        let place = self.places.iter().find(|place| place.hierarchy.version == Version::V2)?;
        let text = fs::read_to_string(place.dir.join("cpu.stat")).ok()?;
        let micros = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        Some([micros("user_usec ")?.saturating_mul(1000), micros("system_usec ")?.saturating_mul(1000)])
    }

    /// The weight of its processors' time beside others'.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn shares(&self) -> Result<Option<u64>> {
        let Some(place) = self.place(Controller::Cpu) else { return Ok(None) };
        Ok(read(&named(place, "cpu.shares", "cpu.weight"))?.parse().ok())
    }

    /// # Errors
    /// The kernel's.
    pub(crate) fn set_shares(&self, shares: u64) -> Result<()> {
        let Some(place) = self.place(Controller::Cpu) else { return Ok(()) };
        write(&named(place, "cpu.shares", "cpu.weight"), shares)
    }

    /// # Errors
    /// The kernel's.
    pub(crate) fn bandwidth(&self) -> Result<Bandwidth> {
        let Some(place) = self.place(Controller::Cpu) else { return Ok(Bandwidth::USUAL) };
        let number = |text: &str| text.parse().ok();
        let (quota, period) = match place.hierarchy.version {
            Version::V1 => {
                (read(&place.dir.join("cpu.cfs_quota_us"))?, read(&place.dir.join("cpu.cfs_period_us"))?)
            }
            Version::V2 => {
                let both = read(&place.dir.join("cpu.max"))?;
                let (quota, period) = both.split_once(' ').unwrap_or((&both, ""));
                (quota.to_owned(), period.to_owned())
            }
        };
        Ok(Bandwidth {
            period: period.parse().unwrap_or(Bandwidth::USUAL.period),
            quota: number(&quota).unwrap_or(Bandwidth::USUAL.quota),
        })
    }

    /// Changes the bandwidth; what is not said stays.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_bandwidth(&self, period: Option<u64>, quota: Option<i64>) -> Result<()> {
        let Some(place) = self.place(Controller::Cpu) else { return Ok(()) };
        let (period, quota) = (period.filter(|period| *period > 0), quota.filter(|quota| *quota != 0));
        if place.hierarchy.version == Version::V2 {
            if period.is_none() && quota.is_none() {
                return Ok(());
            }
            let now = self.bandwidth()?;
            let quota = quota.unwrap_or(now.quota);
            let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
            return write(
                &place.dir.join("cpu.max"),
                format_args!("{quota} {}", period.unwrap_or(now.period)),
            );
        }
        if let Some(period) = period {
            write(&place.dir.join("cpu.cfs_period_us"), period)?;
        }
        quota.map_or(Ok(()), |quota| write(&place.dir.join("cpu.cfs_quota_us"), quota.max(-1)))
    }

    /// Says on which processors it runs.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_cpus(&self, cpus: &Cpuset) -> Result<()> {
        let Some(place) = self.place(Controller::Cpuset) else { return Ok(()) };
        write(&place.dir.join("cpuset.cpus"), cpus)
    }

    /// Says from which nodes it has its memory, that which it has already too.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_nodes(&self, nodes: &Cpuset) -> Result<()> {
        let Some(place) = self.place(Controller::Cpuset) else { return Ok(()) };
        if place.hierarchy.version == Version::V1 {
            write(&place.dir.join("cpuset.memory_migrate"), 1)?;
        }
        write(&place.dir.join("cpuset.mems"), nodes)
    }

    /// # Errors
    /// The kernel's.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let Some(place) = self.place(Controller::Memory) else { return Ok(Memory::USUAL) };
        let hard = kib(&named(place, "memory.limit_in_bytes", "memory.max"))?;
        let soft = kib(&named(place, "memory.soft_limit_in_bytes", "memory.high"))?;
        // A kernel may keep no account of swap.
        let swap = named(place, "memory.memsw.limit_in_bytes", "memory.swap.max");
        let swap = if swap.exists() { kib(&swap)? } else { UNLIMITED };
        let swap_hard = match place.hierarchy.version {
            Version::V1 => swap,
            Version::V2 => swap.saturating_add(hard).min(UNLIMITED),
        };
        Ok(Memory { hard, soft, swap_hard })
    }

    /// Changes limits; the one of memory alone is never above that with swap.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_memory(&self, now: Memory, then: Memory) -> Result<()> {
        let Some(place) = self.place(Controller::Memory) else { return Ok(()) };
        let set = |v1, v2, kib| {
            let none = if place.hierarchy.version == Version::V1 { "-1" } else { "max" };
            write(&named(place, v1, v2), bytes(kib, none))
        };
        let hard = || match then.hard == now.hard {
            true => Ok(()),
            false => set("memory.limit_in_bytes", "memory.max", then.hard),
        };
        let swap = || match place.hierarchy.version {
            Version::V1 if then.swap_hard != now.swap_hard => {
                set("memory.memsw.limit_in_bytes", "", then.swap_hard)
            }
            Version::V2 if (then.swap_hard, then.hard) != (now.swap_hard, now.hard) => {
                let swap = if then.swap_hard >= UNLIMITED { UNLIMITED } else { then.swap_hard - then.hard };
                set("", "memory.swap.max", swap)
            }
            _ => Ok(()),
        };
        if then.swap_hard > now.swap_hard {
            swap()?;
            hard()?;
        } else {
            hard()?;
            swap()?;
        }
        match then.soft == now.soft {
            true => Ok(()),
            false => set("memory.soft_limit_in_bytes", "memory.high", then.soft),
        }
    }

    /// The weight of its requests to block devices beside others'.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn blkio_weight(&self) -> Result<Option<u32>> {
        let Some(path) = self.weight_file() else { return Ok(None) };
        let text = read(&path)?;
        Ok(text.split_whitespace().filter_map(|word| word.parse().ok()).next())
    }

    /// # Errors
    /// The kernel's, or none of its schedulers knows weights.
    pub(crate) fn set_blkio_weight(&self, weight: u32) -> Result<()> {
        if !self.has(Controller::Blkio) {
            return Ok(());
        }
        let path = self.weight_file().ok_or_else(|| {
            ErrorDomain::CGROUP.operation_invalid("blkio weight is valid only for bfq or cfq scheduler")
        })?;
        write(&path, weight)
    }

    fn weight_file(&self) -> Option<std::path::PathBuf> {
        let place = self.place(Controller::Blkio)?;
        let names: &[&str] = match place.hierarchy.version {
            Version::V1 => &["blkio.bfq.weight", "blkio.weight"],
            Version::V2 => &["io.bfq.weight", "io.weight"],
        };
        names.iter().map(|name| place.dir.join(name)).find(|path| path.exists())
    }

    /// Sets the limits of one block device; what is not said is none.
    ///
    /// # Errors
    /// There is no such device, or the kernel's.
    pub(crate) fn limit_device(&self, device: &BlkioDevice) -> Result<()> {
        let Some(place) = self.place(Controller::Blkio) else { return Ok(()) };
        let number = device_number(&device.path)?;
        if let Some(weight) = device.weight {
            let path = named(place, "blkio.weight_device", "io.weight");
            if !path.exists() {
                let text = "blkio device weight is valid only for cfq scheduler";
                return Err(ErrorDomain::CGROUP.operation_invalid(text));
            }
            write(&path, format_args!("{number} {weight}"))?;
        }
        let limits = [
            ("blkio.throttle.read_iops_device", "riops", device.read_iops_sec.map(u64::from)),
            ("blkio.throttle.write_iops_device", "wiops", device.write_iops_sec.map(u64::from)),
            ("blkio.throttle.read_bps_device", "rbps", device.read_bytes_sec),
            ("blkio.throttle.write_bps_device", "wbps", device.write_bytes_sec),
        ];
        for (v1, v2, limit) in limits {
            match place.hierarchy.version {
                Version::V1 => {
                    write(&place.dir.join(v1), format_args!("{number} {}", limit.unwrap_or_default()))?;
                }
                Version::V2 => {
                    let limit = limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
                    write(&place.dir.join("io.max"), format_args!("{number} {v2}={limit}"))?;
                }
            }
        }
        Ok(())
    }
}

/// A block device as the kernel counts it.
fn device_number(path: &str) -> Result<String> {
    let failed = |error: &io::Error, what: &str| {
        VirtError::system(ErrorDomain::CGROUP, error, format_args!("Path '{path}' {what}"))
    };
    let meta = fs::metadata(path).map_err(|error| failed(&error, "is not accessible"))?;
    if !meta.file_type().is_block_device() {
        let error = io::Error::from(rustix::io::Errno::INVAL);
        return Err(failed(&error, "must be a block device"));
    }
    let device = meta.rdev();
    Ok(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
}
