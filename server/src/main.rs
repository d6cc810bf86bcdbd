//! `virtwired`: libvirtd's place, libvirtd's options.

mod background;
mod options;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use tokio::signal::unix::{SignalKind, signal};
use virtwired::config::Settings;
use virtwired::drivers::Host;
use virtwired::log::{Filters, Log, Outputs, Priority};
use virtwired::{Config, Daemon, Service, config, manual, notify, sandbox};

use options::Options;

fn main() -> ExitCode {
    sandbox::keep_descriptors();
    let options = Arc::new(Options::parse());
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virtwired: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Anything that ends the daemon; it has only to be read.
type Fatal = Box<dyn std::error::Error>;

fn run(options: &Arc<Options>) -> Result<(), Fatal> {
    if options.default_config {
        print!("{}", Settings::annotated());
        return Ok(());
    }
    if let Some(directory) = &options.manual {
        return Ok(manual::write(Options::command(), directory)?);
    }
    let (settings, warnings) = settings(options)?;
    let log = open_log(options, &settings)?;
    let config = options.sockets(&settings).with(settings)?;
    if options.check_config {
        for warning in warnings {
            eprintln!("virtwired: warning: {warning}");
        }
        return Ok(());
    }
    log.install();
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if options.daemon && !background::is_started() {
        return Ok(background::start()?);
    }
    for warning in sandbox::enter(&config.settings, &options.writable(&config))? {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(options, &config, log)).map_err(Into::into)
}

/// What the configuration file says. A file that was named must be there.
fn settings(options: &Options) -> Result<(Settings, Vec<String>), Fatal> {
    let path = match &options.config {
        Some(path) => path.clone(),
        None => match options::default_config() {
            Some(path) if path.exists() => path,
            _ => return Ok((Settings::default(), Vec::new())),
        },
    };
    config::read(&path).map_err(|error| format!("Can't load config file: {error}").into())
}

/// The log as file, environment (`LIBVIRT_LOG_FILTERS`, `LIBVIRT_LOG_OUTPUTS`) and command line say, each over the
/// one before it.
fn open_log(options: &Options, settings: &Settings) -> Result<Log, Fatal> {
    let level = if options.verbose { Some(Priority::Info) } else { Priority::new(settings.log_level) };
    let log = Log::new(level);
    set_log(&log, settings)?;
    Ok(log)
}

/// Filters and outputs as the environment says, else the file. Files are opened anew.
fn set_log(log: &Log, settings: &Settings) -> Result<(), Fatal> {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    if let Some(filters) = variable("LIBVIRT_LOG_FILTERS").or_else(|| settings.log_filters.clone()) {
        log.set_filters(filters.parse::<Filters>()?);
    }
    if let Some(outputs) = variable("LIBVIRT_LOG_OUTPUTS").or_else(|| settings.log_outputs.clone()) {
        log.set_outputs(outputs.parse::<Outputs>()?)?;
    }
    Ok(())
}

/// Reads the configuration file again. Where it is bad, all stays as it was.
async fn reload(options: &Options, log: &Log, service: &Service) -> Result<(), Fatal> {
    let (settings, warnings) = settings(options)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    set_log(log, &settings)?;
    service.reload(&settings).await;
    tracing::info!("the configuration has been read again");
    Ok(())
}

async fn serve(options: &Arc<Options>, config: &Config, log: Log) -> io::Result<()> {
    let drivers = if options.proxy {
        Vec::new()
    } else {
        let limit = Duration::from_secs(config.settings.qemu_answer_limit.into());
        let host = Host { uuid: config.settings.host_uuid()?, peers: config.settings.migrate_peer_to_peer };
        virtwired::drivers::all(options.root.as_deref(), limit, host).await?
    };
    let daemon = Daemon::bind(config, drivers, log.clone())?;
    daemon.service().set_timeout(options.timeout());
    let _pid_file = options.pid_file.clone().map(PidFile::write).transpose()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let (service, options) = (daemon.service().clone(), Arc::clone(options));
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notify::tell("RELOADING=1");
            if let Err(error) = reload(&options, &log, &service).await {
                tracing::error!("the configuration is not read again: {error}");
            }
            notify::tell("READY=1");
        }
    });
    tokio::spawn(notify::watch());
    tracing::info!("ready");
    notify::tell("READY=1");
    background::ready();
    daemon
        .run(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    notify::tell("STOPPING=1");
    Ok(())
}

/// The file with the process id, for as long as the daemon runs.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> io::Result<Self> {
        std::fs::write(&path, format!("{}\n", std::process::id()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
