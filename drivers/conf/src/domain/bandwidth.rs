//! How much goes through an interface, part by part.

use super::net::{Bandwidth, Interface, Rate};
use crate::table::Mac;

impl Bandwidth {
    /// The parts by the names that clients have for them (`virDomainSetInterfaceParameters`), in libvirt's order. What
    /// comes to the guest may have a floor, which is its own.
    pub const PARTS: [&'static str; 7] = [
        "inbound.average",
        "inbound.peak",
        "inbound.burst",
        "inbound.floor",
        "outbound.average",
        "outbound.peak",
        "outbound.burst",
    ];

    /// One of [`PARTS`](Self::PARTS), in kilobytes a second or, for a burst, in kilobytes.
    pub fn part(&self, name: &str) -> Option<u64> {
        let (direction, part) = name.split_once('.')?;
        let rate = if direction == "inbound" { &self.inbound } else { &self.outbound }.as_ref()?;
        match part {
            "average" => rate.average,
            "peak" => rate.peak,
            "burst" => rate.burst,
            _ => rate.floor,
        }
    }

    /// As a client changes it that says some parts: a direction changes wholly, where an average or a floor is said. A
    /// zero ends the limit.
    pub fn changed(old: Option<Self>, said: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        let old = old.unwrap_or_default();
        let changed = |direction: &str, old: Option<Rate>| {
            let part = |name: &str| said(&format!("{direction}.{name}"));
            if part("average").or(part("floor")).is_none() {
                return old;
            }
            let [average, peak, floor, burst] =
                ["average", "peak", "floor", "burst"].map(|name| part(name).filter(|value| *value > 0));
            average.or(floor).map(|_| Rate { average, peak, floor, burst })
        };
        let inbound = changed("inbound", old.inbound);
        let outbound = changed("outbound", old.outbound);
        (inbound.is_some() || outbound.is_some()).then_some(Self { inbound, outbound, ..old })
    }
}

impl Interface {
    /// Whether a client means this one: by its address, or by the name of the host's end.
    pub fn is_called(&self, id: &str) -> bool {
        let dev = self.target.as_ref().and_then(|target| target.dev.as_deref());
        let mac = self.mac.as_ref().and_then(|mac| mac.address);
        dev == Some(id) || mac.is_some() && mac == Mac::parse_text(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_changes_wholly_or_not() {
        let rate = Rate { average: Some(5), peak: Some(6), ..Rate::default() };
        let old = Bandwidth { inbound: Some(rate.clone()), ..Bandwidth::default() };
        let with = |name: &'static str, value: u64| {
            Bandwidth::changed(Some(old.clone()), |said| (said == name).then_some(value))
        };
        assert_eq!(with("inbound.peak", 9), Some(old.clone()));
        assert_eq!(with("inbound.average", 0), None);
        let floor = with("inbound.floor", 3).unwrap();
        assert_eq!((floor.part("inbound.average"), floor.part("inbound.floor")), (None, Some(3)));
        let new = with("outbound.average", 3).unwrap();
        assert_eq!((new.inbound.as_ref(), new.part("outbound.average")), (Some(&rate), Some(3)));
    }
}
