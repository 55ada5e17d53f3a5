//! `[admin]`: where the admin server listens, and who may use it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ring::hmac;

use crate::config::document::{Document, Sections};
use crate::config::server::{Listen, socket_address};
use crate::config::source::{Findings, Source};
use crate::config::value::{Entry, Located, Value};

/// A shorter token could be guessed.
const SHORTEST_TOKEN: usize = 16;
/// A longer one would not fit beside the other headers that a client may send.
const LONGEST_TOKEN: usize = 1024;

/// `[admin]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address and port; without, there is no admin server.
    pub listen: Option<SocketAddr>,
    /// Who may use it.
    pub access: Access,
}

/// Who may use the admin server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Shown with every request that changes something.
    pub token: Option<Token>,
    /// Whether reading needs no token on an address that is not loopback. On loopback it never does.
    pub public_reads: bool,
}

/// A bearer token (RFC 6750). Its debug form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// Takes the text of a token file.
    ///
    /// # Errors
    /// Why it is no token: half a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        // The characters of RFC 6750, section 2.1: what a header can hold, and a shell leaves alone.
        let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        match token.len() {
            0 => Err("it is empty".into()),
            length if length < SHORTEST_TOKEN => Err(format!(
                "the token has {length} characters; {SHORTEST_TOKEN} are the least, as from `openssl rand -hex 32`"
            )),
            length if length > LONGEST_TOKEN => {
                Err(format!("the token has {length} characters; {LONGEST_TOKEN} are the most"))
            }
            _ if !token.bytes().all(is_sound) => {
                Err("it must hold one token of letters, digits and -._~+/= alone".into())
            }
            _ => Ok(Self(token.into())),
        }
    }

    /// Whether this is what a client shows. The time it takes says nothing about the token: both
    /// are hashed under a key that is used once, and ring compares the hashes in constant time.
    #[must_use]
    pub fn is_shown_by(&self, client: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let own = hmac::sign(&key, self.0.as_bytes());
        hmac::verify(&key, client, own.as_ref()).is_ok()
    }

    /// The token itself, for a client to show.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Reads `[admin]`, which may be missing.
pub(super) fn read(entry: Option<Entry<'_>>, dns: &Listen<'_>) -> AdminSettings {
    let mut settings = AdminSettings::default();
    let Some(mut table) = entry.and_then(|entry| entry.value.table(entry.at)) else { return settings };
    let listen = table.read("listen", socket_address);
    let has_token_file = table.get("token_file").is_some();
    settings.access.token = table.read("token_file", token).map(|read| read.value);
    settings.access.public_reads = table.read("public_reads", Value::boolean).is_some_and(|read| read.value);
    table.close();
    let Some(Located { value: address, at, .. }) = listen else { return settings };
    if !address.ip().is_loopback() && !has_token_file {
        at.error_with_hint(
            format!("{address} can be reached from other machines, so `token_file` is needed beside it"),
            "write a token to a file, as with `openssl rand -hex 32`, and name the file; or use a loopback \
             address such as \"127.0.0.1:8053\""
                .to_owned(),
        );
    }
    if let Some(same) = dns.iter().find(|other| other.value == address && address.port() != 0) {
        at.error_beside(format!("{address} is the DNS server's already"), same.at, "here");
    }
    settings.listen = Some(address);
    settings
}

/// A file that holds a token, and nothing else.
fn token(value: Value<'_>) -> Option<Token> {
    let path = value.path()?;
    let refuse = |reason: String| value.at.error(format!("`token_file` {}: {reason}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| refuse(error.to_string())).ok()?;
    Token::parse(&text).map_err(refuse).ok()
}

/// What a client of the admin server takes from a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminPlace {
    /// `listen`.
    pub listen: Option<SocketAddr>,
    /// `token_file`, not read yet.
    pub token_file: Option<PathBuf>,
}

impl AdminPlace {
    /// Looks it up, past every fault that the configuration has: to show those is what the running
    /// server may be about to be asked for.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let findings = Findings::default();
        let bytes = std::fs::read(path)?;
        let Ok(source) = Source::from_bytes(path, bytes) else { return Ok(Self::default()) };
        let main = Document::parse(&source, &findings);
        let included = main.included(&findings);
        let included: Vec<_> = included.iter().map(|source| Document::parse(source, &findings)).collect();
        let admin = Sections::collect(&main, &included, &findings).admin;
        let Some(mut table) = admin.and_then(|entry| entry.value.table(entry.at)) else {
            return Ok(Self::default());
        };
        Ok(Self {
            listen: table.read("listen", socket_address).map(|read| read.value),
            token_file: table.read("token_file", Value::path).map(|read| read.value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_all_of_it() {
        let text = "0123456789abcdef-._~+/=";
        let token = Token::parse(&format!("{text}\n")).unwrap();
        assert!(token.is_shown_by(text.as_bytes()));
        for cut in 0..text.len() {
            assert!(!token.is_shown_by(&text.as_bytes()[..cut]), "{cut}");
            let mut other = text.as_bytes().to_vec();
            other[cut] ^= 1;
            assert!(!token.is_shown_by(&other), "{cut}");
        }
        assert!(!token.is_shown_by(format!("{text}a").as_bytes()));
        assert!(!format!("{token:?}").contains('0'), "{token:?}");
    }

    #[test]
    fn what_is_no_token_is_said() {
        for (text, expected) in [
            (" \n", "it is empty"),
            ("0123456789abcde", "15 characters; 16 are the least"),
            (&"a".repeat(1025), "1025 characters; 1024 are the most"),
            ("0123456789abcdef 0123456789abcdef", "one token"),
            ("0123456789abcdeé", "one token"),
        ] {
            let refused = Token::parse(text).unwrap_err();
            assert!(refused.contains(expected), "{text:?}: {refused}");
        }
    }

    #[test]
    fn the_place_of_the_server_is_found_in_a_configuration_full_of_faults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("steerd.toml");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            AdminPlace::of(&path).unwrap()
        };
        let place =
            of("[admin]\nlisten = \"127.0.0.1:9\"\ntoken_file = \"t\"\nodd = 1\n[server]\nworkers = 'x'\n");
        assert_eq!(place.listen, Some("127.0.0.1:9".parse().unwrap()));
        assert_eq!(place.token_file, Some(directory.path().join("t")));
        assert_eq!(of("[admin]\nlisten = \"127.0.0.1:9\"\n[pools\n").listen, place.listen);
        std::fs::write(directory.path().join("a.toml"), "[admin]\nlisten = \"127.0.0.1:9\"\n").unwrap();
        assert_eq!(of("include = [\"a.toml\"]\n").listen, place.listen);
        for nothing in ["", "[admin]\nlisten = 5\n", "admin = 5"] {
            assert_eq!(of(nothing), AdminPlace::default(), "{nothing}");
        }
        assert!(AdminPlace::of(&directory.path().join("none")).is_err());
    }
}
