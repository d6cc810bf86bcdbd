//! TLS: certificates in, the handshake, and libvirt's verdict behind it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{ServerConnection, WebPkiClientVerifier};
use rustls::{Connection, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use virtwire_socket::{TlsSocket, tls};
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
        let mut connection = Connection::from(ServerConnection::new(config).map_err(io::Error::other)?);
        if let Err(error) = tls::handshake(&tcp, &mut connection).await {
            if error.kind() == io::ErrorKind::InvalidData {
                see_off(&mut tcp).await;
            }
            return Err(error);
        }
        let dname = connection.peer_certificates().and_then(|chain| dname::subject(chain.first()?));
        self.judge(dname.as_deref())?;
        connection.writer().write_all(&[ACCEPTED])?;
        tls::send_all(&tcp, &mut connection).await?;
        Ok(TlsSocket::new(tcp, connection, dname))
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

fn config(settings: &Settings) -> io::Result<ServerConfig> {
    let (versions, provider) = tls::priority(settings.tls_priority.as_deref()).map_err(invalid)?;
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
