//! The guest's users.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use virtwire_protocol::remote::*;

use super::{ask, bounded, check};
use crate::driver::Qemu;
use crate::error::{Result, check_flags};

/// `VIR_DOMAIN_PASSWORD_ENCRYPTED`
const ENCRYPTED: u32 = 1;
/// `VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_…`
const APPEND: u32 = 1;
const REMOVE: u32 = 2;

pub(crate) async fn set_user_password(driver: &Qemu, args: DomainSetUserPasswordArgs) -> Result<()> {
    check_flags(args.flags, ENCRYPTED, "qemuDomainSetUserPassword")?;
    let guest = driver.guest(&args.dom)?;
    check(&guest)?;
    let username = args.user.map(|user| user.to_string()).unwrap_or_default();
    let password = BASE64.encode(args.password.map(|password| password.to_string()).unwrap_or_default());
    let crypted = args.flags & ENCRYPTED != 0;
    let all = json!({"username": username, "password": password, "crypted": crypted});
    ask::<Value>(&guest, "DomainSetUserPassword", "guest-set-user-password", all).await.map(drop)
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

pub(crate) async fn ssh_keys(
    driver: &Qemu,
    args: DomainAuthorizedSshKeysGetArgs,
) -> Result<DomainAuthorizedSshKeysGetRet> {
    check_flags(args.flags, 0, "qemuDomainAuthorizedSSHKeysGet")?;
    let guest = driver.guest(&args.dom)?;
    let user = json!({"username": args.user.to_string()});
    let said: Keys = ask(&guest, "DomainAuthorizedSSHKeysGet", "guest-ssh-get-authorized-keys", user).await?;
    let keys = bounded(said.keys, REMOTE_DOMAIN_AUTHORIZED_SSH_KEYS_MAX, "SSH keys")?;
    Ok(DomainAuthorizedSshKeysGetRet { keys: keys.iter().map(|key| key.as_str().into()).collect() })
}

pub(crate) async fn set_ssh_keys(driver: &Qemu, args: DomainAuthorizedSshKeysSetArgs) -> Result<()> {
    check_flags(args.flags, APPEND | REMOVE, "qemuDomainAuthorizedSSHKeysSet")?;
    let guest = driver.guest(&args.dom)?;
    check(&guest)?;
    let keys: Vec<_> = args.keys.iter().map(|key| key.to_string()).collect();
    let mut all = json!({"username": args.user.to_string(), "keys": keys});
    let command = match args.flags & REMOVE {
        0 => {
            all["reset"] = (args.flags & APPEND == 0).into();
            "guest-ssh-add-authorized-keys"
        }
        _ => "guest-ssh-remove-authorized-keys",
    };
    ask::<Value>(&guest, "DomainAuthorizedSSHKeysSet", command, all).await.map(drop)
}
