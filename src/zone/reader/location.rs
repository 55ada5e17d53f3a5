//! The data of LOC records (RFC 1876): `42 21 54 N 71 06 18 W -24m 30m 10m 10m`.

use super::fault::{Span, SpanFault};
use super::lexer::Token;
use super::text;

/// The length of the data, bytes.
const LENGTH: usize = 16;
/// The equator or the prime meridian, in thousandths of an arc second.
const ZERO_ANGLE: i64 = 1 << 31;
/// The wire form counts altitudes from 100,000 m below the reference ellipsoid, in centimetres.
const ZERO_ALTITUDE: i64 = 10_000_000;
/// The largest size and precision, in centimetres.
const MAX_SIZE: i64 = 9_000_000_000;
/// The default size, horizontal precision and vertical precision: 1 m, 10 km, 10 m, in centimetres
/// (section 3).
const DEFAULTS: [(i64, &str); 3] =
    [(100, "the size"), (1_000_000, "the horizontal precision"), (1_000, "the vertical precision")];

/// Appends the location that the tokens describe. There is at least one token.
pub(super) fn write(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), SpanFault> {
    let mut reading =
        LocationReader { rest: tokens, last: tokens.first().map_or(Span::default(), Token::span) };
    let latitude = reading.angle("the latitude", 90, [b"N", b"S"])?;
    let longitude = reading.angle("the longitude", 180, [b"E", b"W"])?;
    let altitude =
        reading.metres("the altitude", None, -ZERO_ALTITUDE, i64::from(u32::MAX) - ZERO_ALTITUDE)?;
    // Version 0, then the sizes.
    out.push(0);
    for (default, what) in DEFAULTS {
        out.push(mantissa_and_exponent(reading.metres(what, Some(default), 0, MAX_SIZE)?));
    }
    if let Some(extra) = reading.rest.first() {
        return Err(SpanFault::at(extra.span(), "nothing is expected after the vertical precision of LOC"));
    }
    for value in [latitude, longitude, altitude + ZERO_ALTITUDE] {
        out.extend_from_slice(&u32::try_from(value).unwrap_or(0).to_be_bytes());
    }
    Ok(())
}

/// Whether the bytes are valid LOC data of version 0, or of an unknown version.
pub(super) fn is_valid(bytes: &[u8]) -> bool {
    match bytes {
        [0, sizes @ ..] if bytes.len() == LENGTH => {
            sizes.iter().take(3).all(|size| size >> 4 <= 9 && size & 15 <= 9)
        }
        [0, ..] | [] => false,
        _ => true,
    }
}

struct LocationReader<'t, 's> {
    rest: &'t [Token<'s>],
    last: Span,
}

impl<'t, 's> LocationReader<'t, 's> {
    fn next(&mut self) -> Option<&'t Token<'s>> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.last = first.span();
        Some(first)
    }

    /// Degrees, optional minutes and seconds, and a hemisphere.
    fn angle(&mut self, what: &str, most: i64, hemispheres: [&[u8]; 2]) -> Result<i64, SpanFault> {
        let [positive, negative] = hemispheres;
        let mut total = 0;
        // For each unit: thousandths of an arc second, and the limit in thousandths of the unit.
        let units = [(3_600_000, most * 1000), (60_000, 59_000), (1000, 59_999)];
        for (at, (unit, limit)) in units.into_iter().enumerate() {
            let Some(token) = self.next() else { break };
            let sign = if token.is(positive) { 1 } else { -1 };
            if at > 0 && (token.is(positive) || token.is(negative)) {
                return Ok(ZERO_ANGLE + sign * total);
            }
            let places = if unit == 1000 { 3 } else { 0 };
            let value = fixed_point(text::word(token, what)?, places)
                .map(|value| if places == 0 { value.saturating_mul(1000) } else { value })
                .filter(|value| (0..=limit).contains(value))
                .filter(|value| total + value * (unit / 1000) <= most * 3_600_000);
            let Some(value) = value else { return Err(self.bad_angle(what, hemispheres)) };
            total += value * (unit / 1000);
        }
        match self.next() {
            Some(token) if token.is(positive) => Ok(ZERO_ANGLE + total),
            Some(token) if token.is(negative) => Ok(ZERO_ANGLE - total),
            _ => Err(self.bad_angle(what, hemispheres)),
        }
    }

    fn bad_angle(&self, what: &str, hemispheres: [&[u8]; 2]) -> SpanFault {
        let [positive, negative] = hemispheres.map(String::from_utf8_lossy);
        let message = format!(
            "{what} is not valid: write degrees, optional minutes and seconds, and {positive} or {negative}, \
             such as 42 21 54.5 {positive}"
        );
        SpanFault::at(self.last, message)
    }

    /// Metres with or without an `m`; returns centimetres.
    fn metres(&mut self, what: &str, default: Option<i64>, low: i64, high: i64) -> Result<i64, SpanFault> {
        let Some(token) = self.next() else {
            return default.ok_or_else(|| {
                SpanFault::at(self.last, format!("{what} is missing: metres are expected, such as 24m"))
            });
        };
        let digits = text::word(token, what)?;
        let digits = digits.strip_suffix(b"m").or(digits.strip_suffix(b"M")).unwrap_or(digits);
        fixed_point(digits, 2).filter(|value| (low..=high).contains(value)).ok_or_else(|| {
            let message = format!("`{}` is not {what}: metres are expected, such as 24m", text::shown(token));
            SpanFault::at(token.span(), message)
        })
    }
}

/// Parses a decimal number with at most `places` decimals, in units of the last one.
fn fixed_point(text: &[u8], places: usize) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        _ => (1, text),
    };
    let mut parts = digits.splitn(2, |&byte| byte == b'.');
    let whole = text::decimal(parts.next()?, u64::from(u32::MAX))?;
    let fraction = parts.next().unwrap_or(b"0");
    if fraction.is_empty() || (fraction.len() > places && digits.contains(&b'.')) {
        return None;
    }
    let mut value = whole;
    for place in 0..places {
        let digit = fraction.get(place).unwrap_or(&b'0');
        value = value * 10 + u64::from(digit.checked_sub(b'0').filter(|&digit| digit <= 9)?);
    }
    Some(sign * i64::try_from(value).ok()?)
}

/// A size in centimetres as one digit and a power of ten, four bits each (section 2).
fn mantissa_and_exponent(centimetres: i64) -> u8 {
    let mut mantissa = centimetres;
    let mut exponent = 0;
    while mantissa > 9 {
        mantissa /= 10;
        exponent += 1;
    }
    u8::try_from(mantissa << 4 | exponent).unwrap_or(0)
}
