//! The events: one row each. An event that is not in the table, or does not have its shape, passes through by name.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Something happened in QEMU.
#[derive(Clone, Debug)]
pub struct Event {
    /// The name on the wire, as in `SHUTDOWN`.
    pub name: String,
    /// What comes with it, as JSON text.
    pub data: Option<Box<RawValue>>,
    /// When, seconds since 1970; -1 where QEMU could not tell.
    pub seconds: i64,
    /// When, microseconds of that second.
    pub microseconds: i64,
}

/// One end of a connection to a screen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ScreenEnd {
    /// The address.
    pub host: String,
    /// The port, or what stands for it.
    #[serde(alias = "port")]
    pub service: String,
    /// `ipv4`, `ipv6`, `unix` and more.
    pub family: String,
    /// How clients say who they are, at our end.
    pub auth: Option<String>,
    /// Whose certificate a client has.
    pub x509_dname: Option<String>,
    /// Who a client is by SASL.
    pub sasl_username: Option<String>,
}

/// What else is known of memory that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct MemoryFlags {
    /// Something has to be done about it.
    pub action_required: bool,
    /// It failed while that was done.
    pub recursive: bool,
}

/// The rows are `"WIRE_NAME" Variant { member: type, … }`; names on the wire have dashes for underscores.
macro_rules! events {
    ($(
        $(#[$doc:meta])*
        $name:literal $variant:ident { $($(#[$field_doc:meta])* $field:ident: $field_type:ty,)* }
    )*) => {
        /// What an event says.
        #[derive(Clone, Debug, PartialEq)]
        pub enum EventKind {
            $(
                #[doc = concat!("`", $name, "`:")]
                $(#[$doc])*
                $variant { $($(#[$field_doc])* $field: $field_type,)* },
            )*
            /// Any other event.
            Other,
        }

        /// Every event of this table.
        pub const ALL: &[&str] = &[$($name),*];

        impl Event {
            /// What the event says, decoded.
            pub fn kind(&self) -> EventKind {
                let data = self.data.as_deref().map_or("{}", RawValue::get);
                match self.name.as_str() {
                    $($name => {
                        #[derive(Deserialize)]
                        #[serde(rename_all = "kebab-case")]
                        struct Data { $($field: $field_type,)* }
                        match serde_json::from_str(data) {
                            Ok(Data { $($field,)* }) => EventKind::$variant { $($field,)* },
                            Err(_) => EventKind::Other,
                        }
                    })*
                    _ => EventKind::Other,
                }
            }
        }
    };
}

events! {
    /// the guest, or somebody outside, ended it.
    "SHUTDOWN" Shutdown {
        /// The guest did.
        guest: bool,
        /// `ShutdownCause`, as in `guest-shutdown`, `host-qmp-quit`.
        reason: Option<String>,
    }
    /// the power button was pressed.
    "POWERDOWN" Powerdown {}
    /// the guest was reset.
    "RESET" Reset {
        /// The guest did it.
        guest: bool,
        /// `ShutdownCause`, as in `guest-reset`, `host-qmp-system-reset`.
        reason: Option<String>,
    }
    /// the CPUs stopped.
    "STOP" Stop {}
    /// the CPUs run again.
    "RESUME" Resume {}
    /// the guest sleeps.
    "SUSPEND" Suspend {}
    /// the guest sleeps on disk.
    "SUSPEND_DISK" SuspendDisk {}
    /// the guest woke up.
    "WAKEUP" Wakeup {}
    /// sending or receiving a guest is further.
    "MIGRATION" Migration {
        /// `MigrationStatus`, as in `active`, `completed`.
        status: String,
    }
    /// memory is sent once more, as far as it has changed.
    "MIGRATION_PASS" MigrationPass {
        /// How often it has been sent, from 1.
        pass: i64,
    }
    /// the watchdog ran out.
    "WATCHDOG" Watchdog {
        /// `WatchdogAction`, as in `reset`, `poweroff`, `pause`.
        action: String,
    }
    /// the guest's kernel gave up.
    "GUEST_PANICKED" GuestPanicked {
        /// `GuestPanicAction`: `pause`, `poweroff` or `run`.
        action: String,
        /// More, as the guest told it.
        info: Option<serde_json::Value>,
    }
    /// the guest's kernel gave up, and a dump of it follows.
    "GUEST_CRASHLOADED" GuestCrashloaded {
        /// `GuestPanicAction`.
        action: String,
    }
    /// a device is gone.
    "DEVICE_DELETED" DeviceDeleted {
        /// Its id, if it had one.
        device: Option<String>,
        /// Its object.
        path: String,
    }
    /// the guest refused to let a device go.
    "DEVICE_UNPLUG_GUEST_ERROR" DeviceUnplugGuestError {
        /// Its id, if it has one.
        device: Option<String>,
        /// Its object.
        path: String,
    }
    /// a tray moved.
    "DEVICE_TRAY_MOVED" DeviceTrayMoved {
        /// The device's old name.
        device: String,
        /// The device's id.
        id: String,
        /// It is open now.
        tray_open: bool,
    }
    /// the guest set its clock.
    "RTC_CHANGE" RtcChange {
        /// From the host's clock, seconds.
        offset: i64,
    }
    /// the balloon moved.
    "BALLOON_CHANGE" BalloonChange {
        /// What the guest has, bytes.
        actual: u64,
    }
    /// a disk failed.
    "BLOCK_IO_ERROR" BlockIoError {
        /// The device's old name.
        device: String,
        /// The device's id.
        qom_path: Option<String>,
        /// The node.
        node_name: Option<String>,
        /// `read` or `write`.
        operation: String,
        /// `ignore`, `report` or `stop`.
        action: String,
        /// The disk is full.
        nospace: Option<bool>,
        /// The error's text.
        reason: String,
    }
    /// a job is in another state.
    "JOB_STATUS_CHANGE" JobStatusChange {
        /// Its name.
        id: String,
        /// `running`, `ready`, `concluded` and more.
        status: String,
    }
    /// a node was written above its threshold.
    "BLOCK_WRITE_THRESHOLD" BlockWriteThreshold {
        /// The node.
        node_name: String,
        /// How far above, bytes.
        amount_exceeded: u64,
        /// The threshold, bytes.
        write_threshold: u64,
    }
    /// a character device was opened or closed.
    "VSERPORT_CHANGE" VserportChange {
        /// The port's id.
        id: String,
        /// It is open now.
        open: bool,
    }
    /// a VNC client came.
    "VNC_CONNECTED" VncConnected {
        /// Our end.
        server: ScreenEnd,
        /// Its end.
        client: ScreenEnd,
    }
    /// a VNC client is ready.
    "VNC_INITIALIZED" VncInitialized {
        /// Our end.
        server: ScreenEnd,
        /// Its end.
        client: ScreenEnd,
    }
    /// a VNC client left.
    "VNC_DISCONNECTED" VncDisconnected {
        /// Our end.
        server: ScreenEnd,
        /// Its end.
        client: ScreenEnd,
    }
    /// a SPICE client came.
    "SPICE_CONNECTED" SpiceConnected {
        /// Our end.
        server: ScreenEnd,
        /// Its end.
        client: ScreenEnd,
    }
    /// a SPICE client is ready.
    "SPICE_INITIALIZED" SpiceInitialized {
        /// Our end.
        server: ScreenEnd,
        /// Its end.
        client: ScreenEnd,
    }
    /// a SPICE client left.
    "SPICE_DISCONNECTED" SpiceDisconnected {
        /// Our end.
        server: ScreenEnd,
        /// Its end.
        client: ScreenEnd,
    }
    /// memory has been put into a file, or not.
    "DUMP_COMPLETED" DumpCompleted {
        /// How far it came.
        result: serde_json::Value,
        /// What it failed with.
        error: Option<String>,
    }
    /// a network device's filter changed.
    "NIC_RX_FILTER_CHANGED" NicRxFilterChanged {
        /// The device's id.
        name: Option<String>,
        /// Its object.
        path: String,
    }
    /// memory failed.
    "MEMORY_FAILURE" MemoryFailure {
        /// `hypervisor` or `guest`.
        recipient: String,
        /// `ignore`, `inject`, `fatal` or `reset`.
        action: String,
        /// More.
        flags: MemoryFlags,
    }
    /// a memory device has another size.
    "MEMORY_DEVICE_SIZE_CHANGE" MemoryDeviceSizeChange {
        /// The device's id.
        id: Option<String>,
        /// Bytes.
        size: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        let data = RawValue::from_string(data.to_owned()).ok();
        Event { name: name.to_owned(), data, seconds: 1, microseconds: 2 }
    }

    #[test]
    fn known_events_are_decoded() {
        assert_eq!(
            event("SHUTDOWN", r#"{"guest": true, "reason": "guest-shutdown"}"#).kind(),
            EventKind::Shutdown { guest: true, reason: Some("guest-shutdown".to_owned()) }
        );
        assert_eq!(
            event("BALLOON_CHANGE", r#"{"actual": 4096}"#).kind(),
            EventKind::BalloonChange { actual: 4096 }
        );
    }

    #[test]
    fn unknown_names_and_shapes_pass_through() {
        assert_eq!(event("NEW_THING", "{}").kind(), EventKind::Other);
        assert_eq!(event("SHUTDOWN", r#"{"guest": 7}"#).kind(), EventKind::Other);
    }
}
