//! Reads zones from master files (RFC 1035, section 5), with line and column for every fault.
//!
//! The reader opens no files; the caller passes a function that loads them. Messages quote text and
//! numbers of a file only between backquotes, so that `printable::without_quoted` can remove them.
//! The builder checks the contents of a zone.
//!
//! A finished zone comes with warnings about surprising records.
//!
//! Beyond RFC 1035 it reads `$TTL` and times with units (RFC 2308), `$GENERATE`, and types, classes
//! and data without a mnemonic (RFC 3597). A record without a TTL gets the TTL of the latest
//! `$TTL`, otherwise the last explicit TTL, otherwise the minimum of the SOA record. An `$INCLUDE`d
//! file starts with the owner and the origin of the including line. Both are restored after it, but
//! a `$TTL` in it stays in effect.

mod fault;
mod generate;
mod lexer;
mod location;
mod parameters;
mod rdata;
mod services;
mod special;
mod text;
mod types;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use fault::{MAX_FAULTS, ZoneFault};

use super::advice::AdviceKind as Surprise;
use super::{Zone, ZoneBuilder, ZoneError, rtype};
use crate::name::Name;
use crate::printable::quoted;
use fault::{SourceMap, SpanFault, ZoneFaults};
use generate::Template;
use lexer::{Entry, Form, Lexer, Token};
use rdata::RecordType;

/// The maximum nesting of `$INCLUDE`s.
pub const MAX_INCLUDE_DEPTH: usize = 16;
/// The most files in one zone; a file that is included twice counts twice.
pub const MAX_FILES: usize = 10_000;
/// The largest file, bytes.
const MAX_FILE_SIZE: usize = u32::MAX as usize;

/// The reader asks whether to continue after every this many entries and generated records.
const STEPS: usize = 4096;
const ENDED_EARLY: &str = "reading the zone was stopped before its end";

/// Some editors put this mark at the start of a UTF-8 file; it is skipped.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A zone that was read. Services can be bound to it before it is finished.
#[derive(Debug)]
pub struct ReadZone {
    builder: ZoneBuilder,
    source_map: SourceMap,
}

/// Reads a zone from a master file and its includes. `load` returns the contents of a file.
///
/// # Errors
/// All faults of the files: at most [`MAX_FAULTS`], and one more with the number of the others.
/// Reading ends early if there are far too many. [`ReadZone::finish`] returns the faults of the
/// zone as a whole.
pub fn read(
    file: &Path,
    apex: &Name,
    load: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
) -> Result<ReadZone, Vec<ZoneFault>> {
    read_while(file, apex, load, &|| true)
}

/// Like [`read`], but asks `goes_on` every few thousand records, and stops if it returns false.
///
/// # Errors
/// Those of [`read`], and if reading was stopped.
pub fn read_while(
    file: &Path,
    apex: &Name,
    load: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    goes_on: &dyn Fn() -> bool,
) -> Result<ReadZone, Vec<ZoneFault>> {
    let mut reader = ZoneReader {
        load,
        goes_on,
        steps: 0,
        ended_early: false,
        builder: ZoneBuilder::new(apex.wire()),
        source_map: SourceMap::default(),
        faults: ZoneFaults::default(),
        open: Vec::new(),
        origin: apex.wire().to_vec(),
        owner: Owner { state: OwnerState::None, name: Vec::new() },
        ttls: Ttls::default(),
        rdata: Vec::new(),
    };
    match (reader.load)(file) {
        Ok(source) => match reader.open_file(file.into(), source) {
            Ok(opened) => reader.read_file(opened),
            Err(message) => reader.faults.add_file(file, message),
        },
        Err(error) => reader.faults.add_file(file, format!("the zone file cannot be read: {error}")),
    }
    if reader.ended_early {
        reader.faults.add_file(file, ENDED_EARLY.to_owned());
    }
    if reader.faults.is_empty() {
        Ok(ReadZone { builder: reader.builder, source_map: reader.source_map })
    } else {
        Err(reader.faults.finish(file))
    }
}

impl ReadZone {
    /// The builder with the records so far, for binding services.
    pub fn builder(&mut self) -> &mut ZoneBuilder {
        &mut self.builder
    }

    /// Completes the zone.
    ///
    /// # Errors
    /// The faults of the zone as a whole: at most [`MAX_FAULTS`], and one more with the number of
    /// the others.
    pub fn finish(self) -> Result<Zone, Vec<ZoneFault>> {
        self.finish_with_warnings().map(|(zone, _)| zone)
    }

    /// Completes the zone, and returns warnings about surprising records with their places.
    ///
    /// # Errors
    /// Those of [`ReadZone::finish`].
    pub fn finish_with_warnings(self) -> Result<(Zone, Vec<ZoneFault>), Vec<ZoneFault>> {
        let Self { builder, source_map } = self;
        let finished = builder.finish_with_advice();
        let with_places = |(zone, advice): (Zone, Vec<super::Advice>)| {
            let warnings = advice.into_iter().map(|advice| match advice.tag {
                Some(tag) => source_map.fault_of_tag(tag, advice.message),
                None => source_map.fault_of_zone(advice.message),
            });
            (zone, warnings.collect())
        };
        finished.map(with_places).map_err(|found| {
            let mut faults = ZoneFaults::default();
            for fault in found {
                faults.add(|| match fault.tag {
                    Some(tag) => source_map.fault_of_tag(tag, fault.error.to_string()),
                    None => source_map.fault_of_zone(fault.error.to_string()),
                });
            }
            faults.finish(source_map.path(0))
        })
    }
}

struct ZoneReader<'l> {
    load: &'l mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    goes_on: &'l dyn Fn() -> bool,
    /// Entries and generated records so far.
    steps: usize,
    ended_early: bool,
    builder: ZoneBuilder,
    source_map: SourceMap,
    faults: ZoneFaults,
    /// The files being read, the outermost first.
    open: Vec<usize>,
    /// Wire form, case as written.
    origin: Vec<u8>,
    owner: Owner,
    ttls: Ttls,
    /// The data of the current record; reused to save allocations.
    rdata: Vec<u8>,
}

/// The owner of the last record.
#[derive(Debug)]
struct Owner {
    state: OwnerState,
    /// Lower-case wire form.
    name: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnerState {
    /// No record has been read.
    None,
    /// The name had a fault, which was reported. The next records that inherit it are skipped.
    Faulty,
    Known,
}

/// The possible sources of a missing TTL; the first known one applies.
#[derive(Debug, Default)]
struct Ttls {
    directive: Option<u32>,
    latest: Option<u32>,
    soa_minimum: Option<u32>,
    /// Whether a missing TTL has been reported.
    missing_told: bool,
}

/// The fields before the data of a record.
struct RecordHeader<'t, 's> {
    ttl: Option<(u32, &'t Token<'s>)>,
    rtype: RecordType,
    type_token: &'t Token<'s>,
}

impl ZoneReader<'_> {
    fn open_file(&mut self, path: PathBuf, mut source: Vec<u8>) -> Result<usize, String> {
        if source.len() > MAX_FILE_SIZE {
            return Err("the zone file is larger than 4 GiB: split it, and include the parts".into());
        }
        if source.starts_with(BYTE_ORDER_MARK) {
            source.drain(..BYTE_ORDER_MARK.len());
        }
        let named_by = self.open.last().map(|&open| self.source_map.path(open).into());
        Ok(self.source_map.add_file(path, named_by, source))
    }

    fn goes_on(&mut self) -> bool {
        self.steps += 1;
        self.ended_early |= self.steps.is_multiple_of(STEPS) && !(self.goes_on)();
        !self.ended_early
    }

    /// Reads all entries of a file. A fault affects only its own entry.
    fn read_file(&mut self, file: usize) {
        self.open.push(file);
        let source = self.source_map.source(file);
        self.source_map.go_on(file, 1);
        let mut lexer = Lexer::new(&source);
        let mut entry = Entry::default();
        while !self.faults.are_too_many() && self.goes_on() {
            let result = match lexer.next_entry(&mut entry) {
                Ok(false) => break,
                Ok(true) => self.entry(file, &entry),
                Err(problem) => {
                    // Its owner is unknown, so the records that inherit it are skipped.
                    self.owner.state = OwnerState::Faulty;
                    Err(problem)
                }
            };
            if let Err(problem) = result {
                let source_map = &self.source_map;
                self.faults.add(|| source_map.fault(file, problem));
            }
        }
        self.open.pop();
    }

    fn entry(&mut self, file: usize, entry: &Entry<'_>) -> Result<(), SpanFault> {
        match entry.tokens.split_first() {
            Some((first, arguments)) if !entry.indented && first.text.starts_with(b"$") => {
                self.directive(file, entry.line, first, arguments)
            }
            _ => {
                let tag = self.source_map.tag(entry.line);
                self.record(entry, tag)
            }
        }
    }

    fn directive(
        &mut self,
        file: usize,
        line: u32,
        directive: &Token<'_>,
        arguments: &[Token<'_>],
    ) -> Result<(), SpanFault> {
        if directive.is(b"$INCLUDE") {
            return self.include(file, line, directive, arguments);
        }
        if directive.is(b"$GENERATE") {
            let tag = self.source_map.tag(line);
            return self.generate(tag, directive, arguments);
        }
        if directive.is(b"$TTL") {
            let [ttl] = expect(directive, arguments, "a time")?;
            self.ttls.directive = Some(text::seconds(ttl, "the TTL", text::MAX_TTL)?);
            return Ok(());
        }
        if directive.is(b"$ORIGIN") {
            let [origin] = expect(directive, arguments, "a name")?;
            self.origin = self.absolute(origin)?;
            return Ok(());
        }
        let known = ["$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE"];
        let hint = text::nearest(directive.text, known.into_iter()).map_or_else(
            || format!("{} are known; a name that begins with `$` is written `\\$`", known.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        Err(SpanFault::at(
            directive.span(),
            format!("`{}` is not a directive: {hint}", text::shown(directive)),
        ))
    }

    fn absolute(&self, token: &Token<'_>) -> Result<Vec<u8>, SpanFault> {
        let mut name = Vec::new();
        text::name(token, &self.origin, &mut name)?;
        Ok(name)
    }

    fn include(
        &mut self,
        file: usize,
        line: u32,
        directive: &Token<'_>,
        arguments: &[Token<'_>],
    ) -> Result<(), SpanFault> {
        let (named, origin) = match arguments {
            [named] => (named, self.origin.clone()),
            [named, origin] => (named, self.absolute(origin)?),
            _ => {
                let at = arguments.get(2).unwrap_or(directive).span();
                return Err(SpanFault::at(at, "$INCLUDE takes a file and an optional origin"));
            }
        };
        let mut path = Vec::new();
        text::unescaped(named, &mut path)?;
        // A relative path is relative to the including file; join() keeps an absolute one.
        let path =
            self.source_map.path(file).parent().unwrap_or(Path::new("")).join(OsStr::from_bytes(&path));
        let fault = |message: String| SpanFault::at(named.span(), message);
        if self.open.iter().any(|&open| self.source_map.path(open) == path) {
            return Err(fault(format!("{} includes itself", shown_path(&path))));
        }
        if self.open.len() > MAX_INCLUDE_DEPTH {
            return Err(fault(format!("includes are nested deeper than {MAX_INCLUDE_DEPTH} files")));
        }
        if self.source_map.files() >= MAX_FILES {
            return Err(fault(format!("the zone includes more than {MAX_FILES} files")));
        }
        let source = (self.load)(&path)
            .map_err(|error| fault(format!("{} cannot be read: {error}", shown_path(&path))))?;
        let included = self.open_file(path, source).map_err(fault)?;

        let outer_origin = std::mem::replace(&mut self.origin, origin);
        let outer_owner = Owner { state: self.owner.state, name: self.owner.name.clone() };
        self.read_file(included);
        self.origin = outer_origin;
        self.owner = outer_owner;
        self.source_map.go_on(file, line);
        Ok(())
    }

    /// Reads the records of a `$GENERATE`. The first fault ends it, because the others would repeat
    /// it.
    fn generate(
        &mut self,
        tag: u32,
        directive: &Token<'_>,
        arguments: &[Token<'_>],
    ) -> Result<(), SpanFault> {
        let [range, record @ ..] = arguments else {
            return Err(SpanFault::at(directive.span(), "$GENERATE takes a range and then a record"));
        };
        let Some(last) = record.last() else {
            return Err(SpanFault::at(range.span(), "the record is missing after the range of $GENERATE"));
        };
        let template = Template::read(range, record)?;
        let at = directive.span().to(last.span());
        let mut line = Vec::new();
        for number in template.numbers() {
            if !self.goes_on() {
                return Err(SpanFault::at(at, ENDED_EARLY));
            }
            if template.expand(number, &mut line).is_none() {
                let message = format!("`{number}` plus its offset is negative");
                return Err(SpanFault::at(at, message));
            }
            let mut entry = Entry::default();
            let result = Lexer::new(&line).next_entry(&mut entry).and_then(|_| self.record(&entry, tag));
            result.map_err(|problem| {
                let made = text::shown_text(&line);
                SpanFault::at(at, format!("with `{number}` this makes `{made}`: {}", problem.message))
            })?;
        }
        Ok(())
    }

    fn record(&mut self, entry: &Entry<'_>, tag: u32) -> Result<(), SpanFault> {
        let mut tokens = entry.tokens.as_slice();
        let Some(first) = tokens.first() else { return Ok(()) };
        if !entry.indented {
            tokens = tokens.get(1..).unwrap_or(&[]);
            self.set_owner(first)?;
        }
        match self.owner.state {
            OwnerState::Known => {}
            OwnerState::Faulty => return Ok(()),
            OwnerState::None => {
                let message = "the first record of a zone cannot begin with a blank: a blank repeats \
                               the owner of the record before it";
                return Err(SpanFault::at(first.span(), message));
            }
        }
        let (head, data) = RecordHeader::read(first, tokens)?;
        let number = head.rtype.number();
        self.rdata.clear();
        rdata::write(head.rtype, head.type_token, data, &self.origin, &mut self.rdata)?;
        if number == rtype::SOA {
            self.ttls.soa_minimum = self.rdata.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        }
        if let Some((ttl, _)) = head.ttl {
            self.ttls.latest = Some(ttl);
        }
        let ttl = head.ttl.map(|(ttl, _)| ttl).or_else(|| self.ttls.inherited()).ok_or_else(|| {
            let message = "the record has no TTL: write one before its type, or $TTL before the first record";
            SpanFault::at(head.type_token.span(), message)
        })?;
        if head.ttl.is_none() && self.ttls.directive.is_none() && !self.ttls.missing_told {
            self.ttls.missing_told = true;
            let source =
                if self.ttls.latest.is_some() { "that of a record above" } else { "the SOA's minimum" };
            self.builder.tell(Surprise::NoTtl, tag, || {
                format!(
                    "there is no $TTL, and this record has no TTL of its own: it gets `{ttl}` seconds, {source}; \
                     later ones get theirs in the same way; write $TTL at the top of the file"
                )
            });
        }
        if let Some(lines) = data
            .iter()
            .filter(|token| token.form != Form::Word)
            .map(|token| text::line_ends(token.text))
            .max()
            .filter(|&lines| lines > 0)
        {
            self.builder.tell(Surprise::Lines, tag, || {
                format!(
                    "a quoted text spans {} lines, and the line ends are part of it: is a `\"` missing?",
                    lines + 1
                )
            });
        }
        match self.builder.add(&self.owner.name, number, ttl, &self.rdata, tag) {
            Ok(()) => Ok(()),
            Err(ZoneError::OutOfZone) => {
                // Reports a faulty owner only once.
                self.owner.state = OwnerState::Faulty;
                let message = self.out_of_zone();
                self.builder.tell(Surprise::OutOfZone, tag, || message);
                Ok(())
            }
            Err(error) => Err(SpanFault::at(head.type_token.span(), error.to_string())),
        }
    }

    fn set_owner(&mut self, token: &Token<'_>) -> Result<(), SpanFault> {
        self.owner.name.clear();
        self.owner.state = OwnerState::Faulty;
        text::name(token, &self.origin, &mut self.owner.name)?;
        self.owner.name.make_ascii_lowercase();
        self.owner.state = OwnerState::Known;
        Ok(())
    }

    fn out_of_zone(&self) -> String {
        let shown =
            |wire: &[u8]| Name::from_wire(wire).map_or_else(String::new, |name| quoted(&name.to_string()));
        format!(
            "the name {} is not in the zone {}: its records are ignored",
            shown(&self.owner.name),
            shown(self.builder.apex())
        )
    }
}

impl Ttls {
    fn inherited(&self) -> Option<u32> {
        self.directive.or(self.latest).or(self.soa_minimum)
    }
}

impl<'t, 's> RecordHeader<'t, 's> {
    /// Reads the optional TTL and class, in either order, and the type. Returns the tokens after
    /// it.
    fn read(first: &'t Token<'s>, tokens: &'t [Token<'s>]) -> Result<(Self, &'t [Token<'s>]), SpanFault> {
        let mut ttl = None;
        let mut class = false;
        let mut before = first;
        let mut rest = tokens;
        while let Some((token, after)) = rest.split_first() {
            if !class && is_class(token)? {
                class = true;
            } else if ttl.is_none() && looks_like_ttl(token) {
                ttl = Some((text::seconds(token, "a TTL", text::MAX_TTL)?, token));
            } else {
                let rtype = rdata::record_type(token)?;
                return Ok((Self { ttl, rtype, type_token: token }, after));
            }
            before = token;
            rest = after;
        }
        Err(SpanFault::at(
            before.span(),
            "the record type is missing: `NAME [TTL] [CLASS] TYPE DATA` is expected",
        ))
    }
}

/// Every TTL begins with a digit, and no type does. An address is not a TTL; if it follows the
/// owner, the type is missing.
fn looks_like_ttl(token: &Token<'_>) -> bool {
    token.text.first().is_some_and(u8::is_ascii_digit)
        && !token.text.iter().any(|byte| matches!(byte, b'.' | b':'))
}

/// Whether the token is the class IN; any other class is a fault.
fn is_class(token: &Token<'_>) -> Result<bool, SpanFault> {
    if token.is(b"IN") || token.is(b"CLASS1") {
        return Ok(true);
    }
    let other = ["CH", "CS", "HS", "NONE"].into_iter().any(|class| token.is(class.as_bytes()))
        || token.text.split_at_checked(5).is_some_and(|(word, number)| {
            word.eq_ignore_ascii_case(b"CLASS") && text::decimal(number, 65_535).is_some()
        });
    if other {
        let message = format!("`{}`: only the class IN is served", text::shown(token));
        return Err(SpanFault::at(token.span(), message));
    }
    Ok(false)
}

fn shown_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// Returns the arguments of a directive if there are as many as it takes.
fn expect<'t, 's, const COUNT: usize>(
    directive: &Token<'_>,
    arguments: &'t [Token<'s>],
    what: &str,
) -> Result<&'t [Token<'s>; COUNT], SpanFault> {
    arguments.try_into().map_err(|_| {
        let at = arguments.get(COUNT).unwrap_or(directive).span();
        SpanFault::at(
            at,
            format!("{} takes exactly one argument, {what}", text::shown(directive).to_ascii_uppercase()),
        )
    })
}

/// The mnemonic of a record type, if it has one.
#[must_use]
pub fn type_name(number: u16) -> Option<&'static str> {
    types::by_number(number).map(|known| known.name)
}

#[cfg(test)]
mod tests;
