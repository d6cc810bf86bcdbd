//! The command line: libvirtd's options, and a few of our own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use virtwired::Config;
use virtwired::config::Settings;

/// A wire-compatible drop-in for libvirtd.
#[derive(Parser, Debug)]
#[command(version, disable_version_flag = true, about, long_about = None)]
pub(crate) struct Options {
    /// Log what happens
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Run in the background
    #[arg(short, long)]
    pub(crate) daemon: bool,

    /// Listen for TCP and TLS connections
    #[arg(short, long)]
    pub(crate) listen: bool,

    /// Exit after so many seconds without clients and running guests
    #[arg(short, long, value_name = "SECS", value_parser = clap::value_parser!(u32).range(1..=2_147_483))]
    timeout: Option<u32>,

    /// Configuration file [default: /etc/libvirt/libvirtd.conf, for other users than root
    /// $XDG_CONFIG_HOME/libvirt/libvirtd.conf]
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Write the process id here
    #[arg(short, long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Display version information
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,

    /// Read the configuration file, say what is wrong with it, and exit
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Print a configuration file with every setting and its default, and exit
    #[arg(long)]
    pub(crate) default_config: bool,

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

    /// Serve no hypervisor, but carry clients to the modular daemons (virtqemud and the like) whose sockets are beside
    /// the read-write one: virtproxyd's role
    #[arg(long)]
    pub(crate) proxy: bool,

    /// Write the manual page and completions into this directory, and exit
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) manual: Option<PathBuf>,

    /// Keep all state of the QEMU driver below this directory instead of /etc, /run, /var/lib and /var/log
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The configuration file that is read where none is named.
pub(crate) fn default_config() -> Option<PathBuf> {
    let dir = match uid() {
        0 => PathBuf::from("/etc"),
        _ => variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?,
    };
    Some(dir.join("libvirt/libvirtd.conf"))
}

impl Options {
    /// How long an idle daemon stays.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// What the daemon must be able to write because of these options: the directories of its sockets and of its
    /// process id, and its root.
    pub(crate) fn writable(&self, config: &Config) -> Vec<PathBuf> {
        let metrics =
            config.settings.metrics_address.as_deref().map(Path::new).filter(|path| path.is_absolute());
        let files = [
            Some(config.socket.as_path()),
            config.socket_ro.as_deref(),
            config.socket_admin.as_deref(),
            self.pid_file.as_deref(),
            metrics,
        ];
        let files = files.into_iter().flatten().filter_map(|file| std::path::absolute(file).ok());
        files.filter_map(|file| file.parent().map(Path::to_owned)).chain(self.root.clone()).collect()
    }

    /// Where the sockets are: as the command line says, then the file, then by default.
    pub(crate) fn sockets(&self, settings: &Settings) -> Config {
        let mut config = match (self.socket.as_deref(), settings.unix_sock_dir.as_deref()) {
            (Some(socket), _) => {
                let beside = Config::in_dir(socket.parent().unwrap_or(socket).to_owned());
                Config { socket: socket.to_owned(), ..beside }
            }
            (None, Some(dir)) => Config::in_dir(dir.into()),
            (None, None) => Config::for_user(uid(), variable("XDG_RUNTIME_DIR")),
        };
        if self.socket_ro.is_some() {
            config.socket_ro.clone_from(&self.socket_ro);
        }
        if self.socket_admin.is_some() {
            config.socket_admin.clone_from(&self.socket_admin);
        }
        config.listen = self.listen;
        config.proxy = self.proxy.then(|| config.socket.parent().unwrap_or(Path::new(".")).to_owned());
        config
    }
}
