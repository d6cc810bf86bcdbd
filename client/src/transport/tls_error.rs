//! What TLS can fail at, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError, Error as Rustls};

/// Why there is no TLS connection. Each says what to do.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsError {
    /// There is no CA certificate at this place.
    NoAuthority(PathBuf),
    /// A file cannot be read or used: file and reason.
    File(PathBuf, String),
    /// The daemon's certificate has expired: host.
    Expired(String),
    /// The daemon's certificate is not valid yet: host.
    NotYetValid(String),
    /// The daemon's certificate is another host's: host, and the names in the certificate.
    OtherHost(String, Vec<String>),
    /// The daemon's certificate is signed by nobody who is trusted: host, and the file that says who is.
    UnknownAuthority(String, PathBuf),
    /// The daemon's certificate has been withdrawn: host.
    Revoked(String),
    /// The daemon's certificate is bad in another way: host and reason.
    Certificate(String, CertificateError),
    /// The daemon wants a certificate, and none is at this place.
    NoCertificate(PathBuf),
    /// The daemon does not take our certificate, the file, for this reason.
    Refused(PathBuf, String),
    /// The daemon has verified our certificate or address, and does not let us in.
    NotAllowed,
    /// The daemon ended the connection where its verdict belongs.
    NoVerdict,
    /// `tls_priority` asks for what cannot be had.
    Priority(String),
    /// Anything else between client and daemon.
    Handshake(Rustls),
}

impl TlsError {
    /// What an end in the place of the verdict means: libvirtd looks at certificates behind the handshake.
    pub(super) fn no_verdict(certificate: PathBuf) -> Self {
        if certificate.exists() { Self::NoVerdict } else { Self::NoCertificate(certificate) }
    }

    /// What an error of the handshake means.
    pub(super) fn of(error: Rustls, host: &str, authority: PathBuf, certificate: PathBuf) -> Self {
        use AlertDescription as Alert;
        use CertificateError as Bad;
        let host = host.to_owned();
        match error {
            Rustls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => Self::Expired(host),
            Rustls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
                Self::NotYetValid(host)
            }
            Rustls::InvalidCertificate(Bad::NotValidForName) => Self::OtherHost(host, Vec::new()),
            Rustls::InvalidCertificate(Bad::NotValidForNameContext { presented, .. }) => {
                Self::OtherHost(host, presented)
            }
            Rustls::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
                Self::UnknownAuthority(host, authority)
            }
            Rustls::InvalidCertificate(Bad::Revoked) => Self::Revoked(host),
            Rustls::InvalidCertificate(other) => Self::Certificate(host, other),
            Rustls::AlertReceived(Alert::CertificateRequired) => Self::NoCertificate(certificate),
            // Older versions have no alert of its own for a certificate that is missing.
            Rustls::AlertReceived(_) if !certificate.exists() => Self::NoCertificate(certificate),
            Rustls::AlertReceived(alert) if REFUSALS.contains(&alert) => {
                Self::Refused(certificate, format!("{alert:?}"))
            }
            other => Self::Handshake(other),
        }
    }
}

/// Alerts that speak of our certificate.
const REFUSALS: &[AlertDescription] = &[
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
];

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OR_NOT: &str = "; no_verify=1 in the URI connects all the same";
        match self {
            Self::NoAuthority(file) => write!(
                f,
                "there is no CA certificate at {}: put there the certificate of whoever has signed the daemon's, \
                 or name its directory with pkipath={OR_NOT}",
                file.display()
            ),
            Self::File(file, why) => write!(f, "{}: {why}", file.display()),
            Self::Expired(host) => {
                write!(f, "the certificate of {host} has expired: renew it there, or set this host's clock{OR_NOT}")
            }
            Self::NotYetValid(host) => {
                write!(f, "the certificate of {host} is not valid yet: is one of the two clocks wrong?{OR_NOT}")
            }
            Self::OtherHost(host, names) if names.is_empty() => {
                write!(f, "the certificate that was shown is not for {host}: use the name in it{OR_NOT}")
            }
            Self::OtherHost(host, names) => write!(
                f,
                "the certificate that was shown is not for {host} but for {}: use that name{OR_NOT}",
                names.join(", ")
            ),
            Self::UnknownAuthority(host, file) => write!(
                f,
                "the certificate of {host} is not signed by a CA in {}: add the right one{OR_NOT}",
                file.display()
            ),
            Self::Revoked(host) => write!(f, "the certificate of {host} has been revoked: renew it there"),
            Self::Certificate(host, error) => {
                write!(f, "the certificate of {host} cannot be used: {error}{OR_NOT}")
            }
            Self::NoCertificate(file) => write!(
                f,
                "the daemon wants a client certificate, and there is none at {}: put it there with its key, or \
                 name its directory with pkipath",
                file.display()
            ),
            Self::Refused(file, why) => write!(
                f,
                "the daemon refuses the client certificate {} ({why}): it must be valid and signed by a CA that \
                 the daemon knows",
                file.display()
            ),
            Self::NotAllowed => f.write_str(
                "the daemon has verified our certificate or address and lets us not in: see its tls_allowed_dn_list",
            ),
            Self::NoVerdict => f.write_str(
                "the daemon ended the connection instead of letting us in: does it know who has signed our certificate, and \
                 is that on its tls_allowed_dn_list? Its log says",
            ),
            Self::Priority(why) => f.write_str(why),
            Self::Handshake(error) => write!(f, "TLS: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}
