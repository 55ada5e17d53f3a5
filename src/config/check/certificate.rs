//! The table `tls` of a check: trusted authorities, the requirements for the certificate of the server, the
//! client certificate.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::check::ClientFiles;
use crate::config::check::key::CheckKey;
use crate::config::labels;
use crate::config::value::{Located, TomlTable, TomlValue};
use crate::file::{self, FileKind};
use crate::pem::{self, IdentityFault};

/// Range of `min_days_left`. 0 overrides a default; nobody needs more than ten years.
const DAYS_LEFT: RangeInclusive<u32> = 0..=3650;

/// A certificate with less time left than this causes a warning, seconds.
const SOON: i64 = 14 * 86_400;

/// The keys of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsKeys<'s> {
    pub(super) verify: CheckKey<'s, bool>,
    pub(super) ca_file: CheckKey<'s, PathBuf>,
    pub(super) name: CheckKey<'s, &'s str>,
    pub(super) min_days_left: CheckKey<'s, u32>,
    pub(super) client_certificate: CheckKey<'s, PathBuf>,
    pub(super) client_key: CheckKey<'s, PathBuf>,
}

impl<'s> TlsKeys<'s> {
    pub(super) fn read(table: &mut TomlTable<'s>) -> Self {
        Self {
            verify: CheckKey::read(table, "verify", TomlValue::boolean),
            ca_file: CheckKey::read(table, "ca_file", authorities),
            name: CheckKey::read(table, "name", server_name),
            min_days_left: CheckKey::read(table, "min_days_left", |value| value.integer(DAYS_LEFT)),
            client_certificate: CheckKey::read(table, "client_certificate", authorities),
            client_key: CheckKey::read(table, "client_key", private_key),
        }
    }

    pub(super) fn or_default(self, defaults: &Self) -> Self {
        Self {
            verify: self.verify.or_default(&defaults.verify),
            ca_file: self.ca_file.or_default(&defaults.ca_file),
            name: self.name.or_default(&defaults.name),
            min_days_left: self.min_days_left.or_default(&defaults.min_days_left),
            client_certificate: self.client_certificate.or_default(&defaults.client_certificate),
            client_key: self.client_key.or_default(&defaults.client_key),
        }
    }

    /// The client certificate with its key, which may be in the same file.
    pub(super) fn client(&self) -> Result<Option<ClientFiles>, Reported> {
        let Some(certificate) = self.client_certificate.set() else { return Ok(None) };
        let key = match &self.client_key {
            CheckKey::Unset => certificate,
            CheckKey::Wrong => return Err(Reported),
            CheckKey::Set(key) => key,
        };
        let read = |file: &Located<'s, PathBuf>| match file.at.findings().read(
            &file.value,
            FileKind::Certificate,
            file::CERTIFICATES,
        ) {
            Ok(content) => Ok(content.bytes),
            Err(error) => {
                file.at.error(format!("{} cannot be read: {error}", file.value.display()));
                Err(Reported)
            }
        };
        let fault = |file: &Located<'s, PathBuf>, reason: &str| {
            file.at.error(format!("{} cannot be used: {reason}", file.value.display()));
            Err(Reported)
        };
        match pem::identity(&read(certificate)?, &read(key)?) {
            Ok(identity) => {
                if let Some(own) = identity.cert.first() {
                    about_end(certificate, own);
                }
                Ok(Some(ClientFiles { certificate: certificate.value.clone(), key: key.value.clone() }))
            }
            Err(IdentityFault::Certificate(reason)) => fault(certificate, reason),
            Err(IdentityFault::Key(reason)) if self.client_key.set().is_none() => {
                fault(key, &format!("{reason}; name the file of the key in `client_key`"))
            }
            Err(IdentityFault::Key(reason)) => fault(key, reason),
        }
    }
}

/// "expires on" or "has expired on" with the day; none if it is valid for longer.
pub(in crate::config) fn end_in_words(certificate: &CertificateDer<'_>) -> Option<String> {
    let fields = pem::parse(certificate)?;
    let end = Timestamp::from_second(fields.validity().not_after.timestamp()).ok()?;
    let verb = match end.duration_since(Timestamp::now()).as_secs() {
        ..=0 => "has expired on",
        1..SOON => "expires on",
        _ => return None,
    };
    Some(format!("{verb} {}", end.strftime("%Y-%m-%d")))
}

/// Warns of a client certificate that has expired or soon will: backends refuse it, and then all of their probes fail
/// together.
fn about_end(file: &Located<'_, PathBuf>, certificate: &CertificateDer<'_>) {
    let Some(end) = end_in_words(certificate) else { return };
    let message = format!(
        "the client certificate {} {end}: backends that verify it refuse each probe from then on",
        file.value.display(),
    );
    file.at.warning(message, "put a new one into the same file: it is read within a minute".to_owned());
}

/// The error was already reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// Reads a PEM file with certificates.
pub(in crate::config) fn authorities(value: TomlValue<'_>) -> Option<PathBuf> {
    let (path, content) = value.file(FileKind::Certificate, file::CERTIFICATES)?;
    pem::certificates(&content.bytes).map_err(|reason| value.refuse_file(&path, reason)).ok()?;
    Some(path)
}

/// Reads a PEM file with a private key.
fn private_key(value: TomlValue<'_>) -> Option<PathBuf> {
    let (path, content) = value.secret_content()?;
    pem::key(&content.bytes).map_err(|reason| value.refuse_file(&path, reason)).ok()?;
    Some(path)
}

fn server_name(value: TomlValue<'_>) -> Option<&str> {
    let text = value.string("the name in the certificate")?;
    if !can_be_certified(text) {
        value.must_be(format!("a host name or an address; this is `{text}`"), None);
        return None;
    }
    Some(text)
}

/// The name that a certificate must have, if it does not come from `tls.name`.
pub(super) fn checked_name<'s>(value: TomlValue<'s>, text: &'s str) -> Option<&'s str> {
    if !can_be_certified(text) {
        value.at.error(no_name(text));
        return None;
    }
    Some(text)
}

/// Whether a certificate can have this name.
pub(super) fn can_be_certified(name: &str) -> bool {
    labels::to_ascii(name).is_some_and(|name| ServerName::try_from(&*name).is_ok())
}

pub(super) fn no_name(text: &str) -> String {
    format!("`{text}` cannot be a name in a certificate")
}
