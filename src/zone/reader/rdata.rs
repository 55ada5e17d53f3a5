//! Record data: converts tokens to wire form field by field, and checks bytes in the form of RFC
//! 3597. Names keep their case and are never compressed.

use super::fault::SpanFault;
use super::lexer::Token;
use super::types::{self, Data, Field, FieldKind, Type};
use super::{location, parameters, special, text};
use crate::name;

/// The longest record data, bytes: its length is two bytes on the wire.
const MAX_RDATA: usize = 65_535;
/// The number of types in the bitmap of NXT.
const OLD_TYPES: u16 = 128;

/// The type of a record: one from the table, or a number without a mnemonic (RFC 3597, section 5).
#[derive(Clone, Copy, Debug)]
pub(super) enum RecordType {
    Known(&'static Type),
    Unknown(u16),
}

impl RecordType {
    pub(super) fn number(self) -> u16 {
        match self {
            Self::Known(known) => known.number,
            Self::Unknown(number) => number,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Known(known) => known.name.into(),
            Self::Unknown(number) => format!("`TYPE{number}`"),
        }
    }

    /// Parses a mnemonic, or `TYPE` and a number.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if let Some(known) = types::by_name(text) {
            return Some(Self::Known(known));
        }
        let number = text.split_at_checked(4).filter(|(word, _)| word.eq_ignore_ascii_case(b"TYPE"))?.1;
        let number = u16::try_from(text::decimal(number, 65_535)?).ok()?;
        Some(types::by_number(number).map_or(Self::Unknown(number), Self::Known))
    }

    fn fields(self) -> Option<&'static [Field]> {
        match self {
            Self::Known(Type { data: Data::Fields(fields), .. }) => Some(fields),
            _ => None,
        }
    }
}

/// Parses the type of a record in a zone. The fault says why a word is not a type.
pub(super) fn record_type(token: &Token<'_>) -> Result<RecordType, SpanFault> {
    let found = RecordType::parse(text::word(token, "the record type")?);
    let fault = |message: String| Err(SpanFault::at(token.span(), message));
    match found {
        Some(found) if types::may_stand_in_a_zone(found.number()) => Ok(found),
        Some(found) => fault(format!("{} is not a type of records in a zone", found.name())),
        None if token.text.starts_with(b"$") => {
            fault(format!("`{}`: a directive begins in the first column", text::shown(token)))
        }
        None if text::address(token.text).is_some() => fault(format!(
            "`{}`: the record type, A or AAAA, is missing before the address",
            text::shown(token)
        )),
        None => fault(unknown_type(token)),
    }
}

fn unknown_type(token: &Token<'_>) -> String {
    let near = text::nearest(token.text, types::TYPES.iter().map(|known| known.name));
    let hint = near.map_or_else(
        || "a type without a mnemonic is written as TYPE and its number".into(),
        |near| format!("did you mean {near}?"),
    );
    format!("`{}` is not a record type: {hint}", text::shown(token))
}

/// Appends the data of a record in wire form. `before` is the last token before the data.
pub(super) fn write(
    rtype: RecordType,
    before: &Token<'_>,
    tokens: &[Token<'_>],
    origin: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SpanFault> {
    if let Some((first, rest)) = tokens.split_first()
        && first.is(br"\#")
    {
        return write_opaque(rtype, first, rest, out);
    }
    let Some(fields) = rtype.fields() else {
        let message = format!(
            "the data of {} is written as `\\# LENGTH HEXADECIMAL` only (RFC 3597, section 5)",
            rtype.name()
        );
        return Err(SpanFault::at(tokens.first().unwrap_or(before).span(), message));
    };
    let mut rest = tokens;
    let mut last = before;
    for field in fields {
        let Some((first, after)) = rest.split_first() else {
            if may_be_empty(field.kind) {
                break;
            }
            return Err(SpanFault::at(last.span(), missing(rtype, field, fields)));
        };
        if takes_the_rest(field.kind) {
            write_rest(field, last, rest, origin, out)?;
            rest = &[];
        } else {
            write_one(field, first, origin, out)?;
            last = first;
            rest = after;
        }
    }
    if let (Some(extra), Some(field)) = (rest.first(), fields.last()) {
        let message = format!("nothing is expected after {} of {}", field.what, rtype.name());
        return Err(SpanFault::at(extra.span(), message));
    }
    let all = || tokens.first().zip(tokens.last()).map_or(before.span(), |(a, b)| a.span().to(b.span()));
    if fields.last().is_some_and(|field| field.kind == FieldKind::Parameters) {
        parameters::check(out).map_err(|message| SpanFault::at(all(), message))?;
    }
    if out.len() > MAX_RDATA {
        return Err(SpanFault::at(all(), format!("the data of one record is at most {MAX_RDATA} bytes")));
    }
    Ok(())
}

fn missing(rtype: RecordType, field: &Field, fields: &[Field]) -> String {
    let name = rtype.name();
    if fields.len() == 1 {
        return format!("{} is missing after {name}", field.what);
    }
    let all: Vec<_> = fields.iter().map(|field| field.what).collect();
    format!("{} is missing: {name} has {}", field.what, all.join(", "))
}

fn takes_the_rest(kind: FieldKind) -> bool {
    use FieldKind::{Base64, Hex, Location, OldTypes, OptionalBase64, Parameters, Special, Texts, Types};
    matches!(
        kind,
        Texts | Hex(_) | Base64 | OptionalBase64 | Types | OldTypes | Location | Parameters | Special(_)
    )
}

fn may_be_empty(kind: FieldKind) -> bool {
    use FieldKind::{OptionalBase64, OptionalText, Parameters, Special, Types};
    matches!(kind, Types | Parameters | OptionalText | OptionalBase64 | Special(special::Special::Prefixes))
}

/// Appends a field of one token.
fn write_one(field: &Field, token: &Token<'_>, origin: &[u8], out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let what = field.what;
    match field.kind {
        FieldKind::U8 => push_u8(text::number(token, what, 0xff)?, out),
        FieldKind::U16 => push_u16(text::number(token, what, 0xffff)?, out),
        FieldKind::U32 => push_u32(text::number(token, what, u32::MAX)?, out),
        FieldKind::Seconds => push_u32(text::seconds(token, what, u32::MAX)?, out),
        FieldKind::Ttl => push_u32(text::seconds(token, what, text::MAX_TTL)?, out),
        FieldKind::Moment => push_u32(text::moment(token, what)?, out),
        FieldKind::Algorithm => push_u8(mnemonic(token, what, types::ALGORITHMS, 0xff)?, out),
        FieldKind::DigestType => push_u8(mnemonic(token, what, types::DIGEST_TYPES, 0xff)?, out),
        FieldKind::KeyProtocol => push_u8(mnemonic(token, what, types::KEY_PROTOCOLS, 0xff)?, out),
        FieldKind::Scheme => push_u8(mnemonic(token, what, types::SCHEMES, 0xff)?, out),
        FieldKind::KeyFlags => push_u16(key_flags(token, what)?, out),
        FieldKind::Locator => locator(token, out)?,
        FieldKind::CertificateType => push_u16(mnemonic(token, what, types::CERTIFICATE_TYPES, 0xffff)?, out),
        FieldKind::Type => push_u16(u32::from(type_number(token)?), out),
        FieldKind::Ipv4 => out.extend_from_slice(&text::ipv4(token)?.octets()),
        FieldKind::Ipv6 => out.extend_from_slice(&text::ipv6(token)?.octets()),
        FieldKind::Eui(bytes) => eui(token, usize::from(bytes), out)?,
        FieldKind::Name => text::name(token, origin, out)?,
        FieldKind::Text | FieldKind::OptionalText => text::string(token, out)?,
        FieldKind::Tag => {
            let tag = text::word(token, what)?;
            if !is_tag(tag) {
                let message =
                    format!("`{}` is not {what}: letters and digits are expected", text::shown(token));
                return Err(SpanFault::at(token.span(), message));
            }
            text::string(token, out)?;
        }
        FieldKind::Rest(least) => {
            let start = out.len();
            text::unescaped(token, out)?;
            if out.len() - start < usize::from(least) {
                return Err(SpanFault::at(token.span(), format!("{what} must not be empty")));
            }
        }
        FieldKind::Salt if token.is(b"-") => out.push(0),
        FieldKind::Salt => with_length(token, what, out, |out| text::hex(&[*token], what, out))?,
        FieldKind::Hash => with_length(token, what, out, |out| text::base32(token, what, out))?,
        FieldKind::Texts
        | FieldKind::Hex(_)
        | FieldKind::Base64
        | FieldKind::OptionalBase64
        | FieldKind::Types
        | FieldKind::OldTypes
        | FieldKind::Location
        | FieldKind::Parameters
        | FieldKind::Special(_) => {}
    }
    Ok(())
}

/// Appends the last field, which takes all remaining tokens, at least one. `before` is the token
/// before them.
fn write_rest(
    field: &Field,
    before: &Token<'_>,
    tokens: &[Token<'_>],
    origin: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SpanFault> {
    let what = field.what;
    match field.kind {
        FieldKind::Texts => tokens.iter().try_for_each(|token| text::string(token, out)),
        FieldKind::Hex(minimum) => {
            let start = out.len();
            text::hex(tokens, what, out)?;
            match tokens.last() {
                Some(last) if out.len() - start < usize::from(minimum) => {
                    Err(SpanFault::at(last.span(), format!("{what} has at least {minimum} bytes")))
                }
                _ => Ok(()),
            }
        }
        FieldKind::OptionalBase64 if matches!(tokens, [none] if none.is(b"-")) => Ok(()),
        FieldKind::Base64 | FieldKind::OptionalBase64 => text::base64(tokens, what, out),
        FieldKind::Special(special) => special::write(special, before, tokens, origin, out),
        FieldKind::Types => bitmap(tokens, out),
        FieldKind::OldTypes => old_bitmap(tokens, out),
        FieldKind::Location => location::write(tokens, out),
        FieldKind::Parameters => parameters::write(tokens, out),
        _ => Ok(()),
    }
}

// The caller has checked the range, so nothing is truncated.
fn push_u8(value: u32, out: &mut Vec<u8>) {
    out.push(value.to_be_bytes()[3]);
}

fn push_u16(value: u32, out: &mut Vec<u8>) {
    let [_, _, high, low] = value.to_be_bytes();
    out.extend_from_slice(&[high, low]);
}

fn push_u32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn mnemonic(token: &Token<'_>, what: &str, known: &[(&str, u16)], max: u32) -> Result<u32, SpanFault> {
    match known.iter().find(|(name, _)| token.is(name.as_bytes())) {
        Some(&(_, number)) => Ok(u32::from(number)),
        None => text::number(token, what, max),
    }
}

/// A number, or mnemonics of flags separated by `|`.
fn key_flags(token: &Token<'_>, what: &str) -> Result<u32, SpanFault> {
    let word = text::word(token, what)?;
    if word.first().is_none_or(u8::is_ascii_digit) {
        return text::number(token, what, 0xffff);
    }
    let flag = |part: &[u8]| {
        types::KEY_FLAGS
            .iter()
            .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(part))
            .map(|(_, flag)| *flag)
    };
    let flags = word.split(|&byte| byte == b'|').try_fold(0, |all, part| Some(all | flag(part)?));
    flags.map(u32::from).ok_or_else(|| {
        let message =
            format!("`{}` is not {what}: write a number or mnemonics such as ZONE|KSK", text::shown(token));
        SpanFault::at(token.span(), message)
    })
}

/// Four groups of up to four hexadecimal digits, separated by colons.
fn locator(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let word = text::word(token, "the locator")?;
    let group = |part: &[u8]| {
        let digits = std::str::from_utf8(part).ok().filter(|part| (1..=4).contains(&part.len()))?;
        u16::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
    };
    let groups: Option<Vec<u16>> = word.split(|&byte| byte == b':').map(group).collect();
    let Some(groups) = groups.filter(|groups| groups.len() == 4) else {
        let message = format!(
            "`{}` is not a locator: four groups of hexadecimal digits are expected, such as 14:4fff:ff20:ee64",
            text::shown(token)
        );
        return Err(SpanFault::at(token.span(), message));
    };
    out.extend(groups.into_iter().flat_map(u16::to_be_bytes));
    Ok(())
}

/// The number of a type that data refers to: any type is allowed.
fn type_number(token: &Token<'_>) -> Result<u16, SpanFault> {
    let found = RecordType::parse(text::word(token, "a record type")?);
    found.map(RecordType::number).ok_or_else(|| SpanFault::at(token.span(), unknown_type(token)))
}

fn eui(token: &Token<'_>, bytes: usize, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let text = text::word(token, "the address")?;
    let start = out.len();
    for part in text.split(|&byte| byte == b'-') {
        let value = std::str::from_utf8(part)
            .ok()
            .filter(|part| part.len() == 2 && !part.starts_with('+'))
            .and_then(|part| u8::from_str_radix(part, 16).ok());
        out.extend(value);
        if value.is_none() {
            break;
        }
    }
    if out.len() - start == bytes && text.len() == 3 * bytes - 1 {
        return Ok(());
    }
    let message =
        format!("`{}` is not {bytes} bytes in hexadecimal separated by hyphens", text::shown(token));
    Err(SpanFault::at(token.span(), message))
}

fn is_tag(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric)
}

/// Appends a length byte, then what `fill` appends.
fn with_length(
    token: &Token<'_>,
    what: &str,
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), SpanFault>,
) -> Result<(), SpanFault> {
    let at = out.len();
    out.push(0);
    fill(out)?;
    let length = u8::try_from(out.len() - at - 1)
        .map_err(|_| SpanFault::at(token.span(), format!("{what} has at most 255 bytes")))?;
    if let Some(byte) = out.get_mut(at) {
        *byte = length;
    }
    Ok(())
}

/// Appends a bitmap of types (RFC 4034, section 4.1.2): windows of 256 types in ascending order,
/// each with its number, the length of its map, and the map without trailing zeros.
fn bitmap(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let mut numbers = tokens.iter().map(type_number).collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    for window in numbers.chunk_by(|a, b| a >> 8 == b >> 8) {
        let mut map = [0u8; 32];
        let mut length = 0;
        let mut number = 0;
        for [high, low] in window.iter().map(|number| number.to_be_bytes()) {
            number = high;
            length = low / 8 + 1;
            if let Some(byte) = map.get_mut(usize::from(low / 8)) {
                *byte |= 0x80 >> (low % 8);
            }
        }
        out.extend_from_slice(&[number, length]);
        out.extend_from_slice(map.get(..usize::from(length)).unwrap_or(&[]));
    }
    Ok(())
}

/// Appends the only bitmap of an NXT record, which covers the types below 128.
fn old_bitmap(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let mut map = Vec::new();
    for token in tokens {
        // NXT allows a bare number for a type without a mnemonic.
        let plain = text::decimal(token.text, u64::from(u16::MAX)).and_then(|number| number.try_into().ok());
        let number = plain.map_or_else(|| type_number(token), Ok)?;
        if !(1..OLD_TYPES).contains(&number) {
            let message = format!("`{}`: NXT has room for types below 128", text::shown(token));
            return Err(SpanFault::at(token.span(), message));
        }
        let byte = usize::from(number / 8);
        if map.len() <= byte {
            map.resize(byte + 1, 0);
        }
        if let Some(byte) = map.get_mut(byte) {
            *byte |= 0x80 >> (number % 8);
        }
    }
    out.extend(map);
    Ok(())
}

/// Appends data in the form of RFC 3597, section 5: `\# LENGTH HEXADECIMAL`.
fn write_opaque(
    rtype: RecordType,
    marker: &Token<'_>,
    tokens: &[Token<'_>],
    out: &mut Vec<u8>,
) -> Result<(), SpanFault> {
    let Some((length, digits)) = tokens.split_first() else {
        return Err(SpanFault::at(marker.span(), "the length of the data, in bytes, is missing after `\\#`"));
    };
    let expected = text::number(length, "the length of the data", 65_535)?;
    text::hex(digits, "the data", out)?;
    if out.len() as u64 != u64::from(expected) {
        let message = format!("the length is given as `{expected}` bytes, but `{}` bytes follow", out.len());
        return Err(SpanFault::at(length.span(), message));
    }
    check(rtype, out).map_err(|wrong| {
        let last = tokens.last().unwrap_or(marker);
        let message = format!("this is not data of {}: {wrong}", rtype.name());
        SpanFault::at(marker.span().to(last.span()), message)
    })
}

/// Checks that bytes are valid data of a type, as far as its fields are known.
fn check(rtype: RecordType, data: &[u8]) -> Result<(), String> {
    let mut rest = data;
    for field in rtype.fields().unwrap_or(&[]) {
        let length = field_length(field.kind, rest)
            .ok_or_else(|| format!("{} is cut short or not valid", field.what))?;
        rest = rest.get(length..).unwrap_or(&[]);
        if field.kind == FieldKind::Parameters {
            parameters::check(data)?;
        }
    }
    if rtype.fields().is_some() && !rest.is_empty() {
        return Err(format!("{} bytes are left over after its last field", rest.len()));
    }
    Ok(())
}

/// The length of the field at the start of the bytes; `None` if it is not valid.
fn field_length(kind: FieldKind, bytes: &[u8]) -> Option<usize> {
    let fixed = |length: usize| (bytes.len() >= length).then_some(length);
    let all_if = |condition: bool| condition.then_some(bytes.len());
    match kind {
        FieldKind::U8
        | FieldKind::Algorithm
        | FieldKind::DigestType
        | FieldKind::KeyProtocol
        | FieldKind::Scheme => fixed(1),
        FieldKind::U16 | FieldKind::CertificateType | FieldKind::Type | FieldKind::KeyFlags => fixed(2),
        FieldKind::Locator => fixed(8),
        FieldKind::OptionalText if bytes.is_empty() => Some(0),
        FieldKind::Special(special) => all_if(special::is_valid(special, bytes)),
        FieldKind::U32 | FieldKind::Seconds | FieldKind::Moment | FieldKind::Ipv4 => fixed(4),
        FieldKind::Ttl => {
            let value = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
            (value <= text::MAX_TTL).then_some(4)
        }
        FieldKind::Ipv6 => fixed(16),
        FieldKind::Eui(length) => fixed(usize::from(length)),
        FieldKind::Name => name::wire_length(bytes),
        FieldKind::Text | FieldKind::OptionalText | FieldKind::Salt | FieldKind::Hash => {
            fixed(1 + usize::from(*bytes.first()?))
        }
        FieldKind::Tag => {
            let (&length, rest) = bytes.split_first()?;
            is_tag(rest.get(..usize::from(length))?).then_some(1 + usize::from(length))
        }
        FieldKind::Texts => {
            let mut rest = bytes;
            while let Some((&length, after)) = rest.split_first() {
                rest = after.get(usize::from(length)..)?;
            }
            all_if(!bytes.is_empty())
        }
        FieldKind::Rest(least) | FieldKind::Hex(least) => all_if(bytes.len() >= usize::from(least)),
        FieldKind::Base64 => all_if(!bytes.is_empty()),
        FieldKind::Types => all_if(is_bitmap(bytes)),
        FieldKind::OldTypes => all_if((1..=usize::from(OLD_TYPES / 8)).contains(&bytes.len())),
        FieldKind::Location => all_if(location::is_valid(bytes)),
        FieldKind::Parameters | FieldKind::OptionalBase64 => Some(bytes.len()),
    }
}

fn is_bitmap(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut before = None;
    while let [window, length, after @ ..] = rest {
        let Some((map, after)) = after.split_at_checked(usize::from(*length)) else { return false };
        // RFC 4034 forbids empty maps and trailing zero bytes.
        if map.len() > 32 || map.last().is_none_or(|&last| last == 0) || before >= Some(*window) {
            return false;
        }
        before = Some(*window);
        rest = after;
    }
    rest.is_empty()
}
