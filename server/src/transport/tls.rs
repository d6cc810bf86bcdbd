//! TLS: certificates in, the handshake, libvirt's verdict behind it, and a socket that never waits.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{ServerConnection, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::dname;
use crate::config::Settings;
use crate::glob;

/// What libvirt's daemon sends when it accepts the client's certificate, as the first byte inside TLS.
const ACCEPTED: u8 = 1;

/// How long a client that is not let in may take to end its side.
const FAREWELL: Duration = Duration::from_secs(1);

/// Accepts TLS connections. The certificates can be read again while it does.
pub(crate) struct Acceptor {
    settings: Settings,
    config: RwLock<Arc<ServerConfig>>,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

impl Acceptor {
    /// Reads certificates and key; refuses what would only fail later.
    pub(crate) fn new(settings: &Settings) -> io::Result<Self> {
        let config = RwLock::new(Arc::new(config(settings)?));
        Ok(Self { settings: settings.clone(), config })
    }

    /// Reads certificates, key and revocations again. Connections that stand keep theirs; where the files are bad,
    /// so do new ones.
    pub(crate) fn reload(&self) -> io::Result<()> {
        let new = Arc::new(config(&self.settings)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The handshake, and the verdict on the client.
    pub(crate) async fn accept(&self, mut tcp: TcpStream) -> io::Result<TlsSocket> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            if connection.wants_write() {
                tcp.writable().await?;
                ready(connection.write_tls(&mut Wire(&tcp)))?;
                continue;
            }
            tcp.readable().await?;
            match ready(connection.read_tls(&mut Wire(&tcp)))? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(_) => {
                    if let Err(error) = connection.process_new_packets() {
                        // The alert that says why.
                        let _ = connection.write_tls(&mut Wire(&tcp));
                        see_off(&mut tcp).await;
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                }
                None => {}
            }
        }
        let dname = connection.peer_certificates().and_then(|chain| dname::subject(chain.first()?));
        self.judge(dname.as_deref())?;
        connection.writer().write_all(&[ACCEPTED])?;
        while connection.wants_write() {
            tcp.writable().await?;
            ready(connection.write_tls(&mut Wire(&tcp)))?;
        }
        // Frames are as large as they are; how much may wait is decided outside.
        connection.set_buffer_limit(None);
        Ok(TlsSocket {
            tcp,
            connection: Mutex::new(connection),
            unread: AtomicBool::new(true),
            unsent: AtomicBool::new(false),
            dname,
        })
    }

    /// Whether a client of this name is let in. An absent list lets in whoever has a certificate.
    fn judge(&self, dname: Option<&str>) -> io::Result<()> {
        let Some(allowed) = &self.settings.tls_allowed_dn_list else { return Ok(()) };
        let fits = |name: &str| allowed.iter().any(|pattern| glob::matches(pattern, name));
        if dname.is_some_and(fits) || self.settings.tls_no_verify_certificate {
            return Ok(());
        }
        let name = dname.unwrap_or_default();
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "Client's Distinguished Name is not on the list of allowed clients (tls_allowed_dn_list): {name}"
            ),
        ))
    }
}

/// Ends our side and reads until the client ends its own. To close with something unread would reset the connection, and
/// the client would not learn why.
async fn see_off(tcp: &mut TcpStream) {
    let _ = tcp.shutdown().await;
    let mut rest = [0; 1024];
    let gone = async { while matches!(tcp.read(&mut rest).await, Ok(count) if count > 0) {} };
    let _ = tokio::time::timeout(FAREWELL, gone).await;
}

/// `None` where it would block.
fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn config(settings: &Settings) -> io::Result<ServerConfig> {
    let (versions, provider) = priority(settings.tls_priority.as_deref())?;
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .map_err(|error| invalid(error.to_string()))?;
    let authorities = certificates(&settings.ca_file, "CA certificate")?;
    let chain = certificates(&settings.cert_file, "server certificate")?;
    if !settings.tls_no_sanity_certificate {
        for certificate in &authorities {
            sane(certificate, "CA", &settings.ca_file, true)?;
        }
        if let Some(certificate) = chain.first() {
            sane(certificate, "server", &settings.cert_file, false)?;
        }
    }
    let path = &settings.key_file;
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| invalid(format!("{path}: {error}")))?;
    let builder = if settings.tls_no_verify_certificate {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in authorities {
            roots.add(certificate).map_err(|error| invalid(format!("{}: {error}", settings.ca_file)))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let revoked = settings.crl_file.as_deref().map(revocations).transpose()?;
        let mut verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        if let Some(revoked) = revoked {
            verifier = verifier.with_crls(revoked).allow_unknown_revocation_status();
        }
        builder.with_client_cert_verifier(verifier.build().map_err(|error| invalid(error.to_string()))?)
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| invalid(format!("{}: {error}", settings.cert_file)))?;
    // libvirt's client takes a ticket before the verdict for the end of what can be read.
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(path: &str, what: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    if !Path::new(path).exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("Cannot read {what} '{path}'")));
    }
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| invalid(format!("{path}: {error}")))?;
    if found.is_empty() { Err(invalid(format!("{path}: holds no certificate"))) } else { Ok(found) }
}

fn revocations(path: &str) -> io::Result<Vec<CertificateRevocationListDer<'static>>> {
    let text = fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    CertificateRevocationListDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(format!("{path}: {error}")))
}

/// Whether a certificate of the daemon's own can do what it is for.
fn sane(der: &CertificateDer<'_>, what: &str, path: &str, authority: bool) -> io::Result<()> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| invalid(format!("{path}: {error}")))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (now, validity) = (now.as_secs().try_into().unwrap_or(i64::MAX), certificate.validity());
    if validity.not_after.timestamp() < now {
        return Err(invalid(format!("The {what} certificate {path} has expired")));
    }
    if validity.not_before.timestamp() > now {
        return Err(invalid(format!("The {what} certificate {path} is not yet active")));
    }
    match (authority, certificate.is_ca()) {
        (true, false) => Err(invalid(format!("The certificate {path} basic constraints do not show a CA"))),
        (false, true) => Err(invalid(format!(
            "The certificate {path} basic constraints show a CA, but we need one for a server"
        ))),
        _ => Ok(()),
    }
}

type Choice = (Vec<&'static SupportedProtocolVersion>, rustls::crypto::CryptoProvider);

/// GnuTLS's priority strings, as far as they say what can be had here. What cannot is refused: a string that was
/// meant to forbid something must not be passed over.
fn priority(text: Option<&str>) -> io::Result<Choice> {
    let (mut newest, mut older) = (true, true);
    let mut provider = rustls::crypto::ring::default_provider();
    for word in text.unwrap_or("NORMAL").split(':') {
        match word.to_ascii_uppercase().as_str() {
            // All suites here have 128 bits at least, and forward secrecy.
            "NORMAL" | "SECURE128" | "PFS" | "@SYSTEM" | "@LIBVIRT,SYSTEM" | "%SERVER_PRECEDENCE" => {}
            "SECURE192" | "SECURE256" => {
                let strong = |suite: &rustls::SupportedCipherSuite| {
                    let name = format!("{:?}", suite.suite());
                    name.contains("AES_256") || name.contains("CHACHA20")
                };
                provider.cipher_suites.retain(strong);
            }
            "-VERS-TLS1.2" => older = false,
            "-VERS-TLS1.3" => newest = false,
            "-VERS-TLS1.0" | "-VERS-TLS1.1" | "-VERS-SSL3.0" | "-VERS-DTLS-ALL" => {}
            _ => return Err(invalid(format!("tls_priority: '{word}' cannot be kept by this daemon"))),
        }
    }
    let mut versions = Vec::new();
    if newest {
        versions.push(&rustls::version::TLS13);
    }
    if older {
        versions.push(&rustls::version::TLS12);
    }
    if versions.is_empty() {
        Err(invalid("tls_priority: no version is left"))
    } else {
        Ok((versions, provider))
    }
}

/// A socket with TLS on it.
pub(crate) struct TlsSocket {
    tcp: TcpStream,
    connection: Mutex<ServerConnection>,
    /// Bytes may be inside that have been decrypted and not read.
    unread: AtomicBool,
    /// Bytes are inside that have been encrypted and not sent.
    unsent: AtomicBool,
    dname: Option<String>,
}

impl TlsSocket {
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn dname(&self) -> Option<&str> {
        self.dname.as_deref()
    }

    fn connection(&self) -> MutexGuard<'_, ServerConnection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread.load(Ordering::Relaxed) { Poll::Ready(Ok(())) } else { self.tcp.poll_read_ready(cx) }
    }

    pub(super) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut connection = self.connection();
        let read = loop {
            match connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read,
            }
            match connection.read_tls(&mut Wire(&self.tcp)) {
                Ok(0) => break Ok(0),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
            let done = connection.process_new_packets();
            if let Err(error) = done {
                let _ = self.push(&mut connection);
                break Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        let full = read.as_ref().is_ok_and(|count| *count == buf.len());
        self.unread.store(full, Ordering::Relaxed);
        read
    }

    /// Encrypts and sends; what does not fit waits inside, a few records at most.
    pub(super) fn transmit(&self, bytes: &[u8]) -> io::Result<usize> {
        const AT_ONCE: usize = 256 << 10;
        let mut connection = self.connection();
        self.push(&mut connection)?;
        let taken = connection.writer().write(&bytes[..bytes.len().min(AT_ONCE)])?;
        match self.push(&mut connection) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    pub(super) fn holds_back(&self) -> bool {
        self.unsent.load(Ordering::Relaxed)
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.push(&mut self.connection())
    }

    fn push(&self, connection: &mut ServerConnection) -> io::Result<()> {
        let mut result = Ok(());
        while connection.wants_write() && result.is_ok() {
            result = connection.write_tls(&mut Wire(&self.tcp)).map(drop);
        }
        self.unsent.store(connection.wants_write(), Ordering::Relaxed);
        result
    }
}

impl Drop for TlsSocket {
    fn drop(&mut self) {
        let mut connection = self.connection();
        connection.send_close_notify();
        let _ = connection.write_tls(&mut Wire(&self.tcp));
    }
}

/// The bytes below TLS.
struct Wire<'a>(&'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_that_cannot_be_kept_is_refused() {
        for (text, versions) in [
            (None, 2),
            (Some("NORMAL"), 2),
            (Some("SECURE256"), 2),
            (Some("NORMAL:-VERS-TLS1.2"), 1),
            (Some("SECURE128:-VERS-TLS1.0:-VERS-TLS1.3"), 1),
        ] {
            assert_eq!(priority(text).unwrap().0.len(), versions, "{text:?}");
        }
        for text in ["NORMAL:-AES-256-GCM", "NORMAL:-VERS-TLS1.2:-VERS-TLS1.3", "LEGACY", ""] {
            assert!(priority(Some(text)).is_err(), "{text}");
        }
    }
}
