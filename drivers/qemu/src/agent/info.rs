//! What the agent knows of the guest, as parameters.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use virtwire_conf::Domain;
use virtwire_protocol::remote::*;

use super::files::{self, Place};
use super::{ask, bounded, check_by_driver, network};
use crate::driver::Qemu;
use crate::error::{Result, check_flags};
use crate::guest::Guest;

/// `VIR_DOMAIN_GUEST_INFO_…`
mod kind {
    pub(super) const USERS: u32 = 1 << 0;
    pub(super) const OS: u32 = 1 << 1;
    pub(super) const TIMEZONE: u32 = 1 << 2;
    pub(super) const HOSTNAME: u32 = 1 << 3;
    pub(super) const FILESYSTEM: u32 = 1 << 4;
    pub(super) const DISKS: u32 = 1 << 5;
    pub(super) const INTERFACES: u32 = 1 << 6;
    pub(super) const LOAD: u32 = 1 << 7;
    pub(super) const ALL: u32 = (1 << 8) - 1;
}

const PROCEDURE: &str = "DomainGetGuestInfo";

/// Parameters being put together.
struct Told(Vec<TypedParam>);

impl Told {
    fn put(&mut self, field: impl Into<String>, value: impl Into<TypedParamValue>) {
        self.0.push(TypedParam::new(field.into(), value));
    }

    fn text(&mut self, field: impl Into<String>, value: Option<&str>) {
        if let Some(value) = value {
            self.put(field, value);
        }
    }

    fn count(&mut self, field: impl Into<String>, count: usize) {
        self.put(field, u32::try_from(count).unwrap_or(u32::MAX));
    }
}

pub(crate) async fn guest_info(driver: &Qemu, args: DomainGetGuestInfoArgs) -> Result<DomainGetGuestInfoRet> {
    check_flags(args.flags, 0, "qemuDomainGetGuestInfo")?;
    check_flags(args.types, kind::ALL, "qemuDomainGetGuestInfoCheckSupport")?;
    let guest = driver.guest(&args.dom)?;
    check_by_driver(&guest)?;
    let types = if args.types == 0 { kind::ALL } else { args.types };
    let mut told = Told(Vec::new());
    let all = [
        kind::USERS,
        kind::OS,
        kind::TIMEZONE,
        kind::HOSTNAME,
        kind::FILESYSTEM,
        kind::DISKS,
        kind::INTERFACES,
        kind::LOAD,
    ];
    for kind in all.into_iter().filter(|kind| types & kind != 0) {
        let done = one(&guest, kind, &mut told).await;
        // Whoever asks for everything gets what there is.
        if args.types != 0 {
            done?;
        }
    }
    Ok(DomainGetGuestInfoRet { params: bounded(told.0, REMOTE_DOMAIN_GUEST_INFO_PARAMS_MAX, "parameters")? })
}

async fn one(guest: &Guest, kind: u32, told: &mut Told) -> Result<()> {
    match kind {
        kind::USERS => users(ask(guest, PROCEDURE, "guest-get-users", Value::Null).await?, told),
        kind::OS => system(&ask(guest, PROCEDURE, "guest-get-osinfo", Value::Null).await?, told),
        kind::TIMEZONE => timezone(&ask(guest, PROCEDURE, "guest-get-timezone", Value::Null).await?, told),
        kind::HOSTNAME => told.put("hostname", network::own_name(guest, PROCEDURE).await?.as_str()),
        kind::FILESYSTEM => {
            let all = files::list(guest, PROCEDURE).await?;
            file_systems(&all, &guest.live()?.domain, told);
        }
        kind::DISKS => {
            let all: Vec<Disk> = ask(guest, PROCEDURE, "guest-get-disks", Value::Null).await?;
            disks(&all, &guest.live()?.domain, told);
        }
        kind::INTERFACES => interfaces(&network::interfaces(guest, PROCEDURE).await?, told),
        _ => load(&ask(guest, PROCEDURE, "guest-get-load", Value::Null).await?, told),
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    user: String,
    domain: Option<String>,
    /// Seconds since 1970.
    login_time: f64,
}

fn users(all: Vec<User>, told: &mut Told) {
    told.count("user.count", all.len());
    for (at, user) in all.iter().enumerate() {
        told.put(format!("user.{at}.name"), user.user.as_str());
        told.text(format!("user.{at}.domain"), user.domain.as_deref());
        // What no clock shows is the nearest that one does.
        told.put(format!("user.{at}.login-time"), (user.login_time * 1000.0) as u64);
    }
}

fn system(all: &BTreeMap<String, Value>, told: &mut Told) {
    let known = [
        "id",
        "name",
        "pretty-name",
        "version",
        "version-id",
        "machine",
        "variant",
        "variant-id",
        "kernel-release",
        "kernel-version",
    ];
    for name in known {
        told.text(format!("os.{name}"), all.get(name).and_then(Value::as_str));
    }
}

#[derive(Deserialize)]
struct Timezone {
    zone: Option<String>,
    /// Seconds.
    offset: i32,
}

fn timezone(it: &Timezone, told: &mut Told) {
    told.text("timezone.name", it.zone.as_deref());
    told.put("timezone.offset", it.offset);
}

fn file_systems(all: &[files::FileSystem], domain: &Domain, told: &mut Told) {
    told.count("fs.count", all.len());
    for (at, it) in all.iter().enumerate() {
        told.put(format!("fs.{at}.name"), it.name.as_str());
        told.put(format!("fs.{at}.mountpoint"), it.mountpoint.as_str());
        told.put(format!("fs.{at}.fstype"), it.kind.as_str());
        if let (Some(total), Some(used)) = (it.total_bytes, it.used_bytes) {
            told.put(format!("fs.{at}.total-bytes"), total);
            told.put(format!("fs.{at}.used-bytes"), used);
        }
        told.count(format!("fs.{at}.disk.count"), it.disk.len());
        for (n, disk) in it.disk.iter().enumerate() {
            let name = |what| format!("fs.{at}.disk.{n}.{what}");
            told.text(name("alias"), disk.alias(domain));
            told.text(name("serial"), disk.serial.as_deref());
            told.text(name("device"), disk.dev.as_deref());
        }
    }
}

/// A disk or a part of one as the agent tells of it.
#[derive(Deserialize)]
struct Disk {
    name: String,
    partition: bool,
    #[serde(default)]
    dependencies: Vec<String>,
    address: Option<Place>,
    alias: Option<String>,
}

fn disks(all: &[Disk], domain: &Domain, told: &mut Told) {
    told.count("disk.count", all.len());
    for (at, disk) in all.iter().enumerate() {
        let name = |what| format!("disk.{at}.{what}");
        told.put(name("name"), disk.name.as_str());
        told.put(name("partition"), disk.partition);
        if !disk.dependencies.is_empty() {
            told.count(name("dependency.count"), disk.dependencies.len());
        }
        for (n, other) in disk.dependencies.iter().enumerate() {
            told.put(format!("disk.{at}.dependency.{n}.name"), other.as_str());
        }
        let place = disk.address.as_ref();
        told.text(name("serial"), place.and_then(|place| place.serial.as_deref()));
        told.text(name("alias"), place.and_then(|place| place.alias(domain)));
        told.text(name("guest_alias"), disk.alias.as_deref());
        told.text(name("guest_bus"), place.map(|place| place.bus_type.as_str()));
    }
}

fn interfaces(all: &[network::Interface], told: &mut Told) {
    told.count("if.count", all.len());
    for (at, it) in all.iter().enumerate() {
        told.put(format!("if.{at}.name"), it.name.as_str());
        told.put(format!("if.{at}.hwaddr"), it.hardware_address.as_deref().unwrap_or_default());
        told.count(format!("if.{at}.addr.count"), it.ip_addresses.len());
        for (n, address) in it.ip_addresses.iter().enumerate() {
            let name = |what| format!("if.{at}.addr.{n}.{what}");
            told.put(name("type"), address.ip_address_type.as_str());
            told.put(name("addr"), address.ip_address.as_str());
            told.put(name("prefix"), address.prefix);
        }
    }
}

#[derive(Deserialize)]
struct Load {
    load1m: f64,
    load5m: f64,
    load15m: f64,
}

fn load(it: &Load, told: &mut Told) {
    for (minutes, load) in [(1, it.load1m), (5, it.load5m), (15, it.load15m)] {
        told.put(format!("load.{minutes}m"), load);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_may_have_logged_in_at_any_time() {
        let said =
            r#"[{"user": "a", "login-time": 1.5}, {"user": "b", "domain": "D", "login-time": -3e300}]"#;
        let mut told = Told(Vec::new());
        users(serde_json::from_str(said).unwrap(), &mut told);
        let fields: Vec<_> = told.0.iter().map(|param| param.field.to_string()).collect();
        assert_eq!(
            fields,
            [
                "user.count",
                "user.0.name",
                "user.0.login-time",
                "user.1.name",
                "user.1.domain",
                "user.1.login-time"
            ]
        );
        assert_eq!(told.0[2].value, 1500_u64.into());
        assert_eq!(told.0[5].value, 0_u64.into());
    }

    #[test]
    fn what_the_system_does_not_say_is_not_told() {
        let mut told = Told(Vec::new());
        system(&serde_json::from_str(r#"{"id": "x", "name": 5, "other": "y"}"#).unwrap(), &mut told);
        assert_eq!(told.0, [TypedParam::new("os.id", "x")]);
    }
}
