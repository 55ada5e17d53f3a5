//! `[admin.tokens]`: the tokens of the admin server, and what each allows.
//!
//! Which request needs which right is decided in `admin`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::admin_tls::AdminTls;
use crate::config::document::unique;
use crate::config::names;
use crate::config::source::At;
use crate::config::token::BearerToken;
use crate::config::value::{NamedValue, TomlTable, TomlValue};

/// The name of the token of `token_file`.
pub(super) const TOKEN_FILE: &str = "token_file";

/// Maximum number of tokens: each request with a token is compared with all of them.
pub(super) const MOST_TOKENS: usize = 32;

/// Something that a client may do with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminRight {
    /// Read the state, the metrics, the configuration and the audit.
    Read,
    /// Change what operators say: overrides, weights, failovers, and samples of queries.
    Override,
    /// Load the configuration again, or an earlier one.
    Reload,
    /// Let another process take over.
    Upgrade,
}

impl AdminRight {
    /// All rights.
    pub const ALL: [Self; 4] = [Self::Read, Self::Override, Self::Reload, Self::Upgrade];

    /// The name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Override => "override",
            Self::Reload => "reload",
            Self::Upgrade => "upgrade",
        }
    }
}

/// A token of the admin server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    /// Its name in the audit and in messages: that of `[admin.tokens.NAME]`, or `token_file`.
    pub name: Arc<str>,
    /// Its text.
    pub secret: BearerToken,
    /// Its rights, in the order of [`AdminRight::ALL`].
    pub rights: Vec<AdminRight>,
}

impl AdminToken {
    /// The token of `token_file`, which has all rights.
    #[must_use]
    pub fn of_token_file(secret: BearerToken) -> Self {
        Self { name: TOKEN_FILE.into(), secret, rights: AdminRight::ALL.to_vec() }
    }

    /// The rights in words: `read, override`.
    #[must_use]
    pub fn rights_in_words(&self) -> String {
        self.rights.iter().map(|right| right.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Access rights of the admin server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The tokens. With any, every request that changes something needs one.
    pub tokens: Vec<AdminToken>,
    /// Whether reading needs no token on addresses other than loopback. On loopback it never needs one.
    pub public_reads: bool,
    /// The certificate with which it speaks TLS over TCP; without one, it speaks plain HTTP.
    pub tls: Option<AdminTls>,
}

impl Access {
    /// The token that a client has sent. It is compared with all, so that the time does not tell which are close.
    #[must_use]
    pub fn token_shown_by(&self, client: &[u8]) -> Option<&AdminToken> {
        self.tokens
            .iter()
            .fold(None, |found, token| token.secret.is_shown_by(client).then_some(token).or(found))
    }

    /// The token with this name.
    #[must_use]
    pub fn token_named(&self, name: &str) -> Option<&AdminToken> {
        self.tokens.iter().find(|token| &*token.name == name)
    }
}

/// Reads `token_file` and `[admin.tokens]`; either may be missing.
pub(super) fn tokens(admin: &mut TomlTable<'_>) -> Vec<AdminToken> {
    let mut tokens = Vec::new();
    let mut places = Vec::new();
    if let Some(read) = admin.read(TOKEN_FILE, secret) {
        tokens.push(AdminToken::of_token_file(read.value));
        places.push(read.at);
    }
    let Some(section) = admin.get("tokens") else { return tokens };
    for entry in section.value.entries() {
        let Some(token) = named_token(entry) else { continue };
        let mut others = tokens.iter().zip(&places);
        if let Some((other, first)) =
            others.find(|(other, _): &(&AdminToken, _)| other.secret == token.secret)
        {
            let message =
                format!("`{}` has the same token as `{}`; each needs its own", token.name, other.name);
            entry.at.error_beside(message, *first, "here");
            continue;
        }
        tokens.push(token);
        places.push(entry.at);
    }
    if tokens.len() > MOST_TOKENS {
        section.at.error(format!("there are {} tokens; at most {MOST_TOKENS} are allowed", tokens.len()));
    }
    tokens
}

fn named_token(entry: NamedValue<'_>) -> Option<AdminToken> {
    let NamedValue { name, at, value } = entry;
    let mut table = value.table_such_as(at, Some(format!("write [admin.tokens.{name}]")))?;
    let is_named = names::check(at, name, "a token", names::is_in_pool_name);
    if name == TOKEN_FILE {
        at.error("`token_file` is the name of the token of `token_file` itself; choose another one");
    }
    let secret = table.require("file", "this token", secret);
    let rights = table.require("rights", "this token", rights);
    table.close();
    let (secret, rights) = (secret?.value, rights?.value);
    is_named.then(|| AdminToken { name: name.into(), secret, rights })
}

fn rights(value: TomlValue<'_>) -> Option<Vec<AdminRight>> {
    let words = AdminRight::ALL.map(|right| (right.as_str(), right));
    let mut known: HashMap<&str, At<'_>> = HashMap::new();
    let mut rights = Vec::new();
    for element in value.list("a list of rights, such as [\"read\", \"override\"]")? {
        let right = element.word(&words, None)?;
        if unique(&mut known, right.as_str(), element.at, || format!("the right `{}`", right.as_str())) {
            rights.push(right);
        }
    }
    rights.sort_unstable();
    Some(rights)
}

/// Reads a file that contains only a token.
fn secret(value: TomlValue<'_>) -> Option<BearerToken> {
    let (path, text) = value.secret_file()?;
    BearerToken::parse(&text).map_err(|reason| value.refuse_file(&path, reason)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_shows_one_of_the_tokens() {
        let named = |name: &str, text: &str| AdminToken {
            name: name.into(),
            secret: BearerToken::parse(text).unwrap(),
            rights: vec![AdminRight::Read],
        };
        let tokens = vec![
            named("a", "0123456789abcdef"),
            named("b", "fedcba9876543210"),
            named("c", "0123456789ABCDEF"),
        ];
        let access = Access { tokens, ..Access::default() };
        let shown = |text: &str| access.token_shown_by(text.as_bytes()).map(|token| &*token.name);
        assert_eq!(shown("0123456789abcdef"), Some("a"));
        assert_eq!(shown("fedcba9876543210"), Some("b"));
        assert_eq!(shown("0123456789ABCDEF"), Some("c"));
        assert_eq!((shown(""), shown("0123456789abcdeF"), shown("a")), (None, None, None));
    }
}
