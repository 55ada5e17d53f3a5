//! Replies that grow with the configuration, as texts: rendered one at a time, shared by all clients that
//! wait for the same one, and kept as long as they are read.

use std::io::{self, Write};
use std::sync::Arc;

use axum::http::StatusCode;
use jiff::{Timestamp, Unit};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};
use tokio::sync::{Semaphore, watch};

use crate::admin::pieces::{Broken, Pieces};
use crate::admin::problem::Problem;
use crate::admin::rendering::Renderings;
use crate::admin::status::{self, service_name};
use crate::admin::text::{Held, MOST_HELD, Text, TextWriter};
use crate::admin::{Sources, checker_ended, no_such};
use crate::audit::AuditHandle;
use crate::checker::CheckerHandle;
use crate::config;
use crate::events::Events;
use crate::fleet::{BackendStatus, FailoverStatus, ServiceStatus};
use crate::metrics::Metrics;
use crate::name::Name;
use crate::pool::PoolId;
use crate::reload::ReloadHandle;
use crate::service::ServiceId;
use crate::state;
use crate::table::{ServiceView, Table};

/// How often a text is started again because another configuration came into force meanwhile.
const ATTEMPTS: usize = 5;

/// The complete state, in the parts from which replies are assembled.
#[derive(Clone, Debug)]
pub(super) struct Everything {
    /// The beginning of the status reply, up to the pools.
    pub(super) status_head: Arc<Text>,
    /// The beginning of the pools reply, up to the pools.
    pub(super) pools_head: Arc<Text>,
    /// The pools, and the end of both replies.
    pub(super) pools: Arc<Text>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub(super) struct ListPage {
    pub(super) text: Arc<Text>,
    /// The path of the next page.
    pub(super) next: Option<Arc<str>>,
}

/// All rendered replies.
#[derive(Clone, Debug)]
pub(super) struct Documents {
    pub(super) held: Held,
    pub(super) checker: CheckerHandle,
    metrics: Arc<Metrics>,
    audit: AuditHandle,
    reload: ReloadHandle,
    lost_because: watch::Receiver<Option<&'static str>>,
    events: Events,
    everything: Renderings<(), Everything>,
    services: Renderings<(), Arc<Text>>,
    /// Single objects, by kind and name.
    one: Renderings<(DocumentKind, String), Arc<Text>>,
    /// By the path of the request.
    pub(super) pages: Renderings<String, ListPage>,
    /// Metrics must be available when the checker does not answer and when clients do not read its state. So
    /// they have a separate turn, and may start while more memory is in use.
    numbers: Renderings<(), Arc<Text>>,
}

/// A kind of reply about one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum DocumentKind {
    Pool,
    Service,
    /// The problem that a backend does not exist, by `pool/backend`.
    NoBackend,
}

impl Documents {
    pub(super) fn new(sources: &Sources) -> Self {
        let held = Held::default();
        let turn = Arc::new(Semaphore::new(1));
        Self {
            checker: sources.checker.clone(),
            metrics: Arc::clone(&sources.metrics),
            audit: sources.audit.clone(),
            reload: sources.reload.clone(),
            lost_because: sources.lost_because.clone(),
            events: sources.events.clone(),
            everything: Renderings::new(&turn, &held, MOST_HELD),
            services: Renderings::new(&turn, &held, MOST_HELD),
            one: Renderings::new(&turn, &held, MOST_HELD),
            pages: Renderings::new(&turn, &held, MOST_HELD),
            numbers: Renderings::new(&Arc::new(Semaphore::new(1)), &held, 2 * MOST_HELD),
            held,
        }
    }

    /// The complete state.
    pub(super) async fn everything(&self) -> Result<Everything, Problem> {
        let work = self.clone();
        let render = move |is_wanted: &dyn Fn() -> bool| {
            work.attempt(|table| {
                let pieces = Pieces::all(&work.checker.commands, table)?;
                let facts = (work.metrics.queries(), work.notices());
                write_everything(table, &pieces, &facts, || TextWriter::new(&work.held, is_wanted))
                    .map_err(|_| pieces.broken().into())
            })
        };
        self.everything.get((), render).await
    }

    /// Sentences that warn operators about this server itself.
    fn notices(&self) -> Vec<String> {
        let set = self.reload.running().notice().map(|notice| format!("this server {notice}"));
        let audit = self.audit.failing().map(|reason| format!("the audit cannot be written: {reason}"));
        let state = self.lost_because.borrow().filter(|reason| *reason == state::NOT_WRITTEN);
        let state = state.map(|reason| format!("health and overrides would not survive a restart: {reason}"));
        set.into_iter().chain(audit).chain(state).chain(self.events.notices()).collect()
    }

    /// The list of services. It comes from the table, not from the checker.
    pub(super) async fn services(&self) -> Result<Arc<Text>, Problem> {
        let work = self.clone();
        let render = move |is_wanted: &dyn Fn() -> bool| {
            work.attempt(|table| {
                let mut writer = TextWriter::new(&work.held, is_wanted);
                write_services(table, &mut writer).map_err(|_| None)?;
                Ok(writer.finish())
            })
        };
        self.services.get((), render).await
    }

    /// One pool with history.
    pub(super) async fn pool(&self, name: String) -> Result<Arc<Text>, Problem> {
        let (work, key) = (self.clone(), (DocumentKind::Pool, name.clone()));
        let render = move |is_wanted: &dyn Fn() -> bool| {
            work.attempt(|table| {
                let pool = pool(table, &name)?;
                let pieces = Pieces::of_pool(&work.checker.commands, table, pool)?;
                let mut writer = TextWriter::new(&work.held, is_wanted);
                let told = pieces.next_pool()?;
                let object = told.map(|(pool, backends)| {
                    status::Pool::new(&pool, backends).serialize(&mut Serializer::pretty(&mut writer))
                });
                object.transpose().map_err(|_| pieces.broken())?;
                writer.write_all(b"\n").map_err(|_| None)?;
                Ok(writer.finish())
            })
        };
        self.one.get(key, render).await
    }

    /// One service, by its name in A-labels or in Unicode. Case and a final dot are ignored.
    pub(super) async fn service(&self, name: String) -> Result<Arc<Text>, Problem> {
        let (work, key) = (self.clone(), (DocumentKind::Service, name.to_ascii_lowercase()));
        let render = move |is_wanted: &dyn Fn() -> bool| {
            work.attempt(|table| {
                let (id, view) = service(table, &name)?;
                let status = ServiceStatus::of(view, table);
                let mut writer = TextWriter::new(&work.held, is_wanted);
                let object = status::Service::from(&status).with(table.answers().of_whole_service(id, view));
                object.serialize(&mut Serializer::pretty(&mut writer)).map_err(|_| None)?;
                writer.write_all(b"\n").map_err(|_| None)?;
                Ok(writer.finish())
            })
        };
        self.one.get(key, render).await
    }

    /// The configured name of a service, from any of its spellings.
    pub(super) async fn service_named(&self, name: String) -> Result<Name, Problem> {
        let work = self.clone();
        let find = move || work.attempt(|table| Ok(service(table, &name)?.1.service.name.clone()));
        // With many services the search takes too long for a thread that serves connections.
        tokio::task::spawn_blocking(find).await.unwrap_or_else(|_| Err(not_written()))
    }

    /// The state of one backend.
    pub(super) async fn backend(&self, pool_name: String, backend: String) -> Result<BackendStatus, Problem> {
        let work = self.clone();
        let find = move || {
            work.attempt(|table| {
                let id = pool(table, &pool_name)?;
                let names = table.pool(id).map(|view| Arc::clone(&view.backends)).unwrap_or_default();
                let place = names.iter().position(|name| **name == *backend);
                let found = place.map(|place| Pieces::of_backend(&work.checker.commands, table, (id, place)));
                found.transpose()?.flatten().ok_or_else(|| no_such_backend(&pool_name, &backend, &names))
            })
        };
        tokio::task::spawn_blocking(find).await.unwrap_or_else(|_| Err(not_written()))
    }

    /// The failover of a service, by any of its spellings.
    pub(super) async fn failover(&self, name: String) -> Result<Option<FailoverStatus>, Problem> {
        let work = self.clone();
        let find =
            move || work.attempt(|table| Ok(ServiceStatus::of(service(table, &name)?.1, table).failover));
        tokio::task::spawn_blocking(find).await.unwrap_or_else(|_| Err(not_written()))
    }

    /// The error that a pool has no such backend, or that there is no such pool.
    pub(super) async fn no_backend(&self, pool_name: String, backend: String) -> Problem {
        let (work, key) = (self.clone(), (DocumentKind::NoBackend, format!("{pool_name}/{backend}")));
        let render = move |_: &dyn Fn() -> bool| {
            work.attempt(|table| {
                let id = pool(table, &pool_name)?;
                let names = table.pool(id).map(|view| Arc::clone(&view.backends)).unwrap_or_default();
                Err(no_such_backend(&pool_name, &backend, &names))
            })
        };
        match self.one.get(key, render).await {
            Err(problem) => problem,
            Ok(_) => Problem::new(StatusCode::NOT_FOUND, "there is no such backend"),
        }
    }

    /// The metrics. They do not come from the checker, so they are available even if it does not answer.
    pub(super) async fn numbers(&self) -> Result<Arc<Text>, Problem> {
        let work = self.clone();
        let render = move |is_wanted: &dyn Fn() -> bool| {
            let mut writer = TextWriter::new(&work.held, is_wanted);
            let written = work.metrics.write(&work.checker.published.load(), &mut writer);
            written.map(|()| writer.finish()).map_err(|_| not_written())
        };
        self.numbers.get((), render).await
    }

    /// Renders from the current table. Starts again if another configuration comes into force
    /// meanwhile.
    pub(super) fn attempt<T>(
        &self,
        mut render: impl FnMut(&Arc<Table>) -> Result<T, Failed>,
    ) -> Result<T, Problem> {
        for _ in 0..ATTEMPTS {
            if self.checker.commands.is_closed() {
                return Err(checker_ended());
            }
            match render(&self.checker.published.load()) {
                Ok(rendered) => return Ok(rendered),
                Err(Failed::Problem(problem)) => return Err(problem),
                Err(Failed::Broken(Broken::Ended)) => return Err(checker_ended()),
                Err(Failed::Broken(Broken::Outdated)) => {}
            }
        }
        let detail = format!("the configuration was reloaded {ATTEMPTS} times meanwhile; try again");
        Err(Problem::busy(detail))
    }
}

/// Why a text could not be rendered.
pub(super) enum Failed {
    Broken(Broken),
    Problem(Problem),
}

impl From<Broken> for Failed {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Option<Broken>> for Failed {
    fn from(broken: Option<Broken>) -> Self {
        broken.map_or_else(|| Self::Problem(not_written()), Self::Broken)
    }
}

/// The text is incomplete because nobody waits for it, so nobody sees this error.
fn not_written() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "nobody waits for this reply any more")
}

/// A service by its name in A-labels or in Unicode. Case and a final dot are ignored.
fn service<'t>(table: &'t Table, name: &str) -> Result<(ServiceId, &'t ServiceView), Failed> {
    let wanted = name.strip_suffix('.').unwrap_or(name);
    let names: Vec<String> = table.services().iter().map(|view| view.service.name.to_plain()).collect();
    let shown = || names.iter().map(|name| service_name(name));
    let is_named =
        |name: &str| name.eq_ignore_ascii_case(wanted) || config::in_letters(name).as_deref() == Some(wanted);
    let found =
        shown().zip((0..).map(ServiceId).zip(table.services().iter())).find(|(name, _)| is_named(name));
    found
        .map(|(_, service)| service)
        .ok_or_else(|| Failed::Problem(no_such(&format!("service `{wanted}`"), wanted, shown())))
}

pub(super) fn pool(table: &Table, name: &str) -> Result<PoolId, Failed> {
    let found = (0..).map(PoolId).zip(table.pools().iter()).find(|(_, view)| *view.name == *name);
    found.map(|(id, _)| id).ok_or_else(|| {
        let names = table.pools().iter().map(|view| &*view.name);
        Failed::Problem(no_such(&format!("pool `{name}`"), name, names))
    })
}

fn no_such_backend(pool: &str, backend: &str, names: &[Box<str>]) -> Failed {
    let what = format!("backend `{backend}` in the pool `{pool}`");
    Failed::Problem(no_such(&what, backend, names.iter().map(|name| &**name)))
}

fn write_everything<'w>(
    table: &Table,
    pieces: &Pieces<'_>,
    (queries, notices): &(u64, Vec<String>),
    writer: impl Fn() -> TextWriter<'w>,
) -> io::Result<Everything> {
    let suspected = pieces.suspected();
    let services = services(table);
    let now = Timestamp::now();
    let mut status_head = writer();
    status_head.write_all(b"{\n")?;
    member(&mut status_head, "version", &env!("CARGO_PKG_VERSION"), ",\n")?;
    member(&mut status_head, "generation", &table.generation, ",\n")?;
    member(&mut status_head, "at", &now.round(Unit::Millisecond).unwrap_or(now), ",\n")?;
    member(&mut status_head, "queries", queries, ",\n")?;
    member(&mut status_head, "notices", notices, ",\n")?;
    member(&mut status_head, "suspected", &suspected.as_ref().map(status::Suspected::from), ",\n")?;
    member(&mut status_head, "services", &shown(&services, table), ",\n")?;
    let mut pools_head = writer();
    pools_head.write_all(b"{\n")?;
    member(&mut pools_head, "generation", &table.generation, ",\n")?;
    let mut pools = writer();
    member(&mut pools, "pools", pieces, "\n}\n")?;
    Ok(Everything {
        status_head: status_head.finish(),
        pools_head: pools_head.finish(),
        pools: pools.finish(),
    })
}

fn write_services(table: &Table, writer: &mut TextWriter<'_>) -> io::Result<()> {
    writer.write_all(b"{\n")?;
    member(writer, "generation", &table.generation, ",\n")?;
    member(writer, "services", &shown(&services(table), table), "\n}\n")
}

fn services(table: &Table) -> Vec<ServiceStatus> {
    table.services().iter().map(|view| ServiceStatus::of(view, table)).collect()
}

fn shown<'s>(services: &'s [ServiceStatus], table: &Table) -> Vec<status::Service<'s>> {
    let views = (0..).map(ServiceId).zip(table.services().iter());
    let answers = views.map(|(id, view)| table.answers().of_whole_service(id, view));
    services
        .iter()
        .zip(answers)
        .map(|(service, answers)| status::Service::from(service).with(answers))
        .collect()
}

/// Writes a member of the outermost object, which consists of several texts.
pub(super) fn member(
    writer: &mut TextWriter<'_>,
    name: &str,
    value: &impl Serialize,
    end: &str,
) -> io::Result<()> {
    write!(writer, "  \"{name}\": ")?;
    let mut formatter = PrettyFormatter::new();
    // Writes nothing, but sets the indentation for lines within an object.
    formatter.begin_object(&mut io::sink())?;
    value.serialize(&mut Serializer::with_formatter(&mut *writer, formatter))?;
    writer.write_all(end.as_bytes())
}
