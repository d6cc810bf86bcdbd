//! Network filters: what is refused as libvirt 11.3 refuses it, and what it leaves out without a word.

use std::sync::Arc;

use virtwire_conf::{FormatOptions, Nwfilter, NwfilterBinding, ParseOptions, QemuHost};

fn options() -> ParseOptions {
    ParseOptions::qemu(Arc::new(QemuHost::default()))
}

#[test]
fn chains_and_masks_that_cannot_be_are_refused() {
    let rule =
        |inner: &str| format!("<filter name='f'><rule action='drop' direction='in'>{inner}</rule></filter>");
    for (text, expected) in [
        (
            "<filter name='f' chain='ipv4-whatever'/>".to_owned(),
            "invalid argument: Name of chain is longer than 12 characters",
        ),
        (
            rule("<mac srcmacaddr='02:00:00:00:00:01' srcmacmask='ff:00:ff:00:00:00'/>"),
            "internal error: srcmacmask has illegal value ff:00:ff:00:00:00",
        ),
        (
            rule("<stp root-address='02:00:00:00:00:01' root-address-mask='00:00:00:00:00:01'/>"),
            "internal error: root-address-mask has illegal value 00:00:00:00:00:01",
        ),
        (rule("<arp opcode='65536' hwtype='65536'/>"), "internal error: opcode has illegal value 65536"),
    ] {
        assert_eq!(Nwfilter::parse(&text, &options()).unwrap_err().message, expected, "{text}");
    }
    let most = "<filter name='f' chain='ipv4-just-it'/>";
    assert!(Nwfilter::parse(most, &options()).is_ok());
}

/// What an element says beside another that is negated, and how it is shown.
#[test]
fn what_belongs_to_an_attribute_is_negated_with_it() {
    for (plain, negated, shown) in [
        (
            "mac srcmacaddr='02:00:00:00:00:01'",
            "srcmacmask='ff:ff:00:00:00:00'",
            "<mac srcmacaddr='02:00:00:00:00:01' srcmacmask='ff:ff:00:00:00:00'/>",
        ),
        (
            "arp srcmacaddr='02:00:00:00:00:01'",
            "srcmacmask='ff:ff:00:00:00:00'",
            "<arp srcmacaddr='02:00:00:00:00:01'/><arp match='no' srcmacmask='ff:ff:00:00:00:00'/>",
        ),
        ("ip srcipmask='24'", "srcipaddr='10.0.0.1'", "<ip match='no' srcipaddr='10.0.0.1' srcipmask='24'/>"),
        (
            "udp dscp='1' dstportend='9'",
            "dstportstart='7'",
            "<udp dscp='1'/><udp match='no' dstportstart='7' dstportend='9'/>",
        ),
        ("icmp code='3'", "type='8'", "<icmp match='no' type='8' code='3'/>"),
        (
            "udp dscp='1'",
            "dstportend='9' comment='c'",
            "<udp dscp='1' dstportend='9'/><udp match='no' comment='c'/>",
        ),
    ] {
        let tag = plain.split(' ').next().unwrap();
        let text = format!(
            "<filter name='f'><rule action='drop' direction='in'><{plain}/><{tag} match='no' {negated}/></rule></filter>"
        );
        let own = Nwfilter::parse(&text, &options()).unwrap().to_xml(&FormatOptions::default());
        let begin = format!("<{tag} ");
        let own: String = own.lines().map(str::trim).filter(|line| line.starts_with(&begin)).collect();
        assert_eq!(own, shown, "{text}");
    }
}

#[test]
fn parameters_have_few_characters() {
    let parameter = |name: &str, value: &str| format!("<parameter name='{name}' value='{value}'/>");
    let kept = [parameter("A_1", "10.0.0.1"), parameter("B", "fe80::1"), parameter("C", "a_b")].concat();
    let lost =
        [parameter("A.1", "1"), parameter("A", "-j"), parameter("A", "10.0.0.0/8"), parameter("A", "a b")]
            .concat();
    let text = format!(
        "<filterbinding><owner><name>a</name><uuid>11111111-2222-3333-4444-555555555555</uuid></owner>
         <portdev name='p'/><mac address='52:54:00:00:00:01'/><filterref filter='f'>{lost}{kept}</filterref></filterbinding>"
    );
    let shown = NwfilterBinding::parse(&text, &options()).unwrap().to_xml(&FormatOptions::default());
    let shown: String = shown.lines().filter(|line| line.contains("<parameter")).map(str::trim).collect();
    assert_eq!(shown, kept);
}
