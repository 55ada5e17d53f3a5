//! The keys of a check, one line each: name, type, the kinds of check that have it, and how it is read.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::check::{self, Expected, ProxyProtocol, Version};
use crate::config::check::certificate::TlsKeys;
use crate::config::check::key::CheckKey;
use crate::config::check::pattern::BodyRequirement;
use crate::config::check::{CheckKind, KINDS, pattern, program, request};
use crate::config::names;
use crate::config::source::At;
use crate::config::value::{self, Located, NamedValue, TomlTable, TomlValue};

const ALL: &[CheckKind] =
    &[CheckKind::Http, CheckKind::Https, CheckKind::Tcp, CheckKind::Tls, CheckKind::Grpc, CheckKind::Exec];
const OF_HTTP: &[CheckKind] = &[CheckKind::Http, CheckKind::Https];
const OF_REQUESTS: &[CheckKind] = &[CheckKind::Http, CheckKind::Https, CheckKind::Grpc];
const OF_STREAMS: &[CheckKind] = &[CheckKind::Tcp, CheckKind::Tls];
const OF_NETWORK: &[CheckKind] =
    &[CheckKind::Http, CheckKind::Https, CheckKind::Tcp, CheckKind::Tls, CheckKind::Grpc];
const OF_GRPC: &[CheckKind] = &[CheckKind::Grpc];
const OF_EXEC: &[CheckKind] = &[CheckKind::Exec];
/// The kinds of check that have a table `tls`.
pub(super) const OF_TLS: &[CheckKind] = &[CheckKind::Https, CheckKind::Tls, CheckKind::Grpc];

const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 2] = [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];

/// Keys that apply to a single check, so a default makes no sense.
const WITHOUT_DEFAULT: [&str; 4] = ["name", "critical", "observe_only", "program"];

/// A key that the check itself sets.
pub(super) struct Own<'s> {
    pub(super) name: &'static str,
    pub(super) fits: &'static [CheckKind],
    pub(super) at: At<'s>,
}

/// Makes one field per line, with the code to read it, inherit it, and compare it with the kind of the check.
macro_rules! plain_keys {
    ($($name:literal, $field:ident: $type:ty, $fits:expr, $convert:expr;)+) => {
        /// All keys but the table `tls`.
        #[derive(Clone, Debug, Default)]
        pub(super) struct PlainKeys<'s> {
            $(pub(super) $field: CheckKey<'s, $type>,)+
        }

        impl<'s> PlainKeys<'s> {
            fn read(table: &mut TomlTable<'s>) -> Self {
                Self { $($field: CheckKey::read(table, $name, $convert),)+ }
            }

            fn or_default(self, defaults: &Self) -> Self {
                Self { $($field: self.$field.or_default(&defaults.$field),)+ }
            }

            /// The keys that are not inherited.
            pub(super) fn own(&self) -> Vec<Own<'s>> {
                let mut own = Vec::new();
                $(if let Some(Located { at, inherited: false, .. }) = self.$field.set() {
                    own.push(Own { name: $name, fits: $fits, at: *at });
                })+
                own
            }
        }
    };
}

plain_keys! {
    "type", kind: CheckKind, ALL, |value| value.word(&KINDS, None);
    "name", name: &'s str, ALL, name;
    "port", port: u16, ALL, |value| value.integer(1..=u16::MAX);
    "interval", interval: Duration, ALL, |value| value.duration(check::INTERVALS);
    "interval_down", interval_down: Duration, ALL, |value| value.duration(check::INTERVALS);
    "timeout", timeout: Duration, ALL, |value| value.duration(check::TIMEOUTS);
    "recheck", recheck: Duration, ALL, |value| value.duration(check::INTERVALS);
    "rise", rise: u16, ALL, |value| value.integer(check::FLIPS);
    "fall", fall: u16, ALL, |value| value.integer(check::FLIPS);
    "damping", damping: bool, ALL, TomlValue::boolean;
    "critical", critical: bool, ALL, TomlValue::boolean;
    "observe_only", observe_only: bool, ALL, TomlValue::boolean;
    "host", host: &'s str, OF_REQUESTS, request::host;
    "path", path: &'s str, OF_HTTP, request::path;
    "method", method: &'s str, OF_HTTP, request::method;
    "headers", headers: BTreeMap<String, String>, OF_REQUESTS, request::headers;
    "http_version", version: Version, OF_HTTP, |value| value.word(&request::VERSIONS, None);
    "status", status: Vec<RangeInclusive<u16>>, OF_HTTP, request::status;
    "drain_status", drain_status: Vec<RangeInclusive<u16>>, OF_HTTP, request::drain_status;
    "body", body: BodyRequirement, OF_HTTP, pattern::body;
    "body_limit", body_limit: usize, OF_HTTP, |value| value::size(value, request::BODY_LIMITS);
    "weight_header", weight_header: String, OF_HTTP, request::weight_header;
    "send", send: &'s str, OF_STREAMS, pattern::send;
    "expect", expect: Expected, OF_STREAMS, pattern::pattern;
    "send_hex", send_hex: Vec<u8>, OF_STREAMS, pattern::bytes;
    "expect_hex", expect_hex: Vec<u8>, OF_STREAMS, pattern::bytes;
    "proxy_protocol", proxy: ProxyProtocol, OF_NETWORK, |value| value.word(&PROXY_PROTOCOLS, None);
    "service", service: &'s str, OF_GRPC, request::service;
    "program", program: PathBuf, OF_EXEC, program::program;
    "arguments", arguments: Vec<String>, OF_EXEC, program::arguments;
}

/// The keys of a check, in one place or after all places are merged.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct CheckKeys<'s> {
    pub(super) plain: PlainKeys<'s>,
    pub(super) tls: TlsKeys<'s>,
    /// The location of the table `tls` in the check itself.
    pub(super) tls_at: Option<At<'s>>,
    /// Whether there are faults: a missing key may then have been misspelt.
    pub(super) faulty: bool,
}

impl<'s> CheckKeys<'s> {
    /// Reads `[defaults.check]`.
    pub(in crate::config) fn read_defaults(entry: NamedValue<'s>) -> Self {
        let Some(mut table) = entry.value.table(entry.at) else {
            return Self { faulty: true, ..Self::default() };
        };
        for key in WITHOUT_DEFAULT {
            if let Some(entry) = table.get(key) {
                let hint = "set it in the check that is meant".to_owned();
                entry.at.error_with_hint(format!("`{key}` cannot have a default"), hint);
            }
        }
        let mut keys = Self::read_table(table);
        keys.plain.name = CheckKey::Unset;
        keys.plain.critical = CheckKey::Unset;
        keys.plain.observe_only = CheckKey::Unset;
        keys.plain.program = CheckKey::Unset;
        keys
    }

    pub(super) fn read_table(mut table: TomlTable<'s>) -> Self {
        let findings = table.at.findings();
        let before = findings.errors();
        let mut keys = Self { plain: PlainKeys::read(&mut table), ..Self::default() };
        if let Some(tls) = table.get("tls")
            && let Some(mut table) = tls.value.table(tls.at)
        {
            keys.tls_at = Some(tls.at);
            keys.tls = TlsKeys::read(&mut table);
            table.close();
        }
        table.close();
        keys.faulty = findings.errors() > before;
        keys
    }

    /// These keys, completed with the defaults. Tables are merged key by key; other values replace the default as a
    /// whole.
    pub(super) fn or_default(self, defaults: &Self) -> Self {
        let own_headers = self.plain.headers.value();
        let mut plain = self.plain.or_default(&defaults.plain);
        if let (CheckKey::Set(headers), Some(own), Some(default)) =
            (&mut plain.headers, own_headers, defaults.plain.headers.value())
        {
            headers.value = default.into_iter().chain(own).collect();
        }
        Self {
            plain,
            tls: self.tls.or_default(&defaults.tls),
            tls_at: self.tls_at,
            faulty: self.faulty || defaults.faulty,
        }
    }
}

fn name(value: TomlValue<'_>) -> Option<&str> {
    let text = value.string("a name")?;
    names::check(value.at, text, "a check", names::is_in_pool_name).then_some(text)
}
