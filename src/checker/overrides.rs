//! Operators' overrides of backends, beside the results of the checks.
//!
//! The word of the checks goes on underneath and is what returns when an override ends. An override
//! that was given for an hour ends when an hour has really passed, whatever happens to the time of
//! day meanwhile ([`crate::checker::calendar`]). Only over a restart does the time of day decide.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::info;

use crate::checker::calendar::{Calendar, Stamp};
use crate::checker::pools::PoolState;
use crate::checker::{
    BackendStatus, Checker, NoSuchBackend, Outside, OverrideRequest, OverrideStatus, RememberedOverride,
};
use crate::pool::{Family, Override, PoolId};
use crate::table::{Source, Table};

/// How long after a table was replaced an answer from it may still be on its way.
pub(super) const ON_THE_WAY: Duration = Duration::from_secs(1);

/// The backends that have an override, and when the first of them ends.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// Pool, and index of the backend within it.
    places: BTreeSet<(PoolId, usize)>,
    end: Option<Stamp>,
}

/// An operator's override of a backend, as it is kept.
#[derive(Debug)]
pub(super) struct KeptOverride {
    pub(super) state: Override,
    since: Stamp,
    until: Option<Stamp>,
    reason: Option<String>,
    /// See [`OverrideStatus::safe_at`].
    safe_at: Option<Stamp>,
}

impl KeptOverride {
    pub(super) fn shown(&self, calendar: Calendar) -> OverrideStatus {
        OverrideStatus {
            state: self.state,
            since: calendar.shown(self.since),
            until: self.until.map(|until| calendar.shown(until)),
            reason: self.reason.clone(),
            safe_at: self.safe_at.map(|safe_at| calendar.shown(safe_at)),
        }
    }
}

impl<O: Outside> Checker<O> {
    /// Does what an operator asks, and publishes it.
    pub(super) fn override_backend(
        &mut self,
        request: OverrideRequest,
        reply: oneshot::Sender<Result<BackendStatus, NoSuchBackend>>,
    ) {
        let place = self.pools.find(&request.pool, &request.backend);
        let OverrideRequest { pool, backend: name, state, length, reason } = request;
        let Some((id, backend)) = place else {
            return drop(reply.send(Err(NoSuchBackend { pool, backend: name })));
        };
        let since = self.stamp();
        let until = length.map(|length| since.after(length));
        let kept = |state| KeptOverride { state, since, until, reason, safe_at: None };
        self.set_override(id, backend, state.map(kept), since, "by request");
        self.publish();
        let told = self.sources(&self.published.load()).one_backend(id, backend);
        // The asking task may have ended.
        drop(reply.send(told.ok_or(NoSuchBackend { pool, backend: name })));
    }

    /// Takes up what operators said before the start.
    pub(super) fn recall_overrides(&mut self, remembered: Vec<RememberedOverride>) {
        let now = self.stamp();
        for RememberedOverride { pool, backend, state, since, until, reason } in remembered {
            let (pool, backend) = (&*pool, &*backend);
            let [since, until] =
                [Some(since), until].map(|time| time.map(|time| self.calendar.stamp_of(time)));
            if until.is_some_and(|until| until <= now) {
                info!(pool, backend, state = state.as_str(), "a remembered override has ended meanwhile");
                continue;
            }
            let Some((id, index)) = self.pools.find(pool, backend) else {
                info!(
                    pool,
                    backend,
                    state = state.as_str(),
                    "a remembered override is of no backend any more"
                );
                continue;
            };
            let kept = KeptOverride { state, since: since.unwrap_or(now), until, reason, safe_at: None };
            self.set_override(id, index, Some(kept), now, "remembered");
        }
    }

    /// Ends the overrides whose time has come.
    pub(super) fn end_overrides(&mut self) {
        let now = self.stamp();
        if self.overrides.end.is_none_or(|end| end > now) {
            return;
        }
        for (id, backend) in self.overrides.places.clone() {
            let until = self.overridden(id, backend).and_then(|kept| kept.until);
            if until.is_some_and(|until| until <= now) {
                self.set_override(id, backend, None, now, "its time is over");
            }
        }
    }

    /// Notes which backends have overrides, after the pools have become others.
    pub(super) fn index_overrides(&mut self) {
        let places = self.pools.iter().flat_map(|(id, pool)| {
            let backends = pool.backends.iter().enumerate();
            backends.filter(|(_, backend)| backend.overridden.is_some()).map(move |(index, _)| (id, index))
        });
        self.overrides.places = places.collect();
        self.note_end();
    }

    /// The pools are about to become others: overrides count as ended until they are noted again.
    pub(super) fn let_go_of_overrides(&mut self) {
        for (id, backend) in self.overrides.places.clone() {
            self.note_no_override(id, backend);
        }
    }

    /// Notes all overrides, for those who keep them: their names, places or times are others now.
    pub(super) fn note_overrides(&mut self) {
        for (id, backend) in self.overrides.places.clone() {
            self.note_override(id, backend);
        }
    }

    fn note_end(&mut self) {
        let ends = self.overrides.places.iter().map(|(id, backend)| self.overridden(*id, *backend));
        self.overrides.end = ends.filter_map(|kept| kept?.until).min();
    }

    fn overridden(&self, id: PoolId, backend: usize) -> Option<&KeptOverride> {
        self.pools.get(id)?.backends.get(backend)?.overridden.as_deref()
    }

    fn set_override(
        &mut self,
        id: PoolId,
        backend: usize,
        kept: Option<KeptOverride>,
        now: Stamp,
        why: &str,
    ) {
        let Some(PoolState { setup, series, backends, .. }) = self.pools.0.get_mut(id.index()) else {
            return;
        };
        let (Some(configured), Some(state)) = (setup.pool.backends.get(backend), backends.get_mut(backend))
        else {
            return;
        };
        let before = state.overridden.take();
        series.overridden(backend, kept.as_ref().map(|kept| kept.state));
        log_override(&setup.pool.name, &configured.name, before.as_deref(), kept.as_ref(), why, now);
        state.overridden = kept.map(|mut kept| {
            if let Some(before) = before {
                // It has left the answers already, if this one keeps it out as well.
                kept.safe_at = before.safe_at;
                if before.state == kept.state {
                    kept.since = before.since;
                }
            }
            Box::new(kept)
        });
        if state.overridden.is_some() {
            self.overrides.places.insert((id, backend));
        } else {
            self.overrides.places.remove(&(id, backend));
        }
        self.note_end();
        self.note_override(id, backend);
        self.touched.insert(id);
    }

    /// Notes which backends with an override a table that has just been published no longer answers,
    /// and when the last answer with them will have run out.
    pub(super) fn note_safety(&mut self, table: &Table, touched: &BTreeSet<PoolId>) {
        if self.overrides.places.is_empty() {
            return;
        }
        let now = self.stamp();
        // The answer of a service depends on all of its tiers.
        let mut affected = touched.clone();
        for pool in touched {
            affected.extend(self.service_log.tiers_beside(*pool, table));
        }
        for id in affected {
            let mut places = self.overrides.places.range((id, 0)..=(id, usize::MAX)).peekable();
            if places.peek().is_none() {
                continue;
            }
            let answered = self.answered(id, table);
            let Some(pool) = self.pools.0.get_mut(id.index()) else { continue };
            let safe = now.after(ON_THE_WAY + pool.ttl).max(pool.earlier_answers_end);
            for &(_, backend) in places {
                let status = pool.backends.get_mut(backend).and_then(|state| state.overridden.as_deref_mut());
                let Some(status) = status else { continue };
                if status.state == Override::Up || answered.contains(&backend) {
                    status.safe_at = None;
                } else {
                    status.safe_at.get_or_insert(safe);
                }
            }
        }
    }

    /// The backends of a pool that may be answered now.
    fn answered(&self, id: PoolId, table: &Table) -> BTreeSet<usize> {
        let Some(view) = table.pool(id) else { return BTreeSet::new() };
        let services = self.service_log.services_of(id);
        Family::ALL
            .into_iter()
            .flat_map(|family| {
                let fails_open = services.iter().filter_map(|service| table.service(*service)).any(|view| {
                    let source = table.source(&view.service, family);
                    matches!(source, Source::FailOpen { pool, .. } if pool == id)
                });
                let family = view.family(family);
                let everyone = if fails_open { &*family.everyone.members } else { &[] };
                family.eligible.members.iter().chain(everyone)
            })
            .map(|member| member.backend as usize)
            .collect()
    }
}

fn log_override(
    pool: &str,
    backend: &str,
    before: Option<&KeptOverride>,
    kept: Option<&KeptOverride>,
    why: &str,
    now: Stamp,
) {
    let from = before.map(|kept| kept.state.as_str());
    match kept {
        Some(KeptOverride { state, until, reason, .. }) => {
            let ends_in = until.map(|until| format!("{}s", until.since(now).as_secs()));
            let (state, reason) = (state.as_str(), reason.as_deref());
            info!(pool, backend, state, from, ends_in, reason, "backend is overridden, {why}");
        }
        None if before.is_some() => info!(pool, backend, from, "the override of a backend has ended, {why}"),
        None => {}
    }
}

/// A backend that is gone takes what an operator said of it along.
pub(super) fn tell_lost_override(pool: &str, backend: &str, kept: Option<&KeptOverride>) {
    if let Some(kept) = kept {
        let state = kept.state.as_str();
        info!(pool, backend, state, "the override of a backend has ended, the configuration has it no more");
    }
}
