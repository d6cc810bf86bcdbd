//! The commands: one row each, with name, arguments and what the reply carries.
//!
//! Names and meanings are those of QEMU's *QMP Reference Manual*.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::Command;
use crate::replies::*;

/// The rows are `"wire-name" Type { argument: type, … } -> Return;`. An argument's name on the wire has dashes for
/// underscores, except where it is given (`field = "wire_name"`); an `Option` that is `None` is not sent.
macro_rules! commands {
    ($(
        $(#[$doc:meta])*
        $name:literal $type:ident {
            $($(#[$field_doc:meta])* $field:ident $(= $wire:literal)? : $field_type:ty,)*
        } -> $return:ty;
    )*) => {
        $(
            #[doc = concat!("`", $name, "`:")]
            $(#[$doc])*
            #[derive(Clone, Debug, Default, Serialize)]
            #[serde(rename_all = "kebab-case")]
            pub struct $type {
                $(
                    $(#[$field_doc])*
                    $(#[serde(rename = $wire)])?
                    #[serde(skip_serializing_if = "Skip::skip")]
                    pub $field: $field_type,
                )*
            }

            impl Command for $type {
                const NAME: &'static str = $name;
                type Return = $return;
            }
        )*

        /// Every command of this table, with the names of its arguments; those have dashes for underscores on the wire.
        pub const ROWS: &[(&str, &[&str])] = &[
            $(($name, &[$(wire_name!($field $($wire)?)),*]),)*
        ];
    };
}

/// The name of an argument: the one given, or the field's own.
macro_rules! wire_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $wire:literal) => {
        $wire
    };
}

/// Whether an argument is left out.
trait Skip {
    fn skip(&self) -> bool {
        false
    }
}

impl<T> Skip for Option<T> {
    fn skip(&self) -> bool {
        self.is_none()
    }
}

impl Skip for String {}
impl Skip for bool {}
impl Skip for i64 {}
impl Skip for u64 {}
impl Skip for Value {}
impl<T> Skip for Vec<T> {}

commands! {
    /// ends the negotiation.
    "qmp_capabilities" QmpCapabilities {
        /// Capabilities to enable.
        enable: Option<Vec<String>>,
    } -> Empty;

    // What this QEMU is and can do.

    /// QEMU's version.
    "query-version" QueryVersion {} -> VersionInfo;
    /// The commands it has.
    "query-commands" QueryCommands {} -> Vec<CommandInfo>;
    /// The whole interface as JSON text.
    "query-qmp-schema" QueryQmpSchema {} -> Box<RawValue>;
    /// The machine types.
    "query-machines" QueryMachines {} -> Vec<MachineInfo>;
    /// The CPU models.
    "query-cpu-definitions" QueryCpuDefinitions {} -> Vec<CpuDefinition>;
    /// What a CPU model stands for.
    "query-cpu-model-expansion" QueryCpuModelExpansion {
        /// `static` or `full`.
        kind = "type": String,
        /// The model to expand.
        model: Value,
    } -> CpuModelExpansion;
    /// Whether KVM is compiled in and used.
    "query-kvm" QueryKvm {} -> KvmInfo;
    /// The architecture it emulates.
    "query-target" QueryTarget {} -> TargetInfo;
    /// The options of the command line, as JSON text.
    "query-command-line-options" QueryCommandLineOptions {
        /// One option only.
        option: Option<String>,
    } -> Box<RawValue>;
    /// The types of objects.
    "qom-list-types" QomListTypes {
        /// Only those that implement it.
        implements: Option<String>,
        /// Also those that can have no instances.
        r#abstract = "abstract": Option<bool>,
    } -> Vec<ObjectTypeInfo>;
    /// The options of a kind of device.
    "device-list-properties" DeviceListProperties {
        /// The kind, as in `virtio-blk-pci`.
        typename = "typename": String,
    } -> Vec<ObjectPropertyInfo>;

    // Life of the guest.

    /// Whether the guest runs.
    "query-status" QueryStatus {} -> StatusInfo;
    /// Stops all CPUs.
    "stop" Stop {} -> Empty;
    /// Resumes all CPUs.
    "cont" Cont {} -> Empty;
    /// The reset button.
    "system_reset" SystemReset {} -> Empty;
    /// The power button (ACPI).
    "system_powerdown" SystemPowerdown {} -> Empty;
    /// Wakes a suspended guest.
    "system_wakeup" SystemWakeup {} -> Empty;
    /// Ends QEMU.
    "quit" Quit {} -> Empty;
    /// What QEMU does when the guest reboots, shuts down or panics.
    "set-action" SetAction {
        /// `reset` or `shutdown`.
        reboot: Option<String>,
        /// `poweroff` or `pause`.
        shutdown: Option<String>,
        /// `pause`, `shutdown`, `exit-failure` or `none`.
        panic: Option<String>,
    } -> Empty;
    /// A non-maskable interrupt.
    "inject-nmi" InjectNmi {} -> Empty;

    // Processors and memory.

    /// The virtual CPUs and their threads.
    "query-cpus-fast" QueryCpusFast {} -> Vec<CpuInfo>;
    /// What the kernel counts of a guest.
    "query-stats" QueryStats {
        /// `vm` or `vcpu`.
        target: String,
    } -> Vec<Statistics>;
    /// What those counters are.
    "query-stats-schemas" QueryStatsSchemas {} -> Vec<StatisticsSchema>;
    /// CPUs that can be plugged in.
    "query-hotpluggable-cpus" QueryHotpluggableCpus {} -> Box<RawValue>;
    /// The I/O threads.
    "query-iothreads" QueryIothreads {} -> Vec<IoThreadInfo>;
    /// The memory modules.
    "query-memory-devices" QueryMemoryDevices {} -> Vec<MemoryDevice>;
    /// The balloon's state; an error of class `DeviceNotActive` without a balloon.
    "query-balloon" QueryBalloon {} -> BalloonInfo;
    /// Asks the balloon for a size.
    "balloon" Balloon {
        /// The guest's memory, bytes.
        value: u64,
    } -> Empty;
    /// Main memory and what was plugged in.
    "query-memory-size-summary" QueryMemorySizeSummary {} -> MemorySizeSummary;
    /// Writes guest memory to a file.
    "memsave" Memsave {
        /// Virtual address.
        val: u64,
        /// Bytes.
        size: u64,
        /// Where to.
        filename: String,
        /// In whose address space.
        cpu_index: Option<i64>,
    } -> Empty;
    /// Writes physical memory to a file.
    "pmemsave" Pmemsave {
        /// Physical address.
        val: u64,
        /// Bytes.
        size: u64,
        /// Where to.
        filename: String,
    } -> Empty;

    // Block devices.

    /// The block devices and what is in them.
    "query-block" QueryBlock {} -> Vec<BlockInfo>;
    /// What they have done.
    "query-blockstats" QueryBlockstats {
        /// By node instead of by device.
        query_nodes: Option<bool>,
    } -> Vec<BlockStats>;
    /// The block nodes.
    "query-named-block-nodes" QueryNamedBlockNodes {
        /// Without the backing chains.
        flat: Option<bool>,
    } -> Vec<BlockNode>;
    /// Block operations under way, as JSON text.
    "query-block-jobs" QueryBlockJobs {} -> Box<RawValue>;
    /// A new size.
    "block_resize" BlockResize {
        /// The node.
        node_name: String,
        /// Bytes.
        size: u64,
    } -> Empty;
    /// Asks to be told when more than that has been written to a node.
    "block-set-write-threshold" BlockSetWriteThreshold {
        /// The node.
        node_name: String,
        /// Bytes.
        write_threshold: u64,
    } -> Empty;
    /// Removes a node.
    "blockdev-del" BlockdevDel {
        /// The node.
        node_name: String,
    } -> Empty;
    /// Opens the tray.
    "blockdev-open-tray" BlockdevOpenTray {
        /// The device's id.
        id: String,
        /// Even if the guest locked it.
        force: Option<bool>,
    } -> Empty;
    /// Closes the tray.
    "blockdev-close-tray" BlockdevCloseTray {
        /// The device's id.
        id: String,
    } -> Empty;
    /// Takes the medium out of an open tray.
    "blockdev-remove-medium" BlockdevRemoveMedium {
        /// The device's id.
        id: String,
    } -> Empty;
    /// Puts a medium into an open tray.
    "blockdev-insert-medium" BlockdevInsertMedium {
        /// The device's id.
        id: String,
        /// The node to insert.
        node_name: String,
    } -> Empty;

    // Devices and objects.

    /// Unplugs a device; `DEVICE_DELETED` says when it is gone.
    "device_del" DeviceDel {
        /// The device's id or path.
        id: String,
    } -> Empty;
    /// Removes a backend.
    "netdev_del" NetdevDel {
        /// The backend's id.
        id: String,
    } -> Empty;
    /// Removes an object.
    "object-del" ObjectDel {
        /// The object's id.
        id: String,
    } -> Empty;
    /// Plugs or unplugs a network cable.
    "set_link" SetLink {
        /// The device or backend.
        name: String,
        /// Plugged in.
        up: bool,
    } -> Empty;
    /// The properties of an object.
    "qom-list" QomList {
        /// The object.
        path: String,
    } -> Vec<ObjectPropertyInfo>;
    /// One property.
    "qom-get" QomGet {
        /// The object.
        path: String,
        /// The property's name.
        property: String,
    } -> Value;
    /// Sets one property.
    "qom-set" QomSet {
        /// The object.
        path: String,
        /// The property's name.
        property: String,
        /// What it shall be.
        value: Value,
    } -> Empty;
    /// The character devices.
    "query-chardev" QueryChardev {} -> Vec<ChardevInfo>;
    /// Receive filters of a network device, as JSON text.
    "query-rx-filter" QueryRxFilter {
        /// One device only.
        name: Option<String>,
    } -> Box<RawValue>;

    // Display and input.

    /// A picture of the screen.
    "screendump" Screendump {
        /// Where to write it.
        filename: String,
        /// The display device.
        device: Option<String>,
        /// Its head.
        head: Option<u64>,
        /// `ppm` or `png`.
        format: Option<String>,
    } -> Empty;
    /// Takes an internal snapshot, in a job.
    "snapshot-save" SnapshotSave {
        /// The job's name.
        job_id: String,
        /// The snapshot's.
        tag: String,
        /// The node that holds the memory.
        vmstate: String,
        /// All nodes that take part.
        devices: Vec<String>,
    } -> Empty;
    /// Goes back to an internal snapshot, in a job.
    "snapshot-load" SnapshotLoad {
        /// The job's name.
        job_id: String,
        /// The snapshot's.
        tag: String,
        /// The node that holds the memory.
        vmstate: String,
        /// All nodes that take part.
        devices: Vec<String>,
    } -> Empty;
    /// Deletes an internal snapshot, in a job.
    "snapshot-delete" SnapshotDelete {
        /// The job's name.
        job_id: String,
        /// The snapshot's.
        tag: String,
        /// All nodes that take part.
        devices: Vec<String>,
    } -> Empty;
    /// The jobs that are there.
    "query-jobs" QueryJobs {} -> Vec<JobInfo>;
    /// Forgets a job that has ended.
    "job-dismiss" JobDismiss {
        /// The job.
        id: String,
    } -> Empty;
    /// Does all of it or nothing.
    "transaction" Transaction {
        /// What is to be done.
        actions: Vec<Value>,
    } -> Empty;
    /// Begins to send the guest.
    "migrate" Migrate {
        /// Where to, as in `fd:name`.
        uri: String,
        /// Another way, of a guest that runs at the target already.
        resume: Option<bool>,
    } -> Empty;
    /// Begins to receive the guest, of a QEMU that was started to wait for that.
    "migrate-incoming" MigrateIncoming {
        /// Where from, as in `fd:name`.
        uri: String,
        /// Whether QEMU ends where that fails, as it does by itself.
        exit_on_error: Option<bool>,
    } -> Empty;
    /// Keeps a guest that is being sent.
    "migrate_cancel" MigrateCancel {} -> Empty;
    /// Goes on where sending waits.
    "migrate-continue" MigrateContinue {
        /// What it waits in, as in `pre-switchover`.
        state: String,
    } -> Empty;
    /// Lets a guest run where it is being sent, and sends the rest after it.
    "migrate-start-postcopy" MigrateStartPostcopy {} -> Empty;
    /// Cuts the way to a guest that runs at the target already.
    "migrate-pause" MigratePause {} -> Empty;
    /// Listens for another way to the rest of a guest's memory.
    "migrate-recover" MigrateRecover {
        /// Where, as in `tcp:host:port`.
        uri: String,
    } -> Empty;
    /// How far sending or receiving is.
    "query-migrate" QueryMigrate {} -> MigrationInfo;

    /// Presses keys together.
    "send-key" SendKey {
        /// `{"type": "number", "data": …}` or `{"type": "qcode", "data": …}` each.
        keys: Vec<Value>,
        /// How long, milliseconds.
        hold_time: Option<u64>,
    } -> Empty;
    /// The VNC server, as JSON text.
    "query-vnc" QueryVnc {} -> Box<RawValue>;
    /// A display's password.
    "set_password" SetPassword {
        /// `vnc` or `spice`.
        protocol: String,
        /// The password.
        password: String,
        /// `keep`, `fail` or `disconnect` those who are there.
        connected: Option<String>,
    } -> Empty;
    /// When the password ends.
    "expire_password" ExpirePassword {
        /// `vnc` or `spice`.
        protocol: String,
        /// `now`, `never`, `+seconds` or seconds since 1970.
        time: String,
    } -> Empty;
    /// Hands a client's connection over, by a name given with `getfd`.
    "add_client" AddClient {
        /// `vnc`, `spice` or a character device.
        protocol: String,
        /// The descriptor's name.
        fdname: String,
        /// Without authentication.
        skipauth: Option<bool>,
    } -> Empty;

    // Descriptors and the human monitor.

    /// Names a descriptor that travels with the command.
    "getfd" Getfd {
        /// Its name from now on.
        fdname: String,
    } -> Empty;
    /// Closes a named descriptor.
    "closefd" Closefd {
        /// Its name.
        fdname: String,
    } -> Empty;
    /// Adds a descriptor to a set, `/dev/fdset/ID`.
    "add-fd" AddFd {
        /// The set; a new one without it.
        fdset_id: Option<i64>,
        /// Free text.
        opaque: Option<String>,
    } -> AddFdInfo;
    /// The sets of descriptors.
    "query-fdsets" QueryFdsets {} -> Vec<FdsetInfo>;
    /// Removes descriptors from a set.
    "remove-fd" RemoveFd {
        /// The set.
        fdset_id: i64,
        /// One descriptor only.
        fd: Option<i64>,
    } -> Empty;
    /// A command of the human monitor; text comes back.
    "human-monitor-command" HumanMonitorCommand {
        /// The line.
        command_line: String,
        /// Which CPU it concerns.
        cpu_index: Option<i64>,
    } -> String;
}

/// Commands whose arguments are an object built elsewhere.
macro_rules! open_commands {
    ($($(#[$doc:meta])* $name:literal $type:ident;)*) => {
        $(
            #[doc = concat!("`", $name, "`:")]
            $(#[$doc])*
            #[derive(Clone, Debug, Default, Serialize)]
            #[serde(transparent)]
            pub struct $type(pub Map<String, Value>);

            impl Command for $type {
                const NAME: &'static str = $name;
                type Return = Empty;
            }
        )*
    };
}

open_commands! {
    /// plugs in a device.
    "device_add" DeviceAdd;
    /// adds a block node.
    "blockdev-add" BlockdevAdd;
    /// adds a network backend.
    "netdev_add" NetdevAdd;
    /// adds an object.
    "object-add" ObjectAdd;
    /// adds a character device.
    "chardev-add" ChardevAdd;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(command: &impl Command) -> String {
        serde_json::to_string(command).unwrap()
    }

    #[test]
    fn arguments_have_the_names_of_the_wire() {
        let command = HumanMonitorCommand { command_line: "info version".to_owned(), cpu_index: None };
        assert_eq!(json(&command), r#"{"command-line":"info version"}"#);
        let command = QueryCpuModelExpansion { kind: "full".to_owned(), model: Value::Null };
        assert_eq!(json(&command), r#"{"type":"full","model":null}"#);
        assert_eq!(json(&QueryStatus {}), "{}");
    }

    #[test]
    fn no_command_has_two_rows() {
        let mut names: Vec<_> = ROWS.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }
}
