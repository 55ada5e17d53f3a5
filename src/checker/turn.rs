//! The turns of the checker: it waits for an event, hands it to the fleet, and carries out the effects.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;

use crate::checker::{CheckerCommand, Outside, PULSE};
use crate::fleet::{Capacity, Clocks, Due, Fleet, FleetSetup, Launch, Memory, Outputs, Running, Survey};
use crate::health::Moment;
use crate::metrics::Metrics;
use crate::probe::Report;
use crate::retired::Retired;
use crate::table::Published;

/// How a probe ended.
type ProbeEnd = Result<(task::Id, Report), JoinError>;

pub(super) struct Checker<O> {
    fleet: Fleet,
    published: Published,
    retired: Retired,
    metrics: Arc<Metrics>,
    outside: O,
    rng: SmallRng,
    /// The origin of every [`Moment`].
    origin: Instant,
    tasks: JoinSet<Report>,
    /// The running probe of each task.
    running: HashMap<task::Id, (Running, AbortHandle)>,
    /// Reused to save allocations.
    launches: Vec<Launch>,
    /// The surveys in progress, in the order of their requests.
    surveys: VecDeque<(Survey, oneshot::Sender<Memory>)>,
    ready: watch::Sender<bool>,
    startup_wait: Duration,
}

impl<O: Outside> Checker<O> {
    pub(super) fn new(
        setup: FleetSetup,
        capacity: Capacity,
        outputs: Outputs,
        outside: O,
        ready: watch::Sender<bool>,
        retired: Retired,
    ) -> Self {
        let (startup_wait, origin) = (setup.served.startup_wait, Instant::now());
        let (mut rng, metrics) = (outside.chance(), Arc::clone(&outputs.metrics));
        let clocks = Clocks { now: Moment::ZERO, passed: outside.passed(), wall: outside.wall() };
        let fleet = Fleet::new(setup, capacity, outputs, clocks, &mut rng);
        Self {
            published: Published::new(Arc::clone(fleet.table())),
            fleet,
            retired,
            metrics,
            outside,
            rng,
            origin,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            launches: Vec::new(),
            surveys: VecDeque::new(),
            ready,
            startup_wait,
        }
    }

    pub(super) fn published(&self) -> Published {
        self.published.clone()
    }

    /// Ends when no [`crate::checker::CheckerHandle`] is left; running probes end with it.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<CheckerCommand>) {
        loop {
            self.metrics.turned();
            self.fleet.set_clocks(self.clocks());
            let due = self.start_due();
            // If more is due, let the probes that have started continue first.
            if due == Due::More || !self.surveys.is_empty() {
                task::yield_now().await;
            }
            self.tell_ready();
            let deadline = self.deadline();
            let (mut ended, mut command) = (None, None);
            tokio::select! {
                Some(first) = self.tasks.join_next_with_id() => ended = Some(first),
                received = commands.recv() => match received {
                    Some(received) => command = Some(received),
                    None => return,
                },
                () = tokio::time::sleep_until(self.origin + deadline) => {}
            }
            self.fleet.set_clocks(self.clocks());
            if let Some(command) = command {
                self.obey(command);
            }
            self.fleet.woke(deadline);
            // Everything that has ended by now leads to one publish. The loop ends, as no probe starts.
            let mut next = ended.or_else(|| self.tasks.try_join_next_with_id());
            while let Some(ended) = next {
                self.take(ended);
                next = self.tasks.try_join_next_with_id();
            }
            self.fleet.settle();
            self.publish(|fleet| fleet.publish(None));
            self.fleet.renew_orders();
            self.replace_table();
            self.go_on_with_surveys();
        }
    }

    fn clocks(&self) -> Clocks {
        Clocks { now: self.origin.elapsed(), passed: self.outside.passed(), wall: self.outside.wall() }
    }

    /// When to wake if nothing happens before.
    fn deadline(&self) -> Moment {
        let now = self.origin.elapsed();
        if !self.surveys.is_empty() {
            return now;
        }
        let ready = (!*self.ready.borrow()).then_some(self.startup_wait);
        let first = self.fleet.next_deadline().into_iter().chain(ready).chain([now + PULSE]).min();
        first.unwrap_or(now).max(now)
    }

    fn start_due(&mut self) -> Due {
        let mut launches = std::mem::take(&mut self.launches);
        let due = self.fleet.start_due(&mut launches);
        for Launch { run, running } in launches.drain(..) {
            // Boxed, because tasks are aligned to 128 bytes: of a large one, the allocator could not reuse the memory.
            let task = self.tasks.spawn(Box::pin(self.outside.clone().probe(run)));
            self.running.insert(task.id(), (running, task));
        }
        self.launches = launches;
        due
    }

    /// Hands the report of a probe to the fleet.
    fn take(&mut self, ended: ProbeEnd) {
        let (task, report) = match ended {
            Ok((task, report)) => (task, report),
            Err(broken) => (broken.id(), Report::of_broken(&broken)),
        };
        if let Some((running, _)) = self.running.remove(&task) {
            self.fleet.ended(running, report, &mut self.rng);
        }
    }

    fn tell_ready(&mut self) {
        if !*self.ready.borrow() && self.fleet.is_ready(self.startup_wait) {
            self.ready.send_replace(true);
        }
    }

    /// Carries out a command. A reply is dropped if nobody waits for it.
    fn obey(&mut self, command: CheckerCommand) {
        match command {
            CheckerCommand::Tell(_, reply) if reply.is_closed() => {}
            CheckerCommand::Tell(cursor, reply) => drop(reply.send(self.fleet.piece(cursor))),
            CheckerCommand::Conditions(request, reply) => drop(reply.send(self.fleet.conditions(&request))),
            CheckerCommand::Explain(request, reply) => drop(reply.send(self.fleet.explain(&request))),
            CheckerCommand::Preview(request, reply) => drop(reply.send(self.fleet.preview(&request))),
            CheckerCommand::Override(wanted, reply) => self.change(Fleet::override_backend, wanted, reply),
            CheckerCommand::OverrideMany(wanted, reply) => self.change(Fleet::override_many, wanted, reply),
            CheckerCommand::ChangeService(wanted, reply) => self.change(Fleet::change_service, wanted, reply),
            CheckerCommand::Memory(survey, reply) => {
                self.fleet.begin_memory(&survey);
                self.surveys.push_back((survey, reply));
            }
            CheckerCommand::MemoryChanges(reply) if reply.is_closed() => {}
            CheckerCommand::MemoryChanges(reply) => drop(reply.send(self.fleet.memory_changes())),
            CheckerCommand::Configuration(reply) => drop(reply.send(self.fleet.configuration())),
            CheckerCommand::RuleTables(new, reply) => self.change(Fleet::replace_rule_tables, new, reply),
            CheckerCommand::Reload(wanted, reply) => {
                let reloaded = self.fleet.reload(*wanted, &mut self.rng);
                self.replace_table();
                for (running, task) in self.running.values() {
                    if !self.fleet.wants(running) {
                        task.abort();
                    }
                }
                self.surveys.iter_mut().for_each(|(survey, _)| survey.restart());
                drop(reply.send(reloaded));
            }
        }
    }

    fn change<R, T>(&mut self, change: fn(&mut Fleet, R) -> T, wanted: R, reply: oneshot::Sender<T>) {
        let _ = reply.send(self.publish(|fleet| change(fleet, wanted)));
    }

    /// Applies a change to the fleet, and publishes the resulting table, if there is one.
    fn publish<T>(&mut self, change: impl FnOnce(&mut Fleet) -> T) -> T {
        let began = Instant::now();
        let changed = change(&mut self.fleet);
        if self.replace_table() {
            self.metrics.published(began.elapsed());
        }
        changed
    }

    /// Publishes the table of the fleet, unless it is already published.
    fn replace_table(&self) -> bool {
        let table = self.fleet.table();
        if Arc::ptr_eq(&self.published.load(), table) {
            return false;
        }
        let old = self.published.replace(Arc::clone(table));
        self.retired.take(old, table);
        true
    }

    fn go_on_with_surveys(&mut self) {
        let Some((mut survey, reply)) = self.surveys.pop_front() else { return };
        if reply.is_closed() {
            return;
        }
        match survey.step(&self.fleet) {
            Some(memory) => drop(reply.send(memory)),
            None => self.surveys.push_front((survey, reply)),
        }
    }
}
