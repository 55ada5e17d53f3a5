//! Certificates that verification rejects, and trust decisions. tests/fixtures/certificates has
//! those that rcgen cannot make; the server for these makes no valid signatures.

use rcgen::{CustomExtension, ExtendedKeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::*;

const NAME: &str = "s3.example.com";

/// A key of any kind; its signatures are invalid.
#[derive(Clone, Debug)]
struct NoKey(SignatureScheme, SignatureAlgorithm);

impl SigningKey for NoKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.0).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.1
    }
}

impl Signer for NoKey {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![0x55; 128])
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

const PSS: NoKey = NoKey(SignatureScheme::RSA_PSS_SHA256, SignatureAlgorithm::RSA);

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/certificates").join(name)
}

async fn keyless(
    certificate: CertificateDer<'static>,
    key: NoKey,
    versions: &[&'static SupportedProtocolVersion],
) -> u16 {
    let certified = CertifiedKey::new(vec![certificate], Arc::new(key));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    tls_server(config, &[], answer_ok).await.0
}

async fn keyless_fixture(name: &str) -> u16 {
    let certificate = CertificateDer::from_pem_file(fixture(name)).unwrap();
    keyless(certificate, PSS, rustls::ALL_VERSIONS).await
}

fn trusting(ca_file: PathBuf) -> TlsSettings {
    TlsSettings { name: Some(NAME.into()), ca_file: Some(ca_file), ..TlsSettings::default() }
}

#[tokio::test]
async fn without_verification_any_certificate_and_any_key_will_do() {
    let any = TlsSettings { insecure: true, ..TlsSettings::default() };
    for name in ["v1.pem", "rsa-1024.pem", "critical.pem"] {
        let port = keyless_fixture(name).await;
        assert_passed(&run(https(port, any.clone()), PATIENT).await, "200 OK");
        let lasting = |days| TlsSettings { min_days_left: Some(days), ..any.clone() };
        assert_passed(&run(https(port, lasting(30)), PATIENT).await, "200 OK");
        let report = run(https(port, lasting(100_000)), PATIENT).await;
        assert_fault(&report, Cause::Tls, "at least 100000 days are required");
    }
    let unreadable = || CertificateDer::from(vec![1, 2, 3]);
    // Servers that use rustls have no other signature scheme that the verifier of rustls rejects.
    for (scheme, algorithm) in [
        (SignatureScheme::ECDSA_NISTP521_SHA512, SignatureAlgorithm::ECDSA),
        (SignatureScheme::ED448, SignatureAlgorithm::ED448),
    ] {
        let port = keyless(unreadable(), NoKey(scheme, algorithm), &[&rustls::version::TLS13]).await;
        assert_passed(&run(https(port, any.clone()), PATIENT).await, "200 OK");
    }
    let port = keyless(unreadable(), PSS, rustls::ALL_VERSIONS).await;
    let lasting = TlsSettings { min_days_left: Some(1), ..any };
    assert_fault(&run(https(port, lasting), PATIENT).await, Cause::Tls, "its expiry date cannot be read");
}

#[tokio::test]
async fn each_refusal_has_its_own_words() {
    for (shown, authority, words) in [
        ("v1.pem", "ca.pem", "certificate: of version 1 of X.509, without the names"),
        ("rsa-1024.pem", "ca.pem", "certificate: with an RSA key of 1024 bits"),
        ("critical.pem", "ca.pem", "critical extension that is not supported: 1.2.3.4.5"),
        ("by-weak-ca.pem", "weak-ca.pem", "signed by an authority with an RSA key of 1024 bits"),
    ] {
        let port = keyless_fixture(shown).await;
        assert_fault(&run(https(port, trusting(fixture(authority))), PATIENT).await, Cause::Tls, words);
    }
    let authority = Authority::new("ours");
    let refused = async |params: CertificateParams, words: &str| {
        let port = https_server(authority.issue(&params)).await;
        assert_fault(&run(https(port, authority.trusted(NAME)), PATIENT).await, Cause::Tls, words);
    };
    let mut clients = named(NAME);
    clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    refused(clients, "not made for servers (its extended key usage: clients)").await;
    let mut critical = named(NAME);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 36], vec![0x30, 0]);
    extension.set_criticality(true);
    critical.custom_extensions.push(extension);
    let ecdsa = NoKey(SignatureScheme::ECDSA_NISTP256_SHA256, SignatureAlgorithm::ECDSA);
    let port = keyless(authority.issue(&critical).0, ecdsa.clone(), rustls::ALL_VERSIONS).await;
    let report = run(https(port, authority.trusted(NAME)), PATIENT).await;
    assert_fault(&report, Cause::Tls, "not supported: 2.5.29.36 (policy constraints)");
    refused(named("127.0.0.1"), "not valid for s3.example.com, only for \"127.0.0.1\"").await;

    let (certificate, _) = authority.issue(&named(NAME));
    let port = keyless(certificate, ecdsa, rustls::ALL_VERSIONS).await;
    let report = run(https(port, authority.trusted(NAME)), PATIENT).await;
    assert_fault(&report, Cause::Tls, "with a key that the backend does not have");
}

#[tokio::test]
async fn a_ca_file_may_hold_the_certificate_of_the_server_itself() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, certificate: &CertificateDer<'_>| {
        let text = data_encoding::BASE64.encode(certificate);
        let path = directory.path().join(name);
        let pem = format!("\u{feff}-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(&path, pem).unwrap();
        path
    };
    let authority = Authority::new("not named");
    let self_signed = |ca: IsCa, year| {
        let mut params = named(NAME);
        params.is_ca = ca;
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().clone(), key)
    };
    let unconstrained = || IsCa::Ca(BasicConstraints::Unconstrained);
    for (name, identity) in [
        ("leaf.pem", authority.issue(&named(NAME))),
        ("self-signed.pem", self_signed(IsCa::ExplicitNoCa, 4000)),
        ("authority.pem", self_signed(unconstrained(), 4000)),
    ] {
        let file = write(name, &identity.0);
        let port = https_server(identity).await;
        assert_passed(&run(https(port, trusting(file.clone())), PATIENT).await, "200 OK");
        let other = TlsSettings { name: Some("www.example.com".into()), ..trusting(file) };
        assert_fault(&run(https(port, other), PATIENT).await, Cause::Tls, "not valid for www.example.com");
    }
    let expired = self_signed(unconstrained(), 2020);
    let file = write("expired.pem", &expired.0);
    let port = https_server(expired).await;
    assert_fault(
        &run(https(port, trusting(file.clone())), PATIENT).await,
        Cause::Tls,
        "certificate: expired ",
    );
    // Another certificate with the same name is not the same.
    let other = https_server(self_signed(unconstrained(), 4000)).await;
    assert_fault(&run(https(other, trusting(file)), PATIENT).await, Cause::Tls, "that of an authority");
}
