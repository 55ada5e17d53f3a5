//! Reload: replaces the running configuration, completely or not at all.
//!
//! ```text
//! request (SIGHUP, API) -> wait for the reloads before it -> load, on a blocking thread
//!     the client named another file -> refuse, with both paths
//!     faults                        -> refuse, with every fault
//!     the client has disconnected   -> cancel the load
//!     valid -> lock a new state_dir
//!           -> compare with the running configuration, on a blocking thread
//!           -> checker: pools, services, zones, settings, keys, transfer rights, in one table
//!           -> notify secondaries -> limits of the listeners -> access to the admin server -> state_dir
//!           -> report the changes, and those that need an upgrade
//! ```
//!
//! Between reloads, this task also follows the files that rules name (`files`), and with `watch` all others (`watching`).
//!
//! Loading, the lock and the checker can fail: a file has a fault, another server uses the directory, the checker has
//! ended. Nothing changes before the checker has accepted the configuration, and afterwards nothing can fail. Applying
//! the configuration is the task of the modules that own its parts.

mod difference;
mod files;
mod named;
mod report;
mod rollback;
mod running;
mod serial;
mod swap;
mod watching;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::{error, info};

use crate::alerts::{AlertsHandle, AllAlerts};
use crate::audit::{AuditAction, AuditEntry, AuditHandle, AuditOutcome, Author};
use crate::checker;
use crate::config::fault::ConfigFaults;
use crate::config::{self, Access, AdminSettings, ServerSettings, SetOrigin, Setup};
use crate::events::{Events, Notice, tell};
use crate::file::{FileRecord, Reading};
use crate::geo::RuleFiles;
use crate::listener::InForce;
use crate::metrics::Metrics;
use crate::notify;
use crate::served::Served;
use crate::settings::Settings;
use crate::state::{LockError, StateDirectory};
use crate::systemd::{self, ServiceState};
use crate::visibility::Visibility;
use crate::zone::Catalog;

use files::WatchedFiles;
use named::Difference;
use report::not_told;
use rollback::SetKeeping;
use swap::{NotReloaded, swap};
use watching::WatchedConfiguration;

pub use named::Change;
pub use report::{ReloadRefusal, ReloadReport};
pub use running::{MAX_SHOWN, RunningSet};

/// Length of the reload queue.
const REQUESTS: usize = 16;
/// Time limit for locking a new `state_dir`. Later reloads wait meanwhile.
const TAKE_TIME: Duration = Duration::from_secs(5);
/// The settings that are compared in addition to zones, services and pools.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Warnings that have been logged.
    warnings: ConfigFaults,
    server: ServerSettings,
    admin: AdminSettings,
    settings: Settings,
    startup_wait: Duration,
    rule_files: RuleFiles,
    alerts: AllAlerts,
    /// The files that were read, until they are kept.
    files: FileRecord,
    origin: SetOrigin,
}

impl Configured {
    /// The compared settings of a setup.
    #[must_use]
    pub fn of(setup: &Setup) -> Self {
        Self {
            warnings: setup.warnings.clone(),
            server: setup.server.clone(),
            admin: setup.admin.clone(),
            settings: setup.served.settings.clone(),
            startup_wait: setup.served.startup_wait,
            rule_files: setup.rule_files.clone(),
            alerts: setup.alerts.clone(),
            files: setup.files.clone(),
            origin: setup.origin.clone(),
        }
    }
}

/// The parts of the server that a reload changes.
#[derive(Debug)]
pub struct Reach {
    /// The owner of the table.
    pub checker: checker::CheckerHandle,
    /// The notifier of the secondaries.
    pub notify: notify::NotifyHandle,
    /// The limits of the listeners.
    pub limits: InForce,
    /// Access rights of the admin server.
    pub access: watch::Sender<Access>,
    /// The locked directory for health and overrides.
    pub state_dir: watch::Sender<Option<StateDirectory>>,
    /// Counts reloads.
    pub metrics: Arc<Metrics>,
    /// Records reloads.
    pub events: Events,
    /// Tells of refused reloads, and follows `[[alerts]]`.
    pub alerts: AlertsHandle,
    /// Keeps who asked for reloads.
    pub audit: AuditHandle,
    /// The query log and dnstap.
    pub visibility: Visibility,
    /// Whether this process answers DNS. systemd is told of reloads only then: the end of one would say that a server
    /// that still starts is ready.
    pub serving: watch::Receiver<bool>,
}

/// A request for a reload.
#[derive(Debug)]
struct ReloadRequest {
    by: Author,
    wanted: WantedSet,
    /// Whether to report the changes without making them.
    is_dry_run: bool,
    reply: oneshot::Sender<Result<ReloadReport, ReloadRefusal>>,
}

/// The configuration that a request asks for.
#[derive(Clone, Debug)]
enum WantedSet {
    /// That of the files on disk. A client may name the file that it means.
    Files(Option<PathBuf>),
    /// A kept one, by its number; without one, the one before the running one.
    Kept(Option<u64>),
}

/// Requests reloads. The reload task ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct ReloadHandle {
    requests: mpsc::Sender<ReloadRequest>,
    signalled: Arc<Notify>,
    running: watch::Receiver<Arc<RunningSet>>,
    state_dir: watch::Receiver<Option<StateDirectory>>,
}

/// Starts the task that reloads `file`. Must be called within a tokio runtime.
#[must_use = "nothing can be reloaded without the handle"]
pub fn start(file: Option<PathBuf>, mut running: Configured, reach: Reach) -> ReloadHandle {
    let (requests, received) = mpsc::channel(REQUESTS);
    let signalled = Arc::new(Notify::new());
    let rule_files = WatchedFiles::new(&running.origin, running.rule_files.clone(), &reach.metrics);
    let (record, origin) = (std::mem::take(&mut running.files), running.origin.clone());
    let first = RunningSet::new(file.clone(), "the start", origin, record);
    if let SetOrigin::LastGood { reason, .. } = &first.origin {
        reach.metrics.operation.started_with_last_good();
        reach.alerts.reloaded(Some(reason.clone()));
        let notice = first.notice().unwrap_or_default();
        tell!(reach.events.now(), error, Reload, "this server {notice}");
    }
    let set = watch::Sender::new(Arc::new(first.clone().without_texts()));
    let (seen, state_dir) = (set.subscribe(), reach.state_dir.subscribe());
    let keeping = SetKeeping::default();
    let configuration = WatchedConfiguration::new(running.server.watch, &first.record);
    let reloader = Reloader { file, running, reach, rule_files, configuration, taking: None, set, keeping };
    tokio::spawn(reloader.run(first, received, Arc::clone(&signalled)));
    ReloadHandle { requests, signalled, running: seen, state_dir }
}

impl ReloadHandle {
    /// Waits for earlier reloads, then reloads. `meant` is the absolute path of the
    /// file that the client expects to be running; if it is not, the reload is refused. If the future is dropped
    /// before the configuration is loaded, the load is cancelled and nothing changes.
    ///
    /// # Errors
    /// The reason, if nothing has changed.
    pub async fn reload(&self, by: Author, meant: Option<PathBuf>) -> Result<ReloadReport, ReloadRefusal> {
        self.request(by, WantedSet::Files(meant), false).await
    }

    /// Loads the configuration as a reload would, and reports the changes without making them. A `state_dir` that has
    /// changed is not locked, so the reload may still be refused because of it.
    ///
    /// # Errors
    /// The reason, if a reload would be refused.
    pub async fn rehearse(&self, by: Author, meant: Option<PathBuf>) -> Result<ReloadReport, ReloadRefusal> {
        self.request(by, WantedSet::Files(meant), true).await
    }

    /// Goes back to a kept configuration: the one with this number, or the one before the running one. The files on disk
    /// stay as they are. With `is_dry_run`, only reports the changes.
    ///
    /// # Errors
    /// The reason, if nothing has changed.
    pub async fn roll_back(
        &self,
        by: Author,
        number: Option<u64>,
        is_dry_run: bool,
    ) -> Result<ReloadReport, ReloadRefusal> {
        self.request(by, WantedSet::Kept(number), is_dry_run).await
    }

    /// The directory that has the kept configurations.
    #[must_use]
    pub fn state_dir(&self) -> Option<StateDirectory> {
        self.state_dir.borrow().clone()
    }

    /// The running configuration.
    #[must_use]
    pub fn running(&self) -> Arc<RunningSet> {
        Arc::clone(&self.running.borrow())
    }

    async fn request(
        &self,
        by: Author,
        wanted: WantedSet,
        is_dry_run: bool,
    ) -> Result<ReloadReport, ReloadRefusal> {
        let (reply, outcome) = oneshot::channel();
        let request = ReloadRequest { by, wanted, is_dry_run, reply };
        self.requests.send(request).await.map_err(|_| ReloadRefusal::Ending)?;
        outcome.await.unwrap_or(Err(ReloadRefusal::Ending))
    }

    /// Requests a reload without waiting for it. Repeated requests before it starts count as one.
    pub fn signal(&self) {
        self.signalled.notify_one();
    }
}

struct Reloader {
    file: Option<PathBuf>,
    /// The settings in force. Keys that need an upgrade keep their values from the start.
    running: Configured,
    reach: Reach,
    rule_files: WatchedFiles,
    configuration: WatchedConfiguration,
    /// The last attempt to take another state directory.
    taking: Option<AbortHandle>,
    /// The running set of files.
    set: watch::Sender<Arc<RunningSet>>,
    keeping: SetKeeping,
}

impl Reloader {
    /// Keeps the first set of files, then heeds requests.
    async fn run(
        mut self,
        first: RunningSet,
        mut requests: mpsc::Receiver<ReloadRequest>,
        signalled: Arc<Notify>,
    ) {
        if self.running.server.state_dir.is_some() {
            // During an upgrade, the process before writes there until it ends.
            let _ = self.reach.state_dir.subscribe().wait_for(Option::is_some).await;
        }
        self.keep(first, "the start".into()).await;
        loop {
            tokio::select! {
                request = requests.recv() => {
                    let Some(ReloadRequest { by, wanted, is_dry_run, mut reply }) = request else { return };
                    if !reply.is_closed() {
                        let outcome = if is_dry_run {
                            self.rehearse(wanted, reply.closed()).await
                        } else {
                            self.reload(&by, wanted, reply.closed()).await
                        };
                        // The client may have disconnected; the configuration is in force in any case.
                        let _ = reply.send(outcome);
                    }
                }
                () = self.rule_files.due() => self.rule_files.look(&self.reach).await,
                () = self.configuration.due() => if self.configuration.look().await {
                    self.reload_unasked("[server] watch").await;
                },
                () = signalled.notified() => self.reload_unasked("SIGHUP").await,
            }
        }
    }

    /// Reloads without a client that waits for the outcome.
    async fn reload_unasked(&mut self, by: &str) {
        let _ = self.reload(&Author::named(by), WantedSet::Files(None), std::future::pending()).await;
    }

    /// Reloads, unless `unwanted` completes before the configuration is loaded.
    async fn reload(
        &mut self,
        author: &Author,
        wanted: WantedSet,
        unwanted: impl Future<Output = ()>,
    ) -> Result<ReloadReport, ReloadRefusal> {
        let asked_by = &*author.by;
        let action = match wanted {
            WantedSet::Files(_) => AuditAction::Reload,
            WantedSet::Kept(_) => AuditAction::Rollback,
        };
        info!(
            asked_by,
            "{}",
            if action == AuditAction::Reload { "reloading the configuration" } else { "going back" }
        );
        let before = self.set.borrow().number;
        let is_serving = *self.reach.serving.borrow();
        if is_serving {
            systemd::tell(ServiceState::Reloading);
        }
        let reading = Arc::new(Reading::recorded());
        let outcome = self.try_reload(asked_by, wanted, &reading, unwanted).await;
        if action == AuditAction::Reload
            && let Err(ReloadRefusal::Faults(_) | ReloadRefusal::StateDir(_)) = outcome
        {
            self.configuration.refused(&reading.record());
        }
        if is_serving {
            systemd::tell(ServiceState::Ready);
        }
        let counts = &self.reach.metrics.operation;
        match &outcome {
            Ok(report) => {
                if report.origin == SetOrigin::Files {
                    counts.reloaded();
                    self.reach.alerts.reloaded(None);
                    self.reach.events.show(Notice::Reload, None);
                } else {
                    counts.rolled_back();
                }
                report.tell(asked_by, &self.reach.events.now());
            }
            Err(refusal) => {
                // A request for another file does not make the running configuration invalid.
                if action == AuditAction::Reload && !matches!(refusal, ReloadRefusal::OtherFile { .. }) {
                    counts.reload_refused();
                    self.reach.alerts.reloaded(Some(refusal.in_full()));
                    let notice = format!(
                        "the last reload was refused, and the configuration from before runs on: {}",
                        refusal.in_full()
                    );
                    self.reach.events.show(Notice::Reload, Some(notice));
                }
                refusal.tell(asked_by, &self.reach.events.now());
            }
        }
        self.reach.audit.note(AuditEntry {
            action,
            subject: String::new(),
            author: author.clone(),
            reason: None,
            before: before.map(|number| format!("configuration {number}")),
            after: outcome.as_ref().ok().map(ReloadReport::with_number),
            outcome: AuditOutcome::refused_if(outcome.as_ref().err().map(ReloadRefusal::in_full)),
        });
        outcome
    }

    async fn try_reload(
        &mut self,
        asked_by: &str,
        wanted: WantedSet,
        reading: &Arc<Reading>,
        unwanted: impl Future<Output = ()>,
    ) -> Result<ReloadReport, ReloadRefusal> {
        let began = Instant::now();
        let (setup, mut wanted) = self.load(wanted, reading, unwanted).await?;
        let place = if self.running.server.state_dir == wanted.server.state_dir {
            None
        } else {
            match self.take(wanted.server.state_dir.clone()).await {
                Ok(place) => Some(place),
                Err(refusal) => {
                    free(setup);
                    return Err(refusal);
                }
            }
        };
        let warnings = setup.warnings;
        let difference = swap(&self.reach.checker, setup.served, asked_by).await?;

        self.rule_files = WatchedFiles::new(&wanted.origin, wanted.rule_files.clone(), &self.reach.metrics);
        self.reach.notify.look();
        self.reach.limits.change(wanted.server.limits.clone());
        self.reach.visibility.configure(&wanted.server.visibility, wanted.server.state_dir.as_deref());
        // Streams of events end if it changes.
        self.reach.access.send_if_modified(|access| {
            let before = std::mem::replace(access, wanted.admin.access.clone());
            before != *access
        });
        self.reach.alerts.link_by_tls(wanted.admin.access.tls.is_some());
        if let Err(error) = self.reach.alerts.change(wanted.alerts.clone()) {
            error!(%error, "the thread of the alerts could not be started; a reload tries it again");
        }
        if let Some(place) = place {
            // This releases the lock of the previous directory.
            self.reach.state_dir.send_replace(place);
        }
        let mut report = self.report(&wanted, difference, warnings, began);
        let (record, origin) = (std::mem::take(&mut wanted.files), wanted.origin.clone());
        self.running = difference::without_restart(&self.running, wanted);
        let set = RunningSet::new(self.file.clone(), asked_by, origin, record);
        self.configuration =
            self.configuration.replaced_by(self.running.server.watch, &set.record, &set.origin);
        report.number = self.keep(set, report.in_words()).await;
        Ok(report)
    }

    /// Makes a set of files the running one, and keeps it. Returns its number.
    async fn keep(&mut self, mut set: RunningSet, changes: String) -> Option<u64> {
        set.number = self.keeping.keep(&self.reach, &set, changes).await;
        let number = set.number;
        self.set.send_replace(Arc::new(set.without_texts()));
        number
    }

    /// The configuration in the files, and its settings. `reading` reads those on disk.
    async fn load(
        &self,
        wanted: WantedSet,
        reading: &Arc<Reading>,
        unwanted: impl Future<Output = ()>,
    ) -> Result<(Setup, Configured), ReloadRefusal> {
        let file = self.file.clone().ok_or(ReloadRefusal::NoFile)?;
        let before = Arc::clone(&self.reach.checker.published.load().catalog);
        let setup = match wanted {
            WantedSet::Files(meant) => load(Arc::clone(reading), file, meant, before, unwanted).await?,
            WantedSet::Kept(number) => {
                let running = Arc::clone(&self.set.borrow());
                let set = rollback::find(&self.reach, &running, number).await?;
                let reading = Arc::new(rollback::reading_of(&set));
                let setup = load(reading, file, None, before, unwanted).await?;
                let origin = SetOrigin::Rollback { number: set.head.number, at: set.head.at };
                Setup { origin, ..setup }
            }
        };
        let wanted = Configured::of(&setup);
        Ok((setup, wanted))
    }

    /// The report of a reload that changes nothing.
    async fn rehearse(
        &self,
        wanted: WantedSet,
        unwanted: impl Future<Output = ()>,
    ) -> Result<ReloadReport, ReloadRefusal> {
        let began = Instant::now();
        let reading = Arc::new(Reading::recorded());
        let (setup, wanted) = self.load(wanted, &reading, unwanted).await?;
        let difference = swap::rehearse(&self.reach.checker, setup.served).await?;
        Ok(self.report(&wanted, difference, setup.warnings, began))
    }

    fn report(
        &self,
        wanted: &Configured,
        difference: Difference,
        warnings: ConfigFaults,
        began: Instant,
    ) -> ReloadReport {
        let running = &self.running;
        let new_warnings = not_told(&warnings, &running.warnings);
        ReloadReport {
            origin: wanted.origin.clone(),
            number: match wanted.origin {
                SetOrigin::Rollback { number, .. } => Some(number),
                _ => None,
            },
            returns: running.origin != SetOrigin::Files,
            generation: difference.generation,
            took: began.elapsed(),
            pools: difference.pools,
            services: difference.services,
            zones: difference::with_transfers(difference.zones, running, wanted),
            overrides: difference.overrides,
            keys: difference::keys(running, wanted),
            server: difference::server(running, wanted),
            admin: difference::admin(running, wanted),
            geo: difference::geo(running, wanted),
            alerts: difference::alerts(running, wanted),
            restart_needed: difference::restart_needed(running, wanted),
            warnings,
            new_warnings,
        }
    }
}

impl From<NotReloaded> for ReloadRefusal {
    fn from(refusal: NotReloaded) -> Self {
        match refusal {
            NotReloaded::Ended => Self::Ending,
            NotReloaded::BrokeOff => Self::BrokeOff,
        }
    }
}

impl Reloader {
    /// Locks a new state directory while the previous one is still locked.
    async fn take(&mut self, directory: Option<PathBuf>) -> Result<Option<StateDirectory>, ReloadRefusal> {
        let Some(directory) = directory else { return Ok(None) };
        let current = self.reach.state_dir.borrow().clone();
        let refused = |error| ReloadRefusal::StateDir(Arc::new(error));
        let silent = LockError::Silent { directory: directory.clone(), limit: TAKE_TIME };
        let take = move || match current.and_then(|current| current.by_path(&directory)) {
            Some(same) => Ok(same),
            None => StateDirectory::take(directory),
        };
        // An attempt on a directory that does not respond blocks its thread, so there is only one at a time.
        if self.taking.as_ref().is_some_and(|earlier| !earlier.is_finished()) {
            return Err(refused(silent));
        }
        let taking = spawn_blocking(take);
        self.taking = Some(taking.abort_handle());
        // A lock that comes too late is released at once.
        let taken = timeout(TAKE_TIME, taking).await.map_err(|_| refused(silent))?;
        taken.map_err(|_| ReloadRefusal::BrokeOff)?.map(Some).map_err(refused)
    }
}

/// Loads the file. The warnings include serial numbers that have decreased since the zones `before`.
async fn load(
    reading: Arc<Reading>,
    file: PathBuf,
    meant: Option<PathBuf>,
    before: Arc<Catalog>,
    unwanted: impl Future<Output = ()>,
) -> Result<Setup, ReloadRefusal> {
    let by = Arc::clone(&reading);
    let mut loading = spawn_blocking(move || {
        let setup = match meant {
            None => config::load_by(&by, &file).map_err(ReloadRefusal::Faults)?,
            Some(meant) => match config::load_meant(&by, &file, &meant).map_err(ReloadRefusal::Faults)? {
                Some(setup) => setup,
                None => {
                    let running = std::path::absolute(&file).unwrap_or(file);
                    return Err(ReloadRefusal::OtherFile { running, meant });
                }
            },
        };
        let Served { catalog, settings, .. } = &setup.served;
        let serials = serial::warnings(&before, catalog, &settings.transfers.zones);
        Ok(Setup { warnings: setup.warnings.with_warnings(&file, serials), ..setup })
    });
    tokio::select! {
        loaded = &mut loading => loaded.map_err(|_| ReloadRefusal::BrokeOff)?,
        () = unwanted => {
            reading.give_up();
            if let Ok(Ok(setup)) = loading.await {
                free(setup);
            }
            Err(ReloadRefusal::Unwanted)
        }
    }
}

/// Frees a refused configuration on a blocking thread. It may contain a zone with a million records, and the threads
/// of this runtime answer queries.
fn free(setup: Setup) {
    spawn_blocking(move || drop(setup));
}

#[cfg(test)]
mod tests;
