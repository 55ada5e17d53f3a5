//! `query_log` and `dnstap` of `[server]`.

use std::path::PathBuf;

use crate::config::value::{NamedValue, TomlTable, TomlValue};
use crate::tap::SampleRate;
use crate::visibility::{DnstapSettings, QueryLogSettings, VisibilitySettings};

/// The most bytes of a name of this server.
const MAX_IDENTITY: usize = 255;
/// The longest path of a Unix socket on Linux, bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Reads both keys.
pub(super) fn read(table: &mut TomlTable<'_>) -> VisibilitySettings {
    let query_log = table.get("query_log").and_then(read_query_log);
    let dnstap = table.get("dnstap").and_then(read_dnstap);
    VisibilitySettings { query_log, dnstap }
}

fn read_query_log(entry: NamedValue<'_>) -> Option<QueryLogSettings> {
    let mut table = entry.value.table(entry.at)?;
    let file = table.require("file", "query_log", TomlValue::path);
    let sample = table.read("sample", rate);
    let anonymize = table.read("anonymize", TomlValue::boolean);
    table.close();
    Some(QueryLogSettings {
        file: file?.value,
        sample: sample.map_or(SampleRate::ONE_PERCENT, |sample| sample.value),
        anonymize: anonymize.is_some_and(|anonymize| anonymize.value),
    })
}

fn read_dnstap(entry: NamedValue<'_>) -> Option<DnstapSettings> {
    let mut table = entry.value.table(entry.at)?;
    let socket = table.require("socket", "dnstap", socket);
    let sample = table.read("sample", rate);
    let identity = table.read("identity", identity);
    table.close();
    Some(DnstapSettings {
        socket: socket?.value,
        sample: sample.map_or(SampleRate::ALL, |sample| sample.value),
        identity: identity.map(|identity| identity.value).unwrap_or_default(),
    })
}

fn rate(value: TomlValue<'_>) -> Option<SampleRate> {
    let what = "a percentage, such as \"1%\"";
    let text = value.string(what)?;
    let rate = text.parse();
    if rate.is_err() {
        value.must_be(
            "a percentage from \"0%\" to \"100%\" with at most four decimals, such as \"0.1%\"",
            None,
        );
    }
    rate.ok()
}

fn socket(value: TomlValue<'_>) -> Option<PathBuf> {
    let path = value.path()?;
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        value.must_be(
            format!("the path of a Unix socket, of at most {MAX_SOCKET_PATH} bytes; this has {length}"),
            None,
        );
        return None;
    }
    Some(path)
}

fn identity(value: TomlValue<'_>) -> Option<String> {
    let text = value.string("a text")?;
    if text.is_empty() || text.len() > MAX_IDENTITY {
        value.must_be(format!("a text of 1 to {MAX_IDENTITY} bytes"), None);
        return None;
    }
    Some(text.to_owned())
}
