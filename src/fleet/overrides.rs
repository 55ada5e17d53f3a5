//! Operators' overrides for backends.
//!
//! Checks continue during an override, and their result applies again when it ends. An override for an hour
//! ends after an hour, even if the time of day jumps ([`crate::fleet::calendar`]). Only across a restart the
//! time of day decides.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::duration::Shown;
use crate::events::{Teller, tell};
use crate::fleet::calendar::Stamp;
use crate::fleet::kept_override::KeptOverride;
use crate::fleet::pools::{BackendState, PoolState};
use crate::fleet::{
    Fleet, NamedOverride, Overridden, OverrideChange, OverrideRefused, OverrideRequest, OverrideStatus,
    RememberedOverride,
};
use crate::pool::{Family, Override, OverrideKind, OverrideValue, PoolId};
use crate::table::Table;

const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// The backends with an override, and when the next override ends.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    places: BTreeSet<OverridePlace>,
    pub(super) end: Option<Stamp>,
}

/// The pool, the index of the backend within it, and what of it is overridden.
pub(super) type OverridePlace = (PoolId, usize, OverrideKind);

impl Fleet {
    /// Sets or ends an override, and makes the next table. A request that takes something away from clients
    /// is refused unless it is forced.
    ///
    /// # Errors
    /// See [`OverrideRefused`].
    pub fn override_backend(&mut self, request: OverrideRequest) -> Result<Overridden, OverrideRefused> {
        let (id, index) = self.wanted_override(&request)?;
        let OverrideRequest { pool, backend, change, length, reason, force, by, expected: _ } = request;
        let place = (id, index, change.kind());
        let consequences = self.consequences(&[(id, [index].into())].into(), change);
        if !force && consequences.iter().any(|consequence| consequence.takes_away) {
            return Err(OverrideRefused::TakesAway(consequences));
        }
        let before = self.say(place, (change, length, reason), &by);
        self.publish(Some(&by));
        let status = self.one_backend(id, index);
        let backend = status.ok_or(OverrideRefused::NoSuchBackend { pool, backend })?;
        Ok(Overridden { backend, before, consequences })
    }

    /// The place of a backend whose override is as the request expects.
    pub(super) fn wanted_override(
        &self,
        request: &OverrideRequest,
    ) -> Result<(PoolId, usize), OverrideRefused> {
        let OverrideRequest { pool, backend, change, expected, .. } = request;
        let found = self.pools.find(pool, backend);
        let (id, index) = found
            .ok_or_else(|| OverrideRefused::NoSuchBackend { pool: pool.clone(), backend: backend.clone() })?;
        let present = self.overridden((id, index, change.kind())).map(|kept| kept.shown(self.calendar));
        if expected.allows(present.as_ref().map(OverrideStatus::version)) {
            Ok((id, index))
        } else {
            Err(OverrideRefused::Unexpected(present.map(Box::new)))
        }
    }

    /// Sets or ends an override as an operator says, and returns the previous one. Makes no table.
    pub(super) fn say(
        &mut self,
        place: OverridePlace,
        (change, length, reason): (OverrideChange, Option<Duration>, Option<String>),
        by: &str,
    ) -> Option<OverrideStatus> {
        let before = self.overridden(place);
        let reason = reason.or_else(|| before?.reason.clone());
        let before = before.map(|kept| kept.shown(self.calendar));
        let since = self.at;
        let until = length.map(|length| since.after(length));
        let kept = |value| KeptOverride { value, since, until, reason, by: Some(by.into()), safe_at: None };
        self.set_override(place, change.value().map(kept), since, "by request", Some(by));
        before
    }

    /// Restores the overrides from the previous run.
    pub(super) fn recall_overrides(&mut self, remembered: Vec<RememberedOverride>) {
        let now = self.at;
        for RememberedOverride { pool, backend, value, since, until, reason, by } in remembered {
            let (pool, backend) = (&*pool, &*backend);
            let [since, until] =
                [Some(since), until].map(|time| time.map(|time| self.calendar.stamp_of(time)));
            if until.is_some_and(|until| until <= now) {
                let [state, weight] = words(Some(value));
                tell!(
                    self.teller,
                    info,
                    Override,
                    pool,
                    backend,
                    state,
                    weight,
                    "a remembered override has ended while steerd was stopped"
                );
                continue;
            }
            let Some((id, index)) = self.pools.find(pool, backend) else {
                let [state, weight] = words(Some(value));
                tell!(
                    self.teller,
                    info,
                    Override,
                    pool,
                    backend,
                    state,
                    weight,
                    "a remembered override is dropped, its backend is gone"
                );
                continue;
            };
            let asked_by = by.clone();
            let kept = KeptOverride { value, since: since.unwrap_or(now), until, reason, by, safe_at: None };
            let place = (id, index, value.kind());
            self.set_override(place, Some(kept), now, "remembered", asked_by.as_deref());
        }
    }

    /// Ends the overrides that are due to end.
    pub(super) fn end_overrides(&mut self) {
        let now = self.at;
        if self.overrides.end.is_none_or(|end| end > now) {
            return;
        }
        for place in self.overrides.places.clone() {
            let Some(kept) = self.overridden(place) else { continue };
            if kept.until.is_some_and(|until| until <= now) {
                let asked_by = kept.by.clone();
                self.set_override(place, None, now, "its time is over", asked_by.as_deref());
            }
        }
    }

    /// Rebuilds the index of overrides, after a reload.
    pub(super) fn index_overrides(&mut self) {
        let places = self.pools.iter().flat_map(|(id, pool)| {
            let backends = pool.backends.iter().enumerate();
            let all = backends
                .flat_map(|(index, backend)| OverrideKind::ALL.map(|kind| (index, backend.kept(kind), kind)));
            all.filter_map(move |(index, kept, kind)| kept.map(|_| (id, index, kind)))
        });
        self.overrides.places = places.collect();
        self.note_end();
    }

    /// Records all overrides as ended, before a reload, and returns them for [`Self::lost_overrides`].
    pub(super) fn let_go_of_overrides(&mut self) -> Vec<NamedOverride> {
        for place in self.overrides.places.clone() {
            self.note_no_override(place);
        }
        self.named_overrides()
    }

    /// All overrides, by name.
    pub(super) fn named_overrides(&self) -> Vec<NamedOverride> {
        self.overrides.places.iter().filter_map(|place| self.named_override(*place)).collect()
    }

    /// Finds and tells the overrides whose backends are gone after the reload.
    pub(super) fn lost_overrides(&self, before: Vec<NamedOverride>, asked_by: &str) -> Vec<NamedOverride> {
        let now = self.named_overrides().into_iter();
        let now: HashSet<(Arc<str>, Arc<str>)> = now.map(|kept| (kept.pool, kept.backend)).collect();
        let is_lost =
            |kept: &NamedOverride| !now.contains(&(Arc::clone(&kept.pool), Arc::clone(&kept.backend)));
        let lost: Vec<NamedOverride> = before.into_iter().filter(is_lost).collect();
        for NamedOverride { pool, backend, value, .. } in &lost {
            let (pool, backend, [state, weight]) = (&**pool, &**backend, words(Some(*value)));
            tell!(
                self.teller,
                info,
                Override,
                pool,
                backend,
                state,
                weight,
                asked_by,
                "the override of a backend has ended, the backend is gone"
            );
        }
        lost
    }

    fn named_override(&self, place: OverridePlace) -> Option<NamedOverride> {
        let (id, backend, _) = place;
        let series = &self.pools.get(id)?.series;
        let kept = self.overridden(place)?;
        Some(NamedOverride {
            pool: Arc::clone(series.name()),
            backend: Arc::clone(series.backend_name(backend)?),
            value: kept.value,
            reason: kept.reason.clone(),
        })
    }

    /// Records all overrides as changed, because their names, places or times have changed.
    pub(super) fn note_overrides(&mut self) {
        for place in self.overrides.places.clone() {
            self.show_override_end(place);
            self.note_override(place);
        }
    }

    /// Exports when an override ends.
    fn show_override_end(&self, place: OverridePlace) {
        let (id, backend, kind) = place;
        let until = self.overridden(place).and_then(|kept| kept.until);
        if let Some(pool) = self.pools.get(id) {
            let end = until.map(|until| self.calendar.shown_since_1970(until));
            pool.series.override_ends(backend, kind, end);
        }
    }

    fn note_end(&mut self) {
        let ends = self.overrides.places.iter().map(|place| self.overridden(*place));
        self.overrides.end = ends.filter_map(|kept| kept?.until).min();
    }

    fn overridden(&self, (id, backend, kind): OverridePlace) -> Option<&KeptOverride> {
        self.pools.get(id)?.backends.get(backend)?.kept(kind)
    }

    fn set_override(
        &mut self,
        place: OverridePlace,
        kept: Option<KeptOverride>,
        now: Stamp,
        why: &str,
        asked_by: Option<&str>,
    ) {
        let (id, backend, kind) = place;
        let from = self.overridden(place).map(|kept| kept.value);
        let Some(pool) = self.pools.0.get_mut(id.index()) else { return };
        let value = kept.as_ref().map(|kept| kept.value);
        let set = |state: &mut BackendState| {
            let Some(slot) = state.overridden.get_mut(kind.index()) else { return };
            let before = slot.take();
            *slot = kept.map(|mut kept| {
                if let Some(before) = before {
                    // If this override keeps the backend out too, it left the answers with the previous one.
                    kept.safe_at = before.safe_at;
                    if before.value == kept.value {
                        kept.since = before.since;
                    }
                }
                Box::new(kept)
            });
        };
        if pool.change_backend(backend, set).is_none() {
            return;
        }
        pool.series.overridden(backend, kind, value);
        tell_override(pool, (backend, kind), (from, why), now, asked_by, &self.teller);
        if value.is_some() {
            self.overrides.places.insert(place);
        } else {
            self.overrides.places.remove(&place);
        }
        self.note_end();
        self.show_override_end(place);
        self.note_override(place);
        let until = self.overridden(place).and_then(|kept| kept.until);
        self.note_override_end(place, until);
        self.touched.insert(id);
    }

    /// For each overridden backend that the new table no longer answers, records when the last answer with it
    /// expires. `before` is the table that gave the last answers.
    pub(super) fn note_safety(&mut self, touched: &BTreeSet<PoolId>, before: &Table) {
        if self.overrides.places.is_empty() {
            return;
        }
        let (now, table) = (self.at, Arc::clone(&self.table));
        // The answer of a service depends on all its tiers.
        let mut affected = touched.clone();
        for pool in touched {
            affected.extend(table.services().tiers_beside(*pool));
        }
        for id in affected {
            let all = (id, 0, OverrideKind::State)..=(id, usize::MAX, OverrideKind::Weight);
            let mut places = self.overrides.places.range(all).peekable();
            if places.peek().is_none() {
                continue;
            }
            let (answered, certain_until) = (answered(id, &table), self.certain_until(id, before));
            let Some(pool) = self.pools.0.get_mut(id.index()) else { continue };
            let safe = pool.answers_end(now, certain_until).max(pool.earlier_answers_end);
            for &(_, backend, kind) in places {
                let state = pool.backends.get_mut(backend);
                let slot = state.and_then(|state| state.overridden.get_mut(kind.index()));
                let Some(status) = slot.and_then(Option::as_deref_mut) else { continue };
                if !takes_out(status.value) || answered.contains(&backend) {
                    status.safe_at = None;
                } else {
                    status.safe_at.get_or_insert(safe);
                }
            }
        }
    }
}

/// Whether a backend with this override is not answered, unless its pool fails open.
fn takes_out(value: OverrideValue) -> bool {
    match value {
        OverrideValue::State(state) => state != Override::Up,
        OverrideValue::Weight(percent) => percent == 0,
    }
}

/// The fields of a log line, `state` and `weight`.
fn words(value: Option<OverrideValue>) -> [Option<String>; 2] {
    OverrideKind::ALL.map(|kind| value.filter(|value| value.kind() == kind).map(|value| value.to_string()))
}

/// The backends of a pool that may be in answers now.
fn answered(id: PoolId, table: &Table) -> BTreeSet<usize> {
    let Some(view) = table.pool(id) else { return BTreeSet::new() };
    let families = Family::ALL.into_iter().zip(table.fails_open_to(id));
    families
        .flat_map(|(family, fails_open)| {
            let family = view.family(family);
            let everyone = if fails_open { &*family.everyone.members } else { &[] };
            family.eligible.members.iter().chain(everyone)
        })
        .map(|member| member.backend as usize)
        .collect()
}

/// A duration for a log line, in whole seconds, because some time has passed since it was set, for example for an
/// hour.
pub(super) fn rounded(length: Duration) -> Duration {
    Duration::from_secs((length + HALF_A_SECOND).as_secs())
}

/// Tells a new override, or the end of the previous one.
fn tell_override(
    pool: &PoolState,
    (backend, kind): (usize, OverrideKind),
    (from, why): (Option<OverrideValue>, &str),
    now: Stamp,
    asked_by: Option<&str>,
    teller: &Teller,
) {
    let kept = pool.backends.get(backend).and_then(|state| state.kept(kind));
    let (from, left) = (from.map(|value| value.to_string()), pool.tally.to_string());
    let backend = pool.series.backend_name(backend).map(|name| &**name);
    let pool = &**pool.series.name();
    match kept {
        Some(KeptOverride { value, until, reason, .. }) => {
            let ends_in = until.map(|until| Shown(rounded(until.since(now))).to_string());
            let ([state, weight], reason) = (words(Some(*value)), reason.as_deref());
            tell!(
                teller,
                info,
                Override,
                pool,
                backend,
                state,
                weight,
                from,
                ends_in,
                reason,
                left,
                asked_by,
                "backend is overridden, {why}"
            );
        }
        None if from.is_some() => {
            tell!(
                teller,
                info,
                Override,
                pool,
                backend,
                from,
                left,
                asked_by,
                "the override of a backend has ended, {why}"
            );
        }
        None => {}
    }
}
