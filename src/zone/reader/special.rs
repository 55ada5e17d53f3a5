//! Record data whose layout depends on its contents: address prefixes, gateways, lists of services.
//! Types with a fixed list of fields are rows of `types`. Most types here are historic.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::fault::SpanFault;
use super::lexer::Token;
use super::services;
use super::text;
use crate::name;

/// The data of a record, or its last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// WKS: an address, a protocol, and a bitmap of its ports (RFC 1035, section 3.4.2).
    Services,
    /// NSAP: `0x`, then hexadecimal digits with optional dots (RFC 1706).
    Nsap,
    /// ATMA: a telephone number after `+`, or an NSAP address (ATM Forum, af-dans-0152.000).
    Atma,
    /// A6: the length of a prefix, the rest of the address, the name of the prefix (RFC 2874).
    Suffix,
    /// APL: address prefixes (RFC 3123).
    Prefixes,
    /// IPSECKEY from the gateway type on (RFC 4025).
    Gateway,
    /// AMTRELAY from the discovery bit on (RFC 8777).
    Relay,
    /// HIP as a whole (RFC 8005).
    Identity,
}

/// The type of a gateway or relay: none, an address of either family, a name.
const NO_GATEWAY: u8 = 0;
const IPV4_GATEWAY: u8 = 1;
const IPV6_GATEWAY: u8 = 2;
const NAMED_GATEWAY: u8 = 3;
/// The discovery bit of AMTRELAY, in one byte with the relay type.
const DISCOVERY: u8 = 0x80;

/// The address families of APL (IANA address family numbers), with the widths of their addresses in
/// bits.
const FAMILIES: [(u16, u8); 2] = [(1, 32), (2, 128)];
/// The negation bit of APL, in one byte with the length of the address.
const NEGATION: u8 = 0x80;

/// The formats of ATMA.
const ATM_ADDRESS: u8 = 0;
const TELEPHONE_NUMBER: u8 = 1;

/// Reads tokens one by one.
struct Tokens<'t, 's> {
    before: &'t Token<'s>,
    rest: &'t [Token<'s>],
}

impl<'t, 's> Tokens<'t, 's> {
    fn take(&mut self, what: &str) -> Result<&'t Token<'s>, SpanFault> {
        let (first, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| SpanFault::at(self.before.span(), format!("{what} is missing after this")))?;
        (self.before, self.rest) = (first, rest);
        Ok(first)
    }

    fn number(&mut self, what: &str, max: u8) -> Result<u8, SpanFault> {
        let number = text::number(self.take(what)?, what, u32::from(max))?;
        Ok(u8::try_from(number).unwrap_or(max))
    }

    /// Takes all remaining tokens, at least one.
    fn all(&mut self, what: &str) -> Result<&'t [Token<'s>], SpanFault> {
        let all = self.rest;
        self.take(what)?;
        self.rest = &[];
        Ok(all)
    }

    fn end(&self) -> Result<(), SpanFault> {
        match self.rest.first() {
            None => Ok(()),
            Some(extra) => {
                Err(SpanFault::at(extra.span(), "nothing is expected here: the record is complete"))
            }
        }
    }
}

/// Appends the data that the tokens describe. `before` is the token before them.
pub(super) fn write(
    special: Special,
    before: &Token<'_>,
    tokens: &[Token<'_>],
    origin: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SpanFault> {
    let mut tokens = Tokens { before, rest: tokens };
    match special {
        Special::Services => write_services(&mut tokens, out)?,
        Special::Nsap => {
            let address = tokens.take("the address")?;
            let digits = text::word(address, "the address")?;
            let digits = digits.strip_prefix(b"0x").or_else(|| digits.strip_prefix(b"0X"));
            dotted(address, digits.unwrap_or(b"."), out)?;
        }
        Special::Atma => write_atma(tokens.take("the address")?, out)?,
        Special::Suffix => write_suffix(&mut tokens, origin, out)?,
        Special::Prefixes => {
            while let Some((token, rest)) = tokens.rest.split_first() {
                write_prefix(token, out)?;
                tokens.rest = rest;
            }
        }
        Special::Gateway => {
            let kind = tokens.number("the gateway type", NAMED_GATEWAY)?;
            let algorithm = tokens.number("the algorithm", u8::MAX)?;
            out.extend([kind, algorithm]);
            write_gateway(kind, &mut tokens, "the gateway", origin, out)?;
            // Algorithm 0 means that there is no key (RFC 4025, section 2.4).
            if algorithm != 0 || !tokens.rest.is_empty() {
                text::base64(tokens.all("the public key")?, "the public key", out)?;
            }
        }
        Special::Relay => {
            let discovery = tokens.number("the discovery bit", 1)?;
            let kind = tokens.number("the relay type", NAMED_GATEWAY)?;
            out.push((discovery * DISCOVERY) | kind);
            // Relay type 0 has no field in wire form; in text an optional dot stands for it.
            if kind != NO_GATEWAY || !tokens.rest.is_empty() {
                let start = out.len();
                write_gateway(kind, &mut tokens, "the relay", origin, out)?;
                if kind == NO_GATEWAY {
                    out.truncate(start);
                }
            }
        }
        Special::Identity => write_identity(&mut tokens, origin, out)?,
    }
    tokens.end()
}

/// Whether the bytes are valid data of this layout.
pub(super) fn is_valid(special: Special, bytes: &[u8]) -> bool {
    match special {
        Special::Services => bytes.len() >= 5 && bytes.len() <= 5 + 8192,
        Special::Nsap => !bytes.is_empty(),
        Special::Atma => match bytes {
            [ATM_ADDRESS, address @ ..] => !address.is_empty(),
            [TELEPHONE_NUMBER, number @ ..] => !number.is_empty() && number.iter().all(u8::is_ascii_digit),
            _ => false,
        },
        Special::Suffix => is_suffix(bytes),
        Special::Prefixes => are_prefixes(bytes),
        Special::Gateway => {
            let [kind, _, rest @ ..] = bytes else { return false };
            gateway_length(*kind, rest).is_some_and(|length| length <= rest.len())
        }
        Special::Relay => {
            let [kind, rest @ ..] = bytes else { return false };
            gateway_length(kind & !DISCOVERY, rest) == Some(rest.len())
        }
        Special::Identity => is_identity(bytes),
    }
}

fn write_services(tokens: &mut Tokens<'_, '_>, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    out.extend(text::ipv4(tokens.take("the address")?)?.octets());
    let protocol = tokens.take("the protocol")?;
    let named = services::PROTOCOLS.iter().find(|(name, _)| protocol.is(name.as_bytes()));
    match named {
        Some((_, number)) => out.push(*number),
        None => out.push(u8::try_from(text::number(protocol, "the protocol", 255)?).unwrap_or(u8::MAX)),
    }
    let mut ports = Vec::new();
    for token in tokens.rest {
        let named = services::PORTS.iter().find(|(name, _)| token.is(name.as_bytes()));
        let port = match named {
            Some((_, port)) => usize::from(*port),
            None => text::number(token, "a port, or the name of a well-known service", 0xffff)? as usize,
        };
        if ports.len() <= port / 8 {
            ports.resize(port / 8 + 1, 0);
        }
        if let Some(byte) = ports.get_mut(port / 8) {
            *byte |= 0x80 >> (port % 8);
        }
    }
    tokens.rest = &[];
    out.extend(ports);
    Ok(())
}

/// Appends hexadecimal digits, which dots may separate.
fn dotted(token: &Token<'_>, digits: &[u8], out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let plain: Vec<u8> = digits.iter().copied().filter(|&byte| byte != b'.').collect();
    if plain.is_empty() || digits.starts_with(b".") || digits.ends_with(b".") {
        let message = format!(
            "`{}`: hexadecimal digits, optionally separated by dots, are expected",
            text::shown(token)
        );
        return Err(SpanFault::at(token.span(), message));
    }
    text::hex(&[token.holding(&plain)], "the address", out)
}

fn write_atma(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let text = text::word(token, "the address")?;
    let Some(number) = text.strip_prefix(b"+") else {
        out.push(ATM_ADDRESS);
        return dotted(token, text, out);
    };
    let digits: Vec<u8> = number.iter().copied().filter(|&byte| byte != b'.').collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        let message = format!("`{}` is not a telephone number: digits follow the `+`", text::shown(token));
        return Err(SpanFault::at(token.span(), message));
    }
    out.push(TELEPHONE_NUMBER);
    out.extend(digits);
    Ok(())
}

fn write_suffix(tokens: &mut Tokens<'_, '_>, origin: &[u8], out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let prefix = tokens.number("the length of the prefix", 128)?;
    out.push(prefix);
    if prefix < 128 {
        let mask = u128::MAX >> prefix;
        let address = u128::from(text::ipv6(tokens.take("the address")?)?) & mask;
        out.extend(address.to_be_bytes().get(usize::from(prefix / 8)..).unwrap_or(&[]));
    }
    if prefix > 0 {
        text::name(tokens.take("the name of the prefix")?, origin, out)?;
    }
    Ok(())
}

fn is_suffix(bytes: &[u8]) -> bool {
    let [prefix @ 0..=128, rest @ ..] = bytes else { return false };
    let Some(name) = rest.get(16 - usize::from(prefix / 8)..) else { return false };
    let length = if *prefix == 0 { Some(0) } else { name::wire_length(name) };
    length == Some(name.len())
}

/// Appends one address prefix, `[!]FAMILY:ADDRESS/LENGTH`, without trailing zero bytes.
fn write_prefix(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let fault = || {
        let message = format!(
            "`{}` is not an address prefix: 1:192.0.2.0/24 or !2:2001:db8::/32 is expected",
            text::shown(token)
        );
        SpanFault::at(token.span(), message)
    };
    let written = std::str::from_utf8(text::word(token, "an address prefix")?).map_err(|_| fault())?;
    let (negation, written) = match written.strip_prefix('!') {
        Some(rest) => (NEGATION, rest),
        None => (0, written),
    };
    let (family, rest) = written.split_once(':').ok_or_else(fault)?;
    let (address, length) = rest.rsplit_once('/').ok_or_else(fault)?;
    let family = text::decimal(family.as_bytes(), u64::from(u16::MAX)).ok_or_else(fault)?;
    let (family, bits) =
        FAMILIES.into_iter().find(|(number, _)| u64::from(*number) == family).ok_or_else(fault)?;
    let length = text::decimal(length.as_bytes(), u64::from(bits)).ok_or_else(fault)?;
    let address: Vec<u8> = if bits == 32 {
        address.parse::<Ipv4Addr>().map_err(|_| fault())?.octets().into()
    } else {
        address.parse::<Ipv6Addr>().map_err(|_| fault())?.octets().into()
    };
    let kept = address.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    out.extend(family.to_be_bytes());
    // Both lengths fit: at most 128 bits, and at most 16 bytes.
    out.push(u8::try_from(length).unwrap_or(bits));
    out.push(negation | u8::try_from(kept).unwrap_or(0));
    out.extend(address.iter().take(kept));
    Ok(())
}

fn are_prefixes(mut bytes: &[u8]) -> bool {
    while let [f0, f1, length, kept, rest @ ..] = bytes {
        let family = u16::from_be_bytes([*f0, *f1]);
        let kept = usize::from(kept & !NEGATION);
        let Some((address, after)) = rest.split_at_checked(kept) else { return false };
        // For unknown families nothing else is known.
        let known = FAMILIES.into_iter().find(|(number, _)| *number == family);
        let fits = |(_, bits): (u16, u8)| *length <= bits && kept <= usize::from(bits / 8);
        if !known.is_none_or(fits) || address.last() == Some(&0) {
            return false;
        }
        bytes = after;
    }
    bytes.is_empty()
}

fn write_gateway(
    kind: u8,
    tokens: &mut Tokens<'_, '_>,
    what: &str,
    origin: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SpanFault> {
    let token = tokens.take(what)?;
    match kind {
        IPV4_GATEWAY => out.extend(text::ipv4(token)?.octets()),
        IPV6_GATEWAY => out.extend(text::ipv6(token)?.octets()),
        NAMED_GATEWAY => text::name(token, origin, out)?,
        _ if token.is(b".") => {}
        _ => {
            let message = format!("`{}`: with type 0, {what} is written as a dot", text::shown(token));
            return Err(SpanFault::at(token.span(), message));
        }
    }
    Ok(())
}

/// The length of a gateway of this type, bytes.
fn gateway_length(kind: u8, bytes: &[u8]) -> Option<usize> {
    match kind {
        NO_GATEWAY => Some(0),
        IPV4_GATEWAY => Some(4),
        IPV6_GATEWAY => Some(16),
        NAMED_GATEWAY => name::wire_length(bytes),
        _ => None,
    }
}

fn write_identity(tokens: &mut Tokens<'_, '_>, origin: &[u8], out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let algorithm = tokens.number("the algorithm of the public key", u8::MAX)?;
    let tag = tokens.take("the host identity tag")?;
    let mut identity = Vec::new();
    text::hex(&[*tag], "the host identity tag", &mut identity)?;
    let length = u8::try_from(identity.len())
        .ok()
        .filter(|&length| length > 0)
        .ok_or_else(|| SpanFault::at(tag.span(), "the host identity tag has 1 to 255 bytes"))?;
    let key_token = tokens.take("the public key")?;
    let mut key = Vec::new();
    text::base64(&[*key_token], "the public key", &mut key)?;
    let key_length = u16::try_from(key.len())
        .map_err(|_| SpanFault::at(key_token.span(), "the public key has at most 65,535 bytes"))?;
    out.extend([length, algorithm]);
    out.extend(key_length.to_be_bytes());
    out.extend(identity);
    out.extend(key);
    while !tokens.rest.is_empty() {
        text::name(tokens.take("a rendezvous server")?, origin, out)?;
    }
    Ok(())
}

fn is_identity(bytes: &[u8]) -> bool {
    let [tag, _, k0, k1, rest @ ..] = bytes else { return false };
    let key = usize::from(u16::from_be_bytes([*k0, *k1]));
    let Some(mut servers) = rest.get(usize::from(*tag) + key..).filter(|_| *tag > 0 && key > 0) else {
        return false;
    };
    while let Some(length) = name::wire_length(servers) {
        servers = servers.get(length..).unwrap_or(&[]);
    }
    servers.is_empty()
}
