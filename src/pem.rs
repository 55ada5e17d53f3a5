//! PEM: certificates and private keys, from the bytes of a file to the types of the TLS library.
//!
//! Errors never repeat the content of a file. Which certificate is trusted is decided elsewhere.

use rustls::InconsistentKeys;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Some editors write it at the start of a text, and `cat` then leaves it between two texts.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The certificates in a PEM text.
///
/// # Errors
/// When it is not valid PEM, or holds none.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    // The error would repeat a line of the file.
    let found = CertificateDer::pem_slice_iter(&without_marks(text)).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| "it is not valid PEM")?;
    if found.is_empty() { Err("it holds no certificate in PEM form") } else { Ok(found) }
}

fn without_marks(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut from = 0;
    for mark in memchr::memmem::find_iter(text, BYTE_ORDER_MARK) {
        plain.extend_from_slice(text.get(from..mark).unwrap_or_default());
        from = mark + BYTE_ORDER_MARK.len();
    }
    plain.extend_from_slice(text.get(from..).unwrap_or_default());
    plain
}

/// Why a certificate with its key cannot be used, and which of the two files is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityFault {
    /// The file of the certificate.
    Certificate(&'static str),
    /// The file of the key.
    Key(&'static str),
}

/// A client certificate with its key.
///
/// # Errors
/// When one cannot be used, or they do not belong together.
pub fn identity(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, IdentityFault> {
    let chain = certificates(certificate).map_err(IdentityFault::Certificate)?;
    // The errors would repeat a line of the file.
    let key = PrivateKeyDer::from_pem_slice(&without_marks(key)).map_err(|_| {
        IdentityFault::Key("it holds no private key in PEM form that is not encrypted (BEGIN PRIVATE KEY)")
    })?;
    let key = any_supported_type(&key).map_err(|_| {
        IdentityFault::Key(
            "its key is of a kind that is not supported: RSA, ECDSA on P-256 or P-384, and Ed25519 are",
        )
    })?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(IdentityFault::Key("its key is not that of the client certificate"))
        }
        Err(rustls::Error::InvalidCertificate(_)) => Err(IdentityFault::Certificate("it cannot be read")),
        _ => Ok(identity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_are_no_part_of_certificates() {
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        for text in [format!("\u{feff}{pem}"), format!("\u{feff}# ours\n{pem}\u{feff}{pem}")] {
            assert_eq!(certificates(text.as_bytes()).unwrap().len(), text.matches("BEGIN").count());
        }
        assert!(certificates("\u{feff}".as_bytes()).is_err());
    }
}
