use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use virtwire_conf::{NwfilterBinding, ParseOptions, QemuHost};

use super::*;

fn options() -> ParseOptions {
    ParseOptions::qemu(Arc::new(QemuHost::default()))
}

fn filters(documents: &[&str]) -> Vec<Nwfilter> {
    documents.iter().map(|text| Nwfilter::parse(text, &options()).unwrap()).collect()
}

/// What the last filter comes to, at a port.
fn outcome(documents: &[&str], parameters: &[(&str, &str)], learned: &[Ipv4Addr]) -> Result<Outcome> {
    let all = filters(documents);
    let mut lists = lists(&[]);
    lists.insert(MAC.to_owned(), vec!["52:54:00:00:00:01".to_owned()]);
    for (name, value) in parameters {
        lists.entry((*name).to_owned()).or_default().push((*value).to_owned());
    }
    let name = &all.last().unwrap().name;
    of(|name| all.iter().find(|filter| filter.name == name), name, "tap7", lists, learned)
}

fn refused(documents: &[&str], parameters: &[(&str, &str)]) -> String {
    outcome(documents, parameters, &[]).unwrap_err().message
}

/// Rules as commands, one a line, by chain: which chain's come first is not what is asked.
fn by_chain(text: &str) -> BTreeMap<(String, String), Vec<String>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let mut next = || words.next().unwrap_or_default().to_owned();
        let (program, _, chain, rule) = (next(), next(), next(), next());
        all.entry((program, chain)).or_default().push(rule);
    }
    all
}

fn shown(rules: &Rules) -> String {
    let mut text = String::new();
    for (layer, rows) in rules {
        let program = match layer {
            Layer::Link => "ebtables",
            Layer::Four => "iptables",
            Layer::Six => "ip6tables",
        };
        for row in rows {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/,!+".contains(c);
            let args = row.args.iter().map(|arg| match arg.chars().all(plain) {
                true => arg.clone(),
                false => format!("'{}'", arg.replace('\'', "'\\''")),
            });
            writeln!(text, "{program} -A {} {}", row.chain, args.collect::<Vec<_>>().join(" ")).unwrap();
        }
    }
    text
}

/// Each document below `tests/nwfilter` comes to the commands beside it, which are those that libvirtd ran.
#[test]
fn filters_come_to_what_libvirtd_makes_of_them() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/nwfilter");
    let mut seen = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "xml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let documents: Vec<&str> = text.split("\n\n").collect();
        let (binding, documents) = documents.split_last().unwrap();
        let all = filters(documents);
        let binding = NwfilterBinding::parse(binding, &options()).unwrap();
        let filter = binding.filterref.unwrap();
        let mut lists = lists(&filter.parameter);
        lists.insert(MAC.to_owned(), vec![binding.mac.unwrap().address.unwrap().to_string()]);
        let port = binding.portdev.unwrap().name.unwrap();
        let find = |name: &str| all.iter().find(|filter| filter.name == name);
        let Outcome { learn, rules } = of(find, &filter.filter.unwrap(), &port, lists, &[]).unwrap();
        assert_eq!(learn, None, "{}", path.display());
        let expected = by_chain(&fs::read_to_string(path.with_extension("rules")).unwrap());
        let actual = by_chain(&shown(&rules));
        for (chain, rows) in &expected {
            let own = actual.get(chain).map(Vec::as_slice).unwrap_or_default();
            let differs = own.iter().zip(rows).find(|(own, row)| own != row);
            assert_eq!((differs, own.len()), (None, rows.len()), "{} {chain:?}", path.display());
        }
        let mut chains = actual.keys();
        assert_eq!(chains.find(|chain| !expected.contains_key(*chain)), None, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 9, "{seen}");
}

#[test]
fn what_cannot_be_is_refused_as_libvirtd_does() {
    let rule =
        |inner: &str| format!("<filter name='f'><rule action='drop' direction='in'>{inner}</rule></filter>");
    let missing = "internal error: Cannot instantiate filter due to unresolvable variables or unavailable list elements";
    for (inner, parameters, expected) in [
        (
            "<tcp srcipaddr='$X[@1]' dstipaddr='$X' srcportstart='$X[2]'/>",
            &[][..],
            format!("{missing}: X[@1], X, X[2]"),
        ),
        ("<tcp srcipaddr='$X[1]'/>", &[("X", "1.1.1.1")], format!("{missing}: X[1]")),
        ("<tcp srcipaddr='$X['/>", &[("X", "1.1.1.1")], format!("{missing}: X[")),
        ("<tcp srcipaddr='$IP[0]'/>", &[], format!("{missing}: IP[0]")),
        ("<tcp srcipaddr='$IP'/>", &[("CTRL_IP_LEARNING", "none")], format!("{missing}: IP")),
        ("<tcp srcipaddr='$IP' dstipaddr='$X'/>", &[], format!("{missing}: X")),
        (
            "<tcp srcipaddr='$IP'/>",
            &[("CTRL_IP_LEARNING", "guess")],
            "failed to parse configuration file filter 'f' learning value 'guess' invalid.".to_owned(),
        ),
        (
            "<tcp srcipaddr='$X' srcportstart='$Y'/>",
            &[("X", "1.1.1.1"), ("Y", "1"), ("Y", "2")],
            "internal error: Cardinality of list items must be the same for processing them in parallel"
                .to_owned(),
        ),
    ] {
        assert_eq!(refused(&[&rule(inner)], parameters), expected, "{inner}");
    }
    let stp = "<filter name='f'><rule action='drop' direction='inout'><stp srcmacaddr='02:00:00:00:00:01'/></rule></filter>";
    assert!(refused(&[stp], &[]).ends_with("with source MAC address set is not supported"));
    let lonely = "<filter name='f'><filterref filter='none'/></filter>";
    assert_eq!(refused(&[lonely], &[]), "internal error: referenced filter 'none' is missing");
}

#[test]
fn a_variable_is_what_its_attribute_is() {
    for (inner, value) in [
        ("<tcp srcipaddr='$X'/>", "localhost"),
        ("<tcp dstipfrom='$X'/>", "1.1"),
        ("<arp arpsrcmacaddr='$X'/>", "1:2:3"),
        ("<ip srcipaddr='10.0.0.1' srcipmask='$X'/>", "ff"),
    ] {
        let rule = format!("<filter name='f'><rule action='drop' direction='in'>{inner}</rule></filter>");
        let text = refused(&[&rule], &[("X", value)]);
        assert!(text.ends_with(&format!("has illegal value {value}")), "{inner}: {text}");
    }
}

#[test]
fn filters_that_come_to_too_much_are_refused() {
    let rule = "<filter name='f'><rule action='drop' direction='in'>\
                <tcp srcipaddr='$A[@1]' dstportstart='$B[@2]' srcportstart='$C[@3]'/></rule></filter>";
    let numbers: Vec<String> = (1..=30).map(|number| number.to_string()).collect();
    let addresses: Vec<String> = numbers.iter().map(|number| format!("10.0.0.{number}")).collect();
    let parameters: Vec<(&str, &str)> = addresses
        .iter()
        .map(|a| ("A", a.as_str()))
        .chain(numbers.iter().flat_map(|n| [("B", n.as_str()), ("C", n.as_str())]))
        .collect();
    assert!(refused(&[rule], &parameters).contains("more than 10000 rules"));
    // Each refers twice to the one before it.
    let mut documents = vec!["<filter name='f0'/>".to_owned()];
    for level in 1..40 {
        let reference = format!("<filterref filter='f{}'/>", level - 1);
        documents.push(format!("<filter name='f{level}'>{reference}{reference}</filter>"));
    }
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    assert!(refused(&documents, &[]).contains("more than 10000 rules"));
}

#[test]
fn an_address_that_is_learned_is_waited_for_and_then_known() {
    let rule = "<filter name='f'><rule action='return' direction='out'><ip srcipaddr='$IP'/></rule></filter>";
    let Outcome { learn, rules } = outcome(&[rule], &[], &[]).unwrap();
    assert_eq!(learn, Some(Learn::Any));
    assert_eq!(
        shown(&rules),
        "ebtables -A libvirt-I-tap7 -s ! 52:54:00:00:00:01 -j DROP\n\
         ebtables -A libvirt-I-tap7 -p IPv4 -j ACCEPT\n\
         ebtables -A libvirt-I-tap7 -p ARP -j ACCEPT\n\
         ebtables -A libvirt-I-tap7 -j DROP\n\
         ebtables -A PREROUTING -i tap7 -j libvirt-I-tap7\n"
    );
    let known = [Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(10, 0, 0, 6)];
    let Outcome { learn, rules } = outcome(&[rule], &[], &known).unwrap();
    assert_eq!(learn, Some(Learn::Any));
    assert!(shown(&rules).contains("--ip-source 10.0.0.5 -j RETURN\n"), "{rules:?}");
    let dhcp = [("CTRL_IP_LEARNING", "dhcp"), ("DHCPSERVER", "10.0.0.1")];
    let Outcome { learn, rules } = outcome(&[rule], &dhcp, &[]).unwrap();
    assert_eq!(learn, Some(Learn::Dhcp));
    let text = shown(&rules);
    assert!(
        text.contains(
            "-O-tap7 -d ff:ff:ff:ff:ff:ff -p ipv4 --ip-protocol udp --ip-src 10.0.0.1 --ip-sport 67"
        ),
        "{text}"
    );
}

/// libvirtd 11.3 lets other packets pass than these say.
#[test]
fn rules_are_as_documented_where_libvirtds_are_not() {
    for (inner, expected) in [
        ("<tcp-ipv6 flags='SYN/SYN'/>", "ip6tables -A FO-tap7 -p tcp --tcp-flags SYN SYN -j DROP"),
        (
            "<udp srcportstart='1'/><udp match='no' dstportstart='2'/>",
            "iptables -A FO-tap7 -p udp --sport 1 ! --dport 2 -j DROP",
        ),
        (
            "<udp-ipv6 dstipfrom='fd00::1' dstipto='fd00::2'/>",
            "ip6tables -A FO-tap7 -p udp -m iprange --dst-range fd00::1-fd00::2 -j DROP",
        ),
        (
            "<arp arpsrcipaddr='10.0.0.0' arpsrcipmask='8' arpdstipaddr='10.0.0.1'/>",
            "ebtables -A libvirt-O-tap7 -p 0x806 --arp-ip-src 10.0.0.0/8 --arp-ip-dst 10.0.0.1/32 -j DROP",
        ),
    ] {
        let rule = format!("<filter name='f'><rule action='drop' direction='in'>{inner}</rule></filter>");
        let text = shown(&outcome(&[&rule], &[], &[]).unwrap().rules);
        assert!(text.lines().any(|line| line == expected), "{text}");
    }
}
