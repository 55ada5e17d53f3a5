//! PEM: converts the bytes of a file to the certificates and private keys of the TLS library.
//!
//! Errors never quote the content of a file. Other code decides which certificates are trusted.

use std::sync::Arc;

use memchr::memmem;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::asn1_rs::{Any, FromDer, Tag};
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::nom::Parser;

/// A mark that some editors write at the start of a text. `cat` leaves it between two texts.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The certificates in a PEM text.
///
/// # Errors
/// If it is not valid PEM, or contains none.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    // The library's error would quote a line of the file.
    let found = CertificateDer::pem_slice_iter(&without_marks(text)).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(instead_of_certificate(text).unwrap_or("it holds no certificate in PEM form")),
        Err(_) => Err(instead_of_certificate(text).unwrap_or("it is not valid PEM")),
    }
}

/// Reads a private key that is not encrypted.
///
/// # Errors
/// If there is none, or its kind is not supported.
pub fn key(text: &[u8]) -> Result<Arc<dyn SigningKey>, &'static str> {
    const ENCRYPTED: &str = "its key is encrypted; decrypt it with `openssl pkey -in FILE -out NEW.pem`";
    let has = |line: &str| memmem::find(text, line.as_bytes()).is_some();
    // A key with this header has the label of a plain one (RFC 1421, section 4.6.1.1).
    if has("Proc-Type: 4,ENCRYPTED") {
        return Err(ENCRYPTED);
    }
    // The library's error would quote a line of the file.
    let key =
        PrivateKeyDer::from_pem_slice(&without_marks(text)).map_err(|_| match other_encoding(text) {
            Some(other) => other,
            None if has("-----BEGIN ENCRYPTED PRIVATE KEY-----") => ENCRYPTED,
            None if has("-----BEGIN CERTIFICATE-----") => {
                "it holds a certificate and no private key (BEGIN PRIVATE KEY)"
            }
            None => "it holds no private key in PEM form (BEGIN PRIVATE KEY)",
        })?;
    any_supported_type(&key).map_err(
        |_| "its key is of a kind that is not supported: RSA, ECDSA on P-256 or P-384, and Ed25519 are",
    )
}

/// PEM labels that files may have by mistake, each with its message.
const OTHER_LABELS: [(&str, &str); 5] = [
    (
        "-----BEGIN CERTIFICATE REQUEST-----",
        "it holds a certificate request; name the certificate that the authority made from it",
    ),
    (
        "-----BEGIN PKCS7-----",
        "it is PKCS#7; convert it with `openssl pkcs7 -print_certs -in FILE -out NEW.pem`",
    ),
    (
        "-----BEGIN TRUSTED CERTIFICATE-----",
        "it holds a certificate with trust settings of OpenSSL; convert it with `openssl x509 -in FILE -out NEW.pem`",
    ),
    ("PRIVATE KEY-----", "it holds a private key; a certificate is expected (BEGIN CERTIFICATE)"),
    ("-----BEGIN PUBLIC KEY-----", "it holds a public key; a certificate is expected (BEGIN CERTIFICATE)"),
];

/// If a file has no PEM certificate: its content, and what to do.
fn instead_of_certificate(text: &[u8]) -> Option<&'static str> {
    let label = || OTHER_LABELS.iter().find(|(label, _)| memmem::find(text, label.as_bytes()).is_some());
    other_encoding(text).or_else(|| label().map(|(_, message)| *message))
}

/// If a file is not PEM: its encoding, and the command that converts it.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    // The dashes of a label, in either byte order.
    if memmem::find(bytes, b"-\0-\0-").is_some() {
        return Some("it is text in UTF-16; convert it with `iconv -f UTF-16 -t ASCII FILE > NEW.pem`");
    }
    in_der(bytes).or_else(|| bytes.contains(&0).then_some("it is binary; PEM is text"))
}

/// The content of a DER file, and the command that converts it. The first value in the outer sequence identifies it.
fn in_der(bytes: &[u8]) -> Option<&'static str> {
    let first_in = |bytes| Any::from_der(bytes).ok().map(|(_, value)| value);
    if parse(&CertificateDer::from(bytes)).is_some() {
        return Some(
            "it is a certificate in DER form; convert it with `openssl x509 -inform DER -in FILE -out NEW.pem`",
        );
    }
    let outer = first_in(bytes).filter(|outer| outer.tag() == Tag::Sequence)?;
    let (rest, first) = Any::from_der(outer.data).ok()?;
    match (first.tag(), first.data) {
        // The version of PKCS#12 (RFC 7292, section 4).
        (Tag::Integer, [3]) => {
            Some("it is PKCS#12; convert it with `openssl pkcs12 -in FILE -nodes -out NEW.pem`")
        }
        // The versions of a private key (RFC 5958, section 2, RFC 8017, appendix A.1.2, RFC 5915, section 3).
        (Tag::Integer, [0 | 1]) => Some(
            "it is a private key in DER form; convert it with `openssl pkey -inform DER -in FILE -out NEW.pem`",
        ),
        // A cipher, and the encrypted key (RFC 5958, section 3).
        (Tag::Sequence, _) if first_in(rest)?.tag() == Tag::OctetString => Some(
            "it is an encrypted private key in DER form; convert it with `openssl pkey -inform DER -in FILE -out NEW.pem`",
        ),
        _ => None,
    }
}

/// The fields of an X.509 certificate, of any version.
#[must_use]
pub fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    parser.parse(certificate).ok().map(|(_, fields)| fields)
}

fn without_marks(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut from = 0;
    for mark in memmem::find_iter(text, BYTE_ORDER_MARK) {
        plain.extend_from_slice(text.get(from..mark).unwrap_or_default());
        from = mark + BYTE_ORDER_MARK.len();
    }
    plain.extend_from_slice(text.get(from..).unwrap_or_default());
    plain
}

/// Why a certificate and its key cannot be used, and which of the two files is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityFault {
    /// The file with the certificate.
    Certificate(&'static str),
    /// The file with the key.
    Key(&'static str),
}

/// Combines a certificate and its key.
///
/// # Errors
/// If one cannot be used, or they do not belong together.
pub fn identity(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, IdentityFault> {
    let chain = certificates(certificate).map_err(IdentityFault::Certificate)?;
    let key = self::key(key).map_err(IdentityFault::Key)?;
    let unreadable = IdentityFault::Certificate("its certificate cannot be read");
    let fields = chain.first().and_then(parse).ok_or(unreadable)?;
    // `CertifiedKey::keys_match` accepts only certificates of version 3.
    if key.public_key().is_some_and(|public| *public != *fields.public_key().raw) {
        return Err(IdentityFault::Key("its key is not that of the certificate"));
    }
    Ok(CertifiedKey::new(chain, key))
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

    /// A certificate and its key, in PEM form.
    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn files_of_other_forms_have_words_of_their_own() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let utf_16: Vec<u8> = certificate.pem().encode_utf16().flat_map(u16::to_le_bytes).collect();
        let pkcs12 = b"\x30\x05\x02\x01\x03\x30\x00".to_vec();
        let encrypted_der = b"\x30\x07\x30\x02\x06\x00\x04\x01\x00".to_vec();
        for (bytes, words) in [
            (
                certificate.der().to_vec(),
                "a certificate in DER form; convert it with `openssl x509 -inform DER",
            ),
            (key.serialize_der(), "a private key in DER form; convert it with `openssl pkey -inform DER"),
            (pkcs12.clone(), "it is PKCS#12; convert it with `openssl pkcs12"),
            (encrypted_der, "an encrypted private key in DER form"),
            (utf_16.clone(), "UTF-16"),
            (key.serialize_pem().into_bytes(), "it holds a private key; a certificate is expected"),
            (request.into_bytes(), "it holds a certificate request"),
            (b"-----BEGIN PKCS7-----\nAQID\n-----END PKCS7-----\n".to_vec(), "openssl pkcs7 -print_certs"),
            (b"hello".to_vec(), "it holds no certificate in PEM form"),
            (Vec::new(), "it holds no certificate in PEM form"),
        ] {
            let told = certificates(&bytes).unwrap_err();
            assert!(told.contains(words), "{words}: {told}");
        }
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAQID\n\
                   -----END RSA PRIVATE KEY-----\n";
        for (bytes, words) in [
            (encrypted.as_bytes().to_vec(), "its key is encrypted; decrypt it with `openssl pkey"),
            (old.as_bytes().to_vec(), "its key is encrypted; decrypt it with `openssl pkey"),
            (key.serialize_der(), "a private key in DER form"),
            (pkcs12, "it is PKCS#12"),
            (utf_16, "UTF-16"),
            (certificate.pem().into_bytes(), "it holds a certificate and no private key"),
            (b"hello".to_vec(), "it holds no private key in PEM form"),
        ] {
            let told = self::key(&bytes).unwrap_err();
            assert!(told.contains(words), "{words}: {told}");
        }
    }

    #[test]
    fn a_certificate_has_its_own_key() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        assert!(identity(certificate.as_bytes(), key.as_bytes()).is_ok());
        let mismatch = IdentityFault::Key("its key is not that of the certificate");
        assert_eq!(identity(certificate.as_bytes(), other.as_bytes()).unwrap_err(), mismatch);
        // An X.509 certificate of version 1, as `openssl x509 -req` makes it.
        let file = |name: &str| {
            std::fs::read(format!("{}/tests/fixtures/certificates/{name}", env!("CARGO_MANIFEST_DIR")))
                .unwrap()
        };
        assert!(identity(&file("client-v1.pem"), &file("client-v1.key")).is_ok());
        assert_eq!(identity(&file("client-v1.pem"), key.as_bytes()).unwrap_err(), mismatch);
    }
}
