//! TLS as libvirt does it: certificates where it keeps them, and the daemon's verdict as the first byte.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error as Rustls,
    RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use virtwire_socket::{TlsSocket, tls};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificates::Files;
use super::tls_error::TlsError;
use crate::Error;
use crate::uri::Target;

/// What the daemon sends when it lets the client in.
const ACCEPTED: u8 = 1;

/// Shakes hands over TCP and takes the daemon's verdict.
pub(super) async fn connect(tcp: TcpStream, target: &Target) -> Result<TlsSocket, Error> {
    let files = Files::find(target);
    let host = target.host();
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| TlsError::File(host.into(), format!("no name of a host: {error}")))?;
    let connection = ClientConnection::new(config(target, &files)?, name).map_err(TlsError::Handshake)?;
    let mut connection = Connection::from(connection);
    let done = async {
        tls::handshake(&tcp, &mut connection).await?;
        verdict(&tcp, &mut connection).await
    };
    match done.await {
        Ok(Some(ACCEPTED)) => Ok(TlsSocket::new(tcp, connection, None)),
        Ok(Some(_)) => Err(TlsError::NotAllowed.into()),
        Ok(None) => Err(TlsError::no_verdict(files.certificate).into()),
        Err(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Rustls>()).cloned();
            Err(match inner {
                Some(inner) => TlsError::of(inner, host, files.authority, files.certificate).into(),
                None if error.kind() == io::ErrorKind::UnexpectedEof => {
                    TlsError::no_verdict(files.certificate).into()
                }
                None => error.into(),
            })
        }
    }
}

/// The first byte inside TLS; `None` if the daemon ended the connection in its place.
async fn verdict(tcp: &TcpStream, connection: &mut Connection) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match connection.reader().read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        tls::take_in(tcp, connection).await?;
    }
}

fn config(target: &Target, files: &Files) -> Result<Arc<ClientConfig>, TlsError> {
    let (versions, provider) =
        tls::priority(target.parameters.tls_priority.as_deref()).map_err(TlsError::Priority)?;
    let provider = Arc::new(provider);
    let verifier = Arc::new(Verifier::new(target.parameters.no_verify, files, Arc::clone(&provider))?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(TlsError::Handshake)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    // A client without a certificate is the daemon's to judge.
    if !files.certificate.exists() {
        return Ok(Arc::new(builder.with_no_client_auth()));
    }
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| TlsError::File(files.key.clone(), error.to_string()))?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map(Arc::new).map_err(|error| TlsError::File(files.certificate.clone(), error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |why: String| TlsError::File(path.to_owned(), why);
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("holds no certificate".into())) } else { Ok(found) }
}

/// Verifies the daemon's certificate as libvirt's client does, or not at all.
#[derive(Debug)]
struct Verifier {
    /// `None` takes any certificate; that the daemon has the key to it is verified all the same.
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(none: bool, files: &Files, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        if none {
            return Ok(Self { chain: None, provider });
        }
        let authority = &files.authority;
        if !authority.exists() {
            return Err(TlsError::NoAuthority(authority.clone()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authority)? {
            let added = roots.add(certificate);
            added.map_err(|error| TlsError::File(authority.clone(), error.to_string()))?;
        }
        let mut builder = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        if files.revoked.exists() {
            let lists = CertificateRevocationListDer::pem_file_iter(&files.revoked)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| TlsError::File(files.revoked.clone(), error.to_string()))?;
            builder = builder.with_crls(lists).allow_unknown_revocation_status();
        }
        let chain = builder.build().map_err(|error| TlsError::File(authority.clone(), error.to_string()))?;
        Ok(Self { chain: Some(chain), provider })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Rustls> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is the last thing that is verified, so the rest holds.
            Err(Rustls::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if is_common_name(certificate, name) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Rustls> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Rustls> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate without alternative names has this host as its common name. GnuTLS still takes those, and
/// libvirt's older instructions make them.
fn is_common_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    if !matches!(parsed.subject_alternative_name(), Ok(None)) {
        return false;
    }
    let host = name.to_str();
    parsed
        .subject()
        .iter_common_name()
        .any(|common| common.as_str().is_ok_and(|common| common.eq_ignore_ascii_case(&host)))
}
