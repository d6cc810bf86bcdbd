//! QEMU's monitor for clients: commands as they are, and every event.

use std::sync::Arc;

use serde_json::{Map, Value};
use virtwire_protocol::qemu::{
    self, DomainMonitorCommandArgs, DomainMonitorCommandRet, DomainMonitorEventMsg,
};
use virtwire_qmp::QmpError;
use virtwire_qmp::commands::HumanMonitorCommand;
use virtwire_qmp::events::Event as QmpEvent;

use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, monitor};
use crate::guest::Guest;
use crate::info::TAINT_CUSTOM_MONITOR;

/// `VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP`
const HMP: u32 = 1;

pub(crate) async fn command(
    driver: &Qemu,
    args: DomainMonitorCommandArgs,
) -> Result<DomainMonitorCommandRet> {
    check_flags(args.flags, HMP, "qemuDomainQemuMonitorCommand")?;
    let guest = driver.guest(&args.dom)?;
    let live = guest.live()?;
    guest.lock().taint |= TAINT_CUSTOM_MONITOR;
    let text = args.cmd.to_str_lossy();
    if args.flags & HMP != 0 {
        let command_line = text.into_owned();
        let answer = live.monitor.execute(&HumanMonitorCommand { command_line, cpu_index: None }).await;
        return Ok(DomainMonitorCommandRet { result: answer.map_err(monitor)?.into() });
    }
    let command: Value = serde_json::from_str(&text)
        .map_err(|error| QEMU.internal_error(format_args!("cannot parse json {text}: {error}")))?;
    let name =
        command["execute"].as_str().ok_or_else(|| QEMU.internal_error("a command has no 'execute'"))?;
    let nothing = Map::new();
    let arguments = command["arguments"].as_object().unwrap_or(&nothing);
    // The answer is QEMU's own, errors included: it is the client's business to read it.
    let answer = match live.monitor.execute_raw(name, arguments).await {
        Ok(answer) => format!("{{\"return\":{},\"id\":{}}}", answer.get(), id(&command)),
        Err(QmpError::Command(error)) => {
            let error = serde_json::json!({"class": error.class.name(), "desc": error.desc});
            format!("{{\"id\":{},\"error\":{error}}}", id(&command))
        }
        Err(error) => return Err(monitor(error)),
    };
    Ok(DomainMonitorCommandRet { result: answer.into() })
}

/// The client's id of a command, or one like libvirt's own.
fn id(command: &Value) -> String {
    match &command["id"] {
        Value::Null => "\"libvirt-1\"".to_owned(),
        id => id.to_string(),
    }
}

impl Qemu {
    /// Tells clients that ask for them of QEMU's own events.
    pub(crate) fn pass_on(&self, guest: &Arc<Guest>, event: &QmpEvent) {
        let msg = DomainMonitorEventMsg {
            callback_id: 0,
            dom: guest.handle(),
            event: event.name.as_str().into(),
            seconds: event.seconds,
            micros: event.microseconds.try_into().unwrap_or_default(),
            details: event.data.as_ref().map(|data| data.get().into()),
        };
        self.shared.events.emit(qemu::Event::DomainMonitor(msg));
    }
}
