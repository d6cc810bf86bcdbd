//! `virtwired`: libvirtd's place, libvirtd's options.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use virtwired::{Config, Daemon};

/// A wire-compatible drop-in for libvirtd.
#[derive(Parser, Debug)]
#[command(version, about, long_about = None)]
struct Options {
    /// The read-write socket [default: libvirt-sock in /run/libvirt, for other users than root in
    /// $XDG_RUNTIME_DIR/libvirt]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// The read-only socket [default: libvirt-sock-ro beside the read-write one]
    #[arg(long, value_name = "PATH")]
    socket_ro: Option<PathBuf>,

    /// The administration socket [default: libvirt-admin-sock beside the read-write one]
    #[arg(long, value_name = "PATH")]
    socket_admin: Option<PathBuf>,

    /// Keep all state of the QEMU driver below this directory instead of /etc, /run, /var/lib and /var/log
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Configuration file
    #[arg(short = 'f', long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Write the process id here
    #[arg(short, long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// Log what happens; RUST_LOG says more finely what
    #[arg(short, long)]
    verbose: bool,
}

impl Options {
    fn config(&self) -> Config {
        let uid = rustix::process::geteuid().as_raw();
        let defaults = Config::for_user(uid, std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
        let mut config = match self.socket.as_deref() {
            Some(socket) => {
                let beside = Config::in_dir(socket.parent().unwrap_or(socket).to_owned());
                Config { socket: socket.to_owned(), ..beside }
            }
            None => defaults,
        };
        if self.socket_ro.is_some() {
            config.socket_ro.clone_from(&self.socket_ro);
        }
        if self.socket_admin.is_some() {
            config.socket_admin.clone_from(&self.socket_admin);
        }
        config
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    init_log(options.verbose);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virtwired: {error}");
            ExitCode::FAILURE
        }
    }
}

fn init_log(verbose: bool) {
    let default = if verbose { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

fn run(options: &Options) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let drivers = virtwired::drivers::all(options.root.as_deref()).await?;
        let daemon = Daemon::bind(&options.config(), drivers)?;
        let _pid_file = options.pid_file.clone().map(PidFile::write).transpose()?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tracing::info!("ready");
        daemon
            .run(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await;
        Ok(())
    })
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
