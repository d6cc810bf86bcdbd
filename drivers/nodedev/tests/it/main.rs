//! The driver on a machine that has one of everything.

mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use uuid::Uuid;
use virtwire_driver_api::{CallCx, EventHub, NodeDeviceDriver};
use virtwire_driver_nodedev::{NodeDevices, Places};
use virtwire_protocol::remote::*;
use virtwire_store::Scratch;

/// What libvirtd 11.3 showed of the same tree: every device's document, in the order of their names.
const EXPECTED: &str = include_str!("expected.xml");

fn open(root: &Path) -> NodeDevices {
    tree::grow(root, include_str!("tree.txt"));
    std::fs::write(root.join("pci.ids"), include_str!("pci.ids")).unwrap();
    let places = Places::new(root.join("sys"), root.join("udev"), root.join("pci.ids"));
    NodeDevices::new(places, Uuid::nil(), EventHub::new())
}

async fn list(devices: &NodeDevices, flags: u32) -> Vec<String> {
    let args = ConnectListAllNodeDevicesArgs { need_results: 1, flags };
    let found = devices.connect_list_all_node_devices(&CallCx::default(), args).await.unwrap();
    found.devices.into_iter().map(|device| device.name.to_string()).collect()
}

async fn xml(devices: &NodeDevices, name: &str) -> String {
    let args = NodeDeviceGetXmlDescArgs { name: name.into(), flags: 0 };
    devices.node_device_get_xml_desc(&CallCx::default(), args).await.unwrap().xml.to_string()
}

/// The documents of a text, by the name in each.
fn documents(text: &str) -> BTreeMap<&str, &str> {
    fn name(document: &str) -> Option<&str> {
        Some(document.split_once("<name>")?.1.split_once("</name>")?.0)
    }
    text.split_inclusive("</device>\n").filter_map(|document| Some((name(document)?, document))).collect()
}

#[tokio::test]
async fn every_kind_of_device_is_shown_as_libvirtd_shows_it() {
    let scratch = Scratch::new();
    let devices = open(scratch.path());
    let names = list(&devices, 0).await;
    let mut shown = String::new();
    for name in &names {
        shown += &xml(&devices, name).await;
    }
    let (expected, shown) = (documents(EXPECTED), documents(&shown));
    assert_eq!(shown.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in expected {
        assert_eq!(shown.get(name), Some(&expected), "{name}");
    }
}
