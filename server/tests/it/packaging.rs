//! What the Debian package brings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use virtwired::config::{self, Auth};

use crate::host::Host;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn everything_that_the_package_names_is_there() {
    let manifest = fs::read_to_string(root().join("server/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets: Vec<_> =
        deb["assets"].as_array().unwrap().iter().map(|asset| asset[0].as_str().unwrap()).collect();
    let host = Host::new("manual");
    let manual = &host.dir;
    for program in [env!("CARGO_BIN_EXE_virtwired"), env!("CARGO_BIN_EXE_virtwired-passwd")] {
        assert!(Command::new(program).arg("--manual").arg(manual).status().unwrap().success());
    }
    for asset in &assets {
        if let Some(page) = asset.strip_prefix("../target/manual/") {
            assert!(manual.join(page).is_file(), "{page} is not written");
            continue;
        }
        match asset.strip_prefix("target/release/") {
            // The binaries are this crate's.
            Some(binary) => assert!(["virtwired", "virtwired-passwd"].contains(&binary), "{binary}"),
            None => assert!(root().join("server").join(asset).is_file(), "{asset}"),
        }
    }
    // Those of the package's own name are found by themselves.
    for unit in ["virtwired-ro.socket", "virtwired-admin.socket"] {
        assert!(assets.iter().any(|asset| asset.ends_with(unit)), "{unit} is not packaged");
    }
}

#[test]
fn class_paths_the_package_opens_no_socket_to_all_but_the_read_only_one() {
    for (unit, mode) in
        [("virtwired.socket", "0770"), ("virtwired-ro.socket", "0777"), ("virtwired-admin.socket", "0700")]
    {
        let text = fs::read_to_string(root().join("packaging/systemd").join(unit)).unwrap();
        assert!(text.lines().any(|line| line == format!("SocketMode={mode}")), "{unit}");
    }
    let (settings, warnings) = config::read(&root().join("packaging/libvirtd.conf")).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((settings.auth_unix_rw, settings.auth_unix_ro), (Auth::Polkit, Auth::Polkit));
}
