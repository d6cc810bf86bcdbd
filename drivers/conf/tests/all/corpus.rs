//! What the recorded libvirtd answered, read and written again.

use std::fs;
use std::path::{Path, PathBuf};

use virtwire_conf::{
    Checkpoint, Domain, FormatOptions, Network, NodeDevice, Nwfilter, ParseOptions, QemuHost, Secret,
    Snapshot, StoragePool, StorageVol,
};

/// The recorded answers, if this checkout has them.
pub(crate) fn corpus() -> Option<PathBuf> {
    let shared = std::env::var_os("VIRTWIRE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let corpus = shared.join("corpus");
    if !corpus.is_dir() {
        virtwire_skip::without_data(format_args!("no corpus at {}", corpus.display()));
        return None;
    }
    Some(corpus)
}

pub(crate) fn files(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
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
pub(crate) fn difference<'t>(expected: &'t str, actual: &'t str) -> Vec<String> {
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

/// What libvirtd shows to hosts that may be older.
#[test]
fn migratable() {
    let Some(corpus) = corpus() else { return };
    let mut tally = Tally::new("migratable");
    for file in files(&corpus.join("domain"), &[".migratable.xml"]) {
        let expected = placeholders(&fs::read_to_string(&file).unwrap());
        let stored = file.to_string_lossy().replace(".migratable.xml", ".out.xml");
        let Ok(stored) = fs::read_to_string(stored) else { continue };
        let actual = Domain::parse(&placeholders(&stored), &ParseOptions::default())
            .map(|domain| domain.to_xml(&FormatOptions::from_flags(1 | 2 | 8)))
            .map_err(|e| e.message);
        tally.count(&file, &expected, actual);
    }
    tally.finish(1.0);
}

/// Values that differ from run to run are marked; any value of the kind will do here.
pub(crate) fn placeholders(text: &str) -> String {
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

/// One case of a category: its name, outcome of the first step, and tags that say what it depends on.
struct Case {
    name: String,
    refused: bool,
    host_dependent: bool,
}

fn cases(directory: &Path, step: &str) -> Vec<Case> {
    let list = fs::read_to_string(directory.join("CASES.json")).unwrap();
    let value = |line: &str, key: &str| {
        let (_, rest) = line.split_once(&format!("\"{key}\": \""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let case = |line: &str| {
        Some(Case {
            name: value(line, "case")?,
            refused: value(line, step)? == "error",
            host_dependent: line.contains("host-dependent:"),
        })
    };
    list.lines().filter_map(case).collect()
}

/// The number behind `key` in an error record's first step.
fn number(record: &str, key: &str) -> i32 {
    let rest = record.split_once(&format!("\"{key}\": ")).unwrap().1;
    rest.split([',', '\n']).next().unwrap().parse().unwrap()
}

/// Texts are equal, marks standing for anything.
fn matches(expected: &str, actual: &str) -> bool {
    let mut lines = actual.lines();
    expected.lines().all(|line| lines.next().is_some_and(|other| line_matches(line, other)))
        && lines.next().is_none()
}

fn line_matches(expected: &str, actual: &str) -> bool {
    let mut rest = actual;
    let mut expected = expected;
    while let Some((before, after)) = expected.split_once("@@") {
        let Some((_, tail)) = after.split_once("@@") else { break };
        let Some(left) = rest.strip_prefix(before) else { return false };
        let next = tail.split("@@").next().unwrap_or_default();
        let Some(at) = left.find(next).filter(|_| !next.is_empty()) else { return next.is_empty() };
        (rest, expected) = (&left[at..], tail);
    }
    rest == expected
}

/// What the recorded daemon did with an input is done again: the same document stored, or the same refusal.
fn replay(
    category: &str,
    step: &str,
    define: impl Fn(&str) -> Result<String, virtwire_protocol::VirtError>,
) -> Option<[usize; 5]> {
    let corpus = corpus()?;
    let directory = corpus.join(category);
    let show = std::env::var("CONF_REPLAY").unwrap_or_default();
    let [mut accepted, mut same, mut refused, mut code, mut message] = [0; 5];
    for case in cases(&directory, step) {
        let shown = !show.is_empty() && case.name.contains(&show) || show == "all";
        let text = fs::read_to_string(directory.join(format!("{}.xml", case.name))).unwrap();
        let result = define(&text);
        if case.refused {
            if case.host_dependent {
                continue;
            }
            refused += 1;
            let record = fs::read_to_string(directory.join(format!("{}.err.json", case.name))).unwrap();
            let record = record.split_once(&format!("\"{step}\":")).unwrap().1;
            let expected = record.split_once("\"message\": \"").unwrap().1.split_once("\",\n").unwrap().0;
            let expected = expected.replace("\\\"", "\"");
            match result {
                Err(error)
                    if (error.code.0, error.domain.0)
                        == (number(record, "code"), number(record, "domain")) =>
                {
                    code += 1;
                    message += usize::from(error.message == expected);
                    if shown && error.message != expected {
                        println!("=== {}: {} / {expected}", case.name, error.message);
                    }
                }
                Err(error) if shown => {
                    println!("=== {}: {} {:?} / {expected}", case.name, error.message, error.code)
                }
                Ok(_) if shown => println!("=== {}: accepted / {expected}", case.name),
                _ => {}
            }
            continue;
        }
        accepted += 1;
        let expected =
            fs::read_to_string(directory.join(format!("{}.out.xml", case.name))).unwrap_or_default();
        match result {
            Ok(actual) if matches(&expected, &actual) => same += 1,
            Ok(actual) if shown => {
                println!("=== {}", case.name);
                difference(&expected, &actual).iter().for_each(|line| println!("{line}"));
            }
            Err(error) if shown => println!("=== {}: {}", case.name, error.message),
            _ => {}
        }
    }
    println!(
        "{category}: stored alike {same} of {accepted}, refused alike {code} of {refused} ({message} in the same words)"
    );
    Some([accepted, same, refused, code, message])
}

fn qemu() -> ParseOptions {
    ParseOptions::qemu(std::sync::Arc::new(QemuHost::x86_64("/usr/bin/qemu-system-x86_64", "10.0", true)))
}

fn at_least(category: &str, found: [usize; 2], floor: [usize; 2]) {
    assert!(found.iter().zip(&floor).all(|(f, least)| f >= least), "{category}: {found:?}, not {floor:?}");
}

macro_rules! replayed {
    ($($test:ident: $name:ident $category:literal $step:literal least $same:literal $code:literal;)*) => {$(
        #[test]
        fn $test() {
            let counts = replay($category, $step, |text| {
                let options = FormatOptions::from_flags(3);
                $name::parse(text, &qemu()).map(|definition| definition.to_xml(&options))
            });
            if let Some([_, same, _, code, _]) = counts {
                at_least($category, [same, code], [$same, $code]);
            }
        }
    )*};
}

replayed! {
    replay_domains: Domain "domain" "define" least 325 48;
    replay_generic_domains: Domain "domain-generic" "define" least 28 16;
    replay_networks: Network "network" "define" least 39 3;
    replay_pools: StoragePool "pool" "define" least 7 0;
    replay_secrets: Secret "secret" "define" least 2 0;
    replay_nwfilters: Nwfilter "nwfilter" "define" least 6 0;
}

/// What libvirtd takes as valid says only what is known here.
#[test]
fn valid_documents_are_known() {
    let Some(corpus) = corpus() else { return };
    let invalid = virtwire_protocol::error::ErrorCode::XML_INVALID_SCHEMA;
    let mut unknown = Vec::new();
    for category in ["domain", "domain-generic", "network", "pool", "secret", "nwfilter"] {
        let directory = corpus.join(category);
        for case in cases(&directory, "define-validate").iter().filter(|case| !case.refused) {
            let text = fs::read_to_string(directory.join(format!("{}.xml", case.name))).unwrap();
            let options = qemu().validating(true);
            let error = match category {
                "network" => Network::parse(&text, &options).err(),
                "pool" => StoragePool::parse(&text, &options).err(),
                "secret" => Secret::parse(&text, &options).err(),
                "nwfilter" => Nwfilter::parse(&text, &options).err(),
                _ => Domain::parse(&text, &options).err(),
            };
            let error = error.filter(|error| error.code == invalid);
            unknown.extend(error.map(|error| format!("{category}/{}: {}", case.name, error.message)));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// Devices by themselves come out of a definition and go into one unchanged.
#[test]
fn single_devices() {
    use virtwire_conf::domain::one::Device;
    let Some(corpus) = corpus() else { return };
    let cases = cases(&corpus.join("device"), "attach");
    let mut read = 0;
    for case in cases.iter().filter(|case| !case.refused && !case.host_dependent) {
        let text = fs::read_to_string(corpus.join("device").join(format!("{}.xml", case.name))).unwrap();
        let device = Device::parse(&text).unwrap_or_else(|e| panic!("{}: {}", case.name, e.message));
        let shown = device.to_xml(&FormatOptions::from_flags(1));
        let again = Device::parse(&shown).unwrap().to_xml(&FormatOptions::from_flags(1));
        assert_eq!(shown, again, "{}", case.name);
        read += 1;
    }
    println!("{read} devices");
}
