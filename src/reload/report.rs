//! The outcome of a reload: its report or the reason of its refusal, as data and as text for the log.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use crate::config::SetOrigin;
use crate::config::fault::{ConfigFault, ConfigFaults};
use crate::events::{Teller, tell};
use crate::printable::quoted;
use crate::reload::named::Change;
use crate::state::LockError;

/// Maximum number of changes, and of faults, in the log.
const MOST_TOLD: usize = 100;

/// The report of a reload.
#[derive(Clone, Debug)]
pub struct ReloadReport {
    /// Where the configuration comes from.
    pub origin: SetOrigin,
    /// Its number among the kept sets; none if it is not kept.
    pub number: Option<u64>,
    /// Whether the server ran an earlier configuration before, and not that of the files.
    pub(super) returns: bool,
    /// The generation of the table with the new configuration.
    pub generation: u64,
    /// Duration of the reload.
    pub took: Duration,
    /// Pools, with backends and checks.
    pub pools: Vec<Change>,
    /// Services.
    pub services: Vec<Change>,
    /// Zones, with their transfer rights.
    pub zones: Vec<Change>,
    /// Overrides that have ended because their backends were removed.
    pub overrides: Vec<Change>,
    /// Keys of `[keys]`.
    pub keys: Vec<Change>,
    /// Keys of `[server]`.
    pub server: Vec<Change>,
    /// Keys of `[admin]`.
    pub admin: Vec<Change>,
    /// Keys of `[geo]`.
    pub geo: Vec<Change>,
    /// Entries of `[[alerts]]`.
    pub alerts: Vec<Change>,
    /// Keys such as `server.listen` that have changed in the file, but take effect only after a restart.
    pub restart_needed: Vec<Change>,
    /// Warnings about valid settings that may be mistakes.
    pub warnings: ConfigFaults,
    /// The warnings that the previous configuration did not have. Only these are logged.
    pub(super) new_warnings: Vec<ConfigFault>,
}

/// Why a reload was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReloadRefusal {
    /// The configuration is not valid.
    #[error("the configuration is not valid, so nothing has changed: {} to correct", errors(.0))]
    Faults(ConfigFaults),
    /// The client named a file other than the one that this server uses.
    #[error(
        "this server runs {}, not {}, so nothing has changed; to reload the file that it runs, give that with -c, or \
         leave out -c and give the server with --admin; to run the other file, restart steerd with it",
        quoted(&.running.to_string_lossy()),
        quoted(&.meant.to_string_lossy())
    )]
    OtherFile {
        /// The file that a reload reads.
        running: PathBuf,
        /// The file that the client named.
        meant: PathBuf,
    },
    /// There is no earlier configuration to go back to.
    #[error("nothing has changed: {0}")]
    NoSet(String),
    /// There is no file to load.
    #[error("this server runs without a configuration file, so there is nothing to reload")]
    NoFile,
    /// A thread of the reload panicked.
    #[error(
        "reloading the configuration panicked, so nothing has changed; this is a bug in steerd, please report it with the log"
    )]
    BrokeOff,
    /// The new `state_dir` cannot be used.
    #[error("nothing has changed: {0}")]
    StateDir(#[source] Arc<LockError>),
    /// The client disconnected.
    #[error("the client disconnected before the configuration was loaded, so nothing has changed")]
    Unwanted,
    /// The server is stopping.
    #[error("the server is stopping, so nothing has changed")]
    Ending,
}

fn errors(faults: &ConfigFaults) -> String {
    match faults.errors().count() {
        1 => "1 error".into(),
        count => format!("{count} errors"),
    }
}

impl ReloadReport {
    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sections().iter().all(|(_, changes)| changes.is_empty())
    }

    /// The changes by section, each with the word for one of its items.
    #[must_use]
    pub fn sections(&self) -> [(&'static str, &[Change]); 10] {
        [
            ("pool", &self.pools),
            ("service", &self.services),
            ("zone", &self.zones),
            ("override of", &self.overrides),
            ("key", &self.keys),
            ("[server]", &self.server),
            ("[admin]", &self.admin),
            ("[geo]", &self.geo),
            ("alert", &self.alerts),
            ("upgrade needed for", &self.restart_needed),
        ]
    }

    /// The changes on one line, at most [`MOST_TOLD`].
    pub(super) fn shown(&self) -> String {
        let mut told: Vec<String> =
            self.sections().iter().flat_map(|(of, changes)| lines(of, changes)).collect();
        if let Some(more) = told.len().checked_sub(MOST_TOLD).filter(|&more| more > 0) {
            told.truncate(MOST_TOLD);
            told.push(format!("and {more} more"));
        }
        told.join("; ")
    }

    /// The changes on one line, also if there are none.
    pub(super) fn in_words(&self) -> String {
        if self.is_empty() { "nothing has changed".into() } else { self.shown() }
    }

    /// The changes, with the number of the kept set.
    pub(super) fn with_number(&self) -> String {
        let changes = self.in_words();
        self.number.map_or_else(|| changes.clone(), |number| format!("configuration {number}: {changes}"))
    }

    pub(super) fn tell(&self, asked_by: &str, teller: &Teller) {
        for warning in self.new_warnings.iter().take(MOST_TOLD) {
            warn!("{}: {}", warning.location, warning.message);
        }
        let (generation, took) = (self.generation, self.took);
        if let SetOrigin::Rollback { number, at } = &self.origin {
            let changes = self.in_words();
            tell!(
                teller,
                warn,
                Reload,
                asked_by,
                number,
                generation,
                ?took,
                changes,
                "went back to the configuration of {at}; it is not that of the files, which the next reload, upgrade or restart reads"
            );
        } else {
            self.tell_reload(asked_by, teller);
        }
        for change in &self.restart_needed {
            tell!(
                teller,
                warn,
                Reload,
                key = change.name(),
                "this change needs an upgrade; until then the old value is in force"
            );
        }
    }

    fn tell_reload(&self, asked_by: &str, teller: &Teller) {
        let (generation, took, warnings) = (self.generation, self.took, self.warnings.iter().count());
        let changes = self.shown();
        if changes.is_empty() {
            tell!(
                teller,
                info,
                Reload,
                asked_by,
                generation,
                ?took,
                warnings,
                "reloaded: nothing has changed"
            );
        } else {
            tell!(teller, info, Reload, asked_by, generation, ?took, warnings, changes, "reloaded");
        }
        if self.returns {
            tell!(teller, info, Reload, asked_by, "the configuration of the files is in force again");
        }
    }
}

/// The warnings that are new; line numbers are ignored.
pub(super) fn not_told(warnings: &ConfigFaults, before: &ConfigFaults) -> Vec<ConfigFault> {
    let key = |warning: &ConfigFault| (Arc::clone(&warning.location.file), warning.message.clone());
    let told: HashSet<_> = before.iter().map(key).collect();
    warnings.iter().filter(|warning| !told.contains(&key(warning))).cloned().collect()
}

/// Changes as text, one per line.
pub(super) fn lines(of: &str, changes: &[Change]) -> Vec<String> {
    let line = |change: &Change| match change {
        Change::Added(name) => vec![format!("{of} {name} added")],
        Change::Removed(name) => vec![format!("{of} {name} removed")],
        Change::Changed(name, details) if details.is_empty() => vec![format!("{of} {name} changed")],
        Change::Changed(name, details) => {
            details.iter().map(|detail| format!("{of} {name}: {detail}")).collect()
        }
    };
    changes.iter().flat_map(line).collect()
}

impl ReloadRefusal {
    /// The reason, with the first fault.
    pub(super) fn in_full(&self) -> String {
        let first = match self {
            Self::Faults(faults) => faults.errors().next(),
            _ => None,
        };
        first.map_or_else(
            || self.to_string(),
            |fault| format!("{self}, first {}: {}", fault.location, fault.message),
        )
    }

    pub(super) fn tell(&self, asked_by: &str, teller: &Teller) {
        if let Self::Faults(faults) = self {
            for ConfigFault { location, message, hint, .. } in faults.errors().take(MOST_TOLD) {
                match hint {
                    Some(hint) => error!("{location}: {message}; {hint}"),
                    None => error!("{location}: {message}"),
                }
            }
        }
        tell!(teller, error, Reload, asked_by, "reload refused: {self}");
    }
}
