//! What QEMU can do while it sends or receives a guest, and how it is told to.

use serde_json::{Map, Value, json};
use virtwire_qmp::Monitor;

use super::params::{Asked, flag, name};
use super::place::Goal;
use super::tls;
use crate::error::{QEMU, Result, monitor};

/// One end of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Target,
}

/// What has to do with a capability.
enum Use {
    /// Nobody asks for it.
    Never,
    /// A flag does, of both sides.
    Flag(u32),
    /// This side has it by itself.
    Always(Side),
    /// Both sides have it where both know it; one that had it alone would wait for the other for ever. It needs a way
    /// back, which a tunnel is not.
    Both,
    /// The same, where a flag asks for what it belongs to.
    BothWith(u32),
}

/// QEMU's capabilities, in libvirt's order.
const ALL: [(&str, Use); 13] = [
    ("xbzrle", Use::Flag(flag::COMPRESSED)),
    ("auto-converge", Use::Flag(flag::AUTO_CONVERGE)),
    ("rdma-pin-all", Use::Never),
    ("postcopy-ram", Use::Flag(flag::POSTCOPY)),
    ("pause-before-switchover", Use::Always(Side::Source)),
    ("late-block-activate", Use::Always(Side::Target)),
    ("multifd", Use::Flag(flag::PARALLEL)),
    ("dirty-bitmaps", Use::Never),
    ("return-path", Use::Both),
    ("zero-copy-send", Use::Never),
    ("postcopy-preempt", Use::BothWith(flag::POSTCOPY)),
    ("switchover-ack", Use::Both),
    ("mapped-ram", Use::Never),
];

/// A capability, as one side tells the other of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Capability {
    pub(super) name: String,
    /// That side has it by itself.
    pub(super) auto: bool,
}

/// What a QEMU can do.
///
/// # Errors
/// What QEMU says.
pub(super) async fn of(qemu: &Monitor, side: Side) -> Result<Vec<Capability>> {
    let told = qemu.execute_raw("query-migrate-capabilities", &Map::new()).await.map_err(monitor)?;
    let told: Vec<Value> = serde_json::from_str(told.get()).map_err(|error| QEMU.internal_error(error))?;
    let has = |name: &str| told.iter().any(|row| row["capability"] == name);
    let known = ALL.iter().filter(|(name, _)| has(name));
    Ok(known
        .map(|(name, of)| Capability {
            name: (*name).to_owned(),
            auto: matches!(of, Use::Always(by) if *by == side),
        })
        .collect())
}

/// Which capabilities a migration is to have on this side.
///
/// # Errors
/// One that is asked for and not known to both.
fn wanted(asked: &Asked, side: Side, own: &[Capability], other: &[Capability]) -> Result<Vec<&'static str>> {
    let has = |all: &[Capability], name: &str| all.iter().any(|known| known.name == name);
    let mut wanted = Vec::new();
    for (name, of) in &ALL {
        let on = match of {
            Use::Never => false,
            Use::Flag(flag::COMPRESSED) => asked.has(flag::COMPRESSED) && compresses(asked, name),
            Use::Flag(by) => asked.has(*by),
            Use::Always(by) => *by == side && has(own, name),
            Use::Both => !asked.has(flag::TUNNELLED) && has(own, name) && has(other, name),
            Use::BothWith(by) => asked.has(*by) && has(own, name) && has(other, name),
        };
        if !on {
            continue;
        }
        if !has(own, name) {
            let text = format_args!("Migration option '{name}' is not supported by QEMU binary");
            return Err(QEMU.argument_unsupported(text));
        }
        // A side that tells of none at all is too old to.
        if matches!(of, Use::Flag(_)) && !other.is_empty() && !has(other, name) {
            let party = if side == Side::Source { "target" } else { "source" };
            let text = format_args!("Migration option '{name}' is not supported by {party} of migration");
            return Err(QEMU.argument_unsupported(text));
        }
        wanted.push(*name);
    }
    Ok(wanted)
}

/// What else has to be asked for with a parameter, and what is said where it is not.
const TUNED: [(&str, u32, &str); 2] = [
    ("parallel.connections", flag::PARALLEL, "Turn parallel migration on to tune it"),
    ("compression.xbzrle.cache", flag::COMPRESSED, "Turn xbzrle compression on to tune it"),
];

/// Ways of compressing: those that only parallel connections have, the usual one, and one that QEMU has no more.
const METHODS: [&str; 4] = ["zlib", "zstd", "xbzrle", "mt"];

/// Checks that what is asked goes together.
///
/// # Errors
/// It does not.
pub(super) fn check(asked: &Asked) -> Result<()> {
    for method in asked.texts(name::COMPRESSION) {
        match METHODS.iter().position(|known| method == *known) {
            None => return Err(QEMU.invalid_arg(format_args!("Unsupported compression method '{method}'"))),
            Some(0 | 1) if !asked.has(flag::PARALLEL) => {
                let text =
                    format_args!("Compression method '{method}' is only supported with parallel migration");
                return Err(QEMU.invalid_arg(text));
            }
            Some(3) => {
                let text = "Migration option 'compress' is not supported by QEMU binary";
                return Err(QEMU.argument_unsupported(text));
            }
            Some(_) => {}
        }
    }
    let parallel = |method: &&String| METHODS[..2].contains(&method.as_str());
    if asked.texts(name::COMPRESSION).iter().filter(parallel).count() > 1 {
        let text = "Only one compression method could be specified with parallel compression";
        return Err(QEMU.invalid_arg(text));
    }
    tuned(asked, &TUNED)
}

/// The same of what the source alone is told.
const TUNED_AT_SOURCE: [(&str, u32, &str); 2] = [
    ("auto_converge.initial", flag::AUTO_CONVERGE, "Turn auto convergence on to tune it"),
    ("auto_converge.increment", flag::AUTO_CONVERGE, "Turn auto convergence on to tune it"),
];

fn tuned(asked: &Asked, rows: &[(&str, u32, &str)]) -> Result<()> {
    match rows.iter().find(|(name, flag, _)| asked.has_param(name) && !asked.has(*flag)) {
        Some((.., text)) => Err(QEMU.invalid_arg(text)),
        None => Ok(()),
    }
}

/// Whether memory is compressed by a method: the usual one, where none is named.
fn compresses(asked: &Asked, method: &str) -> bool {
    let named = asked.texts(name::COMPRESSION);
    named.is_empty() || named.iter().any(|named| named == method)
}

/// Numbers of a client's that are QEMU's, with what one of them is worth there.
const NUMBERS: [(&str, &str, u64); 9] = [
    (name::BANDWIDTH, "max-bandwidth", 1 << 20),
    ("bandwidth.postcopy", "max-postcopy-bandwidth", 1 << 20),
    ("bandwidth.avail.switchover", "avail-switchover-bandwidth", 1),
    ("compression.xbzrle.cache", "xbzrle-cache-size", 1),
    ("compression.zlib.level", "multifd-zlib-level", 1),
    ("compression.zstd.level", "multifd-zstd-level", 1),
    ("auto_converge.initial", "cpu-throttle-initial", 1),
    ("auto_converge.increment", "cpu-throttle-increment", 1),
    ("parallel.connections", "multifd-channels", 1),
];

/// Tells QEMU how it is to send a guest, to a goal, or to receive it. What was there before is returned.
///
/// # Errors
/// What is asked for is not to be had.
pub(super) async fn set(
    qemu: &Monitor,
    (asked, goal): (&Asked, Option<&Goal>),
    side: Side,
    own: &[Capability],
    other: &[Capability],
) -> Result<Before> {
    if side == Side::Source {
        tuned(asked, &TUNED_AT_SOURCE)?;
    }
    let wanted = wanted(asked, side, own, other)?;
    let mut arguments = Map::new();
    for (from, to, worth) in NUMBERS {
        if let Some(number) = asked.number(from) {
            arguments.insert(to.to_owned(), number.min(i64::MAX as u64 / worth).saturating_mul(worth).into());
        }
    }
    let methods = asked.texts(name::COMPRESSION);
    if let Some(method) = methods.iter().find(|method| METHODS[..2].contains(&method.as_str())) {
        arguments.insert("multifd-compression".to_owned(), method.as_str().into());
    }
    for (name, value) in tls::parameters(asked, goal) {
        arguments.insert(name.to_owned(), value);
    }
    let before = qemu.execute_raw("query-migrate-parameters", &Map::new()).await.map_err(monitor)?;
    let before: Map<String, Value> = serde_json::from_str(before.get()).unwrap_or_default();
    let before = before.into_iter().filter(|(name, _)| arguments.contains_key(name)).collect();
    switch(qemu, own, &wanted).await?;
    parameters(qemu, &arguments).await?;
    Ok(Before { parameters: before, capabilities: own.to_vec() })
}

/// How a QEMU would have sent its guest before it was told how.
#[derive(Default)]
pub(super) struct Before {
    parameters: Map<String, Value>,
    capabilities: Vec<Capability>,
}

impl Before {
    /// Takes back what QEMU was told.
    ///
    /// # Errors
    /// What QEMU says.
    pub(super) async fn again(&self, qemu: &Monitor) -> Result<()> {
        switch(qemu, &self.capabilities, &[]).await?;
        parameters(qemu, &self.parameters).await?;
        if self.parameters.contains_key("tls-creds") {
            tls::take(qemu).await;
        }
        Ok(())
    }
}

/// Has QEMU tell how a migration goes, and have no capabilities but these.
async fn switch(qemu: &Monitor, known: &[Capability], wanted: &[&str]) -> Result<()> {
    let known = known.iter().map(|known| (known.name.as_str(), wanted.contains(&known.name.as_str())));
    let all = known.chain([("events", true)]);
    let all: Vec<_> = all.map(|(name, state)| json!({"capability": name, "state": state})).collect();
    let arguments = Map::from_iter([("capabilities".to_owned(), all.into())]);
    qemu.execute_raw("migrate-set-capabilities", &arguments).await.map_err(monitor)?;
    Ok(())
}

async fn parameters(qemu: &Monitor, arguments: &Map<String, Value>) -> Result<()> {
    if !arguments.is_empty() {
        qemu.execute_raw("migrate-set-parameters", arguments).await.map_err(monitor)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(side: Side) -> Vec<Capability> {
        let auto = |of: &Use| matches!(of, Use::Always(by) if *by == side);
        ALL.iter().map(|(name, of)| Capability { name: (*name).to_owned(), auto: auto(of) }).collect()
    }

    fn of(flags: u32, side: Side, other: &[Capability]) -> Result<Vec<&'static str>> {
        let asked = Asked::new(Vec::new(), flags, "f").unwrap();
        wanted(&asked, side, &all(side), other)
    }

    #[test]
    fn each_side_has_its_own_and_what_is_asked_for() {
        let (source, target) = (all(Side::Source), all(Side::Target));
        let flags = flag::AUTO_CONVERGE;
        let both = ["return-path", "switchover-ack"];
        let expected = ["auto-converge", "pause-before-switchover"].into_iter().chain(both);
        assert_eq!(of(flags, Side::Source, &target), Ok(expected.collect()));
        let expected = ["auto-converge", "late-block-activate"].into_iter().chain(both);
        assert_eq!(of(flags, Side::Target, &source), Ok(expected.collect()));
        assert_eq!(of(flag::COMPRESSED, Side::Target, &[]), Ok(vec!["xbzrle", "late-block-activate"]));
    }

    #[test]
    fn what_the_other_side_lacks_is_refused() {
        let old = vec![Capability { name: "xbzrle".to_owned(), auto: false }];
        let error = of(flag::PARALLEL, Side::Source, &old).unwrap_err();
        assert!(error.message.ends_with("'multifd' is not supported by target of migration"), "{error}");
    }
}
