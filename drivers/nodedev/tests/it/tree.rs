//! A machine's devices from a description; what its lines mean is said at its beginning.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A device while its lines are read.
struct Device {
    path: PathBuf,
    name: String,
    set: String,
    uevent: String,
    udev: String,
}

/// Makes the directories `sys` and `udev` in `root`.
pub(crate) fn grow(root: &Path, text: &str) {
    let mut device = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.trim_start().split_once(' ').unwrap();
        if word == "device" {
            device.replace(begin(root, rest)).inspect(|device| end(root, device));
            continue;
        }
        let device = device.as_mut().expect("a line of a device");
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let path = device.path.join(name);
        match word {
            "uevent" => device.uevent += &format!("{rest}\n"),
            "udev" => device.udev += &format!("{rest}\n"),
            "file" => put(&path, (value.replace("\\s", " ").replace("\\n", "\n") + "\n").as_bytes()),
            "bytes" => put(&path, &bytes(value)),
            "link" => link(root, &path, value),
            _ => panic!("{line}"),
        }
    }
    end(root, &device.unwrap());
}

fn begin(root: &Path, line: &str) -> Device {
    let (path, set) = line.split_once(' ').unwrap();
    let name = path.rsplit('/').next().unwrap().to_owned();
    let members = root.join("sys").join(set).join(if set.starts_with("bus/") { "devices" } else { "" });
    let device = Device {
        path: root.join("sys").join(path),
        name,
        set: set.to_owned(),
        uevent: String::new(),
        udev: String::new(),
    };
    fs::create_dir_all(&device.path).unwrap();
    link(root, &device.path.join("subsystem"), set);
    link(root, &members.join(&device.name), path);
    device
}

fn end(root: &Path, device: &Device) {
    put(&device.path.join("uevent"), device.uevent.as_bytes());
    let value = |key: &str| device.uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let (_, subsystem) = device.set.split_once('/').unwrap();
    let record = match (value("MAJOR"), value("MINOR"), value("IFINDEX")) {
        (Some(major), Some(minor), _) if subsystem == "block" => format!("b{major}:{minor}"),
        (Some(major), Some(minor), _) => format!("c{major}:{minor}"),
        (_, _, Some(index)) => format!("n{index}"),
        _ => format!("+{subsystem}:{}", device.name),
    };
    if !device.udev.is_empty() {
        put(&root.join("udev").join(record), device.udev.as_bytes());
    }
}

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn link(root: &Path, path: &Path, target: &str) {
    let target = root.join("sys").join(target);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if !target.exists() {
        fs::create_dir_all(&target).unwrap();
    }
    symlink(target, path).unwrap();
}

/// `AT:HEX`, each in hexadecimal.
fn bytes(text: &str) -> Vec<u8> {
    let mut found = Vec::new();
    for part in text.split(' ') {
        let (at, digits) = part.split_once(':').unwrap();
        let at = usize::from_str_radix(at, 16).unwrap();
        found.resize(at, 0);
        let digits: Vec<char> = digits.chars().collect();
        found.extend(digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()));
    }
    found
}
