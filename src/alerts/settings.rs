//! The plain specification of an alert: `config` makes it, the rest of this room follows it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::alerts::template::OwnTemplate;
use crate::events::EventKind;
use crate::fleet::{CONDITIONS, Condition};

/// One entry of `[[alerts]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// Its name, for metrics, log lines and `steerd alerts test`.
    pub name: String,
    /// The receiver.
    pub destination: Destination,
    /// The form of a message.
    pub template: AlertTemplate,
    /// The conditions to send.
    pub wanted: Wanted,
    /// When to send.
    pub timing: AlertTiming,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTiming {
    /// Nothing is sent for a condition that ends within this time.
    pub delay: Duration,
    /// How long a message waits for more news.
    pub group: Duration,
    /// How often a condition that lasts is sent again; none for never.
    pub repeat: Option<Duration>,
    /// Whether the end of a condition is sent.
    pub resolve: bool,
}

impl Default for AlertTiming {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(30),
            group: Duration::from_secs(5),
            repeat: Some(Duration::from_secs(4 * 3600)),
            resolve: true,
        }
    }
}

/// The receiver of the messages of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A POST request to a URL.
    Web(Webhook),
    /// A program that gets the message on its standard input.
    Program {
        /// Its absolute path.
        path: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
        /// When it is killed.
        timeout: Duration,
    },
}

/// A request to a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The URL. It often contains a secret.
    pub url: Secret,
    /// The content of `token_file`: a bearer token, the value of `token_header`, or the integration key of PagerDuty.
    pub token: Option<Secret>,
    /// The header that has the token; none for `Authorization: Bearer`.
    pub token_header: Option<String>,
    /// A PEM file of authorities that replace those of the system.
    pub ca_file: Option<PathBuf>,
    /// The time limit of a request.
    pub timeout: Duration,
}

/// The form of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertTemplate {
    /// All fields as JSON.
    Json,
    /// A message of Slack and compatible chats.
    Slack,
    /// Alerts for the API v2 of Alertmanager.
    Alertmanager,
    /// An event of the PagerDuty Events API v2.
    PagerDuty,
    /// A file of the operator.
    Own(OwnTemplate),
}

/// The conditions that an alert sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Their kinds.
    pub kinds: BTreeSet<EventKind>,
    /// The pools and services; none for all. Conditions of the server itself are always wanted.
    pub names: Option<WantedNames>,
}

/// The pools and services whose conditions are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedNames {
    /// Names of pools.
    pub pools: BTreeSet<String>,
    /// Names of services, in the form without the last dot.
    pub services: BTreeSet<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { kinds: CONDITIONS.into(), names: None }
    }
}

impl Wanted {
    /// Whether a condition is sent.
    #[must_use]
    pub fn wants(&self, condition: &Condition) -> bool {
        let key = &condition.key;
        let is_named = |names: &WantedNames| match key.kind {
            _ if key.name.is_empty() => true,
            EventKind::Service | EventKind::Tier => names.services.contains(&*key.name),
            _ => names.pools.contains(&*key.name),
        };
        self.kinds.contains(&key.kind) && self.names.as_ref().is_none_or(is_named)
    }
}

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// A secret with this text.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text, to be sent and not to be shown.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
