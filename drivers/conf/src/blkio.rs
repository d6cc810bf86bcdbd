//! Limits of block devices as clients read and change them: lists of paths and values, `/dev/a,500,/dev/b,300`.

use virtwire_protocol::error::{ErrorDomain, VirtError};

use crate::domain::tune::{BlkioDevice, Blkiotune};

/// A limit of one device, and how it is reached.
pub struct DeviceLimit {
    /// The typed parameter (`VIR_DOMAIN_BLKIO_DEVICE_…`).
    pub name: &'static str,
    /// Its value; 0 is none.
    pub get: fn(&BlkioDevice) -> u64,
    set: fn(&mut BlkioDevice, u64),
}

/// All limits of devices, in the order in which they are told.
pub const DEVICE_LIMITS: [DeviceLimit; 5] = [
    DeviceLimit {
        name: "device_weight",
        get: |d| d.weight.unwrap_or(0).into(),
        set: |d, value| d.weight = Some(value as u32).filter(|v| *v > 0),
    },
    DeviceLimit {
        name: "device_read_iops_sec",
        get: |d| d.read_iops_sec.unwrap_or(0).into(),
        set: |d, value| d.read_iops_sec = Some(value as u32).filter(|v| *v > 0),
    },
    DeviceLimit {
        name: "device_write_iops_sec",
        get: |d| d.write_iops_sec.unwrap_or(0).into(),
        set: |d, value| d.write_iops_sec = Some(value as u32).filter(|v| *v > 0),
    },
    DeviceLimit {
        name: "device_read_bytes_sec",
        get: |d| d.read_bytes_sec.unwrap_or(0),
        set: |d, value| d.read_bytes_sec = Some(value).filter(|v| *v > 0),
    },
    DeviceLimit {
        name: "device_write_bytes_sec",
        get: |d| d.write_bytes_sec.unwrap_or(0),
        set: |d, value| d.write_bytes_sec = Some(value).filter(|v| *v > 0),
    },
];

impl DeviceLimit {
    /// The limit of all devices that have it.
    pub fn list(&self, tune: &Blkiotune) -> String {
        let of = |device: &BlkioDevice| {
            Some((self.get)(device)).filter(|v| *v > 0).map(|v| format!("{},{v}", device.path))
        };
        tune.device.iter().filter_map(of).collect::<Vec<_>>().join(",")
    }

    /// Sets the limit of all devices of a list; others keep theirs.
    ///
    /// # Errors
    /// It is no list of paths and numbers.
    pub fn apply(&self, tune: &mut Blkiotune, list: &str) -> Result<(), VirtError> {
        for (path, value) in self.parse(list)? {
            let at = tune.device.iter().position(|device| device.path == path).unwrap_or_else(|| {
                tune.device.push(BlkioDevice { path, ..BlkioDevice::default() });
                tune.device.len() - 1
            });
            (self.set)(&mut tune.device[at], value);
        }
        Ok(())
    }

    fn parse(&self, list: &str) -> Result<Vec<(String, u64)>, VirtError> {
        let name = self.name;
        let parts: Vec<&str> = if list.is_empty() { Vec::new() } else { list.split(',').collect() };
        if !parts.len().is_multiple_of(2) {
            let text = format_args!("unable to parse blkio device '{name}' '{list}'");
            return Err(ErrorDomain::DOMAIN.invalid_arg(text));
        }
        parts
            .chunks_exact(2)
            .map(|pair| {
                let value = pair[1].parse().map_err(|_| {
                    ErrorDomain::DOMAIN.invalid_arg(format_args!(
                        "invalid value '{}' for parameter '{name}' of device '{}'",
                        pair[1], pair[0]
                    ))
                })?;
                Ok((pair[0].to_owned(), value))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_devices() {
        let weight = &DEVICE_LIMITS[0];
        let mut tune = Blkiotune::default();
        weight.apply(&mut tune, "/dev/a,5,/dev/b,6").unwrap();
        weight.apply(&mut tune, "").unwrap();
        weight.apply(&mut tune, "/dev/a,0").unwrap();
        assert_eq!(weight.list(&tune), "/dev/b,6");
        let mut bad = |list| weight.apply(&mut tune, list).unwrap_err().message;
        assert_eq!(bad("/dev/a"), "invalid argument: unable to parse blkio device 'device_weight' '/dev/a'");
        assert_eq!(
            bad("/dev/a,x"),
            "invalid argument: invalid value 'x' for parameter 'device_weight' of device '/dev/a'"
        );
    }
}
