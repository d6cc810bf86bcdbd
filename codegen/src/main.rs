//! The generator by hand: what it makes of the protocol, and what it thinks of a definition file.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use virtwire_codegen::model::Direction;
use virtwire_codegen::support::Support;
use virtwire_codegen::{Facts, Model, Source, build, emit, families, inventory, model, names, show};

const USAGE: &str = "\
Usage: virtwire-codegen [--protocol DIR] COMMAND

Commands:
  show NAME...     all that is generated for a procedure, such as DOMAIN_SUSPEND
  inventory        a line per procedure
  check FILE.x...  reads definition files, ours or libvirt's own, and says what they hold or what is wrong
  docs DIR         writes the reference documentation into DIR
  policy           polkit's actions, for a file in /usr/share/polkit-1/actions
  support          the support table, read from the sources of the daemon and its drivers

DIR of --protocol holds the definition files and facts.txt; it is protocol/x of the source tree unless given.
";

fn main() -> ExitCode {
    match run(env::args().skip(1).collect()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: Vec<String>) -> Result<String, Box<dyn Error>> {
    let mut protocol = None;
    if let Some(at) = args.iter().position(|arg| arg == "--protocol") {
        args.remove(at);
        if at == args.len() {
            return Err(USAGE.into());
        }
        protocol = Some(PathBuf::from(args.remove(at)));
    }
    let protocol = || protocol.clone().map_or_else(default_protocol, Ok);
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["show", names @ ..] if !names.is_empty() => show_all(&build::load(&protocol()?)?, names),
        ["inventory"] => Ok(inventory::render(&build::load(&protocol()?)?)),
        ["check", files @ ..] if !files.is_empty() => check(files, protocol().ok().as_deref()),
        ["docs", dir] => docs(&build::load(&protocol()?)?, Path::new(dir)),
        ["policy"] => Ok(emit::policy::render(&build::load(&protocol()?)?)),
        ["support"] => {
            let protocol = protocol()?;
            let root = protocol.ancestors().nth(2).ok_or("the definition files are not in a source tree")?;
            Ok(Support::scan(root)?.markdown(&build::load(&protocol)?))
        }
        ["help" | "--help" | "-h"] => Ok(USAGE.to_owned()),
        _ => Err(USAGE.into()),
    }
}

/// `protocol/x` of the source tree that the current folder is in.
fn default_protocol() -> Result<PathBuf, Box<dyn Error>> {
    let here = env::current_dir()?;
    let mut candidates = here.ancestors().map(|folder| folder.join("protocol/x"));
    let found = candidates.find(|folder| folder.join(build::FACTS).is_file());
    Ok(found.ok_or("no protocol/x here or above: --protocol says where the definition files are")?)
}

fn show_all(model: &Model, names: &[&str]) -> Result<String, Box<dyn Error>> {
    let mut texts = Vec::new();
    for name in names {
        let found = show::find(model, name);
        if found.is_empty() {
            return Err(format!("no procedure is called {name}: 'inventory' lists them all").into());
        }
        texts.extend(found.into_iter().map(|(module, procedure)| show::procedure(model, module, procedure)));
    }
    Ok(texts.join("\n"))
}

/// Our table of facts gives the flags that annotations name.
fn check(files: &[&str], protocol: Option<&Path>) -> Result<String, Box<dyn Error>> {
    let mut files = files.to_vec();
    files.sort_by_key(|file| names::order(file));
    let facts = match protocol.map(|dir| dir.join(build::FACTS)) {
        Some(file) => Facts::parse(&file.display().to_string(), &fs::read_to_string(&file)?)?,
        None => Facts::default(),
    };
    let read = |file: &&str| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
    let texts = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let sources: Vec<_> = files.iter().zip(&texts).map(|(file, text)| Source { file, text }).collect();
    let model = model(&sources, &facts)?;
    let mut report = String::new();
    for (file, module) in files.iter().zip(&model.modules) {
        report += &format!("{file}: {} constants, {} types", module.consts.len(), module.types.len());
        if let Some(program) = &module.program {
            let count = |direction| program.procedures.iter().filter(|p| p.direction == direction).count();
            report += &format!(", {} calls, {} events", count(Direction::Call), count(Direction::Event));
        }
        report += "\n";
        let named =
            |name: &str| facts.procedures.contains_key(&(module.naming.module.to_owned(), name.to_owned()));
        let procedures = module.program.iter().flat_map(|program| &program.procedures);
        for new in procedures.filter(|p| families::served(module.naming.module) && !named(&p.name)) {
            report += &format!(
                "{file}: {} ({}) has no line in facts.txt: refused on read-only connections\n",
                new.constant, new.number
            );
        }
    }
    Ok(report)
}

fn docs(model: &Model, dir: &Path) -> Result<String, Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let mut report = String::new();
    for (file, text) in emit::docs::render(model) {
        let path = dir.join(file);
        fs::write(&path, &text)?;
        report += &format!("{}: {} bytes\n", path.display(), text.len());
    }
    Ok(report)
}
