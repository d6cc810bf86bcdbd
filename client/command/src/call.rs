//! `virtwire call`: one procedure, JSON in, JSON out.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use clap::Args;
use virtwire_client::{Chunk, Connection, Credentials, Options as ConnectionOptions, Stream};
use virtwire_protocol::procedures::{Family, StreamMode};
use virtwire_protocol::schema;

use crate::arguments;
use crate::failure::Failure;
use crate::password;
use crate::procedures::{self, Found};
use crate::shape::shape;

/// Call a procedure: JSON in, JSON out
///
/// Procedures are named as in the protocol, in any case, with - or _: DOMAIN_SUSPEND, domain-suspend, and by the
/// library's function, virDomainSuspend. Those of the programs qemu, lxc and admin may have their program's name before
/// them.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The procedure
    #[arg(required_unless_present = "list")]
    procedure: Option<String>,

    /// Its arguments: one JSON object, - to read it from standard input, or field=value, field=@file
    ///
    /// What is left out is 0, empty or absent. A domain, network, pool, interface, device or filter can be given by its
    /// name.
    #[arg(value_name = "JSON | FIELD=VALUE")]
    arguments: Vec<String>,

    /// The daemon, by a libvirt URI; without one it is asked what it opens by itself
    #[arg(
        short,
        long,
        value_name = "URI",
        env = "LIBVIRT_DEFAULT_URI",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    connect: String,

    /// Connect read-only
    #[arg(short, long)]
    readonly: bool,

    /// Where the stream that the call opens goes to or comes from; - is standard output or input
    #[arg(short, long, value_name = "FILE")]
    stream: Option<String>,

    /// Send this open file along, for calls that take descriptors
    #[arg(long, value_name = "FILE")]
    descriptor: Vec<String>,

    /// Show what the procedure takes and gives, and call nothing
    #[arg(long, conflicts_with = "list")]
    describe: bool,

    /// List all procedures, or those whose names hold the word given
    #[arg(short, long)]
    list: bool,
}

const EXAMPLES: &str = "\
Examples:
  virtwire call connect-list-all-domains need_results=1 -c test:///default
  virtwire call domain-get-info dom=test -c test:///default
  virtwire call domain-create-xml xml_desc=@guest.xml
  virtwire call domain-screenshot dom=guest --stream screen.png
  virtwire call qemu-domain-monitor-command '{\"domain\": \"guest\", \"cmd\": \"info kvm\", \"flags\": 1}'
  virtwire call --list snapshot
  virtwire call domain-set-memory --describe";

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let name = options.procedure.as_deref().unwrap_or_default();
    if options.list {
        return list(name);
    }
    let found = procedures::find(name).ok_or_else(|| unknown(name))?;
    if options.describe {
        return describe(found);
    }
    let mut args = arguments::parse(&options.arguments, found.info.args)?;
    let lookups = arguments::lookups(found.info.args, &args);
    if lookups.is_empty() {
        arguments::encode(found.info.args, &args, &found.name())?;
    }
    let descriptors = options.descriptor.iter().map(|path| {
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.map(Into::into).map_err(Failure::file(path))
    });
    let descriptors = descriptors.collect::<Result<Vec<_>, _>>()?;
    let stream = match (&found.info.stream, &options.stream) {
        (Some(_), None) => {
            return Err(Failure::Usage(format!(
                "{} opens a stream: say with --stream where to",
                found.name()
            )));
        }
        (Some(kind), Some(path)) => Some((kind.mode, path.as_str())),
        (None, _) => None,
    };

    let connection = connect(found, &options).await?;
    arguments::look_up(&connection, &lookups, &mut args).await?;
    let payload = arguments::encode(found.info.args, &args, &found.name())?;
    let reply = connection.call_raw(found.program, found.info.number, &payload, descriptors).await?;
    if let Some(ret) = found.info.ret {
        let value = schema::to_json(ret, &reply.payload).map_err(virtwire_client::Error::from)?;
        // Standard output may be the stream's.
        if matches!(stream, Some((StreamMode::Read, "-"))) {
            eprintln!("{value:#}");
        } else {
            println!("{value:#}");
        }
    }
    if !reply.descriptors.is_empty() {
        eprintln!("descriptors in the reply, closed again: {}", reply.descriptors.len());
    }
    if let (Some((mode, path)), Some(stream)) = (stream, reply.stream) {
        match mode {
            StreamMode::Read => download(stream, path).await?,
            StreamMode::Write => upload(stream, path).await?,
        }
    }
    Ok(connection.close().await?)
}

async fn connect(found: Found, options: &Options) -> Result<Connection, Failure> {
    if found.info.family == Family::Admin {
        return Ok(Connection::open_admin(&options.connect).await?);
    }
    let credentials = Some(Credentials::ask(password::ask));
    let how = ConnectionOptions { read_only: options.readonly, credentials, ..ConnectionOptions::default() };
    Ok(Connection::open_with(&options.connect, how).await?)
}

async fn download(stream: Stream, path: &str) -> Result<(), Failure> {
    let mut out: Box<dyn Write> = match path {
        "-" => Box::new(std::io::stdout().lock()),
        _ => Box::new(File::create(path).map_err(Failure::file(path))?),
    };
    while let Some(chunk) = stream.recv().await? {
        match chunk {
            Chunk::Data(bytes) => out.write_all(&bytes),
            Chunk::Hole(length) => std::io::copy(&mut std::io::repeat(0).take(length), &mut out).map(drop),
        }
        .map_err(Failure::file(path))?;
    }
    out.flush().map_err(Failure::file(path))?;
    Ok(stream.finish().await?)
}

async fn upload(stream: Stream, path: &str) -> Result<(), Failure> {
    let mut input: Box<dyn Read> = match path {
        "-" => Box::new(std::io::stdin().lock()),
        _ => Box::new(File::open(path).map_err(Failure::file(path))?),
    };
    let mut piece = vec![0; 256 << 10];
    loop {
        match input.read(&mut piece).map_err(Failure::file(path))? {
            0 => return Ok(stream.finish().await?),
            count => stream.send(piece.get(..count).unwrap_or_default()).await?,
        }
    }
}

fn unknown(name: &str) -> Failure {
    let mut text = format!("there is no procedure '{name}'");
    let similar = procedures::similar(name);
    if !similar.is_empty() {
        text += &format!("; perhaps one of these:\n  {}", similar.join("\n  "));
    }
    text += "\n\n'virtwire call --list' lists them all";
    Failure::Usage(text)
}

fn describe(found: Found) -> Result<(), Failure> {
    let Found { program, info } = found;
    let mut out = std::io::stdout().lock();
    let since = if info.since.is_empty() { String::new() } else { format!(", since libvirt {}", info.since) };
    writeln!(out, "{}\n  procedure {} of program {}{since}", found.name(), info.number, program.name)?;
    if !info.api.is_empty() {
        writeln!(out, "  {}", info.api)?;
    }
    for (what, of) in [("takes", info.args), ("gives", info.ret)] {
        writeln!(out, "\n{what} {}", of.map_or_else(|| "nothing".to_owned(), shape))?;
    }
    if let Some(stream) = &info.stream {
        let way = match stream.mode {
            StreamMode::Read => "from the daemon",
            StreamMode::Write => "to the daemon",
        };
        writeln!(out, "\nopens a stream {way}")?;
    }
    Ok(())
}

fn list(word: &str) -> Result<(), Failure> {
    let word = word.replace('-', "_").to_ascii_lowercase();
    let rows: Vec<_> = procedures::all()
        .map(|found| (found.name(), found.info))
        .filter(|(name, info)| name.contains(&word) || info.api.to_ascii_lowercase().contains(&word))
        .collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = std::io::stdout().lock();
    for (name, info) in rows {
        let line = format!("{name:width$}  {:>3}  {}", info.number, info.api);
        // A reader that has seen enough, such as head, is no error.
        if writeln!(out, "{}", line.trim_end()).is_err() {
            break;
        }
    }
    Ok(())
}
