//! Alerts: tells receivers what is wrong now, and when it is over.
//!
//! ```text
//! the table, the fleet, reloads --watch--> present conditions --+--> ledger of a receiver -> body -> send
//!   woken by events                                             +--> ledger of another ..
//! ```
//!
//! Conditions are states, not events: a flood of events costs one look per second, and a receiver that was dead gets one
//! message with what is true then. All of this runs on a thread of its own, and only while `[[alerts]]` has an entry.
//! Nothing here decides about health or answers.

pub mod body;
pub mod ledger;
mod link;
mod receiver;
pub mod send;
pub mod settings;
pub mod template;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use std::{io, thread};

use tokio::sync::watch as cell;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::error;

use crate::checker::CheckerHandle;
use crate::events::Events;
use crate::fleet::ServerFaults;
use crate::metrics::Metrics;

pub use link::AdminLink;

use body::{AlertSender, Heading, bodies, test_message};
use receiver::{Receiver, key_of};
use send::{NotDelivered, send};
use settings::AlertSettings;
use watch::Present;

/// The most threads that look up names of receivers. A resolver that hangs holds one.
const BLOCKING_THREADS: usize = 16;

/// All entries of `[[alerts]]`.
pub type AllAlerts = Vec<Arc<AlertSettings>>;

/// Where alerts find what they tell.
#[derive(Clone, Debug)]
pub struct AlertSources {
    /// The table, and the commands to the fleet.
    pub checker: CheckerHandle,
    /// They wake the look at the table.
    pub events: Events,
    /// Counts messages.
    pub metrics: Arc<Metrics>,
    /// The admin server, for messages.
    pub admin: AdminLink,
}

/// The running alerts. They end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct AlertsHandle(Arc<AlertsShared>);

#[derive(Debug)]
struct AlertsShared {
    sources: AlertSources,
    /// Faults of this server itself.
    faults: cell::Sender<ServerFaults>,
    /// The settings of the running thread; none if no alert is configured.
    running: Mutex<Option<cell::Sender<AllAlerts>>>,
}

impl AlertsHandle {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(sources: AlertSources) -> Self {
        let faults = cell::Sender::new(ServerFaults::default());
        Self(Arc::new(AlertsShared { sources, faults, running: Mutex::new(None) }))
    }

    /// Links in messages lead to an admin server that speaks TLS, or to one that does not.
    pub fn link_by_tls(&self, tls: bool) {
        self.0.sources.admin.set_tls(tls);
    }

    /// Applies these alerts. Starts the thread with the first alert, and ends it with the last.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn change(&self, alerts: AllAlerts) -> io::Result<()> {
        let names: Vec<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
        self.0.sources.metrics.alerts.keep_only(&names);
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        match &*running {
            _ if alerts.is_empty() => *running = None,
            Some(sender) => drop(sender.send_replace(alerts)),
            None => {
                let (sender, settings) = cell::channel(alerts);
                start(self.0.sources.clone(), settings, self.0.faults.subscribe())?;
                *running = Some(sender);
            }
        }
        Ok(())
    }

    /// Records the result of a reload: why it was refused, or that it was not.
    pub fn reloaded(&self, refused: Option<String>) {
        self.0.faults.send_modify(|faults| faults.refused_reload = refused.map(Arc::from));
    }

    /// Records why the audit cannot be written, or that it can.
    pub fn audit_failing(&self, reason: Option<&str>) {
        self.0.faults.send_modify(|faults| faults.audit = reason.map(Arc::from));
    }
}

fn start(
    sources: AlertSources,
    settings: cell::Receiver<AllAlerts>,
    faults: cell::Receiver<ServerFaults>,
) -> io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    let run = move || {
        runtime.block_on(run(sources, settings, faults));
        // A look-up of a name may hang.
        runtime.shutdown_background();
    };
    thread::Builder::new().name("alerts".into()).spawn(run).map(drop)
}

/// Runs until the last alert is removed, the handle is dropped, or the checker has ended.
async fn run(
    sources: AlertSources,
    mut settings: cell::Receiver<AllAlerts>,
    faults: cell::Receiver<ServerFaults>,
) {
    let present: cell::Sender<Present> = cell::Sender::new(None);
    let sender = Arc::new(AlertSender::of_this_server(sources.admin.clone()));
    let origin = Instant::now();
    let mut receivers: BTreeMap<String, cell::Sender<Arc<AlertSettings>>> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let watching = watch::watch(&sources, faults, &present);
    tokio::pin!(watching);
    loop {
        let wanted = settings.borrow_and_update().clone();
        receivers.retain(|name, _| wanted.iter().any(|alert| alert.name == *name));
        for alert in wanted {
            match receivers.get(&alert.name) {
                Some(known) => drop(known.send_if_modified(|known| {
                    let is_other = *known != alert;
                    *known = Arc::clone(&alert);
                    is_other
                })),
                None => {
                    let name = alert.name.clone();
                    let (own, settings) = cell::channel(alert);
                    let receiver = Receiver {
                        settings,
                        present: present.subscribe(),
                        sender: Arc::clone(&sender),
                        series: sources.metrics.alerts.series(&name),
                        events: sources.events.clone(),
                        origin,
                    };
                    receivers.insert(name, own);
                    tasks.spawn(receiver.run());
                }
            }
        }
        tokio::select! {
            changed = settings.changed() => if changed.is_err() { return },
            () = &mut watching => return,
            Some(Err(broken)) = tasks.join_next() => {
                error!(%broken, "a task of an alert panicked; this is a bug in steerd, please report it");
            }
        }
    }
}

impl AlertSender {
    /// This machine, as its kernel calls it.
    #[must_use]
    pub fn of_this_server(admin: AdminLink) -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        Self { server: if name.is_empty() { "steerd".into() } else { name.into() }, admin }
    }
}

/// Sends a test through an alert. Returns what the receiver said, and how long it took.
pub async fn test(alert: &AlertSettings, sender: &AlertSender) -> (Result<String, NotDelivered>, Duration) {
    let began = Instant::now();
    let heading = Heading { alert: &alert.name, sender, now: Duration::ZERO, wall: SystemTime::now() };
    let message = test_message(&alert.name, Duration::ZERO);
    let bodies = bodies(&alert.template, &message, &heading, key_of(alert));
    let outcome = send(alert, bodies).await;
    (outcome, began.elapsed())
}
