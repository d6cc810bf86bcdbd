//! Replays the recorded comparison and baseline calls. The recording host's own CPU and what its QEMU makes of it are
//! read from the capabilities recorded beside them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use virtwire_conf::xml::{Document, Node};
use virtwire_cpu::{
    Baseline, Cpu, Expect, FeatureSet, HostCpu, Usable, X86, baseline, compare, hypervisor_baseline,
    hypervisor_compare,
};
use virtwire_protocol::{ErrorDomain, VirtError};

/// What of the categories must agree.
const FLOOR: f64 = 0.85;

fn corpus() -> Option<PathBuf> {
    let shared = std::env::var_os("VIRTWIRE_SHARED").map(PathBuf::from);
    let shared = shared
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap().join("shared"));
    let corpus = shared.join("corpus");
    if !corpus.join("cpu-compare").is_dir() {
        virtwire_skip::without_data("no recorded answers");
        return None;
    }
    Some(corpus)
}

/// A hypervisor with one kind of acceleration.
struct Hypervisor {
    cpu: HostCpu,
    usable: Vec<Usable>,
}

struct Recorded {
    host: HostCpu,
    kvm: Hypervisor,
    qemu: Hypervisor,
}

/// One outcome: the text or number answered, or an error.
type Outcome = Result<Answer, VirtError>;

#[derive(Debug, PartialEq)]
enum Answer {
    Number(i32),
    Text(String),
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(node: Node<'_>, name: &str) -> Option<String> {
    node.child(name).map(|node| node.text().into_owned())
}

fn named<'n>(node: Node<'n>, policy: Option<&'n str>) -> impl Iterator<Item = &'n str> {
    let features =
        node.children().filter(move |node| node.is("feature") && node.attribute("policy") == policy);
    features.filter_map(|node| node.attribute("name"))
}

fn host_cpu(node: Node<'_>) -> HostCpu {
    let table = X86::table();
    let model = text(node, "model").unwrap();
    let all = table.model(&model).unwrap().features;
    let all = all.union(table.set(named(node, None))).union(table.set(named(node, Some("require"))));
    let features = all.difference(table.set(named(node, Some("disable"))));
    HostCpu { arch: "x86_64".into(), vendor: text(node, "vendor"), features }
}

fn recorded(corpus: &Path) -> Recorded {
    let capabilities = read(corpus.join("conn/capabilities.out.xml"));
    let document = Document::parse(&capabilities, ErrorDomain::NONE).unwrap();
    let host = host_cpu(document.root().child("host").and_then(|host| host.child("cpu")).unwrap());
    let hypervisor = |name: &str| {
        let xml = read(corpus.join("domcaps").join(name));
        let document = Document::parse(&xml, ErrorDomain::NONE).unwrap();
        let cpu = document.root().child("cpu").unwrap();
        let mode = |name| cpu.children().find(|node| node.attribute("name") == Some(name)).unwrap();
        let models = mode("custom");
        let blockers = |model: &str| {
            let mut all = models.children().filter(|node| node.is("blockers"));
            let found = all.find(|node| node.attribute("model") == Some(model));
            found.map_or_else(FeatureSet::default, |node| X86::table().set(named(node, None)))
        };
        let names = models.children().filter(|node| node.is("model")).map(|node| node.text().into_owned());
        Hypervisor {
            cpu: host_cpu(mode("host-model")),
            usable: names.map(|name| Usable { blockers: blockers(&name), name }).collect(),
        }
    };
    let kvm = hypervisor("x86_64-pc-q35-10.0-kvm.out.xml");
    let qemu = hypervisor("x86_64-pc-q35-10.0-qemu.out.xml");
    Recorded { host, kvm, qemu }
}

fn ask(recorded: &Recorded, step: &str, inputs: &[String]) -> Outcome {
    let hypervisor = if step.contains("-kvm") { &recorded.kvm } else { &recorded.qemu };
    if step.contains("compare") {
        let cpu = Cpu::parse(&inputs[0], Expect::Either)?;
        let outcome = if step.starts_with("hypervisor") {
            hypervisor_compare(&hypervisor.cpu, &cpu, &hypervisor.usable)?
        } else {
            compare(&recorded.host, &cpu)?
        };
        return Ok(Answer::Number(outcome.result(step.ends_with("fail-incompatible"))?));
    }
    let mut how = Baseline { expand: step.ends_with("-expand"), migratable: step.ends_with("-migratable") };
    how.migratable &= !step.contains("-qemu");
    let parse = |expect| inputs.iter().map(|xml| Cpu::parse(xml, expect)).collect::<Result<Vec<_>, _>>();
    let common = if step.starts_with("hypervisor") {
        hypervisor_baseline(&parse(Expect::Either)?, &hypervisor.usable, how)?
    } else {
        baseline(&parse(Expect::Host)?, how)?
    };
    Ok(Answer::Text(common.guest_xml()))
}

/// Whether the answer is the one recorded, else what differs.
fn judge(dir: &Path, case: &str, step: &str, expected: &Value, got: &Outcome) -> Result<(), String> {
    match expected {
        Value::Object(number) => {
            let expected = Answer::Number(number["value"].as_i64().unwrap() as i32);
            if got.as_ref().ok() == Some(&expected) { Ok(()) } else { Err(format!("{expected:?} {got:?}")) }
        }
        Value::String(word) if word == "error" => {
            let errors: Value = serde_json::from_str(&read(dir.join(format!("{case}.err.json")))).unwrap();
            let expected = errors[step]["message"].as_str().unwrap();
            match got {
                Err(error) if error.message == expected => Ok(()),
                other => Err(format!("{expected} / {other:?}")),
            }
        }
        Value::String(word) => {
            let suffix = word.strip_prefix("ok:").unwrap();
            let expected = read(dir.join(format!("{case}.{suffix}")));
            match got {
                Ok(Answer::Text(text)) if text.trim() == expected.trim() => Ok(()),
                Ok(Answer::Text(text)) => {
                    let lines = |a: &str, b: &str| {
                        let only = a.lines().filter(|line| !b.contains(line.trim())).map(str::trim);
                        only.collect::<Vec<_>>().join(" ")
                    };
                    Err(format!("-[{}] +[{}]", lines(&expected, text), lines(text, &expected)))
                }
                other => Err(format!("text / {other:?}")),
            }
        }
        other => Err(format!("unknown expectation {other}")),
    }
}

fn inputs(category: &str, xml: &str) -> Vec<String> {
    if category == "cpu-compare" {
        return vec![xml.to_owned()];
    }
    let inner =
        xml.split("<cpu>").skip(1).map(|rest| format!("<cpu>{}", rest.split("</cpu>").next().unwrap()));
    inner.map(|text| text + "</cpu>").collect()
}

fn replay(category: &str) {
    let Some(corpus) = corpus() else { return };
    let recorded = recorded(&corpus);
    let dir = corpus.join(category);
    let cases: Value = serde_json::from_str(&read(dir.join("CASES.json"))).unwrap();
    let (mut same, mut all) = (0u32, 0u32);
    for case in cases["cases"].as_array().unwrap() {
        let name = case["case"].as_str().unwrap();
        let inputs = inputs(category, &read(dir.join(format!("{name}.xml"))));
        for (step, expected) in case["steps"].as_object().unwrap() {
            all += 1;
            match judge(&dir, name, step, expected, &ask(&recorded, step, &inputs)) {
                Ok(()) => same += 1,
                Err(difference) => println!("{name} {step}: {difference:.400}"),
            }
        }
    }
    let share = f64::from(same) / f64::from(all);
    println!("{category}: {same} of {all} answers agree ({:.1} %)", share * 100.0);
    assert!(share >= FLOOR, "{category}: only {:.1} % agree", share * 100.0);
}

#[test]
fn comparisons() {
    replay("cpu-compare");
}

#[test]
fn baselines() {
    replay("cpu-baseline");
}
