//! The table `tls` of a check: whom to trust, and for how long a certificate must last.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use rustls::pki_types::ServerName;

use crate::config::check::keys::Key;
use crate::config::labels;
use crate::config::value::{Table, Value};
use crate::file;
use crate::probe::certificate;

/// 0 asks for nothing, where a default does; ten years are the longest anybody asks for.
const DAYS_LEFT: RangeInclusive<u32> = 0..=3650;

/// The keys of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsKeys<'s> {
    pub(super) verify: Key<'s, bool>,
    pub(super) ca_file: Key<'s, PathBuf>,
    pub(super) name: Key<'s, &'s str>,
    pub(super) min_days_left: Key<'s, u32>,
}

impl<'s> TlsKeys<'s> {
    pub(super) fn read(table: &mut Table<'s>) -> Self {
        Self {
            verify: Key::read(table, "verify", Value::boolean),
            ca_file: Key::read(table, "ca_file", authorities),
            name: Key::read(table, "name", server_name),
            min_days_left: Key::read(table, "min_days_left", |value| value.integer(DAYS_LEFT)),
        }
    }

    pub(super) fn or_default(self, defaults: &Self) -> Self {
        Self {
            verify: self.verify.or_default(&defaults.verify),
            ca_file: self.ca_file.or_default(&defaults.ca_file),
            name: self.name.or_default(&defaults.name),
            min_days_left: self.min_days_left.or_default(&defaults.min_days_left),
        }
    }
}

/// A PEM file of certificates.
fn authorities(value: Value<'_>) -> Option<PathBuf> {
    let (path, content) = value.file(file::CERTIFICATES)?;
    match certificate::all_in(&content.bytes) {
        Ok(_) => Some(path),
        Err(reason) => {
            value.refuse_file(&path, reason.to_owned());
            None
        }
    }
}

fn server_name(value: Value<'_>) -> Option<&str> {
    let text = value.string("the name in the certificate")?;
    if !can_be_certified(text) {
        value.must_be(format!("a host name or an address; this is `{text}`"), None);
        return None;
    }
    Some(text)
}

/// A name that comes from elsewhere than `tls.name`.
pub(super) fn checked_name<'s>(value: Value<'s>, text: &'s str) -> Option<&'s str> {
    if !can_be_certified(text) {
        value.at.error(no_name(text));
        return None;
    }
    Some(text)
}

/// Whether a certificate can be for this name.
pub(super) fn can_be_certified(name: &str) -> bool {
    labels::to_ascii(name).is_some_and(|name| ServerName::try_from(&*name).is_ok())
}

pub(super) fn no_name(text: &str) -> String {
    format!("`{text}` is no name that a certificate can have")
}
