//! The turns of the checker: what it waits for, and what it does when it wakes.

use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::checker::calendar::{Calendar, Stamp};
use crate::checker::memory::{Untold, hints};
use crate::checker::overrides::Overrides;
use crate::checker::pools::{Linking, PoolState, Pools};
use crate::checker::probing::Due;
use crate::checker::retired::Retired;
use crate::checker::services::{ServiceLog, log_pool};
use crate::checker::slots::Slots;
use crate::checker::survey::Survey;
use crate::checker::suspicion::LocalFaults;
use crate::checker::targets::{Linker, Targets};
use crate::checker::telling::Sources;
use crate::checker::{Capacity, Checker, Command, LATE, Outside, PULSE, PoolSetup, Setup};
use crate::counters::Counters;
use crate::health::{HealthTable, Moment};
use crate::metrics::Metrics;
use crate::pool::PoolId;
use crate::service::Service;
use crate::table::{PoolView, Published, ServiceView, Table};

impl<O: Outside> Checker<O> {
    pub(super) fn new(
        setup: Setup,
        Capacity { counter_rows, probes }: Capacity,
        metrics: Arc<Metrics>,
        outside: O,
        ready: watch::Sender<bool>,
        retired: Retired,
    ) -> Self {
        let mut rng = outside.chance();
        let mut health = HealthTable::new();
        let mut targets = Targets::default();
        let calendar = Calendar::new(outside.wall(), outside.passed());
        let at = calendar.stamp(outside.passed());
        let mut linker = Linker::new(&mut targets, &mut health, Moment::ZERO, at, &mut rng, &HashSet::new());
        let mut hints = hints(&setup.memory.states, calendar);
        let link = |(id, setup): (PoolId, PoolSetup)| {
            let hints = hints.remove(setup.pool.name.as_str()).unwrap_or_default();
            let linking = Linking { metrics: &metrics, linker: &mut linker, hints: &hints, previous: None };
            PoolState::new(id, Arc::new(setup), linking)
        };
        let mut pools = Pools((0..).map(PoolId).zip(setup.pools).map(link).collect());
        pools.note_ttls(setup.services.iter());
        metrics.show(&pools.0.iter().map(|pool| Arc::clone(&pool.series)).collect());
        let view =
            |pool: &PoolState| Arc::new(pool.view(None, PoolView::counters(&pool.setup.pool, counter_rows)));
        let service_view = |service: Service| {
            let answers = Counters::new(counter_rows, service.tiers.len() + 1);
            ServiceView { service, answers }
        };
        let table = Table {
            generation: 1,
            settings: Arc::new(setup.settings),
            catalog: Arc::new(setup.catalog),
            pools: pools.0.iter().map(view).collect(),
            services: setup.services.into_iter().map(service_view).collect(),
        };
        let mut checker = Self {
            overrides: Overrides::default(),
            untold: Untold::default(),
            calendar,
            surveys: VecDeque::new(),
            service_log: ServiceLog::new(&table),
            published: Published::new(table),
            retired,
            pools,
            targets,
            health,
            touched: BTreeSet::new(),
            wakes: BinaryHeap::new(),
            counter_rows,
            metrics,
            outside,
            slots: Slots::new(probes),
            probes: JoinSet::new(),
            running: HashMap::new(),
            origin: Instant::now(),
            stalled: None,
            local_faults: LocalFaults::default(),
            suspected: None,
            ready,
            startup_wait: setup.startup_wait,
            rng,
        };
        checker.set_groups();
        checker.recall_overrides(setup.memory.overrides);
        checker.publish(None);
        checker
    }

    pub(super) fn now(&self) -> Moment {
        self.origin.elapsed()
    }

    /// Now, on the calendar that does not jump.
    pub(super) fn stamp(&self) -> Stamp {
        self.calendar.stamp(self.outside.passed())
    }

    /// Ends when nobody holds a [`crate::checker::Handle`] any more; probes in flight end with it.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            self.metrics.turned();
            let due = self.start_due();
            // With more to do at once, those that have been started go on first.
            if due == Due::More || !self.surveys.is_empty() {
                task::yield_now().await;
            }
            self.tell_ready();
            let asleep = self.now();
            let deadline = self.deadline(asleep).max(asleep);
            let ended = tokio::select! {
                Some(ended) = self.probes.join_next_with_id() => Some(ended),
                command = commands.recv() => match command {
                    Some(command) => {
                        self.notice_jump();
                        self.obey(command);
                        None
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(self.origin + deadline) => None,
            };
            self.notice_stall(deadline);
            self.notice_jump();
            // All that has ended by now makes one publish, whatever woke this up. It is no endless
            // supply: nothing is started meanwhile.
            let mut next = ended.or_else(|| self.probes.try_join_next_with_id());
            while let Some(ended) = next {
                self.take(ended);
                next = self.probes.try_join_next_with_id();
            }
            self.heed_alarms();
            self.weigh_due();
            self.end_overrides();
            self.publish(None);
            self.tell();
        }
    }

    /// When to wake although nothing has happened.
    fn deadline(&self, now: Moment) -> Moment {
        let due = (!self.slots.are_full()).then(|| self.health.next_deadline()).flatten();
        let ready = (!*self.ready.borrow()).then_some(self.startup_wait);
        let share = self.wakes.peek().map(|wake| wake.0.0);
        if !self.surveys.is_empty() {
            return now;
        }
        due.into_iter().chain(ready).chain(share).chain([now + PULSE]).min().unwrap_or(now)
    }

    fn tell_ready(&mut self) {
        if *self.ready.borrow() {
            return;
        }
        if self.health.all_known() {
            info!(targets = self.targets.len(), "ready: every backend address has its first outcome");
        } else if self.now() >= self.startup_wait {
            warn!(
                targets = self.targets.len(),
                unknown = self.health.unknown(),
                "ready: startup_wait is over, though not every backend address has an outcome"
            );
        } else {
            return;
        }
        self.ready.send_replace(true);
    }

    fn notice_stall(&mut self, deadline: Moment) {
        let now = self.now();
        let late = now.saturating_sub(deadline);
        if late > LATE {
            self.stalled = Some(now);
            warn!(?late, "this process was not run for a while; probes that failed meanwhile do not count");
        }
    }

    /// Overrides and all else go by the time that passes; only what is shown follows the time of day.
    fn notice_jump(&mut self) {
        if let Some(seconds) = self.calendar.correct(self.outside.wall(), self.outside.passed()) {
            // The times that are kept for the next start are times of day.
            self.untold.everything();
            self.note_overrides();
            warn!(seconds, "the time of day has jumped; overrides still last as long as they were given for");
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            // Nothing is told to those who have left.
            Command::Tell(_, reply) if reply.is_closed() => {}
            Command::Tell(place, reply) => {
                drop(reply.send(self.sources(&self.published.load()).piece(place)));
            }
            Command::Override(request, reply) => self.override_backend(request, reply),
            Command::Memory(reply) => {
                self.untold.begin();
                self.surveys.push_back(Survey::new(reply));
            }
            Command::MemoryChanges(reply) if reply.is_closed() => {}
            Command::MemoryChanges(reply) => drop(reply.send(self.memory_changes())),
            Command::Configuration(reply) => drop(reply.send(self.configuration())),
            Command::Reload(wanted, reply) => drop(reply.send(self.reload(*wanted))),
        }
    }

    /// Goes on with what is being told.
    fn tell(&mut self) {
        if let Some(survey) = self.surveys.pop_front()
            && let Some(survey) = survey.step(&self.sources(&self.published.load()))
        {
            self.surveys.push_front(survey);
        }
    }

    pub(super) fn sources<'a>(&'a self, table: &'a Table) -> Sources<'a> {
        Sources {
            pools: &self.pools,
            targets: &self.targets,
            health: &self.health,
            table,
            services: &self.service_log,
            suspected: self.local_faults.suspected().or(self.suspected.as_ref()),
            now: self.now(),
            at: self.stamp(),
            calendar: self.calendar,
        }
    }

    /// Publishes a table, which it hands back to read.
    pub(super) fn replace(&self, table: Table) -> Arc<Table> {
        let old = self.published.replace(table);
        let table = self.published.load();
        self.retired.take(old, &table);
        table
    }

    /// Builds the touched pools anew and publishes them together. `asked_by` is the one whose request
    /// this is, if it is one, for the log.
    pub(super) fn publish(&mut self, asked_by: Option<&str>) {
        if self.touched.is_empty() {
            return;
        }
        let began = Instant::now();
        let touched = std::mem::take(&mut self.touched);
        let previous = self.published.load();
        let mut pools = previous.pools.clone();
        for &id in &touched {
            let (Some(view), Some(pool)) = (pools.get_mut(id.index()), self.pools.get(id)) else { continue };
            *view = Arc::new(pool.view(Some(view), Arc::clone(&view.answers)));
        }
        let table = self.replace(Table {
            generation: previous.generation + 1,
            settings: Arc::clone(&previous.settings),
            catalog: Arc::clone(&previous.catalog),
            services: Arc::clone(&previous.services),
            pools,
        });
        self.metrics.published(began.elapsed());
        self.note_safety(&table, &touched);
        for &id in &touched {
            if let (Some(before), Some(now), Some(pool)) =
                (previous.pool(id), table.pool(id), self.pools.get(id))
            {
                log_pool(before, now, &pool.tally.to_string(), asked_by);
            }
        }
        self.service_log.look(&previous, &table, touched, asked_by);
    }
}
