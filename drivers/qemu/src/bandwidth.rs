//! How much goes through an interface: the kernel's queues at the host's end, set by tc(8) as libvirtd sets them.

use uuid::Uuid;
use virtwire_conf::Domain;
use virtwire_conf::domain::net::{Bandwidth, Interface, InterfaceType, Rate};
use virtwire_driver_api::params::{Kind, STRING_OKAY, answer, number, validate};
use virtwire_protocol::remote::*;

use crate::affect::{Affected, CONFIG, LIVE, edit_live, store};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, child, file};
use crate::info::one_definition;
use crate::openvswitch;
use crate::plug::device;
use crate::process::helper;

/// Kilobytes a second of which one is lent at a time.
const LENT_OF: u64 = 12;

/// Limits the host's end of an interface; what held before does no more.
///
/// # Errors
/// There is no `tc`, or the kernel has not what it takes.
pub(crate) async fn limit(guest: Uuid, interface: &Interface, bandwidth: Option<&Bandwidth>) -> Result<()> {
    let dev = device(interface);
    if openvswitch::is_behind(interface) {
        return openvswitch::limit(guest, dev, bandwidth).await;
    }
    for queue in ["root", "ingress"] {
        // There need not be any.
        let _ = tc(&format!("qdisc del dev {dev} {queue}")).await;
    }
    let rate = |rate: Option<&Rate>| rate.and_then(|rate| Some((rate.average?, rate.peak, rate.burst)));
    if let Some(inbound) = rate(bandwidth.and_then(|all| all.inbound.as_ref())) {
        for line in to_guest(dev, inbound) {
            tc(&line).await?;
        }
    }
    if let Some(outbound) = rate(bandwidth.and_then(|all| all.outbound.as_ref())) {
        for line in from_guest(dev, outbound) {
            tc(&line).await?;
        }
    }
    Ok(())
}

/// What goes to the guest waits for its turn.
fn to_guest(dev: &str, (average, peak, burst): (u64, Option<u64>, Option<u64>)) -> [String; 4] {
    let ceil = peak.map_or(String::new(), |peak| format!(" ceil {peak}kbps"));
    let burst = burst.map_or(String::new(), |burst| format!(" burst {burst}kb"));
    let quantum = (average / LENT_OF).max(1);
    [
        format!("qdisc add dev {dev} root handle 1: htb default 1"),
        format!(
            "class add dev {dev} parent 1: classid 1:1 htb rate {average}kbps{ceil}{burst} quantum {quantum}"
        ),
        format!("qdisc add dev {dev} parent 1:1 handle 2: sfq perturb 10"),
        format!("filter add dev {dev} parent 1:0 protocol all prio 1 handle 1 fw flowid 1"),
    ]
}

/// What comes from the guest too fast is dropped.
fn from_guest(dev: &str, (average, _, burst): (u64, Option<u64>, Option<u64>)) -> [String; 2] {
    let burst = burst.unwrap_or(average);
    [
        format!("qdisc add dev {dev} ingress"),
        format!(
            "filter add dev {dev} parent ffff: protocol all u32 match u32 0 0 police rate {average}kbps burst {burst}kb mtu 64kb drop flowid :1"
        ),
    ]
}

async fn tc(line: &str) -> Result<()> {
    let output = helper("tc").args(line.split(' ')).output().await;
    let output = output.map_err(|e| file(&e, "Cannot run 'tc'"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(child(&format!("tc {line}"), &output)),
    }
}

/// An interface by its address or by the name of the host's end.
fn find<'a>(domain: &'a Domain, id: &str) -> Result<&'a Interface> {
    let mut all = domain.devices.interfaces.iter();
    let unknown = || QEMU.invalid_arg(format_args!("'{id}' is not a known interface"));
    all.find(|interface| interface.is_called(id)).ok_or_else(unknown)
}

pub(crate) async fn get(
    driver: &Qemu,
    args: DomainGetInterfaceParametersArgs,
) -> Result<DomainGetInterfaceParametersRet> {
    check_flags(args.flags, LIVE | CONFIG | STRING_OKAY, "qemuDomainGetInterfaceParameters")?;
    let domain = one_definition(&driver.guest(&args.dom)?.lock(), args.flags)?;
    if args.nparams == 0 {
        let nparams = i32::try_from(Bandwidth::PARTS.len()).unwrap_or_default();
        return Ok(DomainGetInterfaceParametersRet { nparams, ..Default::default() });
    }
    let bandwidth = find(&domain, &args.device.to_str_lossy())?.bandwidth.clone().unwrap_or_default();
    let all =
        Bandwidth::PARTS.map(|name| TypedParam::new(name, bandwidth.part(name).unwrap_or_default() as u32));
    let (params, nparams) = answer(all.into(), args.nparams, args.flags);
    Ok(DomainGetInterfaceParametersRet { params, nparams })
}

pub(crate) async fn set(driver: &Qemu, args: DomainSetInterfaceParametersArgs) -> Result<()> {
    check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetInterfaceParameters")?;
    validate(&args.params, &Bandwidth::PARTS.map(|name| (name, Kind::Uint)))?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    let id = args.device.to_string();
    let changed = |old| Bandwidth::changed(old, |part| number(&args.params, part));
    let Affected { live, stored } = Affected::of(&guest, args.flags)?;
    let put = |domain: &mut Domain| {
        for interface in domain.devices.interfaces.iter_mut().filter(|interface| interface.is_called(&id)) {
            interface.bandwidth = changed(interface.bandwidth.take());
        }
    };
    let then = |domain: &Domain| {
        let interface = find(domain, &id)?;
        let bandwidth = changed(interface.bandwidth.clone());
        check(interface, bandwidth.as_ref()).map(|()| (interface.clone(), bandwidth))
    };
    stored.as_ref().map(then).transpose()?;
    if let Some(live) = live {
        let (interface, bandwidth) = then(&live.domain)?;
        let uuid = Uuid::from_bytes(guest.uuid);
        if let Err(error) = limit(uuid, &interface, bandwidth.as_ref()).await {
            // What held before holds on, as far as that can be.
            let _ = limit(uuid, &interface, interface.bandwidth.as_ref()).await;
            return Err(error);
        }
        edit_live(driver, &guest, put);
    }
    store(driver, &guest, stored, |domain| {
        put(domain);
        Ok(())
    })
}

/// Whether an interface has an end in the host that can be limited so.
fn check(interface: &Interface, bandwidth: Option<&Bandwidth>) -> Result<()> {
    use InterfaceType::{Bridge, Direct, Ethernet, Network};
    let kind = interface.type_;
    if !matches!(kind, Bridge | Direct | Ethernet | Network) {
        let text = format_args!("setting bandwidth on interfaces of type '{kind}' is not implemented yet");
        return Err(QEMU.config_unsupported(text));
    }
    let inbound = bandwidth.and_then(|bandwidth| bandwidth.inbound.as_ref());
    if inbound.is_some_and(|rate| rate.floor.is_some()) {
        let mac = interface.mac.as_ref().and_then(|mac| mac.address);
        let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
        return Err(QEMU.operation_unsupported(format_args!(
            "Invalid use of 'floor' on interface with MAC address {mac} - 'floor' is only supported for interface type 'network' with forward type 'nat', 'route', 'open' or none"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As libvirtd 11.3 calls it.
    #[test]
    fn tc_is_called_as_libvirt_calls_it() {
        assert_eq!(
            to_guest("vnet0", (300, Some(400), Some(500))),
            [
                "qdisc add dev vnet0 root handle 1: htb default 1",
                "class add dev vnet0 parent 1: classid 1:1 htb rate 300kbps ceil 400kbps burst 500kb quantum 25",
                "qdisc add dev vnet0 parent 1:1 handle 2: sfq perturb 10",
                "filter add dev vnet0 parent 1:0 protocol all prio 1 handle 1 fw flowid 1",
            ]
        );
        assert!(to_guest("vnet1", (10, None, None))[1].ends_with("htb rate 10kbps quantum 1"));
        assert_eq!(
            from_guest("vnet0", (7, None, None))[1],
            "filter add dev vnet0 parent ffff: protocol all u32 match u32 0 0 police rate 7kbps burst 7kb mtu 64kb drop flowid :1"
        );
    }
}
