//! Which function serves which procedure.

use uuid::Uuid;
use virtwire_conf::FormatOptions;
use virtwire_conf::xml::utf8;
use virtwire_driver_api::{CallCx, SecretDriver, check_flags, passes, serve};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::{Entry, Result, SECRET, Secrets, no_uuid};

serve! {
    SecretDriver for Secrets {
        connect_num_of_secrets = count;
        connect_list_secrets = uuids;
        connect_list_all_secrets = all;
        secret_lookup_by_uuid = by_uuid;
        secret_lookup_by_usage = by_usage;
        secret_define_xml = define;
        secret_get_xml_desc = xml_desc;
        secret_set_value = set_value;
        secret_get_value(cx) = value;
        secret_undefine = undefine;
    }
}

async fn count(secrets: &Secrets) -> Result<ConnectNumOfSecretsRet> {
    Ok(ConnectNumOfSecretsRet { num: secrets.all().len() as i32 })
}

async fn uuids(secrets: &Secrets, args: ConnectListSecretsArgs) -> Result<ConnectListSecretsRet> {
    let most = usize::try_from(args.maxuuids).unwrap_or_default();
    let all = secrets.all();
    Ok(ConnectListSecretsRet {
        uuids: all.iter().take(most).map(|entry| entry.uuid().to_string().into()).collect(),
    })
}

/// `virConnectListAllSecretsFlags`
fn matches(entry: &Entry, flags: u32) -> bool {
    passes(flags, 1, 2, entry.is_ephemeral()) && passes(flags, 4, 8, entry.is_private())
}

async fn all(secrets: &Secrets, args: ConnectListAllSecretsArgs) -> Result<ConnectListAllSecretsRet> {
    check_flags(SECRET, args.flags, 15, "secretConnectListAllSecrets")?;
    let all = secrets.all();
    let found: Vec<_> = all.iter().filter(|entry| matches(entry, args.flags)).map(Entry::handle).collect();
    let ret = found.len() as u32;
    Ok(ConnectListAllSecretsRet { secrets: if args.need_results != 0 { found } else { Vec::new() }, ret })
}

async fn by_uuid(secrets: &Secrets, args: SecretLookupByUuidArgs) -> Result<SecretLookupByUuidRet> {
    let uuid = Uuid::from_bytes(args.uuid);
    let all = secrets.all();
    let found = all.iter().find(|entry| entry.uuid() == uuid).map(Entry::handle);
    Ok(SecretLookupByUuidRet { secret: found.ok_or_else(|| no_uuid(uuid))? })
}

async fn by_usage(secrets: &Secrets, args: SecretLookupByUsageArgs) -> Result<SecretLookupByUsageRet> {
    let id = args.usage_id.to_str_lossy();
    let all = secrets.all();
    let found = all.iter().find(|entry| entry.usage() == (args.usage_type, &*id)).map(Entry::handle);
    let missing = || SECRET.no_secret(format_args!("no secret with matching usage '{id}'"));
    Ok(SecretLookupByUsageRet { secret: found.ok_or_else(missing)? })
}

async fn define(secrets: &Secrets, args: SecretDefineXmlArgs) -> Result<SecretDefineXmlRet> {
    const VALIDATE: u32 = 1;
    check_flags(SECRET, args.flags, VALIDATE, "secretDefineXML")?;
    Ok(SecretDefineXmlRet { secret: secrets.define(utf8(args.xml.as_bytes(), ErrorDomain::SECRET)?)? })
}

async fn xml_desc(secrets: &Secrets, args: SecretGetXmlDescArgs) -> Result<SecretGetXmlDescRet> {
    check_flags(SECRET, args.flags, 0, "secretGetXMLDesc")?;
    let xml = secrets.with(&args.secret, |entry| Ok(entry.definition.to_xml(&FormatOptions::default())))?;
    Ok(SecretGetXmlDescRet { xml: xml.into() })
}

async fn set_value(secrets: &Secrets, args: SecretSetValueArgs) -> Result<()> {
    check_flags(SECRET, args.flags, 0, "secretSetValue")?;
    secrets.set_value(&args.secret, args.value)
}

/// A private secret is for the drivers of this daemon, who give it to no client.
async fn value(secrets: &Secrets, cx: &CallCx, args: SecretGetValueArgs) -> Result<SecretGetValueRet> {
    check_flags(SECRET, args.flags, 0, "secretGetValue")?;
    secrets.with(&args.secret, |entry| {
        if entry.is_private() && !cx.internal {
            return Err(SECRET.invalid_secret("secret is private"));
        }
        let missing = || SECRET.no_secret(format_args!("secret '{}' does not have a value", entry.uuid()));
        Ok(SecretGetValueRet { value: entry.value.clone().ok_or_else(missing)? })
    })
}

async fn undefine(secrets: &Secrets, args: SecretUndefineArgs) -> Result<()> {
    secrets.undefine(&args.secret)
}
