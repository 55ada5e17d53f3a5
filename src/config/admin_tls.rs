//! `tls` of `[admin]`: the certificate of the admin server, and its key. Both are read again at each reload.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::config::check::end_in_words;
use crate::config::value::{NamedValue, TomlValue};
use crate::file::{self, Content, FileKind};
use crate::pem::{self, IdentityFault};

/// The protocol of the admin server (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";

/// The certificate of the admin server, and its key. Its debug output does not contain them.
#[derive(Clone)]
pub struct AdminTls {
    server: Arc<ServerConfig>,
    /// That of both files.
    digest: Box<[u8]>,
}

impl AdminTls {
    fn of(identity: CertifiedKey, certificate: &[u8], key: &[u8]) -> Result<Self, IdentityFault> {
        let mut digest = Context::new(&SHA256);
        digest.update(certificate);
        digest.update(key);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| IdentityFault::Key("TLS cannot be set up with it"))?;
        let resolver = Arc::new(SingleCertAndKey::from(identity));
        let mut server = builder.with_no_client_auth().with_cert_resolver(resolver);
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { server: Arc::new(server), digest: digest.finish().as_ref().into() })
    }

    /// How to speak TLS with clients.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

impl PartialEq for AdminTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for AdminTls {}

impl fmt::Debug for AdminTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminTls")
    }
}

/// Reads the table.
pub(super) fn read(entry: NamedValue<'_>) -> Option<AdminTls> {
    let hint = "write tls = { certificate = \"FILE\", key = \"FILE\" }".to_owned();
    let mut table = entry.value.table_such_as(entry.at, Some(hint))?;
    let certificate = |value: TomlValue<'_>| value.file(FileKind::Certificate, file::CERTIFICATES);
    let certificate = table.require("certificate", "`tls`", |value| Some((value, certificate(value)?)));
    let key = table.require("key", "`tls`", |value| Some((value, value.secret_content()?)));
    table.close();
    let (certificate, key): ((TomlValue<'_>, (PathBuf, Content)), _) = (certificate?.value, key?.value);
    let (certificate_bytes, key_bytes) = (&certificate.1.1.bytes, &key.1.1.bytes);
    let made = pem::identity(certificate_bytes, key_bytes).and_then(|identity| {
        if let Some(end) = identity.cert.first().and_then(end_in_words) {
            let path = certificate.1.0.display();
            let message =
                format!("the certificate {path} of the admin server {end}: clients refuse it from then on");
            let hint = "put a new one into the same file, and reload".to_owned();
            certificate.0.at.warning(message, Some(hint));
        }
        AdminTls::of(identity, certificate_bytes, key_bytes)
    });
    let (value, (path, _), reason) = match made {
        Ok(tls) => return Some(tls),
        Err(IdentityFault::Certificate(reason)) => (certificate.0, certificate.1, reason),
        Err(IdentityFault::Key(reason)) => (key.0, key.1, reason),
    };
    value.refuse_file(&path, reason);
    None
}

/// The path of the certificate, for a client.
pub(super) fn certificate_path(entry: NamedValue<'_>) -> Option<PathBuf> {
    let mut table = entry.value.table(entry.at)?;
    table.read("certificate", TomlValue::path).map(|read| read.value)
}
