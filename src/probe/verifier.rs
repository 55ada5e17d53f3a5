//! Verifies the certificates of backends.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::probe::certificate;

/// How many certificates are used in addition to the backend's own. Chains have two or three. The library tries all
/// orders of certificates with the same name, which takes seconds if there are many.
pub(super) const MAX_INTERMEDIATES: usize = 6;

/// Accepts a certificate if an authority has signed it, or if it is itself one of the trusted certificates; and only if
/// it is valid for the name and the time.
#[derive(Debug)]
pub(super) struct FromAuthority {
    verifier: Arc<WebPkiServerVerifier>,
    /// The certificates in `ca_file`.
    trusted: Vec<CertificateDer<'static>>,
    /// The path of `ca_file`; none for the authorities of the system.
    ca_file: Option<PathBuf>,
}

impl FromAuthority {
    pub(super) fn new(
        roots: RootCertStore,
        trusted: Vec<CertificateDer<'static>>,
        ca_file: Option<PathBuf>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = built.map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(Self { verifier, trusted, ca_file })
    }
}

/// Verifies the time, the purpose and the name of a certificate that is itself trusted.
fn verify_trusted(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    // Without authorities this fails with `UnknownIssuer`, after it has verified everything else. The certificate may
    // be marked as an authority: most tools create self-signed certificates in that way.
    let judged = verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], now, &[]);
    if let Err(error) = judged {
        let of_no_matter = match &error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
                other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
            }
            _ => false,
        };
        if !of_no_matter {
            return Err(error);
        }
    }
    verify_server_name(&parsed, name)?;
    Ok(ServerCertVerified::assertion())
}

impl ServerCertVerifier for FromAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let intermediates = intermediates.get(..MAX_INTERMEDIATES).unwrap_or(intermediates);
        let verified = if self.trusted.iter().any(|trusted| trusted == end_entity) {
            verify_trusted(end_entity, server_name, now)
        } else {
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        verified.map_err(|error| {
            let ca_file = self.ca_file.as_deref();
            certificate::of_chain(error, end_entity, intermediates, &self.trusted, ca_file)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verified = self.verifier.verify_tls12_signature(message, own, signature);
        verified.map_err(|error| certificate::of_handshake(error, own))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verified = self.verifier.verify_tls13_signature(message, own, signature);
        verified.map_err(|error| certificate::of_handshake(error, own))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Accepts any certificate without reading it, and any signature of the handshake: if the key is not verified, its
/// signature proves nothing. So certificates that the library cannot verify are accepted too: X.509 version 1, short
/// keys, unknown kinds of keys.
#[derive(Debug)]
pub(super) struct AnyCertificate;

/// All signature schemes that a server may use, the strong ones first, for servers that follow this order.
const ANY_SCHEME: [SignatureScheme; 19] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::ED448,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    // rsa_pss_pss: as above, but with a key that is only for RSA-PSS (RFC 8446, section 4.2.3).
    SignatureScheme::Unknown(0x0809),
    SignatureScheme::Unknown(0x080a),
    SignatureScheme::Unknown(0x080b),
    // ECDSA with the Brainpool curves (RFC 8734).
    SignatureScheme::Unknown(0x081a),
    SignatureScheme::Unknown(0x081b),
    SignatureScheme::Unknown(0x081c),
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::ECDSA_SHA1_Legacy,
    SignatureScheme::RSA_PKCS1_SHA1,
];

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ANY_SCHEME.to_vec()
    }
}
