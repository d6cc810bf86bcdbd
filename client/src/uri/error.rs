//! What is wrong with a URI.

use std::fmt;
use std::path::PathBuf;

use super::TRANSPORTS;

/// Why a URI cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriError {
    /// It is not of the form `driver[+transport]://[user@][host][:port]/path`.
    Malformed(String),
    /// It is neither a URI nor an alias of `libvirt.conf`.
    Alias(String),
    /// Its transport is not known.
    Transport(String),
    /// It names a host, and the transport `unix` that reaches none.
    HostOfUnix(String),
    /// The transport `ext` needs the parameter `command`.
    NoCommand,
    /// A value of a parameter that means nothing: parameter, value, what it may be.
    Parameter(&'static str, String, &'static str),
    /// `libvirt.conf` cannot be read: file and reason.
    Configuration(PathBuf, String),
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(uri) => {
                write!(f, "'{uri}' is not of the form driver[+transport]://[user@][host][:port]/path")
            }
            Self::Alias(name) => {
                write!(
                    f,
                    "'{name}' is neither a URI such as qemu:///system nor in uri_aliases of libvirt.conf"
                )
            }
            Self::Transport(name) => {
                let known: Vec<_> = TRANSPORTS.iter().map(|(known, _)| *known).collect();
                write!(f, "transport '{name}' is not one of {}", known.join(", "))
            }
            Self::HostOfUnix(uri) => write!(
                f,
                "'{uri}' names a host, which a unix socket cannot reach: name another transport, or no host"
            ),
            Self::NoCommand => f.write_str("transport 'ext' needs the parameter command="),
            Self::Parameter(name, value, may_be) => {
                write!(f, "'{value}' is no value of URI parameter '{name}', which is {may_be}")
            }
            Self::Configuration(file, why) => write!(f, "{}: {why}", file.display()),
        }
    }
}

impl std::error::Error for UriError {}
