//! The composition root: what is built, in which order it starts, and how it stops.
//!
//! ```text
//! start    bind every socket -> lock state_dir, read the memory -> checker -> reload, admin
//! answer   first outcomes are in -> answer DNS -> ready -> notify the secondaries
//! stop     not ready -> DNS finishes what is in flight -> admin likewise -> memory -> checker
//! upgrade  another process takes over: see `upgrade`; `handing` has the end that serves, `taking` the other one
//! ```
//!
//! A stop is possible at any time after the start, even before DNS is answered.
//!
//! All sockets are bound before any request is answered, so a server that starts serves every
//! configured address. Decisions about health, answers and configuration do not belong here.

mod descriptors;
mod handing;
mod signals;
mod taking;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admin;
use crate::alerts::{AdminLink, AlertSources, AlertsHandle, AllAlerts};
use crate::audit::AuditHandle;
use crate::checker;
use crate::config::{AdminSettings, Setup};
use crate::events::Events;
use crate::fleet;
use crate::listener::{self, InForce, Listeners, Steering, pressure};
use crate::metrics::Metrics;
use crate::notify;
use crate::reload::{self, Configured, Reach};
use crate::server::descriptors::Shares;
use crate::server::handing::Handing;
use crate::state::{self, Keeper, StateDirectory};
use crate::sys;
use crate::systemd::{self, ServiceState};
use crate::upgrade::{ChangeGate, Conversation, Program, UpgradeHandle, UpgradeRequest};
use crate::visibility::Visibility;
use crate::watchdog;

pub use signals::Signals;
pub use taking::take_over;

/// The longest time by which changes under way may delay the stop.
const CHANGES_TIME: Duration = Duration::from_secs(2);
/// The time between two looks at the audit.
const AUDIT_LOOK: Duration = Duration::from_secs(1);
/// The longest time by which the last entries of the audit may delay the stop.
const AUDIT_TIME: Duration = Duration::from_secs(1);
/// How soon a process that gave no sign of life is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Time limit for reading the memory at start: a network file system may hang.
const RECALL_TIME: Duration = Duration::from_secs(5);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A DNS socket.
    #[error(transparent)]
    Dns(#[from] listener::ListenError),
    /// The threads and sockets of the DNS listeners.
    #[error("cannot start answering DNS: {0}")]
    Listeners(#[source] io::Error),
    /// The socket of the admin server.
    #[error(transparent)]
    Admin(#[from] admin::AdminListenError),
    /// The thread of the admin server.
    #[error("cannot start the admin server: {0}")]
    AdminThread(#[source] io::Error),
    /// The thread of the checker.
    #[error("cannot start the health checker: {0}")]
    Thread(#[source] io::Error),
    /// The thread of the alerts.
    #[error("cannot start the alerts: {0}")]
    Alerts(#[source] io::Error),
    /// The thread of the audit.
    #[error("cannot start the audit: {0}")]
    Audit(#[source] io::Error),
    /// The state directory.
    #[error(transparent)]
    State(#[from] state::LockError),
    /// The checker ended unexpectedly.
    #[error(transparent)]
    Checker(#[from] CheckerEnded),
    /// The process that serves has ended, or sent what cannot be used.
    #[error("this process cannot take over from the one that serves: {0}")]
    Predecessor(String),
}

/// The checker has ended unexpectedly, so answers would no longer follow the state of the backends.
#[derive(Debug, thiserror::Error)]
#[error("the health checker has ended; this is a bug in steerd, please report it with the log")]
pub struct CheckerEnded;

/// Why a running server cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The checker ended unexpectedly.
    #[error(transparent)]
    Checker(#[from] CheckerEnded),
    /// A thread or task that answers DNS ended unexpectedly.
    #[error(
        "a thread or task that answers DNS has ended; this is a bug in steerd, please report it with the log"
    )]
    Listener,
}

/// A started server needs attention.
#[derive(Debug)]
pub enum Attention {
    /// Another process is to take over.
    Upgrade(UpgradeRequest),
    /// The server cannot continue.
    Failed(Ended),
}

/// A started server. [`Server::answer`] makes it answer DNS, [`Server::stop`] ends it.
#[derive(Debug)]
pub struct Server {
    /// The addresses that answer DNS over UDP and TCP, with the ports that the system chose.
    pub dns: Vec<SocketAddr>,
    /// The first address of the admin server over TCP.
    pub admin: Option<SocketAddr>,
    /// The checker, for commands and the answer table.
    pub checker: checker::CheckerHandle,
    /// Reloads the configuration.
    pub reload: reload::ReloadHandle,
    /// Requests upgrades.
    pub upgrade: UpgradeHandle,
    /// The sockets, until DNS is answered.
    bound: Option<listener::BoundListeners>,
    /// How the kernel chooses the worker of a datagram.
    steering: Steering,
    /// The listeners, once DNS is answered.
    listeners: Option<Listeners>,
    handing: Handing,
    metrics: Arc<Metrics>,
    events: Events,
    limits: InForce,
    visibility: Visibility,
    notify: notify::NotifyHandle,
    keeper: Keeper,
    /// Notes who has changed what.
    pub audit: AuditHandle,
    deferred: Option<Deferred>,
    admin_task: Option<(Apart, admin::AdminServer)>,
    serving: watch::Sender<bool>,
    /// The process that serves, until this one has taken over from it.
    predecessor: Option<Conversation>,
}

/// The parts that are needed before the others start.
struct Foundation {
    bound: listener::BoundListeners,
    admin: Option<(Apart, admin::BoundAdminServer)>,
    place: Option<StateDirectory>,
    memory: fleet::Memory,
}

/// The parts that have effects outside, and so start only when no other process has them.
#[derive(Debug)]
struct Deferred {
    admin: Option<(Apart, admin::BoundAdminServer, admin::Sources)>,
    alerts: (AlertsHandle, AllAlerts),
    /// The directory that was taken over.
    place: Option<StateDirectory>,
}

/// Starts everything except DNS: sends probes and starts the admin server. `file` is the
/// configuration file that was loaded; a reload loads it again.
///
/// Must be called within a tokio runtime. The future may be dropped at any time: once a part runs
/// that needs an orderly stop, it no longer waits.
///
/// # Errors
/// If a socket cannot be bound or a thread cannot be started.
pub async fn start(setup: Setup, file: Option<PathBuf>) -> Result<Server, StartError> {
    let bound = listener::bind(&setup.server.listen, setup.server.workers)?;
    let admin = bind_admin(&setup, |wanted| admin::bind(&wanted.listen, wanted.socket))?;
    let (place, memory) = recall(setup.server.state_dir.clone()).await?;
    let mut server = assemble(setup, file, Foundation { bound, admin, place, memory })?;
    server.operate()?;
    Ok(server)
}

/// Binds the admin server within a runtime of its own, if there is one.
fn bind_admin(
    setup: &Setup,
    bind: impl FnOnce(&AdminSettings) -> Result<admin::BoundAdminServer, admin::AdminListenError>,
) -> Result<Option<(Apart, admin::BoundAdminServer)>, StartError> {
    if setup.admin.listen.is_empty() {
        return Ok(None);
    }
    let apart = Apart::new().map_err(StartError::AdminThread)?;
    let bound = apart.within(|| bind(&setup.admin))?;
    Ok(Some((apart, bound)))
}

/// Starts the parts that have no effect outside, but for the probes.
fn assemble(setup: Setup, file: Option<PathBuf>, foundation: Foundation) -> Result<Server, StartError> {
    for warning in setup.warnings.iter() {
        warn!("{}: {}", warning.location, warning.message);
    }
    let Foundation { bound, admin: admin_bound, place, memory } = foundation;
    let steering = setup.server.steering;
    let dns = bound.local_addresses();
    let shares = share_descriptors(&bound);
    let admin_address = admin_bound.as_ref().and_then(|(_, bound)| bound.address());
    let admin_listeners = admin_bound.as_ref().map(|(_, bound)| bound.descriptors()).transpose();
    let admin_listeners = admin_listeners.map_err(StartError::AdminThread)?.unwrap_or_default();

    let configured = Configured::of(&setup);
    let Setup { server, admin, served, alerts: wanted_alerts, .. } = setup;
    let metrics = Arc::new(Metrics::new(bound.workers()));
    let capacity = fleet::Capacity { counting_threads: bound.workers(), probes: shares.probes };
    let events = Events::new(SystemTime::now());
    let setup = fleet::FleetSetup { served, memory };
    let outputs = fleet::Outputs { metrics: Arc::clone(&metrics), events: events.clone() };
    let checker = checker::start(setup, capacity, outputs).map_err(StartError::Thread)?;
    let keeper = Keeper::start(place, checker.clone(), Arc::clone(&metrics));
    let limits = InForce::new(server.limits, shares.connections);
    let (access, access_seen) = watch::channel(admin.access);
    tokio::spawn(pressure::watch(Arc::clone(&metrics), events.clone()));
    let notify = notify::start(checker.published.clone(), dns.clone(), Arc::clone(&metrics));
    let sources = AlertSources {
        checker: checker.clone(),
        events: events.clone(),
        metrics: Arc::clone(&metrics),
        admin: AdminLink::new(admin_address, access_seen.borrow().tls.is_some()),
    };
    let visibility = Visibility::new(limits.clone(), Arc::clone(&metrics), events.clone());
    visibility.configure(&server.visibility, server.state_dir.as_deref());
    let alerts = AlertsHandle::new(sources);
    let (place, directory) = (keeper.place().subscribe(), server.state_dir.clone());
    let audit = AuditHandle::start(place, directory, Arc::clone(&metrics), events.clone(), alerts.clone());
    let audit = audit.map_err(StartError::Audit)?;
    tokio::spawn(look_after(audit.clone()));
    let serving = watch::Sender::new(false);
    let reach = Reach {
        checker: checker.clone(),
        notify: notify.clone(),
        limits: limits.clone(),
        access,
        state_dir: keeper.place(),
        metrics: Arc::clone(&metrics),
        events: events.clone(),
        alerts: alerts.clone(),
        audit: audit.clone(),
        visibility: visibility.clone(),
        serving: serving.subscribe(),
    };
    let reload = reload::start(file, configured, reach);
    let (upgrade, upgrades) = UpgradeHandle::new();
    let changes = ChangeGate::default();
    let admin = admin_bound.map(|(apart, bound)| {
        let sources = admin::Sources {
            checker: checker.clone(),
            metrics: Arc::clone(&metrics),
            serving: serving.subscribe(),
            reload: reload.clone(),
            upgrade: upgrade.clone(),
            changes: changes.clone(),
            access: access_seen,
            lost_because: keeper.lost_because(),
            events: events.clone(),
            audit: audit.clone(),
            visibility: visibility.clone(),
        };
        (apart, bound, sources)
    });
    Ok(Server {
        dns,
        admin: admin_address,
        checker,
        reload,
        upgrade,
        bound: Some(bound),
        listeners: None,
        handing: Handing {
            program: Program::of_this_process(),
            requests: upgrades,
            changes,
            sockets: None,
            admin: admin_listeners,
            kept: Vec::new(),
            held: None,
        },
        steering,
        metrics,
        events,
        limits,
        visibility,
        notify,
        keeper,
        audit,
        deferred: Some(Deferred { admin, alerts: (alerts, wanted_alerts), place: None }),
        admin_task: None,
        serving,
        predecessor: None,
    })
}

/// Divides the open descriptors that the system allows among probes and connections.
fn share_descriptors(bound: &listener::BoundListeners) -> Shares {
    match sys::raise_descriptor_limit() {
        Ok(limit) => {
            let shares = Shares::of(limit, bound.descriptors());
            let Shares { probes, connections } = shares;
            info!(
                limit,
                probes,
                connections,
                "the limit of open descriptors, and the most probes and connections at once"
            );
            shares
        }
        Err(error) => {
            warn!(%error, "the limit of open descriptors cannot be raised; steerd may run out of them");
            Shares::UNLIMITED
        }
    }
}

/// The admin runtime polls for new connections and data after this many task polls.
const EVENT_INTERVAL: u32 = 8;

/// A runtime with its own thread, so that work for admin clients delays DNS over TCP by no more
/// than one busy thread would.
#[derive(Debug)]
struct Apart(Option<Runtime>);

impl Apart {
    fn new() -> io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // Frequent polls let it accept connections while it answers many requests.
        builder.worker_threads(1).thread_name("admin").enable_all().event_interval(EVENT_INTERVAL);
        Ok(Self(Some(builder.build()?)))
    }

    /// Calls `work`. Sockets and tasks that it creates belong to this runtime.
    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _context = self.0.as_ref().map(Runtime::enter);
        work()
    }
}

impl Drop for Apart {
    /// If this runtime is dropped in a task of another runtime, a blocking shutdown would panic.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Opens the configured state directory, and reads the memory of the last run.
async fn recall(
    directory: Option<PathBuf>,
) -> Result<(Option<StateDirectory>, fleet::Memory), state::LockError> {
    let Some(directory) = directory else {
        info!("health and overrides will not survive a restart: no state_dir is set under [server]");
        return Ok((None, fleet::Memory::default()));
    };
    let place = StateDirectory::unlocked(directory.clone());
    let opened = tokio::task::spawn_blocking(move || state::open(directory, SystemTime::now()));
    match tokio::time::timeout(RECALL_TIME, opened).await {
        Ok(Ok(opened)) => opened.map(|(place, memory)| (Some(place), memory)),
        // The panic was logged, and must not prevent the start.
        Ok(Err(_)) => Ok((Some(place), fleet::Memory::default())),
        Err(_) => {
            let directory = place.directory().display();
            warn!(%directory, "health and overrides could not be read within {RECALL_TIME:?}; steerd starts without them");
            Ok((Some(place), fleet::Memory::default()))
        }
    }
}

impl Server {
    /// Answers DNS once the first outcomes are in. A process that takes over then does so.
    ///
    /// # Errors
    /// If the checker has ended or a thread cannot be started; no query has been answered then. If the process that
    /// serves ends before this one has everything.
    pub async fn answer(&mut self) -> Result<(), StartError> {
        self.checker.ready.clone().wait_for(|ready| *ready).await.map_err(|_| CheckerEnded)?;
        let reload = match self.predecessor.take() {
            None => self.serve().map(|()| false).map_err(StartError::Listeners)?,
            Some(talk) => self.take_over(talk).await?,
        };
        self.serving.send_replace(true);
        // Secondaries can transfer zones only once DNS is answered.
        self.notify.look();
        for address in &self.dns {
            info!(%address, "DNS is answered over UDP and TCP");
        }
        systemd::tell(ServiceState::Ready);
        if let Some(every) = systemd::alive_every() {
            tokio::spawn(tell_alive(every, Arc::clone(&self.metrics), self.serving.subscribe()));
        }
        if reload {
            self.reload.signal();
        }
        Ok(())
    }

    /// Reads queries from now on.
    fn serve(&mut self) -> io::Result<()> {
        let Some(mut bound) = self.bound.take() else { return Ok(()) };
        bound.complete(self.steering).map_err(io::Error::other)?;
        self.handing.sockets = bound
            .try_clone()
            .inspect_err(|error| {
                warn!(%error, "an upgrade would be refused: its sockets cannot be opened a second time");
            })
            .ok();
        self.listeners = Some(bound.serve(&self.checker.published, &self.metrics, &self.limits)?);
        Ok(())
    }

    /// Starts the parts that have effects outside.
    fn operate(&mut self) -> Result<(), StartError> {
        let Some(Deferred { admin, alerts: (alerts, wanted), place }) = self.deferred.take() else {
            return Ok(());
        };
        if place.is_some() {
            self.keeper.place().send_replace(place);
        }
        alerts.change(wanted).map_err(StartError::Alerts)?;
        self.admin_task = admin.map(|(apart, bound, sources)| {
            let places = bound.places();
            let running = apart.within(|| bound.serve(sources));
            for address in places {
                info!(%address, "the admin server listens");
            }
            (apart, running)
        });
        Ok(())
    }

    /// Waits until the server needs attention.
    pub async fn next(&mut self) -> Attention {
        let Self { handing, checker, listeners, .. } = self;
        tokio::select! {
            Some(request) = handing.requests.recv() => Attention::Upgrade(request),
            failure = failed(checker, listeners.as_ref()) => Attention::Failed(failure),
        }
    }

    /// Finishes requests in flight and stops, within seconds.
    pub async fn stop(self) {
        systemd::tell(ServiceState::Stopping);
        self.leave().await;
    }

    /// Like [`Server::stop`], after another process has taken over.
    pub async fn leave(self) {
        self.serving.send_replace(false);
        if let Some(listeners) = self.listeners {
            listeners.stop().await;
        }
        if let Some((apart, server)) = self.admin_task {
            server.stop().await;
            if self.handing.held.is_none() {
                // Changes whose clients have left go on without a connection.
                let _ = tokio::time::timeout(CHANGES_TIME, self.handing.changes.hold()).await;
            }
            drop(apart);
        }
        self.visibility.stop().await;
        self.keeper.stop().await;
        let audit = self.audit;
        let _ = tokio::task::spawn_blocking(move || audit.end(AUDIT_TIME)).await;
    }
}

/// Looks at the audit regularly.
async fn look_after(audit: AuditHandle) {
    let mut looks = tokio::time::interval(AUDIT_LOOK);
    loop {
        looks.tick().await;
        audit.look();
    }
}

/// Returns when the server cannot continue.
async fn failed(checker: &checker::CheckerHandle, listeners: Option<&Listeners>) -> Ended {
    // Without listeners DNS could not be answered again after a refused upgrade.
    let Some(listeners) = listeners else { return Ended::Listener };
    tokio::select! {
        () = checker.commands.closed() => CheckerEnded.into(),
        () = listeners.ended() => Ended::Listener,
    }
}

/// Tells systemd regularly that this process works, as long as it serves. systemd restarts one that does not work
/// (`WatchdogSec=`).
async fn tell_alive(every: Duration, metrics: Arc<Metrics>, mut serving: watch::Receiver<bool>) {
    let tell = async {
        loop {
            let is_alive =
                metrics.turn_age() < watchdog::STUCK && metrics.worker_turn_age() < watchdog::STUCK;
            if is_alive {
                systemd::tell(ServiceState::Alive);
            }
            tokio::time::sleep(if is_alive { every } else { every.min(LOOK_AGAIN) }).await;
        }
    };
    tokio::select! {
        () = tell => {}
        _ = serving.wait_for(|serving| !serving) => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::fault::ConfigFaults;
    use crate::config::{AdminListen, ServerSettings, SetOrigin};
    use crate::file::FileRecord;
    use crate::listener::Limits;
    use crate::served::Served;
    use crate::settings::Settings;
    use crate::zone::Catalog;

    fn setup(dns: SocketAddr, admin: SocketAddr) -> Setup {
        Setup {
            server: ServerSettings {
                listen: vec![dns],
                workers: 1,
                steering: Steering::Hash,
                limits: Limits::default(),
                state_dir: None,
                visibility: crate::visibility::VisibilitySettings::default(),
                start_with_last_good: false,
                watch: false,
            },
            admin: AdminSettings { listen: vec![AdminListen::Tcp(admin)], ..AdminSettings::default() },
            served: Served {
                settings: Settings::default(),
                catalog: Catalog::new(Vec::new()),
                services: Vec::new(),
                rule_tables: Vec::new(),
                pools: Vec::new(),
                startup_wait: Duration::from_secs(3),
            },
            rule_files: crate::geo::RuleFiles::default(),
            alerts: Vec::new(),
            warnings: ConfigFaults::default(),
            files: FileRecord::default(),
            origin: SetOrigin::Files,
        }
    }

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_is_ready_once_started_and_gone_once_stopped() {
        let mut running = start(setup(any_port(), any_port()), None).await.unwrap();
        running.answer().await.unwrap();
        let admin = running.admin.expect("an admin server");
        let mut stream = TcpStream::connect(admin).await.unwrap();
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let dns = *running.dns.first().expect("an address");
        TcpStream::connect(dns).await.expect("DNS over TCP");
        running.stop().await;
        assert!(TcpStream::connect(admin).await.is_err(), "the admin server still listens");
        assert!(TcpStream::connect(dns).await.is_err(), "DNS over TCP still listens");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_socket_that_cannot_be_had_ends_the_start() {
        let first = start(setup(any_port(), any_port()), None).await.unwrap();
        let taken = *first.dns.first().expect("an address");
        assert!(matches!(start(setup(taken, any_port()), None).await, Err(StartError::Dns(_))));
        let taken = first.admin.expect("an admin server");
        assert!(matches!(start(setup(any_port(), taken), None).await, Err(StartError::Admin(_))));
        first.stop().await;
    }
}
