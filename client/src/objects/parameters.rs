//! Typed parameters as structs: what has a name on the wire has a field here.

use virtwire_protocol::remote::{TypedParam, TypedParamValue};

use super::table::text;

/// A type that a parameter may have.
pub(super) trait Value: Sized {
    /// The value, if the wire's fits.
    fn read(value: &TypedParamValue) -> Option<Self>;
    /// As the wire has it.
    fn write(&self) -> TypedParamValue;
}

/// A whole number of any of the wire's types.
fn number<T: TryFrom<i32> + TryFrom<u32> + TryFrom<i64> + TryFrom<u64>>(
    value: &TypedParamValue,
) -> Option<T> {
    match value {
        TypedParamValue::Int(value) | TypedParamValue::Boolean(value) => T::try_from(*value).ok(),
        TypedParamValue::Uint(value) => T::try_from(*value).ok(),
        TypedParamValue::Llong(value) => T::try_from(*value).ok(),
        TypedParamValue::Ullong(value) => T::try_from(*value).ok(),
        TypedParamValue::Double(_) | TypedParamValue::String(_) => None,
    }
}

macro_rules! numbers {
    ($($ty:ty)*) => {
        $(impl Value for $ty {
            fn read(value: &TypedParamValue) -> Option<Self> {
                number(value)
            }
            fn write(&self) -> TypedParamValue {
                (*self).into()
            }
        })*
    };
}

numbers!(i32 u32 i64 u64);

impl Value for bool {
    fn read(value: &TypedParamValue) -> Option<Self> {
        number::<i64>(value).map(|value| value != 0)
    }
    fn write(&self) -> TypedParamValue {
        (*self).into()
    }
}

impl Value for String {
    fn read(value: &TypedParamValue) -> Option<Self> {
        match value {
            TypedParamValue::String(value) => Some(text(value)),
            _ => None,
        }
    }
    fn write(&self) -> TypedParamValue {
        self.as_str().into()
    }
}

/// Structs of parameters: fields, their types, their names on the wire. A field that the daemon does not send is `None`,
/// and one that is `None` is not sent.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $field:ident: $ty:ty = $wire:literal,)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$about])*
            #[doc = concat!("`", $wire, "`")]
            pub $field: Option<$ty>,)*
        }

        #[allow(dead_code)]
        impl $name {
            /// Takes one parameter in; says whether it has a field for it.
            pub(super) fn set(
                &mut self,
                name: &str,
                value: &virtwire_protocol::remote::TypedParamValue,
            ) -> bool {
                match name {
                    $($wire => self.$field = crate::objects::parameters::Value::read(value),)*
                    _ => return false,
                }
                true
            }

            /// What these parameters say; others are passed over.
            pub(super) fn read(params: &[virtwire_protocol::remote::TypedParam]) -> Self {
                let mut this = Self::default();
                for param in params {
                    this.set(&param.field.to_str_lossy(), &param.value);
                }
                this
            }

            /// As the wire has them.
            pub(super) fn write(&self) -> Vec<virtwire_protocol::remote::TypedParam> {
                let mut params = Vec::new();
                $(if let Some(value) = &self.$field {
                    params.push(virtwire_protocol::remote::TypedParam {
                        field: $wire.into(),
                        value: crate::objects::parameters::Value::write(value),
                    });
                })*
                params
            }
        })*
    };
}

pub(super) use parameters;

parameters! {
    /// How the scheduler treats a guest. Periods and quotas are microseconds.
    SchedulerParameters {
        /// Its share beside other guests.
        cpu_shares: u64 = "cpu_shares",
        vcpu_period: u64 = "vcpu_period",
        /// What one CPU may run in a period; negative is no limit.
        vcpu_quota: i64 = "vcpu_quota",
        emulator_period: u64 = "emulator_period",
        emulator_quota: i64 = "emulator_quota",
        global_period: u64 = "global_period",
        global_quota: i64 = "global_quota",
        iothread_period: u64 = "iothread_period",
        iothread_quota: i64 = "iothread_quota",
        weight: u32 = "weight",
        cap: u32 = "cap",
    }

    /// The limits of a guest's memory, in KiB.
    MemoryParameters {
        hard_limit: u64 = "hard_limit",
        soft_limit: u64 = "soft_limit",
        swap_hard_limit: u64 = "swap_hard_limit",
        min_guarantee: u64 = "min_guarantee",
    }

    /// The limits of a disk, per second; 0 is none.
    BlockIoTune {
        total_bytes_sec: u64 = "total_bytes_sec",
        read_bytes_sec: u64 = "read_bytes_sec",
        write_bytes_sec: u64 = "write_bytes_sec",
        total_iops_sec: u64 = "total_iops_sec",
        read_iops_sec: u64 = "read_iops_sec",
        write_iops_sec: u64 = "write_iops_sec",
        total_bytes_sec_max: u64 = "total_bytes_sec_max",
        read_bytes_sec_max: u64 = "read_bytes_sec_max",
        write_bytes_sec_max: u64 = "write_bytes_sec_max",
        total_iops_sec_max: u64 = "total_iops_sec_max",
        read_iops_sec_max: u64 = "read_iops_sec_max",
        write_iops_sec_max: u64 = "write_iops_sec_max",
        size_iops_sec: u64 = "size_iops_sec",
        group_name: String = "group_name",
    }

    /// The bandwidth of an interface, in KiB per second.
    InterfaceParameters {
        inbound_average: u32 = "inbound.average",
        inbound_peak: u32 = "inbound.peak",
        inbound_burst: u32 = "inbound.burst",
        inbound_floor: u32 = "inbound.floor",
        outbound_average: u32 = "outbound.average",
        outbound_peak: u32 = "outbound.peak",
        outbound_burst: u32 = "outbound.burst",
    }

    /// What a guest's disks may use. Devices are lists of paths and values, `/dev/sda,500,/dev/sdb,200`.
    BlkioParameters {
        /// Its share beside other guests.
        weight: u32 = "weight",
        device_weight: String = "device_weight",
        device_read_iops_sec: String = "device_read_iops_sec",
        device_write_iops_sec: String = "device_write_iops_sec",
        device_read_bytes_sec: String = "device_read_bytes_sec",
        device_write_bytes_sec: String = "device_write_bytes_sec",
    }

    /// Where a guest's memory comes from.
    NumaParameters {
        /// The host's nodes, `0-1`.
        numa_nodeset: String = "numa_nodeset",
        /// `virDomainNumatuneMemMode`
        numa_mode: i32 = "numa_mode",
    }

    /// How a guest is migrated, beyond the flags.
    MigrateParameters {
        /// How the other hypervisor is reached, if it does not say so itself.
        migrate_uri: String = "migrate_uri",
        /// Another name over there.
        destination_name: String = "destination_name",
        /// Another definition over there.
        destination_xml: String = "destination_xml",
        /// What may be used of the network, in MiB per second.
        bandwidth: u64 = "bandwidth",
        /// The address that the other side listens on.
        listen_address: String = "listen_address",
        disks_port: i32 = "disks_port",
        disks_uri: String = "disks_uri",
        /// The disks that are copied, where not all are; separated by commas.
        migrate_disks: String = "migrate_disks",
        /// The definition over there, where it is to be persistent.
        persistent_xml: String = "persistent_xml",
        /// What a copy of memory after the guest has moved may use, in MiB per second.
        bandwidth_postcopy: u64 = "bandwidth.postcopy",
        parallel_connections: i32 = "parallel.connections",
        /// How memory is compressed: `xbzrle`, `mt`, `zlib`, `zstd`.
        compression: String = "compression",
        auto_converge_initial: i32 = "auto_converge.initial",
        auto_converge_increment: i32 = "auto_converge.increment",
        /// The name that the other side's certificate must have.
        tls_destination: String = "tls.destination",
    }

    /// What a job, such as a migration, has done. Times are milliseconds, sizes bytes.
    JobStats {
        operation: i32 = "operation",
        time_elapsed: u64 = "time_elapsed",
        time_remaining: u64 = "time_remaining",
        downtime: u64 = "downtime",
        data_total: u64 = "data_total",
        data_processed: u64 = "data_processed",
        data_remaining: u64 = "data_remaining",
        memory_total: u64 = "memory_total",
        memory_processed: u64 = "memory_processed",
        memory_remaining: u64 = "memory_remaining",
        memory_bps: u64 = "memory_bps",
        memory_dirty_rate: u64 = "memory_dirty_rate",
        memory_iteration: u64 = "memory_iteration",
        disk_total: u64 = "disk_total",
        disk_processed: u64 = "disk_processed",
        disk_remaining: u64 = "disk_remaining",
        error_message: String = "errmsg",
        success: bool = "success",
    }
}

/// A value as text, whatever its type.
pub(super) fn show(param: &TypedParam) -> (String, String) {
    let value = match &param.value {
        TypedParamValue::Int(value) | TypedParamValue::Boolean(value) => value.to_string(),
        TypedParamValue::Uint(value) => value.to_string(),
        TypedParamValue::Llong(value) => value.to_string(),
        TypedParamValue::Ullong(value) => value.to_string(),
        TypedParamValue::Double(value) => value.to_string(),
        TypedParamValue::String(value) => text(value),
    };
    (text(&param.field), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let some = SchedulerParameters { cpu_shares: Some(7), vcpu_quota: Some(-1), ..Default::default() };
        let params = some.write();
        assert_eq!(params.len(), 2);
        assert_eq!(SchedulerParameters::read(&params), some);
    }

    #[test]
    fn a_value_of_another_type_fits_where_it_can() {
        let read = |value: TypedParamValue| MemoryParameters::read(&[TypedParam::new("hard_limit", value)]);
        assert_eq!(read(5i32.into()).hard_limit, Some(5));
        assert_eq!(read((-5i64).into()).hard_limit, None);
        assert_eq!(read("5".into()).hard_limit, None);
    }
}
