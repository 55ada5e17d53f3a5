//! TOML values with their locations, converted to the types that the caller expects.
//!
//! Both a missing and a wrong value are `None`, but a wrong one is reported. So reading continues, and one run finds
//! all faults. A table records which keys were read, and reports all others when it is closed.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::account::protection;
use crate::config::source::At;
use crate::config::{address, misplaced};
use crate::duration::Shown;
use crate::file::{self, Content, FileKind};
use crate::network::{Network, Networks};
use crate::printable::quoted;
use crate::spelling::{are_opposites, closest};

/// A value of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct TomlValue<'s> {
    /// Its location.
    pub(super) at: At<'s>,
    /// The key that has this value.
    key: &'s str,
    /// Whether it is an element of a list, and the key has the list.
    element: bool,
    data: &'s DeValue<'s>,
}

/// A table of the file.
#[derive(Debug)]
pub(super) struct TomlTable<'s> {
    /// The location of the table, or of its name.
    pub(super) at: At<'s>,
    data: &'s DeTable<'s>,
    known: Vec<&'static str>,
}

/// A key that the operator chose, such as a pool's name, with its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedValue<'s> {
    /// The key.
    pub(super) name: &'s str,
    /// The location of the key.
    pub(super) at: At<'s>,
    /// Its value.
    pub(super) value: TomlValue<'s>,
}

/// A name with dots that was written without quotes, so that TOML has split it.
pub(super) struct SplitName<'s> {
    /// The name.
    pub(super) name: String,
    /// The location of the name, or of its last part.
    pub(super) at: At<'s>,
    /// The entry that was meant; none if the parts of the name are scattered over the file.
    pub(super) entry: Option<NamedValue<'s>>,
}

/// A value and its location.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located<'s, T> {
    pub(super) value: T,
    pub(super) at: At<'s>,
    /// Whether it comes from `[defaults]`.
    pub(super) inherited: bool,
}

impl<T: Clone> Located<'_, T> {
    /// The value that is set here, otherwise the default.
    pub(super) fn or_default(own: Option<Self>, default: Option<&Self>) -> Option<Self> {
        own.or_else(|| default.cloned().map(|default| Self { inherited: true, ..default }))
    }
}

impl<'s> TomlValue<'s> {
    /// "`key`" or "each element of `key`", as the subject of a sentence.
    fn subject(self) -> String {
        if self.element { format!("each element of `{}`", self.key) } else { format!("`{}`", self.key) }
    }

    /// Reports that the value has the wrong type.
    pub(super) fn expected(self, what: impl fmt::Display, hint: impl Into<Option<String>>) {
        let kind = match self.data {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.at.error_with_hint(format!("{} must be {what}; this is {kind}", self.subject()), hint);
    }

    /// Reports that the value has the right type, but is not allowed.
    pub(super) fn must_be(self, what: impl fmt::Display, hint: impl Into<Option<String>>) {
        self.at.error_with_hint(format!("{} must be {what}", self.subject()), hint);
    }

    /// The text, if it is a string. Otherwise reports nothing.
    pub(super) fn as_str(self) -> Option<&'s str> {
        if let DeValue::String(text) = self.data { Some(text) } else { None }
    }

    /// The hint for an integer in quotes.
    pub(super) fn integer_in_quotes<T: TryFrom<i128> + PartialOrd>(
        self,
        range: &RangeInclusive<T>,
    ) -> Option<String> {
        let number = self.as_str()?.trim().parse::<i128>().ok()?;
        let fits = T::try_from(number).is_ok_and(|value| range.contains(&value));
        fits.then(|| format!("drop the quotes: {} = {number}", self.key))
    }

    /// The hint for a share that is written as a number: a fraction from 0 to 1, or a percentage without its sign.
    pub(super) fn share_of_number(self) -> Option<String> {
        let number = match self.data {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok()?,
            DeValue::Integer(number) => number.as_str().parse::<u8>().ok()?.into(),
            DeValue::String(text) => text.trim().parse::<u8>().ok()?.into(),
            _ => return None,
        };
        let is_fraction = number <= 1.0 && matches!(self.data, DeValue::Float(_));
        let share = if is_fraction { number * 100.0 } else { number };
        (1.0..=100.0).contains(&share).then(|| format!("did you mean \"{share:.0}%\"?"))
    }

    /// The hint for a boolean in quotes, or for a word that means a boolean in other formats.
    pub(super) fn boolean_in_quotes(self) -> Option<String> {
        let value = match self.as_str()?.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => true,
            "false" | "no" | "off" => false,
            _ => return None,
        };
        Some(format!("drop the quotes: {} = {value}", self.key))
    }

    /// Whether it is `false`, or a word that means it.
    pub(super) fn is_false(self) -> bool {
        matches!(self.data, DeValue::Boolean(false)) || matches!(self.as_str(), Some("false" | "no" | "none"))
    }

    /// Whether it is an integer.
    pub(super) fn is_integer(self) -> bool {
        matches!(self.data, DeValue::Integer(_))
    }

    /// Whether it is a number with a fraction.
    pub(super) fn is_fraction(self) -> bool {
        matches!(self.data, DeValue::Float(_))
    }

    /// Whether it is a list.
    pub(super) fn is_list(self) -> bool {
        matches!(self.data, DeValue::Array(_))
    }

    /// Whether it is a table.
    pub(super) fn is_table(self) -> bool {
        matches!(self.data, DeValue::Table(_))
    }

    /// A string; `what` describes its expected content.
    pub(super) fn string(self, what: &str) -> Option<&'s str> {
        if self.as_str().is_none() {
            self.expected(what, None);
        }
        self.as_str()
    }

    pub(super) fn boolean(self) -> Option<bool> {
        if let DeValue::Boolean(value) = self.data {
            return Some(*value);
        }
        self.expected("true or false", self.boolean_in_quotes());
        None
    }

    /// An integer within `range`.
    pub(super) fn integer<T>(self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + fmt::Display,
    {
        self.integer_or(range, || None)
    }

    /// As [`TomlValue::integer`], with a hint for a value that is not an integer in quotes either.
    pub(super) fn integer_or<T>(
        self,
        range: RangeInclusive<T>,
        remedy: impl FnOnce() -> Option<String>,
    ) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + fmt::Display,
    {
        let what = format!("an integer from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = self.data else {
            self.expected(what, self.integer_in_quotes(&range).or_else(remedy));
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let value = number.and_then(|number| T::try_from(number).ok()).filter(|value| range.contains(value));
        if value.is_none() {
            self.must_be(what, None);
        }
        value
    }

    /// A duration within `range`.
    pub(super) fn duration(self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let what = "a duration with a unit, such as \"250ms\", \"5s\", \"1m30s\" or \"2d\"";
        if let DeValue::Integer(integer) = self.data {
            self.expected(what, format!("did you mean \"{integer}s\"?"));
            return None;
        }
        let text = self.string(what)?;
        let Some(duration) = parse_duration(text) else {
            let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            self.must_be(what, bare.then(|| format!("did you mean \"{text}s\"?")));
            return None;
        };
        if !range.contains(&duration) {
            self.must_be(format!("from {} to {}", Shown(*range.start()), Shown(*range.end())), None);
            return None;
        }
        Some(duration)
    }

    /// One of a few words; `or` describes other values that the key accepts.
    pub(super) fn word<T: Clone>(self, words: &[(&str, T)], or: Option<&str>) -> Option<T> {
        self.word_or(words, or, None)
    }

    /// As [`TomlValue::word`], with a hint for a text that resembles no word.
    pub(super) fn word_or<T: Clone>(
        self,
        words: &[(&str, T)],
        or: Option<&str>,
        remedy: Option<String>,
    ) -> Option<T> {
        let quoted = words.iter().map(|(word, _)| format!("\"{word}\""));
        let what = listed(&quoted.chain(or.map(str::to_owned)).collect::<Vec<_>>(), "or");
        let text = self.string(&what)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
        if found.is_none() {
            let near = closest(text, words.iter().map(|(word, _)| *word));
            self.must_be(what, near.map(|near| format!("did you mean \"{near}\"?")).or(remedy));
        }
        found
    }

    /// The elements of a list; an empty list is an error.
    pub(super) fn list(self, what: &str) -> Option<Vec<Self>> {
        let elements = self.list_or_none(what)?;
        if elements.is_empty() {
            self.must_be(format!("{what} with at least one element"), None);
            return None;
        }
        Some(elements)
    }

    /// The elements of a list that may be empty.
    pub(super) fn list_or_none(self, what: &str) -> Option<Vec<Self>> {
        let DeValue::Array(array) = self.data else {
            let hint = self.as_str().map(|text| format!("did you mean [\"{text}\"]?"));
            self.expected(what, hint);
            return None;
        };
        let element = |spanned: &'s Spanned<DeValue<'s>>| Self {
            at: self.at.elsewhere(spanned.span()),
            key: self.key,
            element: true,
            data: spanned.get_ref(),
        };
        Some(array.iter().map(element).collect())
    }

    /// A list of networks, which may be empty.
    pub(super) fn networks(self) -> Option<Networks> {
        let what = "a list of networks, such as [\"192.0.2.0/24\", \"2001:db8::/32\"]";
        let network = |value: Self| {
            let text = value.string("an address or a network, such as \"192.0.2.0/24\"")?;
            text.parse::<Network>().map_err(|error| value.at.error(error.to_string())).ok()
        };
        Some(self.list_or_none(what)?.into_iter().filter_map(network).collect())
    }

    /// An IP address that clients can reach.
    pub(super) fn address(self) -> Option<IpAddr> {
        self.address_for("client")
    }

    /// An IP address that `who` can reach: a client or a probe.
    pub(super) fn address_for(self, who: &str) -> Option<IpAddr> {
        let text = self.string("an IP address")?;
        let Ok(address) = text.parse::<IpAddr>() else {
            let what = "an IP address, such as \"192.0.2.11\" or \"2001:db8::11\"";
            if address::has_credentials(text) {
                let hint =
                    "write the address alone; user and password belong to `headers` of the check".to_owned();
                Self { at: self.at.concealed(), ..self }.must_be(what, hint);
                return None;
            }
            let owner = if who == "notification" { "the secondary" } else { "the backend" };
            self.must_be(what, address::hint(text, owner));
            return None;
        };
        let reason = match address {
            _ if address.is_unspecified() => "an unspecified address",
            _ if address.is_multicast() => "a multicast address",
            IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                let hint = v6.to_ipv4_mapped().map(|v4| format!("did you mean \"{v4}\"?"));
                self.at.error_with_hint(format!("`{text}` is an IPv4 address written as an IPv6 one"), hint);
                return None;
            }
            IpAddr::V6(v6) if v6.is_unicast_link_local() => "valid on one link only",
            _ => return Some(address),
        };
        self.at.error(format!("`{text}` is {reason}: no {who} can be sent there"));
        None
    }

    /// A path; a relative one starts at the directory of the file that names it.
    pub(super) fn path(self) -> Option<PathBuf> {
        let text = self.string("the path of a file")?;
        if text.is_empty() {
            self.must_be("the path of a file; this is empty", None);
            return None;
        }
        Some(self.at.source().resolve(text))
    }

    /// Reports a fault of the file at `path`.
    pub(super) fn refuse_file(self, path: &Path, reason: impl fmt::Display) {
        self.at.error(format!("{} {}: {reason}", self.subject(), quoted(&path.to_string_lossy())));
    }

    /// Reads the file: its path and content.
    pub(super) fn file(self, kind: FileKind, limit: u64) -> Option<(PathBuf, Content)> {
        let path = self.path()?;
        match self.at.findings().read(&path, kind, limit) {
            Ok(content) => Some((path, content)),
            Err(error) => {
                self.refuse_file(&path, error);
                None
            }
        }
    }

    /// As [`TomlValue::file`], for a file with a secret: warns if other users can read or change it.
    pub(super) fn secret_content(self) -> Option<(PathBuf, Content)> {
        let (path, content) = self.file(FileKind::Secret, file::SECRET)?;
        if let Some(mode) = content.exposed() {
            self.at.warning(
                format!(
                    "{} {} can be read or changed by other users of this machine (mode {mode:04o})",
                    self.subject(),
                    quoted(&path.to_string_lossy())
                ),
                protection(&content, &path),
            );
        }
        Some((path, content))
    }

    /// As [`TomlValue::secret_content`], as text.
    pub(super) fn secret_file(self) -> Option<(PathBuf, String)> {
        let (path, content) = self.secret_content()?;
        let text = content.text().map(str::to_owned).map_err(|error| self.refuse_file(&path, error)).ok()?;
        Some((path, text))
    }

    /// A table; `name` is the location for faults of the table as a whole.
    pub(super) fn table(self, name: At<'s>) -> Option<TomlTable<'s>> {
        self.table_such_as(name, None)
    }

    /// As [`TomlValue::table`], with a hint for a value that is not a table.
    pub(super) fn table_such_as(self, name: At<'s>, remedy: Option<String>) -> Option<TomlTable<'s>> {
        let DeValue::Table(data) = self.data else {
            let is_table = |value: &Spanned<DeValue<'_>>| matches!(value.get_ref(), DeValue::Table(_));
            let tables =
                matches!(self.data, DeValue::Array(list) if !list.is_empty() && list.iter().all(is_table));
            let single =
                || format!("double brackets make a list of tables: write single ones, [..{}]", self.key);
            let remedy = remedy.or_else(|| tables.then(single));
            self.expected("a table", remedy);
            return None;
        };
        Some(TomlTable { at: name, data, known: Vec::new() })
    }

    /// The entries of a table whose keys the operator chooses, in the order of the file.
    pub(super) fn entries(self) -> Vec<NamedValue<'s>> {
        let Some(table) = self.table(self.at) else { return Vec::new() };
        let mut keys: Vec<_> = table.data.keys().collect();
        keys.sort_by_key(|key| key.span().start);
        keys.into_iter().filter_map(|key| table.entry(key.get_ref())).collect()
    }
}

impl<'s> NamedValue<'s> {
    /// Whether it is a table of tables with names that are not keys: part of a name that TOML has split.
    fn is_part_of_name(self, keys: &[&str]) -> bool {
        let is_name = |name: &str| {
            closest(name, keys.iter().copied()).is_none() && misplaced::places_of(name).is_none()
        };
        matches!(self.value.data, DeValue::Table(data) if data.iter().all(|(name, value)| {
            matches!(value.get_ref(), DeValue::Table(_)) && is_name(name.get_ref())
        }))
    }

    /// Whether it is a table that has one of these keys.
    pub(super) fn has_any(self, keys: &[&str]) -> bool {
        matches!(self.value.data, DeValue::Table(data) if data.keys().any(|key| keys.contains(&key.get_ref().as_ref())))
    }

    /// The entries that were meant, if names without quotes have dots and TOML has made a table of each part. `keys`
    /// are those of an entry: a name ends at the first table that has one of them. In tables that contain only parts of
    /// names, it also ends at an empty table or at a value that is not a table.
    pub(super) fn split_names(self, keys: &[&str]) -> Vec<SplitName<'s>> {
        let mut found = Vec::new();
        self.find_split_names(self.name, keys, &mut found);
        found
    }

    fn find_split_names(self, path: &str, keys: &[&str], found: &mut Vec<SplitName<'s>>) {
        let DeValue::Table(data) = self.value.data else { return };
        let table = TomlTable { at: self.at, data, known: Vec::new() };
        let mut parts: Vec<_> = data.keys().filter_map(|key| table.entry(key.get_ref())).collect();
        // A key of an entry is not part of a name.
        parts.retain(|part| part.value.is_table() && !keys.contains(&part.name));
        parts.sort_by_key(|part| part.at.start());
        for part in parts {
            let name = format!("{path}.{}", part.name);
            let is_end = matches!(part.value.data, DeValue::Table(data) if data.is_empty())
                || !part.is_part_of_name(keys);
            if part.has_any(keys) || (self.is_part_of_name(keys) && is_end) {
                let written = part.at.ending_with(&name);
                let entry = written.map(|(name, at)| NamedValue { name, at, ..part });
                found.push(SplitName {
                    at: entry.map_or(part.at, |entry| entry.at),
                    name: name.clone(),
                    entry,
                });
            }
            part.find_split_names(&name, keys, found);
        }
    }
}

impl<'s> TomlTable<'s> {
    /// The table that a whole file is.
    pub(super) fn of_file(at: At<'s>, data: &'s DeTable<'s>) -> Self {
        Self { at, data, known: Vec::new() }
    }

    fn entry(&self, key: &str) -> Option<NamedValue<'s>> {
        let (name, value) = self.data.get_key_value(key)?;
        let text: &'s str = name.get_ref();
        let at = self.at.elsewhere(value.span());
        let value = TomlValue { at, key: text, element: false, data: value.get_ref() };
        Some(NamedValue { name: text, at: self.at.elsewhere(name.span()), value })
    }

    /// The key and its value, if the table has it.
    pub(super) fn get(&mut self, key: &'static str) -> Option<NamedValue<'s>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entry(key)
    }

    /// The value of a key, if the table has it and `convert` accepts it.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(TomlValue<'s>) -> Option<T>,
    ) -> Option<Located<'s, T>> {
        let value = self.get(key)?.value;
        Some(Located { value: convert(value)?, at: value.at, inherited: false })
    }

    /// As [`TomlTable::read`], but reports a missing key; `owner` is what lacks the key.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        owner: &str,
        convert: impl FnOnce(TomlValue<'s>) -> Option<T>,
    ) -> Option<Located<'s, T>> {
        if !self.data.contains_key(key) {
            self.at.error(format!("{owner} has no `{key}`"));
        }
        self.read(key, convert)
    }

    /// The hint for an unknown key.
    fn remedy(&self, key: &str) -> String {
        if let Some(written) = misplaced::written_here(key, &self.known) {
            return format!("write `{written}`");
        }
        if let Some(near) = closest(key, self.known.iter().copied()) {
            return format!("did you mean `{near}`?");
        }
        if let Some(places) = misplaced::places_of(key) {
            return format!("`{key}` belongs to {places}");
        }
        if let Some(known) = self.known.iter().find(|known| are_opposites(key, known)) {
            return format!("`{known}` is known here, which says the opposite");
        }
        let known: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
        format!("known here: {}", known.join(", "))
    }

    /// Reports every key that was not read.
    pub(super) fn close(self) {
        for key in self.data.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let hint = self.remedy(key.get_ref());
            let message = format!("unknown key `{}`", key.get_ref());
            self.at.elsewhere(key.span()).error_with_hint(message, hint);
        }
    }
}

/// A duration such as `1m30s`, `2w` or `1d12h`. A day has 24 hours, and a week has seven days; longer units have no
/// fixed length.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let span = SpanParser::new().parse_span(text).ok()?;
    Duration::try_from(span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?).ok()
}

/// "a, b or c", with `last` before the last word.
pub(super) fn listed(words: &[String], last: &str) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [rest @ .., word] => format!("{} {last} {word}", rest.join(", ")),
    }
}

/// A number of bytes within `range`, such as `"64KiB"`.
pub(super) fn size(value: TomlValue<'_>, range: RangeInclusive<usize>) -> Option<usize> {
    let what = "a size with a unit, such as \"512B\", \"64KiB\" or \"1MiB\"";
    if let DeValue::Integer(integer) = value.data {
        value.expected(what, format!("did you mean \"{integer}B\"?"));
        return None;
    }
    let text = value.string(what)?;
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "B" => Some(1),
        "KiB" => Some(1024),
        "MiB" => Some(1024 * 1024),
        _ => None,
    };
    // A number that does not fit is out of every range.
    let number = (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX));
    let Some((number, factor)) = number.zip(factor) else {
        let meant = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => Some("B"),
            "k" | "kb" | "kib" => Some("KiB"),
            "m" | "mb" | "mib" => Some("MiB"),
            _ => None,
        };
        let meant = meant.filter(|_| !digits.is_empty());
        value.must_be(what, meant.map(|unit| format!("did you mean \"{digits}{unit}\"?")));
        return None;
    };
    let bytes = number.checked_mul(factor).filter(|bytes| range.contains(bytes));
    if bytes.is_none() {
        value.must_be(format!("from {}B to {}", range.start(), mebibytes(*range.end())), None);
    }
    bytes
}

fn mebibytes(bytes: usize) -> String {
    if bytes.is_multiple_of(1024 * 1024) {
        format!("{}MiB", bytes / 1024 / 1024)
    } else {
        format!("{bytes}B")
    }
}

/// A share from 1 to 100 percent, such as `"40%"`.
pub(super) fn percent(text: &str) -> Option<u8> {
    let percent = text.strip_suffix('%')?.trim_end().parse().ok();
    percent.filter(|percent| (1..=100).contains(percent))
}
