//! Splits a master file into entries of tokens (RFC 1035, section 5.1). It handles comments, quotes
//! and parentheses, but does not interpret tokens.
//!
//! Nothing is copied: a token is a slice of the file, escapes included.
//!
//! ```text
//! line start --blank--> indented      inherits the owner of the entry before
//!     |
//!     +--token or "("--> in an entry --line end, no "(" open--> entry complete
//!                           |  ^
//!                          "(" | ")"   line ends count as blanks
//!                           v  |
//!                       in parentheses --end of file--> fault, at the outermost "("
//! ```

use super::fault::{Span, SpanFault};

/// How a token was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Without quotes.
    Word,
    /// In quotes; the text excludes them.
    Quoted,
    /// A word that contains a quoted part: `alpn="h2,h3"`.
    Mixed,
}

/// A word or a quoted string of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'s> {
    /// The text, escapes unresolved.
    pub(super) text: &'s [u8],
    /// The start of the token, its quote included.
    start: u32,
    pub(super) form: Form,
}

impl Token<'_> {
    /// The span in the file, quotes included.
    pub(super) fn span(&self) -> Span {
        let quotes = if self.form == Form::Quoted { 2 } else { 0 };
        Span { start: self.start as usize, length: self.text.len() + quotes }
    }

    /// A word with this text and the same place.
    pub(super) fn holding<'t>(&self, text: &'t [u8]) -> Token<'t> {
        Token { text, start: self.start, form: Form::Word }
    }

    /// Whether this is the given word, in any case, without quotes.
    pub(super) fn is(&self, word: &[u8]) -> bool {
        self.form == Form::Word && self.text.eq_ignore_ascii_case(word)
    }
}

/// The tokens of one line, or of several lines joined by parentheses: a record or a directive.
#[derive(Debug, Default)]
pub(super) struct Entry<'s> {
    /// The first line, from 1.
    pub(super) line: u32,
    /// Whether it begins with a blank, so that it inherits the owner of the previous record.
    pub(super) indented: bool,
    /// At least one.
    pub(super) tokens: Vec<Token<'s>>,
}

/// Reads entries one by one. The source is smaller than 4 GiB.
#[derive(Debug)]
pub(super) struct Lexer<'s> {
    source: &'s [u8],
    at: usize,
    line: u32,
}

/// Bytes that end a run of plain bytes in a word.
static SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let bytes = b" \t\r\n;()\"\\";
    let mut at = 0;
    while at < bytes.len() {
        special[bytes[at] as usize] = true;
        at += 1;
    }
    special
};

impl<'s> Lexer<'s> {
    pub(super) fn new(source: &'s [u8]) -> Self {
        Self { source, at: 0, line: 1 }
    }

    /// Reads the next entry; returns false at the end of the file. After a fault, reading continues
    /// with the next line.
    pub(super) fn next_entry(&mut self, entry: &mut Entry<'s>) -> Result<bool, SpanFault> {
        entry.tokens.clear();
        let mut depth = 0u32;
        let mut outermost = Span::default();
        let mut begun = false;
        // A line begins here at the first call and after each entry.
        let mut line_start = self.at;
        while let Some(&byte) = self.source.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' => {
                    self.at += 1;
                    continue;
                }
                b'\n' => {
                    self.at += 1;
                    self.line = self.line.saturating_add(1);
                    if depth == 0 {
                        if !entry.tokens.is_empty() {
                            return Ok(true);
                        }
                        begun = false;
                        line_start = self.at;
                    }
                    continue;
                }
                b';' => {
                    self.skip_line();
                    continue;
                }
                _ => {}
            }
            if !begun {
                begun = true;
                entry.line = self.line;
                entry.indented = self.at != line_start;
            }
            match byte {
                b'(' => {
                    if depth == 0 {
                        outermost = Span { start: self.at, length: 1 };
                    }
                    depth += 1;
                    self.at += 1;
                }
                b')' => {
                    let Some(less) = depth.checked_sub(1) else {
                        let at = Span { start: self.at, length: 1 };
                        return Err(self.recover(at, "this `)` closes nothing: no `(` is open"));
                    };
                    depth = less;
                    self.at += 1;
                }
                b'"' => entry.tokens.push(self.quoted()?),
                _ => entry.tokens.push(self.word()?),
            }
        }
        if depth > 0 {
            return Err(SpanFault::at(outermost, "this `(` is never closed: a `)` is expected after it"));
        }
        Ok(!entry.tokens.is_empty())
    }

    fn word(&mut self) -> Result<Token<'s>, SpanFault> {
        let start = self.at;
        let mut form = Form::Word;
        loop {
            let rest = self.source.get(self.at..).unwrap_or(&[]);
            self.at += rest.iter().position(|&byte| SPECIAL[usize::from(byte)]).unwrap_or(rest.len());
            match self.source.get(self.at) {
                Some(b'\\') => self.skip_escape(),
                Some(b'"') => {
                    form = Form::Mixed;
                    self.quoted()?;
                }
                _ => break,
            }
        }
        Ok(self.token(start, self.at, start, form))
    }

    fn quoted(&mut self) -> Result<Token<'s>, SpanFault> {
        let (open, line) = (self.at, self.line);
        self.at += 1;
        loop {
            match self.source.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.skip_escape(),
                None => {
                    // Reading continues with the next line.
                    let rest = self.source.get(open..).unwrap_or(&[]);
                    let length = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
                    self.at = open;
                    self.line = line;
                    let at = Span { start: open, length };
                    return Err(self.recover(at, "this quoted text is never closed: `\"` is missing"));
                }
                Some(byte) => {
                    self.line = self.line.saturating_add(u32::from(*byte == b'\n'));
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Ok(self.token(open + 1, self.at - 1, open, Form::Quoted))
    }

    fn token(&self, from: usize, to: usize, start: usize, form: Form) -> Token<'s> {
        let text = self.source.get(from..to).unwrap_or(&[]);
        Token { text, start: u32::try_from(start).unwrap_or(u32::MAX), form }
    }

    /// A backslash escapes the next byte, except a line end, so that every line is counted.
    fn skip_escape(&mut self) {
        self.at += match self.source.get(self.at + 1) {
            None | Some(b'\n' | b'\r') => 1,
            Some(_) => 2,
        };
    }

    fn skip_line(&mut self) {
        let rest = self.source.get(self.at..).unwrap_or(&[]);
        self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }

    fn recover(&mut self, at: Span, message: &str) -> SpanFault {
        self.skip_line();
        if self.at < self.source.len() {
            self.at += 1;
            self.line = self.line.saturating_add(1);
        }
        SpanFault::at(at, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexed(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut entry = Entry::default();
        let mut told = Vec::new();
        loop {
            match lexer.next_entry(&mut entry) {
                Ok(false) => return told,
                Ok(true) => {
                    let tokens: Vec<_> = entry
                        .tokens
                        .iter()
                        .map(|token| {
                            let text = String::from_utf8_lossy(token.text);
                            if token.form == Form::Quoted { format!("<{text}>") } else { text.into_owned() }
                        })
                        .collect();
                    let blank = if entry.indented { "_ " } else { "" };
                    told.push(format!("{}:{blank}{}", entry.line, tokens.join(" ")));
                }
                Err(problem) => told.push(format!("!{}+{}", problem.at.start, problem.at.length)),
            }
        }
    }

    #[test]
    fn entries() {
        for (text, expected) in [
            ("", &[][..]),
            ("\n\n ; comment\n", &[]),
            ("a b", &["1:a b"]),
            ("a b\r\n\tc ; d\r\n", &["1:a b", "2:_ c"]),
            ("a ( b\n c ; d )\n) e\nf", &["1:a b c e", "4:f"]),
            ("a ((b)\n c) d\ne", &["1:a b c d", "3:e"]),
            ("(\na b\n)\nc", &["1:a b", "4:c"]),
            ("a \"b ; ( c\" d", &["1:a <b ; ( c> d"]),
            ("a \"b\\\"c\"\"\"", &["1:a <b\\\"c> <>"]),
            ("a\\;b\\ c\\(", &["1:a\\;b\\ c\\("]),
            ("k=\"a b\",c d", &["1:k=\"a b\",c d"]),
            ("a\\\nb", &["1:a\\", "2:b"]),
            ("a ) b\nc", &["!2+1", "2:c"]),
            ("a \"b\nc", &["!2+2", "2:c"]),
            ("a \"b\n\nc\" d\ne", &["1:a <b\n\nc> d", "4:e"]),
            ("a k=\"b\nc\"d\ne", &["1:a k=\"b\nc\"d", "3:e"]),
            ("a \"b\\\nc\"\nd", &["1:a <b\\\nc>", "3:d"]),
            ("a\nb ( c\nd", &["1:a", "!4+1"]),
            ("a;b", &["1:a"]),
        ] {
            assert_eq!(lexed(text), expected, "{text:?}");
        }
    }
}
