//! What the recorded libvirtd answered, read and written again.

use std::fs;
use std::path::{Path, PathBuf};

use virtwire_conf::{
    Checkpoint, Domain, FormatOptions, Network, NodeDevice, Nwfilter, ParseOptions, Secret, Snapshot,
    StoragePool, StorageVol,
};

/// The recorded answers, if this checkout has them.
fn corpus() -> Option<PathBuf> {
    let shared = std::env::var_os("VIRTWIRE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let corpus = shared.join("corpus");
    if !corpus.is_dir() {
        println!("skipped: no corpus at {}", corpus.display());
        return None;
    }
    Some(corpus)
}

fn files(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| endings.iter().any(|e| path.to_string_lossy().ends_with(e)))
        .collect();
    files.sort();
    files
}

/// How many documents come out as they went in.
struct Tally {
    name: &'static str,
    same: usize,
    all: usize,
}

impl Tally {
    fn new(name: &'static str) -> Self {
        Self { name, same: 0, all: 0 }
    }

    /// `CONF_SHOW=word` prints what differs in documents whose name has the word in it.
    fn count(&mut self, file: &Path, expected: &str, actual: Result<String, String>) {
        self.all += 1;
        let actual = actual.unwrap_or_else(|e| e);
        if expected.trim_end() == actual.trim_end() {
            self.same += 1;
        } else if let Some(word) = std::env::var_os("CONF_SHOW") {
            if !file.to_string_lossy().contains(&*word.to_string_lossy()) {
                return;
            }
            println!("--- {}", file.file_name().unwrap().display());
            for line in difference(expected, &actual) {
                println!("{line}");
            }
        }
    }

    fn finish(self, least: f64) {
        println!("{}: {} of {} the same", self.name, self.same, self.all);
        assert!(self.same as f64 >= least * self.all as f64, "{}: {} of {}", self.name, self.same, self.all);
    }
}

/// The lines that are in one of two texts only.
fn difference<'t>(expected: &'t str, actual: &'t str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let ahead = (0..40).find_map(|d| {
            (0..=d)
                .map(|a| (a, d - a))
                .find(|(a, b)| matches!((old.get(i + a), new.get(j + b)), (Some(x), Some(y)) if x == y))
        });
        let (a, b) = ahead.unwrap_or((old.len() - i, new.len() - j));
        lines.extend(old[i..i + a].iter().map(|l| format!("-{l}")));
        lines.extend(new[j..j + b].iter().map(|l| format!("+{l}")));
        (i, j) = (i + a, j + b);
    }
    lines
}

/// What libvirtd shows is read and shown again.
macro_rules! stable {
    ($($test:ident: $name:ident [$($category:literal),*] [$($ending:literal = $flags:literal),*];)*) => {$(
        #[test]
        fn $test() {
            let Some(corpus) = corpus() else { return };
            let mut tally = Tally::new(stringify!($test));
            for category in [$($category),*] {
                for (ending, flags) in [$(($ending, $flags)),*] {
                    for file in files(&corpus.join(category), &[ending]) {
                        let text = placeholders(&fs::read_to_string(&file).unwrap());
                        let actual = $name::parse(&text, &ParseOptions::default())
                            .map(|definition| definition.to_xml(&FormatOptions::from_flags(flags)))
                            .map_err(|e| e.message);
                        tally.count(&file, &text, actual);
                    }
                }
            }
            tally.finish(1.0);
        }
    )*};
}

stable! {
    domains: Domain ["domain", "domain-generic", "device"] [".out.xml" = 3, ".plain.xml" = 0];
    networks: Network ["network", "network-update"] [".out.xml" = 1];
    pools: StoragePool ["pool"] [".out.xml" = 1];
    volumes: StorageVol ["volume"] [".out.xml" = 1];
    secrets: Secret ["secret"] [".out.xml" = 1];
    nwfilters: Nwfilter ["nwfilter"] [".out.xml" = 1];
    snapshots: Snapshot ["snapshot"] [".out.xml" = 3];
    checkpoints: Checkpoint ["checkpoint"] [".out.xml" = 3];
    node_devices: NodeDevice ["nodedev"] [".xml" = 3];
}

/// Values that differ from run to run are marked; any value of the kind will do here.
fn placeholders(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("@@") {
        let Some((mark, tail)) = after.split_once("@@") else { break };
        out.push_str(before);
        let (kind, number) = mark.split_once('.').unwrap_or((mark, "0"));
        let number: u32 = number.parse().unwrap_or(0);
        match kind {
            "uuid" => out.push_str(&format!("00000000-0000-4000-8000-{number:012}")),
            "macend" => out.push_str(&format!("00:00:{number:02}")),
            "datetime" => out.push_str("2001-02-03T04:05:06"),
            _ => out.push_str(&number.to_string()),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}
