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
    ] {
        assert_eq!(Nwfilter::parse(&text, &options()).unwrap_err().message, expected, "{text}");
    }
    let most = "<filter name='f' chain='ipv4-just-it'/>";
    assert!(Nwfilter::parse(most, &options()).is_ok());
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
