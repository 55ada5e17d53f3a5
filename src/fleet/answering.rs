//! How services are answered, and the kinds of change.
//!
//! ```text
//! Tier --no tier is usable--> FailOpen, Down --a tier is usable, on trust--> OnTrust
//!  ^                                 |                                          |
//!  +-----------------------------a tier is usable-------------------------------+
//! ```
//!
//! `OnTrust` is only for the log: a service that was down is logged as up only when a backend is known to be
//! healthy.

use crate::pool::{Family, PoolId};
use crate::service::WhenDown;
use crate::table::{Decision, FamilyView, PoolView, RouteView, Table};

/// How queries for one address family are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FamilyAnswer {
    /// Without addresses: the pool in use has none of this family.
    #[default]
    Absent,
    /// From a usable tier.
    Tier(PoolId),
    /// From a usable tier after all were down; its addresses are not yet known to be healthy.
    OnTrust(PoolId),
    /// From all backends of a pool, because no tier is usable. If `drained`, an operator has drained them, and
    /// there are no others.
    FailOpen { pool: PoolId, drained: bool },
    /// According to `when_down`, because no tier is usable.
    Down,
}

impl FamilyAnswer {
    /// Whether no tier is usable although the service has addresses of the family.
    fn is_down(self) -> bool {
        matches!(self, Self::FailOpen { .. } | Self::Down)
    }

    /// The usable tier that answers.
    fn tier(self) -> Option<PoolId> {
        match self {
            Self::Tier(pool) | Self::OnTrust(pool) => Some(pool),
            Self::Absent | Self::FailOpen { .. } | Self::Down => None,
        }
    }
}

/// How queries for a route of a service are answered, indexed by [`Family::index`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answering([FamilyAnswer; 2]);

impl Answering {
    pub(super) fn of(route: RouteView<'_>, table: &Table) -> Self {
        Self(Family::ALL.map(|family| match table.decision(route, family) {
            Decision::Tier { pool, .. } => FamilyAnswer::Tier(*pool),
            Decision::FailOpen { pool, .. } => FamilyAnswer::FailOpen {
                pool: *pool,
                drained: table.pool(*pool).is_some_and(|view| view.family(family).drained),
            },
            Decision::Down { is_configured: true } => FamilyAnswer::Down,
            // A family without any address is absent, not down.
            Decision::Down { is_configured: false } | Decision::NoAddress => FamilyAnswer::Absent,
        }))
    }

    /// Supposes that this tier answers.
    pub(super) fn set_tier(&mut self, family: Family, pool: PoolId) {
        if let Some(answer) = self.0.get_mut(family.index()) {
            *answer = FamilyAnswer::Tier(pool);
        }
    }

    /// The usable tiers that answer, indexed by [`Family::index`].
    pub(super) fn tier(&self) -> [Option<PoolId>; 2] {
        self.0.map(FamilyAnswer::tier)
    }

    /// Whether no tier is usable in a family for which the service has addresses.
    pub(super) fn is_down(&self) -> bool {
        self.0.iter().any(|answer| answer.is_down())
    }

    /// The families in which no tier is usable although the service has addresses.
    pub(super) fn down_families(&self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(|family| self.get(*family).is_down())
    }

    /// Whether all backends of a pool answer in a family because no tier is usable.
    pub(super) fn fails_open(&self) -> bool {
        self.0.iter().any(|answer| matches!(answer, FamilyAnswer::FailOpen { .. }))
    }

    fn get(&self, family: Family) -> FamilyAnswer {
        *family.select(&self.0)
    }

    /// This answer, if `before` came first: after a down state, a tier that is usable only on trust stays
    /// `OnTrust`.
    pub(super) fn after(mut self, before: &Self, route: RouteView<'_>, table: &Table) -> Self {
        for (family, now) in Family::ALL.into_iter().zip(&mut self.0) {
            let old = before.get(family);
            if let FamilyAnswer::Tier(pool) = *now
                && (old.is_down() || matches!(old, FamilyAnswer::OnTrust(_)))
                && matches!(table.decision(route, family), Decision::Tier { on_trust: true, .. })
            {
                *now = FamilyAnswer::OnTrust(pool);
            }
        }
        self
    }

    /// `s3`, or `s3 (ipv4), s3-standby (ipv6)` if the families differ.
    fn describe(&self, table: &Table) -> String {
        match self.tier() {
            [None, None] => "none".into(),
            [Some(pool), None] | [None, Some(pool)] => name(pool, table).into(),
            [Some(ipv4), Some(ipv6)] if ipv4 == ipv6 => name(ipv4, table).into(),
            [Some(ipv4), Some(ipv6)] => format!("{} (ipv4), {} (ipv6)", name(ipv4, table), name(ipv6, table)),
        }
    }
}

fn name(pool: PoolId, table: &Table) -> &str {
    table.pool(pool).map_or("?", |view| &*view.name)
}

/// A route of a service and how it is answered, in two tables. Its pools may have different ids in them.
#[derive(Clone, Copy)]
pub(super) struct RouteChange<'a> {
    pub(super) route: RouteView<'a>,
    pub(super) before: (&'a Answering, &'a Table),
    pub(super) now: (&'a Answering, &'a Table),
}

/// A kind of change in an address family, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    /// No tier is usable any more.
    Down,
    /// The family has lost its addresses.
    Gone,
    /// A lower tier answers.
    Later,
    /// Still no tier is usable, and the answers have changed.
    Instead,
    /// Still no tier is usable, and drained backends are answered again because no other address is left.
    Drained,
    /// A tier is usable again, on trust.
    OnTrust,
    /// A tier is usable again.
    Up,
    /// A higher tier answers, or a new one.
    Earlier,
    /// The family has addresses again.
    Back,
}

impl ChangeKind {
    const ALL: [Self; 9] = [
        Self::Down,
        Self::Gone,
        Self::Later,
        Self::Instead,
        Self::Drained,
        Self::OnTrust,
        Self::Up,
        Self::Earlier,
        Self::Back,
    ];
}

impl RouteChange<'_> {
    /// The kinds of change, each with the affected families.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (ChangeKind, Vec<Family>)> {
        let kinds = Family::ALL.map(|family| (self.kind(family), family));
        ChangeKind::ALL.into_iter().filter_map(move |kind| {
            let same = kinds.iter().filter(|(other, _)| *other == Some(kind));
            let families: Vec<Family> = same.map(|(_, family)| *family).collect();
            (!families.is_empty()).then_some((kind, families))
        })
    }

    fn kind(&self, family: Family) -> Option<ChangeKind> {
        let (old, new) = (self.before.0.get(family), self.now.0.get(family));
        let place = |pool, table| {
            let name = name(pool, table);
            self.route.route.tiers.iter().position(|tier| self::name(*tier, self.now.1) == name)
        };
        match (old, new) {
            (FamilyAnswer::Absent, FamilyAnswer::Absent) | (FamilyAnswer::Down, FamilyAnswer::Down) => None,
            (
                FamilyAnswer::FailOpen { pool: old, drained: was },
                FamilyAnswer::FailOpen { pool: new, drained },
            ) => {
                if name(old, self.before.1) != name(new, self.now.1) {
                    return Some(ChangeKind::Instead);
                }
                (drained && !was).then_some(ChangeKind::Drained)
            }
            (
                FamilyAnswer::FailOpen { .. } | FamilyAnswer::Down,
                FamilyAnswer::FailOpen { .. } | FamilyAnswer::Down,
            ) => Some(ChangeKind::Instead),
            (_, FamilyAnswer::FailOpen { .. } | FamilyAnswer::Down) => Some(ChangeKind::Down),
            (_, FamilyAnswer::Absent) => Some(ChangeKind::Gone),
            (FamilyAnswer::Absent, FamilyAnswer::Tier(_) | FamilyAnswer::OnTrust(_)) => {
                Some(ChangeKind::Back)
            }
            (FamilyAnswer::FailOpen { .. } | FamilyAnswer::Down, FamilyAnswer::OnTrust(_)) => {
                Some(ChangeKind::OnTrust)
            }
            (
                FamilyAnswer::FailOpen { .. } | FamilyAnswer::Down | FamilyAnswer::OnTrust(_),
                FamilyAnswer::Tier(_),
            ) => Some(ChangeKind::Up),
            (
                FamilyAnswer::Tier(old) | FamilyAnswer::OnTrust(old),
                FamilyAnswer::Tier(new) | FamilyAnswer::OnTrust(new),
            ) => {
                if name(old, self.before.1) == name(new, self.now.1) {
                    return None;
                }
                match (place(old, self.before.1), place(new, self.now.1)) {
                    (Some(old), Some(new)) if new > old => Some(ChangeKind::Later),
                    _ => Some(ChangeKind::Earlier),
                }
            }
        }
    }

    /// Whether the pool of a failover answers now in these families, and did not before.
    pub(super) fn reaches_failover(&self, families: &[Family]) -> bool {
        self.is_of_failover(families, self.now) && !self.is_of_failover(families, self.before)
    }

    /// Whether the pool of a failover answered in these families, and does not now.
    pub(super) fn leaves_failover(&self, families: &[Family]) -> bool {
        self.is_of_failover(families, self.before) && !self.is_of_failover(families, self.now)
    }

    fn is_of_failover(&self, families: &[Family], (answering, table): (&Answering, &Table)) -> bool {
        let Some(failover) = &self.route.service.failover else { return false };
        let wanted = name(failover.pool, self.now.1);
        families
            .iter()
            .all(|family| answering.get(*family).tier().is_some_and(|pool| name(pool, table) == wanted))
    }

    /// How many tiers are usable in the worst of these families: `1 of 2 tiers usable`.
    pub(super) fn left(&self, families: &[Family]) -> String {
        let (tiers, table) = (&self.route.route.tiers, self.now.1);
        let usable = |family: &Family| {
            tiers
                .iter()
                .filter(|tier| table.pool(**tier).is_some_and(|view| view.family(*family).usable))
                .count()
        };
        let left = families.iter().map(usable).min().unwrap_or(0);
        format!("{left} of {} tiers usable", tiers.len())
    }

    /// How the service answers in these families although no tier is usable, as the rest of a sentence.
    pub(super) fn instead(&self, families: &[Family]) -> String {
        let (route, table) = (self.route, self.now.1);
        let mut answers: Vec<String> = Vec::new();
        for family in families {
            let answer = match (table.decision(route, *family), &route.route.when_down) {
                (Decision::FailOpen { pool, draw }, _) => {
                    let addresses = addresses(draw.choice.members.len(), *family);
                    format!("draws from {addresses} of {}, as if healthy (fail open)", name(*pool, table))
                }
                (Decision::Down { .. }, WhenDown::ServFail) => "answers SERVFAIL".into(),
                (Decision::Down { .. }, WhenDown::Addresses { .. }) => {
                    "answers with the addresses of when_down".into()
                }
                _ => "answers with no addresses (NODATA)".into(),
            };
            if !answers.contains(&answer) {
                answers.push(answer);
            }
        }
        answers.join(" and ")
    }

    /// The name of the service, and the number of the rule if this is not the default route.
    pub(super) fn names(&self) -> (String, Option<u16>) {
        (self.route.service.service.name.to_plain(), self.route.index.rule())
    }

    /// The names of the tiers that answered before, and of those that answer now.
    pub(super) fn tiers_of_both(&self) -> (String, String) {
        (self.before.0.describe(self.before.1), self.now.0.describe(self.now.1))
    }
}

pub(super) fn in_words(families: &[Family]) -> String {
    families.iter().map(|family| family.as_str()).collect::<Vec<_>>().join(" and ")
}

/// `1 ipv4 address`, `2 ipv6 addresses`.
pub(super) fn addresses(count: usize, family: Family) -> String {
    let addresses = if count == 1 { "address" } else { "addresses" };
    format!("{count} {} {addresses}", family.as_str())
}

/// The state of a pool in a family in which it has become unusable; none otherwise.
pub(super) fn lost(before: &PoolView, now: &PoolView, family: Family) -> Option<String> {
    let (old, new) = (before.family(family), now.family(family));
    if !old.usable || new.usable {
        return None;
    }
    Some(lack(new, family))
}

/// Why a pool is not usable in a family, as the rest of a sentence.
pub(super) fn lack(view: &FamilyView, family: Family) -> String {
    match view.eligible.members.len() {
        0 => format!("has no usable {} address any more", family.as_str()),
        left => format!("has {} left, fewer than its min_healthy wants", addresses(left, family)),
    }
}
