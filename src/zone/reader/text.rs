//! Converts one or more tokens to a value in wire form: names, numbers, times, text, hexadecimal
//! and base64. `rdata` chooses the conversion for each field.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::fault::SpanFault;
use super::lexer::{Form, Token};
use crate::name;
use crate::printable::printable;
use crate::spelling::closest;

/// The largest TTL, seconds (RFC 2181, section 8).
pub(super) const MAX_TTL: u32 = 0x7fff_ffff;

/// The longest `<character-string>`, bytes (RFC 1035, section 3.3).
const MAX_STRING: usize = 255;

/// At most this many bytes of a token are quoted in a message.
const SHOWN: usize = 60;

/// A token as quoted in a message.
pub(super) fn shown(token: &Token<'_>) -> String {
    shown_text(token.text)
}

pub(super) fn shown_text(text: &[u8]) -> String {
    let short = text.get(..SHOWN).map_or_else(
        || String::from_utf8_lossy(text).into_owned(),
        |start| format!("{}...", String::from_utf8_lossy(start)),
    );
    printable(&short).replace('`', "\\u{60}")
}

/// The known word of which `text` is probably a misspelling.
pub(super) fn nearest(text: &[u8], known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    closest(std::str::from_utf8(text).ok()?, known)
}

/// The text of a token, which must not be quoted.
pub(super) fn word<'s>(token: &Token<'s>, what: &str) -> Result<&'s [u8], SpanFault> {
    match token.form {
        Form::Word => Ok(token.text),
        Form::Quoted => Err(SpanFault::at(token.span(), format!("{what} is written without quotes"))),
        Form::Mixed => Err(inner_quote(token)),
    }
}

fn inner_quote(token: &Token<'_>) -> SpanFault {
    SpanFault::at(
        token.span(),
        "a quote stands inside a word: write it \\\", or put the whole text in quotes",
    )
}

fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Parses decimal digits; `None` if there is anything else, or the value exceeds `max`.
pub(super) fn decimal(text: &[u8], max: u64) -> Option<u64> {
    if !is_digits(text) {
        return None;
    }
    let value = text
        .iter()
        .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    (value <= max).then_some(value)
}

pub(super) fn number(token: &Token<'_>, what: &str, max: u32) -> Result<u32, SpanFault> {
    decimal(word(token, what)?, u64::from(max)).and_then(|value| u32::try_from(value).ok()).ok_or_else(|| {
        SpanFault::at(
            token.span(),
            format!("`{}` is not {what}: a number from 0 to {max} is expected", shown(token)),
        )
    })
}

/// Parses a time in seconds, plain or with units: `3600`, `1h30m`, `2W`.
pub(super) fn seconds(token: &Token<'_>, what: &str, max: u32) -> Result<u32, SpanFault> {
    let text = word(token, what)?;
    match time_with_units(text) {
        Some(value) if value <= u64::from(max) => Ok(u32::try_from(value).unwrap_or(max)),
        Some(_) => {
            let message = format!("`{}` is too long for {what}: at most {max} seconds", shown(token));
            Err(SpanFault::at(token.span(), message))
        }
        None => Err(SpanFault::at(
            token.span(),
            format!(
                "`{}` is not {what}: seconds are expected, or a time with units such as 1h30m",
                shown(token)
            ),
        )),
    }
}

/// Returns `None` if the text is not a time. A time that overflows becomes the largest value.
fn time_with_units(text: &[u8]) -> Option<u64> {
    if is_digits(text) {
        return Some(decimal(text, u64::MAX).unwrap_or(u64::MAX));
    }
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (count, after) = rest.split_at(digits);
        let (unit, after) = after.split_first()?;
        let seconds = match unit.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        if count.is_empty() {
            return None;
        }
        let count = decimal(count, u64::MAX).unwrap_or(u64::MAX);
        total = total.saturating_add(count.saturating_mul(seconds));
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Appends a name. A name without a final dot is relative to `origin`; `@` is the origin.
pub(super) fn name(token: &Token<'_>, origin: &[u8], out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let text = word(token, "a name")?;
    if text == b"@" {
        out.extend_from_slice(origin);
        return Ok(());
    }
    let start = out.len();
    let fault = |error: name::NameError| SpanFault::at(token.span(), format!("`{}`: {error}", shown(token)));
    name::append_presentation(text, out).map_err(fault)?;
    if is_relative(text) {
        out.extend_from_slice(origin);
    }
    if out.len() - start <= name::MAX_NAME {
        return Ok(());
    }
    let hint =
        if is_relative(text) { " with the origin, which is added because it has no final dot" } else { "" };
    let message = format!("`{}`: the name is longer than 255 bytes{hint}", shown(token));
    Err(SpanFault::at(token.span(), message))
}

/// Whether there is no final dot, or it is escaped.
fn is_relative(text: &[u8]) -> bool {
    let Some(before) = text.strip_suffix(b".") else { return true };
    // Backslashes come in pairs, unless the last one escapes the dot.
    before.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// Parses an address of either family.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

pub(super) fn ipv4(token: &Token<'_>) -> Result<Ipv4Addr, SpanFault> {
    match address(word(token, "the address")?) {
        Some(IpAddr::V4(address)) => Ok(address),
        other => Err(bad_address(token, "IPv4", other.map(|_| "IPv6 addresses are AAAA records"))),
    }
}

pub(super) fn ipv6(token: &Token<'_>) -> Result<Ipv6Addr, SpanFault> {
    match address(word(token, "the address")?) {
        Some(IpAddr::V6(address)) => Ok(address),
        other => Err(bad_address(token, "IPv6", other.map(|_| "IPv4 addresses are A records"))),
    }
}

fn bad_address(token: &Token<'_>, family: &str, hint: Option<&str>) -> SpanFault {
    let hint = hint.map(|hint| format!(": {hint}")).unwrap_or_default();
    SpanFault::at(token.span(), format!("`{}` is not an {family} address{hint}", shown(token)))
}

/// The number of line ends in a token; only quoted text can have any.
pub(super) fn line_ends(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}

/// Appends the text with its escapes resolved.
pub(super) fn unescaped(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    if token.form == Form::Mixed {
        return Err(inner_quote(token));
    }
    unescape_into(token.text, out).ok_or_else(|| bad_escape(token))
}

pub(super) fn bad_escape(token: &Token<'_>) -> SpanFault {
    SpanFault::at(token.span(), "a backslash must be followed by one character, or by three digits up to 255")
}

pub(super) fn unescape_into(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    while let Some(backslash) = rest.iter().position(|&byte| byte == b'\\') {
        let (plain, escape) = rest.split_at(backslash);
        out.extend_from_slice(plain);
        let (byte, after) = name::unescape(escape.get(1..)?)?;
        out.push(byte);
        rest = after;
    }
    out.extend_from_slice(rest);
    Some(())
}

/// Appends a `<character-string>`: a length byte, then the text.
pub(super) fn string(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let start = out.len();
    out.push(0);
    unescaped(token, out)?;
    let length = out.len() - start - 1;
    let Ok(length) = u8::try_from(length) else {
        let advice = match line_ends(token.text) {
            0 => "write it as several quoted strings",
            _ => "it spans several lines; is a `\"` missing?",
        };
        let message =
            format!("this text has `{length}` bytes, and one string holds at most {MAX_STRING}: {advice}");
        return Err(SpanFault::at(token.span(), message));
    };
    if let Some(byte) = out.get_mut(start) {
        *byte = length;
    }
    Ok(())
}

/// Appends the bytes of hexadecimal digits, which may span several tokens.
pub(super) fn hex(tokens: &[Token<'_>], what: &str, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let mut high = None;
    for token in tokens {
        for &byte in token.text {
            let Some(digit) = char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()) else {
                let message = format!("`{}` is not {what}: hexadecimal digits are expected", shown(token));
                return Err(SpanFault::at(token.span(), message));
            };
            match high.take() {
                None => high = Some(digit),
                Some(high) => out.push(high << 4 | digit),
            }
        }
    }
    match (high, tokens.last()) {
        (Some(_), Some(last)) => Err(SpanFault::at(
            last.span(),
            format!("{what} has an odd number of hexadecimal digits: two make a byte"),
        )),
        _ => Ok(()),
    }
}

/// Appends the bytes of base64 (RFC 4648, section 4), which may span several tokens.
pub(super) fn base64(tokens: &[Token<'_>], what: &str, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let mut group = BitGroup::new(6);
    let mut padding = 0;
    for token in tokens {
        for &byte in token.text {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => {
                    padding += 1;
                    continue;
                }
                _ => u8::MAX,
            };
            if value == u8::MAX || padding > 0 {
                let message = format!("`{}` is not {what}: base64 is expected", shown(token));
                return Err(SpanFault::at(token.span(), message));
            }
            group.push(value, out);
        }
    }
    let complete = match group.left() {
        0 => padding == 0,
        4 => padding == 2,
        2 => padding == 1,
        _ => false,
    };
    match tokens.last() {
        Some(last) if !complete || !group.is_clean() => {
            Err(SpanFault::at(last.span(), format!("the base64 of {what} is cut short or badly padded")))
        }
        _ => Ok(()),
    }
}

/// Appends the bytes of base32 with the extended hex alphabet and without padding (RFC 5155,
/// section 3.3).
pub(super) fn base32(token: &Token<'_>, what: &str, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let mut group = BitGroup::new(5);
    let fault = || {
        SpanFault::at(
            token.span(),
            format!("`{}` is not {what}: base32 with 0-9 and A-V is expected", shown(token)),
        )
    };
    for byte in word(token, what)?.to_ascii_uppercase() {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'V' => byte - b'A' + 10,
            _ => return Err(fault()),
        };
        group.push(value, out);
    }
    if group.left() < 5 && group.is_clean() { Ok(()) } else { Err(fault()) }
}

/// Collects bits into bytes.
struct BitGroup {
    bits: u32,
    have: u32,
    width: u32,
}

impl BitGroup {
    fn new(width: u32) -> Self {
        Self { bits: 0, have: 0, width }
    }

    fn push(&mut self, value: u8, out: &mut Vec<u8>) {
        self.bits = (self.bits << self.width | u32::from(value)) & 0xffff;
        self.have += self.width;
        if self.have >= 8 {
            self.have -= 8;
            out.push((self.bits >> self.have & 0xff) as u8);
        }
    }

    /// The number of bits that do not form a byte yet.
    fn left(&self) -> u32 {
        self.have
    }

    /// Whether the remaining bits are zero, as they must be at the end.
    fn is_clean(&self) -> bool {
        self.bits & ((1 << self.have) - 1) == 0
    }
}

/// Parses a point in time: seconds since 1970, or `YYYYMMDDHHmmSS` (RFC 4034, section 3.2), modulo
/// 2^32.
pub(super) fn moment(token: &Token<'_>, what: &str) -> Result<u32, SpanFault> {
    let text = word(token, what)?;
    let parsed = if text.len() == 14 { calendar(text) } else { decimal(text, u64::from(u32::MAX)) };
    // RFC 4034 compares these in serial number arithmetic, so they wrap.
    parsed.map(|seconds| (seconds & 0xffff_ffff) as u32).ok_or_else(|| {
        SpanFault::at(token.span(), format!("`{}` is not {what}: YYYYMMDDHHmmSS is expected", shown(token)))
    })
}

fn calendar(text: &[u8]) -> Option<u64> {
    let part = |from: usize, to: usize, low: u64, high: u64| {
        text.get(from..to).and_then(|digits| decimal(digits, high)).filter(|&value| value >= low)
    };
    let (year, month, day) = (part(0, 4, 1970, 9999)?, part(4, 6, 1, 12)?, part(6, 8, 1, 31)?);
    let (hour, minute, second) = (part(8, 10, 0, 23)?, part(10, 12, 0, 59)?, part(12, 14, 0, 59)?);
    // Years start in March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    // 1970-01-01 is day 719,468 of this count.
    Some(days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("0", Some(0)),
            ("3600", Some(3600)),
            ("1h30m", Some(5400)),
            ("1W2d3H4m5S", Some(604_800 + 2 * 86_400 + 3 * 3600 + 245)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("99999999999999999999999w", Some(u64::MAX)),
            ("1h30", None),
            ("h", None),
            ("", None),
            ("-1", None),
            ("1y", None),
        ] {
            assert_eq!(time_with_units(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn days() {
        assert_eq!(calendar(b"19700101000000"), Some(0));
        assert_eq!(calendar(b"20000229120000"), Some(951_825_600));
        assert_eq!(calendar(b"20040509183619"), Some(1_084_127_779));
        assert_eq!(calendar(b"20041301000000"), None);
        assert_eq!(calendar(b"19691231235959"), None);
    }

    #[test]
    fn final_dots() {
        for (text, relative) in [
            ("a", true),
            ("a.", false),
            (r"a\.", true),
            (r"a\\.", false),
            (r"a\\\.", true),
            (r"\046.", false),
        ] {
            assert_eq!(is_relative(text.as_bytes()), relative, "{text}");
        }
    }
}
