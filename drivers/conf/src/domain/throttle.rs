//! How much a disk may read and write in a second.

use virtwire_protocol::VirtError;

use crate::element;
use crate::table::{Element, Field, Result};
use crate::xml::{Node, Writer};

element! {
    /// `<iotune>`: limits per second.
    pub struct Iotune {
        leaf total_bytes_sec: Option<u64> => DOMAIN.xml_error "disk iotune field 'total_bytes_sec' must be an integer";
        leaf read_bytes_sec: Option<u64> => DOMAIN.xml_error "disk iotune field 'read_bytes_sec' must be an integer";
        leaf write_bytes_sec: Option<u64> => DOMAIN.xml_error "disk iotune field 'write_bytes_sec' must be an integer";
        leaf total_iops_sec: Option<u64> => DOMAIN.xml_error "disk iotune field 'total_iops_sec' must be an integer";
        leaf read_iops_sec: Option<u64> => DOMAIN.xml_error "disk iotune field 'read_iops_sec' must be an integer";
        leaf write_iops_sec: Option<u64> => DOMAIN.xml_error "disk iotune field 'write_iops_sec' must be an integer";
        leaf total_bytes_sec_max: Option<u64> => DOMAIN.xml_error "disk iotune field 'total_bytes_sec_max' must be an integer";
        leaf read_bytes_sec_max: Option<u64> => DOMAIN.xml_error "disk iotune field 'read_bytes_sec_max' must be an integer";
        leaf write_bytes_sec_max: Option<u64> => DOMAIN.xml_error "disk iotune field 'write_bytes_sec_max' must be an integer";
        leaf total_iops_sec_max: Option<u64> => DOMAIN.xml_error "disk iotune field 'total_iops_sec_max' must be an integer";
        leaf read_iops_sec_max: Option<u64> => DOMAIN.xml_error "disk iotune field 'read_iops_sec_max' must be an integer";
        leaf write_iops_sec_max: Option<u64> => DOMAIN.xml_error "disk iotune field 'write_iops_sec_max' must be an integer";
        leaf size_iops_sec: Option<u64> => DOMAIN.xml_error "disk iotune field 'size_iops_sec' must be an integer";
        leaf group_name: Option<String>;
        leaf total_bytes_sec_max_length: Option<u64> => DOMAIN.xml_error "disk iotune field 'total_bytes_sec_max_length' must be an integer";
        leaf read_bytes_sec_max_length: Option<u64> => DOMAIN.xml_error "disk iotune field 'read_bytes_sec_max_length' must be an integer";
        leaf write_bytes_sec_max_length: Option<u64> => DOMAIN.xml_error "disk iotune field 'write_bytes_sec_max_length' must be an integer";
        leaf total_iops_sec_max_length: Option<u64> => DOMAIN.xml_error "disk iotune field 'total_iops_sec_max_length' must be an integer";
        leaf read_iops_sec_max_length: Option<u64> => DOMAIN.xml_error "disk iotune field 'read_iops_sec_max_length' must be an integer";
        leaf write_iops_sec_max_length: Option<u64> => DOMAIN.xml_error "disk iotune field 'write_iops_sec_max_length' must be an integer";
    }
}

impl Iotune {
    /// Every limit.
    pub(crate) fn all(&self) -> [Option<u64>; 19] {
        self.clone().limits().map(|limit| *limit)
    }

    /// Zero is no limit.
    pub(crate) fn drop_zeros(&mut self) {
        for limit in self.limits() {
            limit.take_if(|limit| *limit == 0);
        }
    }

    fn limits(&mut self) -> [&mut Option<u64>; 19] {
        [
            &mut self.total_bytes_sec,
            &mut self.read_bytes_sec,
            &mut self.write_bytes_sec,
            &mut self.total_iops_sec,
            &mut self.read_iops_sec,
            &mut self.write_iops_sec,
            &mut self.total_bytes_sec_max,
            &mut self.read_bytes_sec_max,
            &mut self.write_bytes_sec_max,
            &mut self.total_iops_sec_max,
            &mut self.read_iops_sec_max,
            &mut self.write_iops_sec_max,
            &mut self.size_iops_sec,
            &mut self.total_bytes_sec_max_length,
            &mut self.read_bytes_sec_max_length,
            &mut self.write_bytes_sec_max_length,
            &mut self.total_iops_sec_max_length,
            &mut self.read_iops_sec_max_length,
            &mut self.write_iops_sec_max_length,
        ]
    }
}

/// `<throttlegroup>`: limits that disks share, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThrottleGroup(pub Iotune);

impl Element for ThrottleGroup {
    const FIELDS: &'static [Field] = Iotune::FIELDS;

    fn read(node: Node<'_>) -> Result<Self> {
        Iotune::read(node).map(Self).map_err(|error| VirtError {
            message: error.message.replace("disk iotune field", "throttle group field"),
            ..error
        })
    }

    fn write(&self, out: &mut Writer<'_>) {
        // Here the name stands last.
        Iotune { group_name: None, ..self.0.clone() }.write(out);
        if let Some(name) = &self.0.group_name {
            out.leaf("group_name", name);
        }
    }
}
