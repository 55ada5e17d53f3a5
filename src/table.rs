//! The immutable answer table that queries read, and the one cell that publishes it.
//!
//! Zones, services, and what of each pool may be answered now travel together, with a generation
//! number. `health` decides who is healthy; here its word, and the operator's beside it, are turned into
//! candidates. A query loads the table once and sees one state of the world.
//!
//! The role of an address, by its [`Place`]; an operator's override goes before the result of the checks:
//!
//! ```text
//!                      eligible                        in fail open             counts for min_healthy as
//! healthy              yes, by percent of its weight   yes                      healthy
//! unknown, or held     when the healthy do not         yes                      healthy, where it is eligible
//!                      suffice for min_healthy
//! draining, unhealthy  no                              yes                      not healthy
//! override up          yes, at full weight             yes                      healthy
//! override down        no                              yes                      not healthy
//! override drain       no                              when no other is left    not healthy
//! override disabled    no                              no                       nothing: in no total
//! ```
//!
//! Fail open distrusts the checks, not the operator: a server that is being drained is about to be
//! stopped, so it is answered only when no tier has another one. It stays in the
//! total of `min_healthy`, as the capacity that is missing; to take it out of that too is what
//! `disabled` is for.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::counters::Counters;
use crate::pool::{Backend, Family, Override, Pool, PoolId};
use crate::selection::Candidates;
use crate::service::{Service, ServiceId, WhenDown};
use crate::settings::Settings;
use crate::zone::Catalog;

/// Everything an answer is made from.
#[derive(Debug)]
pub struct Table {
    /// Grows by one with each published change.
    pub generation: u64,
    /// Other settings that answers depend on.
    pub settings: Arc<Settings>,
    /// The DNS zones; their names point at services.
    pub catalog: Arc<Catalog>,
    /// By [`ServiceId`].
    pub services: Arc<[ServiceView]>,
    /// By [`PoolId`].
    pub pools: Box<[Arc<PoolView>]>,
}

/// A service with its counters.
#[derive(Debug)]
pub struct ServiceView {
    /// As configured.
    pub service: Service,
    /// Answers: a column for each tier, in order, then one for the all-down answer.
    pub answers: Counters,
}

/// The part of a pool that may be answered now.
#[derive(Debug)]
pub struct PoolView {
    /// The pool's name.
    pub name: Arc<str>,
    /// The names of its backends, in order.
    pub backends: Arc<[Box<str>]>,
    /// By [`Family::index`].
    pub families: [FamilyView; 2],
    /// Appearances in answers, a column for each backend; lives as long as the pool does.
    pub answers: Arc<Counters>,
}

/// The part of a pool that may be answered now in one address family.
#[derive(Clone, Debug)]
pub struct FamilyView {
    /// Whether what is healthy satisfies `min_healthy`.
    pub usable: bool,
    /// Those that may appear in an answer now.
    pub eligible: Choice,
    /// Those that answer when the pool fails open. It does not depend on health, so that views of a
    /// pool share it until its configuration or an override changes.
    pub everyone: Arc<Choice>,
    /// Whether an operator drains all of them, so that other tiers fail open before this one.
    pub drained: bool,
}

/// Addresses with the weights to draw them by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// In the order of the configuration.
    pub members: Box<[Member]>,
    /// The same, by weight.
    pub candidates: Candidates,
}

/// One address that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The address to answer.
    pub address: IpAddr,
    /// Index of its backend within the pool.
    pub backend: u32,
}

/// The combined result of the checks of a backend address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Passes its checks, or has none.
    Healthy,
    /// Alive, but asks for no new clients.
    Draining,
    /// Fails them.
    Unhealthy,
    /// Has had no outcome yet.
    Unknown,
}

impl Standing {
    /// The word for it in metrics, logs and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

/// Percent of its weight that an address gets by default: all of it.
pub const FULL_WEIGHT: u8 = 100;

/// The known state of one backend address: the result of its checks, and an operator's override beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The result of the checks.
    pub standing: Standing,
    /// It would be healthy, but damping keeps it out for a while.
    pub held: bool,
    /// Percent of its weight that it gets while it is eligible, 0 to [`FULL_WEIGHT`]. With 0 it is
    /// left out as long as another has weight.
    pub percent: u8,
    /// The operator's override instead.
    pub overridden: Option<Override>,
}

impl From<Standing> for Place {
    /// A place at full weight of which only the checks say anything.
    fn from(standing: Standing) -> Self {
        Self { standing, held: false, percent: FULL_WEIGHT, overridden: None }
    }
}

impl Place {
    /// The role of the address; none for a place that is not there at all.
    fn role(self) -> Option<Role> {
        let role = match self.overridden {
            Some(Override::Disabled) => return None,
            Some(Override::Up) => Role::Eligible(FULL_WEIGHT),
            Some(Override::Down) => Role::Out,
            Some(Override::Drain) => Role::Drained,
            None => {
                let percent = self.percent.min(FULL_WEIGHT);
                match (self.standing, self.held) {
                    (Standing::Draining, _) | (Standing::Unhealthy, false) => Role::Out,
                    (Standing::Unknown, _) | (_, true) => Role::Spare(percent),
                    (Standing::Healthy, false) => Role::Eligible(percent),
                }
            }
        };
        Some(role)
    }
}

/// The role of an address that counts in the totals of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// May be answered, with this percent of its weight.
    Eligible(u8),
    /// May be answered like that when the eligible ones do not suffice for `min_healthy`.
    Spare(u8),
    /// May be answered when the pool fails open.
    Out,
    /// May be answered when the pool fails open and nothing else is left.
    Drained,
}

/// An address of a pool that is not disabled.
#[derive(Clone, Copy, Debug)]
struct Entry {
    member: Member,
    /// As configured.
    weight: u32,
    role: Role,
}

impl Entry {
    /// The percent of its weight with which it is answered; none when it is not.
    fn percent(&self, with_spares: bool) -> Option<u8> {
        match self.role {
            Role::Eligible(percent) => Some(percent),
            Role::Spare(percent) => with_spares.then_some(percent),
            Role::Out | Role::Drained => None,
        }
    }
}

/// Where the addresses of an answer come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The first usable tier.
    Tier {
        /// Its place in the service's list.
        tier: usize,
        /// Its pool.
        pool: PoolId,
        /// The choice of addresses to answer.
        choice: &'a Choice,
    },
    /// The pool in charge has no address of this family: NODATA.
    NoAddress,
    /// Nothing is usable: all backends of this pool, as if they were healthy.
    FailOpen {
        /// Its pool.
        pool: PoolId,
        /// All its backends.
        choice: &'a Choice,
    },
    /// Nothing is usable, and the service says what then.
    Down(&'a WhenDown),
}

impl Choice {
    fn new(members: impl IntoIterator<Item = (Member, u32)>) -> Self {
        let (members, weights): (Vec<Member>, Vec<u32>) = members.into_iter().unzip();
        Self { members: members.into_boxed_slice(), candidates: Candidates::new(weights) }
    }

    /// Whether it is what [`Choice::new`] would make of these.
    fn consists_of(&self, members: impl Iterator<Item = (Member, u32)>) -> bool {
        let own = self.members.iter().copied().zip(self.candidates.weights());
        own.eq(members.map(|(member, weight)| (member, u64::from(weight))))
    }
}

impl PoolView {
    /// Builds the view of a pool from what is known of each address, asked for once by the index of
    /// the backend and of the address within it.
    ///
    /// `previous` is an earlier view of the pool, perhaps with other backends; what is still the same
    /// is shared with it. `answers` are the counters to go on with, a column for each backend in
    /// order: those of the previous view while its backends are the same, else perhaps
    /// [`PoolView::counters`].
    pub fn build(
        pool: &Pool,
        previous: Option<&PoolView>,
        answers: Arc<Counters>,
        place: impl Fn(usize, usize) -> Place,
    ) -> Self {
        let name = previous.map(|view| &view.name).filter(|name| ***name == *pool.name);
        let backends = previous.map(|view| &view.backends).filter(|backends| {
            backends.iter().map(|name| &**name).eq(pool.backends.iter().map(|backend| &*backend.name))
        });
        Self {
            name: name.map_or_else(|| pool.name.as_str().into(), Arc::clone),
            backends: backends.map_or_else(
                || pool.backends.iter().map(|backend| backend.name.as_str().into()).collect(),
                Arc::clone,
            ),
            families: Family::ALL.map(|family| {
                let everyone = previous.map(|view| &view.family(family).everyone);
                FamilyView::build(pool, everyone, &entries(pool, family, &place))
            }),
            answers,
        }
    }

    /// Counters for a pool that has not been answered from; `rows` threads may count.
    #[must_use]
    pub fn counters(pool: &Pool, rows: usize) -> Arc<Counters> {
        Arc::new(Counters::new(rows, pool.backends.len()))
    }

    /// The view of one family.
    #[must_use]
    pub fn family(&self, family: Family) -> &FamilyView {
        let [ipv4, ipv6] = &self.families;
        match family {
            Family::Ipv4 => ipv4,
            Family::Ipv6 => ipv6,
        }
    }

    /// Whether the pool is usable in every family it has addresses of.
    #[must_use]
    pub fn usable(&self) -> bool {
        let mut families = self.families.iter().filter(|family| family.is_configured()).peekable();
        families.peek().is_some() && families.all(|family| family.usable)
    }
}

impl FamilyView {
    fn build(pool: &Pool, previous: Option<&Arc<Choice>>, entries: &[Entry]) -> Self {
        let total_weight = entries.iter().map(|entry| u64::from(entry.weight)).sum();
        // By configured weights: a healthy address that starts slowly is as healthy as the others.
        let enough = |with_spares| {
            let healthy =
                entries.iter().filter(|entry| entry.weight > 0 && entry.percent(with_spares).is_some());
            let (count, weight) =
                healthy.fold((0, 0), |(count, weight), entry| (count + 1, weight + u64::from(entry.weight)));
            pool.min_healthy.is_met(count, weight, total_weight)
        };
        let healthy_suffice = enough(false);
        let with_spares = !healthy_suffice && enough(true);
        let drained = entries.iter().all(|entry| entry.role == Role::Drained);
        let everyone = || everyone_of(entries, drained);
        Self {
            usable: healthy_suffice || with_spares,
            eligible: Choice::new(eligible_of(entries, with_spares)),
            everyone: previous
                .filter(|choice| choice.consists_of(everyone()))
                .map_or_else(|| Arc::new(Choice::new(everyone())), Arc::clone),
            drained,
        }
    }

    /// Whether the pool has an address of this family that is not disabled.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.everyone.members.is_empty()
    }
}

/// The addresses of a family that are not disabled, in order.
fn entries(pool: &Pool, family: Family, place: &impl Fn(usize, usize) -> Place) -> Vec<Entry> {
    let enabled = pool.backends.iter().enumerate().filter(|(_, backend)| backend.enabled);
    let addresses = enabled.flat_map(|(index, backend)| {
        let of_family =
            backend.addresses.iter().enumerate().filter(move |(_, address)| Family::of(**address) == family);
        of_family.map(move |(at, address)| (index, backend, at, *address))
    });
    let entry = |(index, backend, at, address): (usize, &Backend, usize, IpAddr)| {
        let member = Member { address, backend: u32::try_from(index).unwrap_or(u32::MAX) };
        place(index, at).role().map(|role| Entry { member, weight: backend.weight, role })
    };
    addresses.filter_map(entry).collect()
}

/// Those that may be answered, with the weights to draw them by: as configured while all get all of
/// theirs, or none gets any, else in hundredths.
fn eligible_of(entries: &[Entry], with_spares: bool) -> impl Iterator<Item = (Member, u32)> {
    let weighted = entries.iter().filter(|entry| entry.weight > 0);
    let picked = weighted.filter_map(move |entry| Some((entry, entry.percent(with_spares)?)));
    let all = |wanted| picked.clone().all(|(_, percent)| percent == wanted);
    // To leave out everyone would make an empty answer of a usable pool.
    let unscaled = all(FULL_WEIGHT) || all(0);
    picked.filter_map(move |(entry, percent)| {
        // At most 100 x `MAX_WEIGHT`, which fits.
        let weight = if unscaled { entry.weight } else { entry.weight.saturating_mul(percent.into()) };
        (weight > 0).then_some((entry.member, weight))
    })
}

/// All as if healthy, the drained ones only when there are no others: by weight, or each alike when
/// all weights are 0.
fn everyone_of(entries: &[Entry], all_drained: bool) -> impl Iterator<Item = (Member, u32)> {
    let left = entries.iter().filter(move |entry| all_drained || entry.role != Role::Drained);
    let all_zero = left.clone().all(|entry| entry.weight == 0);
    left.map(move |entry| (entry.member, if all_zero { 1 } else { entry.weight }))
        .filter(|(_, weight)| *weight > 0)
}

impl Table {
    /// A service by its id.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&ServiceView> {
        self.services.get(id.index())
    }

    /// A pool by its id.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> Option<&Arc<PoolView>> {
        self.pools.get(id.index())
    }

    /// Where the addresses of a service come from now.
    ///
    /// Each family is judged by itself. A pool that is in charge by its other family and has no
    /// address of this one answers NODATA: it must not hand the clients of one family to a standby
    /// while it serves the other.
    #[must_use]
    pub fn source<'a>(&'a self, service: &'a Service, family: Family) -> Source<'a> {
        let mut fail_open: Option<(PoolId, &FamilyView)> = None;
        for (tier, &pool) in service.tiers.iter().enumerate() {
            let Some(view) = self.pool(pool) else { continue };
            let here = view.family(family);
            if here.usable {
                return Source::Tier { tier, pool, choice: &here.eligible };
            }
            if here.is_configured() {
                if fail_open.is_none_or(|(_, first)| first.drained && !here.drained) {
                    fail_open = Some((pool, here));
                }
            } else if view.families.iter().any(|other| other.usable) {
                return Source::NoAddress;
            }
        }
        match (&service.when_down, fail_open) {
            (WhenDown::FailOpen, Some((pool, view))) => Source::FailOpen { pool, choice: &view.everyone },
            (WhenDown::FailOpen, None) => Source::NoAddress,
            (when_down, _) => Source::Down(when_down),
        }
    }
}

/// The one cell that holds the published table. Clones share it.
#[derive(Clone, Debug)]
pub struct Published(Arc<ArcSwap<Table>>);

/// A reader's view of the cell: one atomic load when nothing has changed.
pub type Reader = arc_swap::Cache<Arc<ArcSwap<Table>>, Arc<Table>>;

impl Published {
    /// Publishes a first table.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(table)))
    }

    /// The table now. Query loops use [`Published::reader`] instead.
    #[must_use]
    pub fn load(&self) -> Arc<Table> {
        self.0.load_full()
    }

    /// Publishes a table, and hands back the one that it replaces. Only the owner of health calls
    /// this, and keeps the old one until no reader has it any more: a table may hold a zone of a
    /// million records, and a reader that dropped the last of it would free them all at once.
    #[must_use = "whoever drops a table may free a million records"]
    pub fn replace(&self, table: Table) -> Arc<Table> {
        self.0.swap(Arc::new(table))
    }

    /// A reader for one query loop.
    #[must_use]
    pub fn reader(&self) -> Reader {
        arc_swap::Cache::new(Arc::clone(&self.0))
    }
}
