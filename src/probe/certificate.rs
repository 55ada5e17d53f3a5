//! Explains why verification rejects a certificate.
//!
//! The errors of the verifying library say too little: it reports the same error for a wrong signature and for an
//! unsupported key, and shows many errors as names of its variants. The certificates themselves show the rest.
//! `verifier` decides which certificates are accepted.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, ExtendedKeyPurpose, OtherError};
use x509_parser::asn1_rs::{FromDer, Oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

use crate::pem::parse;
use crate::printable::excerpt;

/// The shortest RSA key that can verify signatures.
const MIN_RSA_BITS: usize = 2048;
/// The longest RSA key that can verify signatures.
const MAX_RSA_BITS: usize = 8192;

const KEYS: &str = "RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384, or Ed25519";

/// When a certificate expires, for any version of X.509.
pub(super) fn end_of(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let seconds = parse(certificate)?.validity().not_after.timestamp();
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().ok()?)))
}

/// A time to the minute, in words.
pub(super) fn date(time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(
        || "a day that cannot be shown".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

/// Why a certificate is rejected, if the library has no matching error.
#[derive(Debug)]
struct CertificateRefusal(String);

impl fmt::Display for CertificateRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CertificateRefusal {}

fn refusal(words: String) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(CertificateRefusal(words)))).into()
}

/// Explains an error in verifying a chain, with its certificates and those of the authorities.
pub(super) fn of_chain(
    error: rustls::Error,
    own: &CertificateDer<'_>,
    sent: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
    ca_file: Option<&Path>,
) -> rustls::Error {
    let rustls::Error::InvalidCertificate(fault) = &error else { return error };
    let words = match fault {
        CertificateError::UnknownIssuer => Some(unknown_issuer(own, sent, ca_file)),
        CertificateError::BadSignature => weak_signer(own, sent, authorities),
        CertificateError::ExpiredContext { not_after, .. } if end_of(own) != Some(*not_after) => {
            Some(format!("signed by an authority whose certificate expired on {}", date(*not_after)))
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::UnsupportedCertVersion) => Some(version(own)),
            Some(webpki::Error::UnsupportedCriticalExtension) => Some(critical_extension(own, sent)),
            _ => None,
        },
        _ => None,
    };
    words.map_or(error, refusal)
}

/// Explains an error in verifying the signature of a handshake, which the key of this certificate made.
pub(super) fn of_handshake(error: rustls::Error, own: &CertificateDer<'_>) -> rustls::Error {
    let rustls::Error::InvalidCertificate(fault) = &error else { return error };
    let words = match fault {
        CertificateError::BadSignature => parse(own).and_then(|own| odd_rsa_key(&own)).map_or_else(
            || {
                "with a key that the backend does not have: its signature of the handshake is wrong"
                    .to_owned()
            },
            |bits| format!("with an RSA key of {bits} bits, which is not supported; use {KEYS}"),
        ),
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            format!("with a key that does not fit the signature of the handshake; it must be {KEYS}")
        }
        _ => return error,
    };
    refusal(words)
}

/// The length of an RSA key, if it is too short or too long.
fn odd_rsa_key(certificate: &X509Certificate<'_>) -> Option<usize> {
    let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() else { return None };
    let first = key.modulus.iter().position(|byte| *byte != 0)?;
    let digits = key.modulus.get(first..)?;
    // The library compares the minimum with whole bytes, too.
    let whole = digits.len() * 8;
    let bits = whole - digits.first()?.leading_zeros() as usize;
    (whole < MIN_RSA_BITS || bits > MAX_RSA_BITS).then_some(bits)
}

/// Names the missing issuer: that of the last certificate in the chain that the backend sent.
fn unknown_issuer(own: &CertificateDer<'_>, sent: &[CertificateDer<'_>], ca_file: Option<&Path>) -> String {
    let sent: Vec<_> = sent.iter().filter_map(parse).collect();
    let own = parse(own);
    let mut last = own.as_ref();
    // The loop has a limit, because certificates may name each other in a cycle.
    for _ in 0..sent.len() {
        let Some(next) = last.and_then(|last| sent.iter().find(|one| signs(one, last) && *one != last))
        else {
            break;
        };
        last = Some(next);
    }
    let place = match ca_file {
        Some(path) => format!("ca_file {}", path.display()),
        None => "the authorities of this system".to_owned(),
    };
    let add = if ca_file.is_some() { "add it there" } else { "name a file that holds it in tls.ca_file" };
    match last {
        // Its names alone do not show this: some tools give the same names to all certificates that they make.
        Some(last) if sent.is_empty() && signs(last, last) && last.verify_signature(None).is_ok() => {
            format!("self-signed, and not in {place}; {add}")
        }
        Some(last) => format!(
            "signed by an authority that is not trusted here: {} is not in {place}; {add}",
            excerpt(last.issuer().to_string().as_bytes())
        ),
        None => format!("signed by an authority that is not in {place}; {add}"),
    }
}

fn signs(signer: &X509Certificate<'_>, signed: &X509Certificate<'_>) -> bool {
    signed.issuer().as_raw() == signer.subject().as_raw()
}

fn weak_signer(
    own: &CertificateDer<'_>,
    sent: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
) -> Option<String> {
    let signed: Vec<_> = std::iter::once(own).chain(sent).filter_map(parse).collect();
    sent.iter().chain(authorities).filter_map(parse).find_map(|signer| {
        let bits = odd_rsa_key(&signer).filter(|_| signed.iter().any(|one| signs(&signer, one)))?;
        Some(format!(
            "signed by an authority with an RSA key of {bits} bits, which is not supported; use {KEYS}"
        ))
    })
}

fn version(own: &CertificateDer<'_>) -> String {
    match parse(own).map(|own| own.version()) {
        Some(X509Version::V3) => {
            "signed by an authority whose certificate is not of version 3 of X.509; the backend must send it in \
             version 3, made with -addext basicConstraints=CA:TRUE"
                .to_owned()
        }
        version => format!(
            "of version {} of X.509, without the names that verification needs; make one with \
             -addext subjectAltName=DNS:NAME, or set verify = false",
            version.map_or(1, |version| u64::from(version.0) + 1)
        ),
    }
}

/// Extensions supported by the library: key usage, names, basic constraints, name constraints, CRLs, extended key
/// usage.
const UNDERSTOOD: [&str; 6] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.37"];

fn critical_extension(own: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> String {
    let odd = std::iter::once(own).chain(sent).enumerate().find_map(|(at, certificate)| {
        let fields = parse(certificate)?;
        let critical = fields.iter_extensions().filter(|extension| extension.critical);
        let odd = critical.map(|one| one.oid.to_id_string()).find(|id| !UNDERSTOOD.contains(&&**id))?;
        Some((at, named(&odd)))
    });
    match odd {
        Some((0, id)) => format!("with a critical extension that is not supported: {id}"),
        Some((_, id)) => {
            format!(
                "signed by an authority whose certificate has a critical extension that is not supported: {id}"
            )
        }
        None => "with a critical extension that is not supported".to_owned(),
    }
}

/// An object identifier, with its name if it is a common one.
fn named(id: &str) -> String {
    let name = match id {
        "1.2.840.113549.1.1.4" => "MD5 with RSA",
        "1.2.840.113549.1.1.5" => "SHA-1 with RSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.10045.2.1" => "ECDSA",
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.10040.4.1" => "DSA",
        "1.3.101.113" => "Ed448",
        "1.3.6.1.4.1.11129.2.4.3" => "the mark of a precertificate",
        "1.3.6.1.5.5.7.1.24" => "TLS feature",
        "2.5.29.32" => "certificate policies",
        "2.5.29.33" => "policy mappings",
        "2.5.29.36" => "policy constraints",
        "2.5.29.54" => "inhibit any policy",
        _ => return id.to_owned(),
    };
    format!("{id} ({name})")
}

/// The algorithm of an identifier, which is an OID followed by parameters.
fn algorithm(identifier: &[u8]) -> String {
    Oid::from_der(identifier)
        .map_or_else(|_| "an unreadable one".to_owned(), |(_, id)| named(&id.to_id_string()))
}

/// Why a certificate is rejected, as the end of a sentence that begins with "certificate:".
pub(super) fn fault(fault: &CertificateError) -> String {
    match fault {
        // This is how the library reports a certificate that expires before it becomes valid.
        CertificateError::Expired => "never valid: it expires before it becomes valid".into(),
        CertificateError::ExpiredContext { not_after, .. } => format!("expired on {}", date(*not_after)),
        CertificateError::NotValidYet => "not valid yet".into(),
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("not valid before {}; here it is {}", date(*not_before), date(*time))
        }
        CertificateError::UnknownIssuer => "signed by an authority that is not trusted here".into(),
        CertificateError::BadSignature => "not signed by the authority it names".into(),
        CertificateError::NotValidForName => "not valid for the expected name".into(),
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!(
                "not valid for {}, nor for any name; make one with -addext subjectAltName",
                expected.to_str()
            )
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| plain_name(name)).collect();
            format!("not valid for {}, only for {}", expected.to_str(), excerpt(names.join(", ").as_bytes()))
        }
        CertificateError::BadEncoding => "cannot be read".into(),
        CertificateError::InvalidPurpose => "not made for servers (its extended key usage)".into(),
        CertificateError::InvalidPurposeContext { presented, .. } => {
            let purposes: Vec<String> = presented.iter().take(3).map(purpose).collect();
            format!("not made for servers (its extended key usage: {})", purposes.join(", "))
        }
        CertificateError::Revoked => "revoked by its authority".into(),
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::InvalidOcspResponse => "its revocation status is unknown".into(),
        CertificateError::UnhandledCriticalExtension => {
            "with a critical extension that is not supported".into()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => format!(
            "signed with an algorithm that is not supported: {}; SHA-256 with RSA or ECDSA is",
            algorithm(signature_algorithm_id)
        ),
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            public_key_algorithm_id,
            ..
        } => format!(
            "signed by an authority with a key that is not supported: {}; the key must be {KEYS}",
            algorithm(public_key_algorithm_id)
        ),
        CertificateError::Other(other) => {
            if let Some(CertificateRefusal(words)) = other.0.downcast_ref() {
                return words.clone();
            }
            other.0.downcast_ref().map_or(REFUSED, library_fault).into()
        }
        _ => REFUSED.into(),
    }
}

const REFUSED: &str = "refused for a reason that steerd has no message for; `openssl verify` may say more";

/// A verification error that has no variant in rustls.
fn library_fault(fault: &webpki::Error) -> &'static str {
    use webpki::Error;
    match fault {
        // Tools that make self-signed certificates do this by default.
        Error::CaUsedAsEndEntity => {
            "that of an authority (CA:TRUE), which a server must not use; make one with CA:FALSE, or \
             name it in ca_file itself"
        }
        Error::EndEntityUsedAsCa => "signed by a certificate that is not an authority's (CA:FALSE)",
        Error::UnsupportedCertVersion => "not of version 3 of X.509",
        Error::UnsupportedCriticalExtension => "with a critical extension that is not supported",
        Error::CertDistrusted => "with a key that is distrusted everywhere",
        Error::PathLenConstraintViolated => {
            "signed through more authorities than one of them allows (pathlen of its basic constraints)"
        }
        Error::NameConstraintViolation => "for a name that its authority may not sign (name constraints)",
        Error::MalformedNameConstraint | Error::InvalidNetworkMaskConstraint => {
            "signed by an authority whose name constraints cannot be read"
        }
        Error::EmptyEkuExtension => "not made for servers (its extended key usage is empty)",
        Error::SignatureAlgorithmMismatch => "malformed: it names two different signature algorithms",
        Error::InvalidSerialNumber => "malformed: its serial number",
        Error::MalformedDnsIdentifier => "malformed: one of its names",
        Error::MalformedExtensions | Error::ExtensionValueInvalid => "malformed: one of its extensions",
        Error::MaximumPathDepthExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => {
            "signed through too many authorities; the backend must send one chain alone"
        }
        _ => REFUSED,
    }
}

fn purpose(purpose: &ExtendedKeyPurpose) -> String {
    match purpose {
        ExtendedKeyPurpose::ClientAuth => "clients".to_owned(),
        ExtendedKeyPurpose::ServerAuth => "servers".to_owned(),
        ExtendedKeyPurpose::Other(numbers) => {
            numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
        }
    }
}

/// A name in a certificate without its kind, which the verifier prepends.
fn plain_name(name: &str) -> &str {
    let Some((kind, rest)) = name.split_once('(') else {
        return if name == "DirectoryName" { "a directory name" } else { name };
    };
    let inner = rest.strip_suffix(')').unwrap_or(rest);
    match kind {
        "Unsupported" if inner == "0x81" => "a mail address",
        "Unsupported" => "a name of another kind",
        _ => inner.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_whatever_their_kind() {
        for (name, plain) in [
            ("DnsName(\"a.example\")", "a.example"),
            ("IpAddress(127.0.0.1)", "127.0.0.1"),
            ("IpAddress(2001:db8::1)", "2001:db8::1"),
            ("UniformResourceIdentifier(\"spiffe://a/(b)\")", "spiffe://a/(b)"),
            ("DirectoryName", "a directory name"),
            ("Unsupported(0x81)", "a mail address"),
            ("Unsupported(0xa0)", "a name of another kind"),
        ] {
            assert_eq!(plain_name(name), plain);
        }
    }

    #[test]
    fn each_error_of_the_library_has_words_of_its_own() {
        use webpki::Error;
        let errors = [
            Error::CaUsedAsEndEntity,
            Error::CertDistrusted,
            Error::EmptyEkuExtension,
            Error::EndEntityUsedAsCa,
            Error::ExtensionValueInvalid,
            Error::InvalidNetworkMaskConstraint,
            Error::InvalidSerialNumber,
            Error::MalformedDnsIdentifier,
            Error::MalformedNameConstraint,
            Error::MaximumPathDepthExceeded,
            Error::NameConstraintViolation,
            Error::PathLenConstraintViolated,
            Error::SignatureAlgorithmMismatch,
            Error::UnsupportedCertVersion,
            Error::UnsupportedCriticalExtension,
        ];
        for error in errors {
            let debug = format!("{error:?}");
            let words = fault(&CertificateError::Other(OtherError(Arc::new(error))));
            assert!(words != REFUSED && !words.contains(&debug), "{debug}: {words}");
        }
        // SHA-1 with RSA; the parameters are null.
        let identifier = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00".to_vec();
        let words = fault(&CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: identifier,
            supported_algorithms: Vec::new(),
        });
        assert!(words.contains("1.2.840.113549.1.1.5 (SHA-1 with RSA)"), "{words}");
    }
}
