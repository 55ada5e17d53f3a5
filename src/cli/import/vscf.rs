//! The configuration language of gdnsd: texts, lists and hashes, each with its place in the file.
//!
//! ```text
//! key => value, key = "quoted value"   # commas are optional
//! list => [ a, b ]   hash => { a => b }   ; both kinds of comments
//! ```

use std::collections::HashMap;
use std::fmt;

/// The deepest nesting of lists and hashes; gdnsd's own configurations have about six levels.
const MAX_DEPTH: usize = 64;

/// A place in the file, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextPlace {
    pub(super) line: usize,
    /// In characters.
    pub(super) column: usize,
}

impl fmt::Display for TextPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a text is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VscfFault {
    pub(super) place: TextPlace,
    pub(super) message: String,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vscf {
    pub(super) place: TextPlace,
    pub(super) data: VscfData,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VscfData {
    Text(String),
    List(Vec<Vscf>),
    Hash(VscfHash),
}

/// The members of a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VscfHash {
    /// In the order of the file; keys are unique.
    pub(super) members: Vec<(String, Vscf)>,
    /// The place of each key among them: a hash of resources may have many thousands.
    places: HashMap<String, usize>,
}

impl Vscf {
    /// Reads a whole file: a hash without its braces.
    ///
    /// # Errors
    /// The first fault.
    pub(super) fn parse(text: &str) -> Result<Self, VscfFault> {
        let mut reader = VscfReader { text, at: 0, place: TextPlace { line: 1, column: 1 } };
        let place = reader.place;
        let members = reader.members(None, 0)?;
        Ok(Self { place, data: VscfData::Hash(members) })
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let VscfData::Text(text) = &self.data { Some(text) } else { None }
    }

    /// The members of a hash; none for other values.
    pub(super) fn hash(&self) -> &[(String, Self)] {
        if let VscfData::Hash(hash) = &self.data { &hash.members } else { &[] }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let VscfData::Hash(hash) = &self.data else { return None };
        hash.places.get(key).and_then(|place| hash.members.get(*place)).map(|(_, value)| value)
    }

    /// The members of a list; a single value counts as a list of one, as it does for gdnsd.
    pub(super) fn list(&self) -> &[Self] {
        if let VscfData::List(members) = &self.data { members } else { std::slice::from_ref(self) }
    }
}

struct VscfReader<'t> {
    text: &'t str,
    at: usize,
    place: TextPlace,
}

impl VscfReader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        if char == '\n' {
            self.place = TextPlace { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        Some(char)
    }

    /// Skips white space, commas and comments.
    fn skip(&mut self) {
        while let Some(char) = self.peek() {
            if matches!(char, '#' | ';') {
                while self.peek().is_some_and(|char| char != '\n') {
                    self.next();
                }
            } else if char.is_whitespace() || char == ',' {
                self.next();
            } else {
                return;
            }
        }
    }

    fn fault<T>(&self, message: impl Into<String>) -> Result<T, VscfFault> {
        Err(VscfFault { place: self.place, message: message.into() })
    }

    /// The members of a hash up to its end: a brace, or for the whole file the end of the text.
    fn members(&mut self, end: Option<char>, depth: usize) -> Result<VscfHash, VscfFault> {
        let mut hash = VscfHash::default();
        loop {
            self.skip();
            match (self.peek(), end) {
                (None, None) => return Ok(hash),
                (None, Some(end)) => return self.fault(format!("the file ends here, `{end}` is expected")),
                (Some(char), Some(end)) if char == end => {
                    self.next();
                    return Ok(hash);
                }
                _ => {}
            }
            let place = self.place;
            let key = self.simple()?;
            if hash.places.insert(key.clone(), hash.members.len()).is_some() {
                return Err(VscfFault { place, message: format!("`{key}` is in this hash already") });
            }
            self.skip();
            if self.next() != Some('=') {
                return Err(VscfFault {
                    place,
                    message: format!("`=>` and a value are expected after `{key}`"),
                });
            }
            if self.peek() == Some('>') {
                self.next();
            }
            self.skip();
            hash.members.push((key, self.value(depth)?));
        }
    }

    fn value(&mut self, depth: usize) -> Result<Vscf, VscfFault> {
        let place = self.place;
        if depth == MAX_DEPTH {
            return self.fault(format!("lists and hashes are nested more than {MAX_DEPTH} deep"));
        }
        let data = match self.peek() {
            Some('{') => {
                self.next();
                VscfData::Hash(self.members(Some('}'), depth + 1)?)
            }
            Some('[') => {
                self.next();
                let mut members = Vec::new();
                loop {
                    self.skip();
                    match self.peek() {
                        Some(']') => break,
                        None => return self.fault("the file ends here, `]` is expected"),
                        Some(_) => members.push(self.value(depth + 1)?),
                    }
                }
                self.next();
                VscfData::List(members)
            }
            _ => VscfData::Text(self.simple()?),
        };
        Ok(Vscf { place, data })
    }

    /// A text with or without quotes.
    fn simple(&mut self) -> Result<String, VscfFault> {
        if self.rest().starts_with("$include{") {
            return self.fault("`$include` is not read: put the content of that file here");
        }
        let mut text = String::new();
        if self.peek() == Some('"') {
            let begin = self.place;
            self.next();
            loop {
                match self.next() {
                    Some('"') => return Ok(text),
                    Some('\\') => text.push(self.escaped()?),
                    Some(char) => text.push(char),
                    None => {
                        return Err(VscfFault { place: begin, message: "this quote is not closed".into() });
                    }
                }
            }
        }
        while let Some(char) = self.peek() {
            if char.is_whitespace() || "[]{}(),;#\"=".contains(char) {
                break;
            }
            self.next();
            text.push(if char == '\\' { self.escaped()? } else { char });
        }
        match self.peek() {
            _ if !text.is_empty() => Ok(text),
            Some(char) => self.fault(format!("a text is expected, not `{char}`")),
            None => self.fault("the file ends here, a value is expected"),
        }
    }

    /// The character after a backslash: itself, or three decimal digits for its number.
    fn escaped(&mut self) -> Result<char, VscfFault> {
        let digits = self.rest().get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(number) = digits.and_then(|digits| digits.parse::<u8>().ok()) {
            for _ in 0..3 {
                self.next();
            }
            return Ok(char::from(number));
        }
        self.next().map_or_else(|| self.fault("the file ends after a backslash"), Ok)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_forms_of_values_are_read() {
        let read = Vscf::parse(
            "# shell\noptions => { listen = [127.0.0.1, \"::1\" 192.0.2.1], } ; zone\n\"a b\" => c\\032d\nempty => {}\n",
        )
        .unwrap();
        let listen: Vec<_> = read
            .get("options")
            .unwrap()
            .get("listen")
            .unwrap()
            .list()
            .iter()
            .filter_map(Vscf::text)
            .collect();
        assert_eq!(listen, ["127.0.0.1", "::1", "192.0.2.1"]);
        assert_eq!(read.get("a b").unwrap().text(), Some("c d"));
        assert_eq!(read.get("a b").unwrap().list().len(), 1);
        assert_eq!(read.get("a b").unwrap().place, TextPlace { line: 3, column: 10 });
        assert!(read.get("empty").unwrap().hash().is_empty());
    }

    #[test]
    fn faults_name_line_and_column() {
        for (text, told) in [
            ("a => {", "1:7 the file ends here, `}` is expected"),
            ("a => [\n b", "2:3 the file ends here, `]` is expected"),
            ("a b", "1:1 `=>` and a value are expected after `a`"),
            ("a => \"b\n", "1:6 this quote is not closed"),
            ("a => b\na => c", "2:1 `a` is in this hash already"),
            ("a => ]", "1:6 a text is expected, not `]`"),
            ("a =>", "1:5 the file ends here, a value is expected"),
            ("a => $include{b}", "1:6 `$include` is not read: put the content of that file here"),
            ("ä => b\\", "1:8 the file ends after a backslash"),
            (&format!("a => {}", "[".repeat(100)), "1:70 lists and hashes are nested more than 64 deep"),
        ] {
            let fault = Vscf::parse(text).unwrap_err();
            assert_eq!(format!("{} {}", fault.place, fault.message), told, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[ab{}\\[\\]=>,#;\"\\\\\n $é0-9]{0,80}") {
            let _ = Vscf::parse(&text);
        }

        #[test]
        fn no_character_is_too_odd(text in any::<String>()) {
            let _ = Vscf::parse(&text);
        }
    }
}
