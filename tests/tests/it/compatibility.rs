//! The page about compatibility says what the tests hold true.

use virtwire_tests::golden;
use virtwire_tests::report::{self, Agreement, markdown, page};

#[test]
fn compatibility_page_is_current() {
    let rows = report::rows().expect("the tests' files are understood");
    golden::check("docs/compatibility.md", &markdown::page(&rows));
}

#[test]
fn every_row_of_the_page_has_its_sources() {
    let rows = report::rows().expect("the tests' files are understood");
    let row = |name: &str| rows.iter().find(|row| row.name == name).expect("it is a procedure");
    let suspend = row("DOMAIN_SUSPEND");
    assert_eq!(suspend.served, ["qemu", "test"]);
    assert!(suspend.conformance.contains(&"truncated".to_owned()) && suspend.differential > 1);
    assert_eq!(suspend.agreement(), Agreement::Agrees);
    assert_eq!(row("CONNECT_GET_HOSTNAME").agreement(), Agreement::Differs);
    let html = page::html(&rows);
    assert!(html.contains("domain_suspend") && !html.contains("<link") && !html.contains("src="));
}
