//! Where things are in the source tree.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the root")
}

/// A file of this crate, `tests/NAME`.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A file or folder below `../shared` (or `$VIRTWIRE_SHARED`), if it is there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let base = std::env::var_os("VIRTWIRE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    Some(base.join(name)).filter(|path| path.exists())
}

/// The folder that this program was built in, `target` if nothing else was said.
///
/// # Panics
/// If the program is not in such a folder.
pub fn target() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    profile(&own).parent().expect("it is in a target folder").to_owned()
}

/// The folder of a profile in [`target`]: a test is in `target/debug/deps`, a program in `target/debug`.
pub fn profile(program: &Path) -> &Path {
    let folder = program.parent().expect("it is in a folder");
    if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }
}

/// Every file of the source tree, relative to [`root`] and sorted; hidden folders and build output left out.
pub fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("folder is readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if !name.starts_with(".git") {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The text of a file below [`root`], `None` if it isn't text.
pub fn text(file: &Path) -> Option<String> {
    String::from_utf8(fs::read(root().join(file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()))).ok()
}
