//! The entries of the audit, and their form in the file and in the API.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest text of an entry, bytes; a longer one is cut.
const MAX_TEXT: usize = 4 << 10;

/// The thing that an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditAction {
    /// The state of a backend.
    Override,
    /// The weight of a backend.
    Weight,
    /// A failover of a service, or its end.
    Failover,
    /// The return of a service to an earlier tier.
    Failback,
    /// The configuration was read again.
    Reload,
    /// An earlier configuration was taken.
    Rollback,
    /// Another process has taken over.
    Upgrade,
    /// The query log was switched for a time, or that has ended early.
    QueryLog,
    /// The same for dnstap.
    Dnstap,
    /// The audit itself: a line that a crash has cut off.
    Audit,
}

impl AuditAction {
    /// All actions.
    pub const ALL: [Self; 10] = [
        Self::Override,
        Self::Weight,
        Self::Failover,
        Self::Failback,
        Self::Reload,
        Self::Rollback,
        Self::Upgrade,
        Self::QueryLog,
        Self::Dnstap,
        Self::Audit,
    ];

    /// The name in the file and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Weight => "weight",
            Self::Failover => "failover",
            Self::Failback => "failback",
            Self::Reload => "reload",
            Self::Rollback => "rollback",
            Self::Upgrade => "upgrade",
            Self::QueryLog => "query-log",
            Self::Dnstap => "dnstap",
            Self::Audit => "audit",
        }
    }
}

/// How a change ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    #[default]
    Done,
    /// It was refused or failed, for this reason.
    Refused(String),
    /// It may have been done: for this reason nobody has learnt the outcome.
    Unknown(String),
}

impl AuditOutcome {
    /// Of a change that was refused if there is a reason.
    #[must_use]
    pub fn refused_if(reason: Option<String>) -> Self {
        reason.map_or(Self::Done, Self::Refused)
    }

    /// The name in the file and in the API.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused(_) => "refused",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Why it was not done, or is unknown.
    fn reason(self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Refused(reason) | Self::Unknown(reason) => Some(reason),
        }
    }
}

/// The author of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// In words, as in the log: `127.0.0.1:40112 with the token ops`, `SIGHUP`, `[server] watch`.
    pub by: String,
    /// The name of the token that the client has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The user of the client, if it is a process of this machine on a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Author {
    /// An author that is not a client: a signal such as `SIGHUP`, or the server itself.
    #[must_use]
    pub fn named(by: &str) -> Self {
        Self { by: by.into(), ..Self::default() }
    }
}

impl From<&str> for Author {
    fn from(by: &str) -> Self {
        Self::named(by)
    }
}

/// An entry to be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// The kind of change.
    pub action: AuditAction,
    /// The changed thing: `web/gw1`, `www.example.com`; empty for the server as a whole.
    pub subject: String,
    /// The author.
    pub author: Author,
    /// The reason that the author gave.
    pub reason: Option<String>,
    /// The state before.
    pub before: Option<String>,
    /// The state after, or the wanted one if it was not done.
    pub after: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
}

impl AuditEntry {
    /// An entry without values, of something that was done.
    #[must_use]
    pub fn of(action: AuditAction, subject: String, author: Author) -> Self {
        let (reason, before, after) = (None, None, None);
        Self { action, subject, author, reason, before, after, outcome: AuditOutcome::Done }
    }
}

/// A noted entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Grows with each entry, also over restarts.
    pub id: u64,
    /// The time of day.
    pub at: Timestamp,
    /// [`AuditAction::as_str`], or that of a later version.
    pub action: String,
    /// See [`AuditEntry::subject`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// See [`AuditEntry::author`].
    #[serde(flatten)]
    pub author: Author,
    /// See [`AuditEntry::reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// See [`AuditEntry::before`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// See [`AuditEntry::after`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// [`AuditOutcome::as_str`].
    pub outcome: Cow<'static, str>,
    /// Why it was not done, or is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl AuditRecord {
    /// An entry that was noted at this time.
    #[must_use]
    pub fn new(id: u64, at: Timestamp, entry: AuditEntry) -> Self {
        let AuditEntry { action, subject, author, reason, before, after, outcome } = entry;
        Self {
            id,
            at,
            action: action.as_str().into(),
            subject: cut(subject),
            author: Author { by: cut(author.by), ..author },
            reason: reason.map(cut),
            before: before.map(cut),
            after: after.map(cut),
            outcome: outcome.as_str().into(),
            why: outcome.reason().map(cut),
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" ..");
    }
    text
}
