//! QEMU's monitor for clients: commands as they are, and every event.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde_json::{Map, Value};
use virtwire_protocol::XdrString;
use virtwire_protocol::qemu::{
    self, DomainMonitorCommandArgs, DomainMonitorCommandRet, DomainMonitorCommandWithFilesArgs,
    DomainMonitorCommandWithFilesRet, DomainMonitorEventMsg,
};
use virtwire_protocol::remote::NonnullDomain;
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
    let result = run(driver, &args.dom, &args.cmd, args.flags, Vec::new()).await?;
    Ok(DomainMonitorCommandRet { result: result.into() })
}

pub(crate) async fn command_with_files(
    driver: &Qemu,
    args: DomainMonitorCommandWithFilesArgs,
    fds: Vec<OwnedFd>,
) -> Result<(DomainMonitorCommandWithFilesRet, Vec<OwnedFd>)> {
    check_flags(args.flags, HMP, "qemuDomainQemuMonitorCommandWithFiles")?;
    if fds.len() > 1 {
        return Err(QEMU.invalid_arg("at most 1 fd can be passed to qemu along with a command"));
    }
    let result = run(driver, &args.dom, &args.cmd, args.flags, fds).await?;
    // QEMU hands out no descriptors.
    Ok((DomainMonitorCommandWithFilesRet { result: result.into() }, Vec::new()))
}

/// What QEMU answers to a client's command.
async fn run(
    driver: &Qemu,
    dom: &NonnullDomain,
    cmd: &XdrString,
    flags: u32,
    fds: Vec<OwnedFd>,
) -> Result<String> {
    let guest = driver.guest(dom)?;
    let live = guest.live()?;
    guest.lock().taint |= TAINT_CUSTOM_MONITOR;
    let text = cmd.to_str_lossy();
    if flags & HMP != 0 {
        let command_line = text.into_owned();
        let answer = live.monitor.execute(&HumanMonitorCommand { command_line, cpu_index: None }).await;
        return answer.map_err(monitor);
    }
    let command: Value = serde_json::from_str(&text)
        .map_err(|error| QEMU.internal_error(format_args!("cannot parse json {text}: {error}")))?;
    let name =
        command["execute"].as_str().ok_or_else(|| QEMU.internal_error("a command has no 'execute'"))?;
    let nothing = Map::new();
    let arguments = command["arguments"].as_object().unwrap_or(&nothing);
    // The answer is QEMU's own, errors included: it is the client's business to read it.
    match live.monitor.execute_raw_with_fds(name, arguments, fds).await {
        Ok(answer) => {
            let answer: Value =
                serde_json::from_str(answer.get()).map_err(|error| QEMU.internal_error(error))?;
            Ok(format!("{{\"return\":{answer},\"id\":{}}}", id(&command)))
        }
        Err(QmpError::Command(error)) => {
            let error = serde_json::json!({"class": error.class.name(), "desc": error.desc});
            Ok(format!("{{\"id\":{},\"error\":{error}}}", id(&command)))
        }
        Err(error) => Err(monitor(error)),
    }
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
