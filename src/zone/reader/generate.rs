//! `$GENERATE`: a directive that makes many records, each with a different number.
//!
//! ```text
//! $GENERATE 1-20/2 host-$ A 192.0.2.$
//! $GENERATE 0-255 ${0,3,d} CNAME host-${100}.example.com.
//! ```
//!
//! `$` is replaced by the number. `${OFFSET,WIDTH,BASE}` adds an offset, pads with zeros, and
//! writes decimal (`d`), octal (`o`), hexadecimal (`x`, `X`), or reversed hexadecimal digits
//! separated by dots, as in ip6.arpa (`n`, `N`; the width includes the dots). `\$` and `$$` both
//! mean a dollar sign.

use super::fault::SpanFault;
use super::lexer::{Form, Token};
use super::rdata::RecordType;
use super::text;
use crate::zone::rtype;

/// The most records of one directive: one for each address of a /12.
pub(super) const MAX_GENERATED: u32 = 1 << 20;
/// The largest number.
const MAX_NUMBER: u64 = 0x7fff_ffff;
/// The largest width; no name is longer.
const MAX_WIDTH: usize = 255;

/// A parsed directive: the numbers, and the record text around them.
#[derive(Debug)]
pub(super) struct Template {
    first: u32,
    last: u32,
    step: u32,
    parts: Vec<TemplatePart>,
}

#[derive(Debug)]
enum TemplatePart {
    Text(Vec<u8>),
    Number { offset: i64, width: usize, base: Base },
}

#[derive(Clone, Copy, Debug)]
enum Base {
    Decimal,
    Octal,
    Hex { upper: bool },
    Nibbles { upper: bool },
}

impl Template {
    /// Parses the directive from the tokens after its name: a range, then a record.
    pub(super) fn read(range: &Token<'_>, record: &[Token<'_>]) -> Result<Self, SpanFault> {
        let (first, last, step) = read_range(range)?;
        let mut template = Self { first, last, step, parts: Vec::new() };
        let unquote = quotes_hold_data(record);
        for (at, token) in record.iter().enumerate() {
            if at > 0 {
                template.push_text(b" ");
            }
            let quoted = token.form == Form::Quoted && !(unquote && at + 1 == record.len());
            if quoted {
                template.push_text(b"\"");
            }
            template.push_token(token)?;
            if quoted {
                template.push_text(b"\"");
            }
        }
        Ok(template)
    }

    /// The numbers, in ascending order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (self.first..=self.last).step_by(self.step as usize)
    }

    /// Writes the record for one number; `None` if the number becomes negative.
    pub(super) fn expand(&self, number: u32, out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        for part in &self.parts {
            match part {
                TemplatePart::Text(text) => out.extend_from_slice(text),
                TemplatePart::Number { offset, width, base } => {
                    let value = u64::try_from(i64::from(number) + offset).ok()?;
                    write_number(value, *width, *base, out);
                }
            }
        }
        Some(())
    }

    fn push_text(&mut self, text: &[u8]) {
        match self.parts.last_mut() {
            Some(TemplatePart::Text(before)) => before.extend_from_slice(text),
            _ => self.parts.push(TemplatePart::Text(text.into())),
        }
    }

    fn push_token(&mut self, token: &Token<'_>) -> Result<(), SpanFault> {
        let mut rest = token.text;
        while let Some(at) = rest.iter().position(|&byte| matches!(byte, b'$' | b'\\')) {
            let (plain, special) = rest.split_at(at);
            self.push_text(plain);
            rest = match special {
                // Escapes are kept; the lexer resolves them in the generated record.
                [b'\\', _, after @ ..] => {
                    self.push_text(special.get(..2).unwrap_or(&[]));
                    after
                }
                [b'$', b'$', after @ ..] => {
                    self.push_text(br"\$");
                    after
                }
                [b'$', b'{', after @ ..] => {
                    let (part, after) = read_modifier(after).ok_or_else(|| bad_modifier(token))?;
                    self.parts.push(part);
                    after
                }
                [b'$', after @ ..] => {
                    self.parts.push(TemplatePart::Number { offset: 0, width: 0, base: Base::Decimal });
                    after
                }
                _ => {
                    self.push_text(special);
                    &[]
                }
            };
        }
        self.push_text(rest);
        Ok(())
    }
}

/// Whether the quotes of the last token enclose the data of the record, as in the common form `MX
/// "10 host-$"`. In text records the quotes are part of the data.
fn quotes_hold_data(record: &[Token<'_>]) -> bool {
    let [.., before, last] = record else { return false };
    last.form == Form::Quoted
        && before.form == Form::Word
        && RecordType::parse(before.text)
            .is_some_and(|found| !matches!(found.number(), rtype::TXT | rtype::SPF))
}

fn bad_modifier(token: &Token<'_>) -> SpanFault {
    SpanFault::at(
        token.span(),
        format!(
            "`{}`: after `${{` write an offset, a width up to {MAX_WIDTH} and a base (d, o, x, X, n or N), separated by \
             commas, then `}}`, such as ${{0,3,d}}",
            text::shown(token)
        ),
    )
}

/// Reads `FIRST-LAST` or `FIRST-LAST/STEP`.
fn read_range(token: &Token<'_>) -> Result<(u32, u32, u32), SpanFault> {
    let fault = |message: String| Err(SpanFault::at(token.span(), message));
    let split = |text: &'_ [u8], at: u8| text.iter().position(|&byte| byte == at);
    let number = |text: Option<&[u8]>| u32::try_from(text::decimal(text?, MAX_NUMBER)?).ok();
    let text = text::word(token, "the range")?;
    let (range, step) = match split(text, b'/') {
        Some(slash) => (text.get(..slash).unwrap_or(&[]), number(text.get(slash + 1..))),
        None => (text, Some(1)),
    };
    let hyphen = split(range, b'-').unwrap_or(range.len());
    let (Some(first), Some(last), Some(step @ 1..)) =
        (number(range.get(..hyphen)), number(range.get(hyphen + 1..)), step)
    else {
        return fault(format!(
            "`{}` is not a range: write FIRST-LAST or FIRST-LAST/STEP, such as 1-20/2",
            text::shown(token)
        ));
    };
    if first > last {
        return fault(format!("the range begins above its end: `{first}` is greater than `{last}`"));
    }
    if (last - first) / step >= MAX_GENERATED {
        return fault(format!("the range makes more than {MAX_GENERATED} records: use several directives"));
    }
    Ok((first, last, step))
}

/// Parses `OFFSET,WIDTH,BASE}`; width and base are optional.
fn read_modifier(text: &[u8]) -> Option<(TemplatePart, &[u8])> {
    let close = text.iter().position(|&byte| byte == b'}')?;
    let (inner, after) = text.split_at(close);
    let mut parts = inner.split(|&byte| byte == b',');
    let offset = match parts.next()? {
        [b'-', digits @ ..] => -i64::try_from(text::decimal(digits, MAX_NUMBER)?).ok()?,
        [b'+', digits @ ..] | digits => i64::try_from(text::decimal(digits, MAX_NUMBER)?).ok()?,
    };
    let width = match parts.next() {
        Some(digits) => usize::try_from(text::decimal(digits, MAX_WIDTH as u64)?).ok()?,
        None => 0,
    };
    let base = match parts.next() {
        None | Some(b"d") => Base::Decimal,
        Some(b"o") => Base::Octal,
        Some(b"x") => Base::Hex { upper: false },
        Some(b"X") => Base::Hex { upper: true },
        Some(b"n") => Base::Nibbles { upper: false },
        Some(b"N") => Base::Nibbles { upper: true },
        Some(_) => return None,
    };
    parts.next().is_none().then_some((TemplatePart::Number { offset, width, base }, after.get(1..)?))
}

fn write_number(value: u64, width: usize, base: Base, out: &mut Vec<u8>) {
    let text = match base {
        Base::Decimal => format!("{value:0width$}"),
        Base::Octal => format!("{value:0width$o}"),
        Base::Hex { upper: false } => format!("{value:0width$x}"),
        Base::Hex { upper: true } => format!("{value:0width$X}"),
        Base::Nibbles { upper } => nibbles(value, width, upper),
    };
    out.extend_from_slice(text.as_bytes());
}

/// The hexadecimal digits in reverse order, separated by dots.
fn nibbles(value: u64, width: usize, upper: bool) -> String {
    let mut text = String::new();
    let mut rest = value;
    loop {
        let digit = rest & 15;
        text.extend(u32::try_from(digit).ok().and_then(|digit| char::from_digit(digit, 16)));
        rest >>= 4;
        if rest == 0 && text.len() >= width {
            return if upper { text.to_ascii_uppercase() } else { text };
        }
        text.push('.');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::reader::lexer::{Entry, Lexer};

    fn expanded(text: &str) -> Result<Vec<String>, String> {
        let mut entry = Entry::default();
        Lexer::new(text.as_bytes()).next_entry(&mut entry).unwrap();
        let template =
            Template::read(&entry.tokens[0], &entry.tokens[1..]).map_err(|problem| problem.message)?;
        let mut out = Vec::new();
        template
            .numbers()
            .map(|number| {
                template
                    .expand(number, &mut out)
                    .ok_or(format!("negative at {number}"))
                    .map(|()| String::from_utf8(out.clone()).unwrap())
            })
            .collect()
    }

    #[test]
    fn records() {
        for (text, expected) in [
            ("1-3 a$ A 192.0.2.$", &["a1 A 192.0.2.1", "a2 A 192.0.2.2", "a3 A 192.0.2.3"][..]),
            ("1-6/2 $", &["1", "3", "5"]),
            ("5-5 $", &["5"]),
            ("9-10 ${-9,3}-${+1}", &["000-10", "001-11"]),
            ("255-255 ${0,4,x} ${0,0,X} ${0,5,o}", &["00ff FF 00377"]),
            ("171-171 ${0,0,n} ${0,5,N} ${0,2,n} ${0,6,n}", &["b.a B.A.0 b.a b.a.0.0"]),
            ("0-0 ${0,1,n} ${0,3,n}", &["0 0.0"]),
            (r"7-7 \$ $$ a$$$ \\$ $", &[r"\$ \$ a\$7 \\7 7"]),
            (r#"1-1 @ MX "10 mx$""#, &["@ MX 10 mx1"]),
            (r#"1-1 @ TXT "10 mx$""#, &[r#"@ TXT "10 mx1""#]),
            (r#"1-1 @ CAA 0 issue "ca$""#, &[r#"@ CAA 0 issue "ca1""#]),
            (r#"1-1 @ HTTPS 1 . alpn="h$,x""#, &[r#"@ HTTPS 1 . alpn="h1,x""#]),
            ("1-1 a{$} $}", &["a{1} 1}"]),
        ] {
            assert_eq!(expanded(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn faults() {
        for (text, expected) in [
            ("3-1 $", "begins above its end"),
            ("1 $", "is not a range"),
            ("1- $", "is not a range"),
            ("-1 $", "is not a range"),
            ("1-2/0 $", "is not a range"),
            ("1-2/ $", "is not a range"),
            ("a-b $", "is not a range"),
            ("1-4294967296 $", "is not a range"),
            ("0-1048576 $", "more than 1048576 records"),
            ("1-2 ${0", "after `${`"),
            ("1-2 ${}", "after `${`"),
            ("1-2 ${0,0,q}", "after `${`"),
            ("1-2 ${0,256}", "after `${`"),
            ("1-2 ${0,0,d,x}", "after `${`"),
            ("1-2 ${-2}", "negative at 1"),
        ] {
            let message = expanded(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
        assert_eq!(expanded("0-1048575 $").unwrap().len(), 1 << 20);
    }
}
