//! The guest's TPM.

use virtwire_conf::Domain;
use virtwire_conf::domain::misc::{Tpm, TpmBackendType, TpmModel};
use virtwire_protocol::VirtError;

use super::{Json, alias};
use crate::command::{CommandLine, escape};
use crate::error::file;

/// The chip that a guest has where nothing else is said.
const HOST_CHIP: &str = "/dev/tpm0";

pub(super) fn tpms(line: &mut CommandLine, domain: &Domain) -> Result<(), VirtError> {
    for tpm in &domain.devices.tpms {
        let name = alias(&tpm.info);
        let kind = tpm.backend.as_ref().map(|backend| backend.type_);
        match kind {
            Some(TpmBackendType::Passthrough) | None => passthrough(line, tpm)?,
            Some(TpmBackendType::Emulator | TpmBackendType::External) => emulator(line, tpm),
        }
        let device = Json::new(tpm.model.map_or("tpm-tis", TpmModel::as_str));
        device.with("tpmdev", format!("tpm-{name}")).with("id", name).at(domain, &tpm.info).add(line);
    }
    Ok(())
}

/// The host's own.
fn passthrough(line: &mut CommandLine, tpm: &Tpm) -> Result<(), VirtError> {
    let device = tpm.backend.as_ref().and_then(|backend| backend.device.as_ref());
    let path = device.and_then(|device| device.path.as_deref()).unwrap_or(HOST_CHIP);
    std::fs::metadata(path).map_err(|e| file(&e, format_args!("Could not open TPM device {path}")))?;
    let id = alias(&tpm.info);
    line.option("-tpmdev", format!("passthrough,id=tpm-{id},path={}", escape(path)));
    Ok(())
}

/// One in a process of its own. Its socket is known once that runs; till then nothing is there.
fn emulator(line: &mut CommandLine, tpm: &Tpm) {
    let source = tpm.backend.as_ref().and_then(|backend| backend.source.as_ref());
    let socket = source.filter(|source| source.type_.as_deref() == Some("unix"));
    let chardev = match socket.and_then(|source| source.path.as_deref()) {
        Some(path) => format!("socket,id=chrtpm,path={}", escape(path)),
        None => "null,id=chrtpm".to_owned(),
    };
    line.option("-chardev", chardev);
    line.option("-tpmdev", format!("emulator,id=tpm-{},chardev=chrtpm", alias(&tpm.info)));
}
