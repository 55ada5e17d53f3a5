//! The parameters of SVCB and HTTPS records (RFC 9460): converts `key=value` to wire form, and
//! checks the rules for both forms.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::fault::SpanFault;
use super::lexer::{Form, Token};
use super::text;
use crate::name;

/// The presentation form of a value.
#[derive(Clone, Copy)]
enum ValueForm {
    /// A list of keys that the client must understand (section 8).
    Keys,
    /// Protocol identifiers, each with a length byte (section 7.1).
    Protocols,
    /// No value.
    Nothing,
    /// A port (section 7.2).
    Port,
    Ipv4,
    Ipv6,
    /// Base64 (RFC 9848).
    Base64,
    /// A URI template (RFC 9461).
    Template,
    /// Numbers of two bytes.
    Numbers,
    /// Plain text: a key without a mnemonic (section 2.1).
    Opaque,
}

/// Known keys; the index is the key number (IANA DNS service parameters).
static KEYS: [(&str, ValueForm); 10] = [
    ("mandatory", ValueForm::Keys),
    ("alpn", ValueForm::Protocols),
    ("no-default-alpn", ValueForm::Nothing),
    ("port", ValueForm::Port),
    ("ipv4hint", ValueForm::Ipv4),
    ("ech", ValueForm::Base64),
    ("ipv6hint", ValueForm::Ipv6),
    ("dohpath", ValueForm::Template),
    ("ohttp", ValueForm::Nothing),
    ("tls-supported-groups", ValueForm::Numbers),
];

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
/// Reserved as invalid (section 14.3.2).
const INVALID_KEY: u16 = 65_535;

fn key_name(key: u16) -> String {
    KEYS.get(usize::from(key)).map_or_else(|| format!("`key{key}`"), |(name, _)| (*name).into())
}

fn key_number(text: &[u8]) -> Option<u16> {
    if let Some(at) = KEYS.iter().position(|(name, _)| name.as_bytes() == text) {
        return u16::try_from(at).ok();
    }
    let digits = text.strip_prefix(b"key").filter(|digits| !digits.starts_with(b"0") || digits.len() == 1)?;
    u16::try_from(text::decimal(digits, 65_535)?).ok()
}

/// Appends the parameters in ascending order of their keys, whatever the written order.
pub(super) fn write(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let mut parameters = Vec::with_capacity(tokens.len());
    for token in tokens {
        let fault = |message: String| SpanFault::at(token.span(), message);
        if token.form == Form::Quoted {
            return Err(fault(
                "a parameter is written as key=\"value\", with the quotes after the `=`".into(),
            ));
        }
        let equals = token.text.iter().position(|&byte| byte == b'=');
        let (key, value) = token.text.split_at(equals.unwrap_or(token.text.len()));
        let number = key_number(key).ok_or_else(|| fault(unknown_key(key)))?;
        let mut wire = Vec::new();
        let value = unquoted(value.get(1..)).ok_or_else(|| {
            fault(format!("the value of {} is partly quoted: quote all of it or nothing", key_name(number)))
        })?;
        let kind =
            KEYS.iter().find(|(name, _)| name.as_bytes() == key).map_or(ValueForm::Opaque, |(_, kind)| *kind);
        write_value(kind, token, value, &mut wire).ok_or_else(|| {
            fault(format!("the value of {} is not valid: {}", key_name(number), expected(kind)))
        })?;
        parameters.push((number, wire, token.span()));
    }
    parameters.sort_by_key(|(number, ..)| *number);
    if let Some([(number, ..), (_, _, second)]) = parameters.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(SpanFault::at(*second, format!("{} is given twice", key_name(*number))));
    }
    for (number, value, at) in parameters {
        let length = u16::try_from(value.len())
            .map_err(|_| SpanFault::at(at, format!("the value of {} is too long", key_name(number))))?;
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&value);
    }
    Ok(())
}

fn unknown_key(key: &[u8]) -> String {
    let hint = text::nearest(key, KEYS.iter().map(|(name, _)| *name)).map_or_else(
        || "a key without a mnemonic is written as key and its number".into(),
        |near| format!("did you mean {near}?"),
    );
    format!("`{}` is not a parameter of a service binding: {hint}", text::shown_text(key))
}

/// The text inside the quotes, or the whole value if it has none; `None` if only a part is quoted.
fn unquoted(value: Option<&[u8]>) -> Option<&[u8]> {
    let value = value.unwrap_or(&[]);
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    };
    let mut escaped = false;
    let has_quote = inner.iter().any(|&byte| {
        let plain_quote = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        plain_quote
    });
    (!has_quote).then_some(inner)
}

fn expected(kind: ValueForm) -> &'static str {
    match kind {
        ValueForm::Keys => "keys separated by commas are expected",
        ValueForm::Protocols => {
            "protocol names of 1 to 255 bytes separated by commas are expected, such as h2,h3"
        }
        ValueForm::Nothing => "this key takes no value",
        ValueForm::Port => "a port from 0 to 65535 is expected",
        ValueForm::Ipv4 => "IPv4 addresses separated by commas are expected",
        ValueForm::Ipv6 => "IPv6 addresses separated by commas are expected",
        ValueForm::Base64 => "base64 is expected",
        ValueForm::Template => "a URI template with the variable `dns` is expected, such as /dns-query{?dns}",
        ValueForm::Numbers => "different numbers from 0 to 65535 separated by commas are expected",
        ValueForm::Opaque => "a backslash must be followed by one character, or by three digits up to 255",
    }
}

fn write_value(kind: ValueForm, token: &Token<'_>, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut text = Vec::new();
    text::unescape_into(value, &mut text)?;
    let parts = || text.split(|&byte| byte == b',');
    match kind {
        ValueForm::Keys => {
            let mut keys = parts().map(key_number).collect::<Option<Vec<_>>>()?;
            keys.sort_unstable();
            out.extend(keys.iter().flat_map(|key| key.to_be_bytes()));
        }
        ValueForm::Protocols => {
            for protocol in value_list(&text)? {
                out.push(u8::try_from(protocol.len()).ok().filter(|&length| length > 0)?);
                out.extend(protocol);
            }
        }
        ValueForm::Nothing => return value.is_empty().then_some(()),
        ValueForm::Port => {
            out.extend(u16::try_from(text::decimal(&text, 65_535)?).ok()?.to_be_bytes());
        }
        ValueForm::Ipv4 => {
            for address in parts() {
                out.extend(std::str::from_utf8(address).ok()?.parse::<Ipv4Addr>().ok()?.octets());
            }
        }
        ValueForm::Ipv6 => {
            for address in parts() {
                out.extend(std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()?.octets());
            }
        }
        ValueForm::Base64 => {
            text::base64(&[token.holding(&text)], "the value", out).ok().filter(|()| !out.is_empty())?;
        }
        ValueForm::Template => {
            let template = std::str::from_utf8(&text).ok()?;
            out.extend(template.contains("dns").then_some(&text)?);
        }
        ValueForm::Numbers => {
            for number in parts() {
                out.extend(u16::try_from(text::decimal(number, 65_535)?).ok()?.to_be_bytes());
            }
        }
        ValueForm::Opaque => out.extend(&text),
    }
    Some(())
}

/// Splits at commas; `\,` and `\\` are the escaped characters (RFC 9460, appendix A.1).
fn value_list(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut items = vec![Vec::new()];
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b',' => items.push(Vec::new()),
            b'\\' => items.last_mut()?.push(*bytes.next().filter(|&&next| matches!(next, b',' | b'\\'))?),
            _ => items.last_mut()?.push(byte),
        }
    }
    Some(items)
}

/// Checks the data of an SVCB or HTTPS record against RFC 9460: keys in ascending order without
/// duplicates, values of the right size, mandatory keys present, no parameters in alias mode.
pub(super) fn check(data: &[u8]) -> Result<(), String> {
    let cut_short = || "its parameters are cut short".to_string();
    let (priority, after) = data.split_first_chunk::<2>().ok_or_else(cut_short)?;
    let mut rest = name::wire_length(after).and_then(|length| after.get(length..)).ok_or_else(cut_short)?;
    if *priority == [0, 0] && !rest.is_empty() {
        return Err(
            "a record of priority 0 is an alias, and has no parameters (RFC 9460, section 2.4.2)".into()
        );
    }
    let mut mandatory: &[u8] = &[];
    let mut keys: Vec<u16> = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_first_chunk::<2>().ok_or_else(cut_short)?;
        let (length, after) = after.split_first_chunk::<2>().ok_or_else(cut_short)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, after) = after.split_at_checked(length).ok_or_else(cut_short)?;
        let key = u16::from_be_bytes(*key);
        if keys.last().is_some_and(|&before| before >= key) {
            return Err("its keys must be in ascending order without duplicates".into());
        }
        if key == INVALID_KEY {
            return Err("key65535 is reserved and not valid".into());
        }
        let kind = KEYS.get(usize::from(key)).map_or(ValueForm::Opaque, |(_, kind)| *kind);
        if !is_value(kind, value) {
            return Err(format!("the value of {} is not valid: {}", key_name(key), expected(kind)));
        }
        if key == MANDATORY {
            mandatory = value;
        }
        keys.push(key);
        rest = after;
    }
    if keys.contains(&NO_DEFAULT_ALPN) && !keys.contains(&ALPN) {
        return Err("no-default-alpn needs alpn beside it (RFC 9460, section 7.1.1)".into());
    }
    let named: Vec<u16> =
        mandatory.as_chunks::<2>().0.iter().map(|bytes| u16::from_be_bytes(*bytes)).collect();
    if named.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("mandatory names each key once, in ascending order".into());
    }
    match named.iter().find(|&&key| key == MANDATORY || !keys.contains(&key)) {
        Some(&MANDATORY) => Err("mandatory must not name itself (RFC 9460, section 8)".into()),
        Some(&key) => Err(format!("mandatory names {}, which is not given", key_name(key))),
        None => Ok(()),
    }
}

fn is_value(kind: ValueForm, value: &[u8]) -> bool {
    let multiple_of = |size: usize| !value.is_empty() && value.len().is_multiple_of(size);
    match kind {
        ValueForm::Keys => multiple_of(2),
        ValueForm::Protocols => {
            let mut rest = value;
            while let Some((&length, after)) = rest.split_first() {
                match after.get(usize::from(length)..) {
                    Some(after) if length > 0 => rest = after,
                    _ => return false,
                }
            }
            !value.is_empty()
        }
        ValueForm::Nothing => value.is_empty(),
        ValueForm::Port => value.len() == 2,
        ValueForm::Ipv4 => multiple_of(4),
        ValueForm::Ipv6 => multiple_of(16),
        ValueForm::Base64 => !value.is_empty(),
        ValueForm::Template => std::str::from_utf8(value).is_ok_and(|template| template.contains("dns")),
        ValueForm::Numbers => {
            let mut numbers: Vec<_> = value.chunks(2).collect();
            numbers.sort_unstable();
            multiple_of(2) && numbers.windows(2).all(|pair| pair[0] != pair[1])
        }
        ValueForm::Opaque => true,
    }
}
