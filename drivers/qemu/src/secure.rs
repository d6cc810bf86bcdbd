//! Guests whose memory the host cannot read.

use serde_json::json;
use virtwire_conf::domain::LaunchSecurityType;
use virtwire_driver_api::params::{self, Kind};
use virtwire_protocol::remote::DomainSetLaunchSecurityStateArgs;

use crate::blockjob::say;
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, not_running};

/// `VIR_DOMAIN_LAUNCH_SECURITY_SEV_SECRET_…`
const HEADER: &str = "sev-secret-header";
const SECRET: &str = "sev-secret";
const ADDRESS: &str = "sev-secret-set-address";

/// Puts a secret, which only the guest can read, into its memory.
pub(crate) async fn set_state(driver: &Qemu, args: DomainSetLaunchSecurityStateArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainSetLaunchSecurityState")?;
    params::validate(
        &args.params,
        &[(HEADER, Kind::String), (SECRET, Kind::String), (ADDRESS, Kind::Ullong)],
    )?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let domain = guest.lock().current().ok_or_else(not_running)?;
    if domain.launch_security.as_ref().map(|security| security.type_) != Some(LaunchSecurityType::Sev) {
        let text = "setting a launch secret is only supported in SEV-enabled domains";
        return Err(QEMU.operation_unsupported(text));
    }
    let text = |name| params::text(&args.params, name);
    let (Some(header), Some(secret)) = (text(HEADER), text(SECRET)) else {
        return Err(QEMU.invalid_arg("Both secret and the secret header are required"));
    };
    let mut arguments = json!({"packet-header": header, "secret": secret});
    if let Some(address) = params::number(&args.params, ADDRESS) {
        arguments["gpa"] = address.into();
    }
    say(&guest.live()?.monitor, "sev-inject-launch-secret", arguments).await
}
