//! The immutable answer table that queries read, and the one cell that publishes it.
//!
//! Zones, services, and what of each pool may be answered now travel together, with a generation
//! number. Who is healthy is decided in `health`; here its word is turned into candidates. A query
//! loads the table once and sees one state of the world.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::counters::Counters;
use crate::pool::{Backend, Family, Pool, PoolId};
use crate::selection::Candidates;
use crate::service::{Service, ServiceId, WhenDown};
use crate::settings::Settings;
use crate::zone::Catalog;

/// Everything an answer is made from.
#[derive(Debug)]
pub struct Table {
    /// Grows by one with each published change.
    pub generation: u64,
    /// What answers depend on besides.
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

/// What of a pool may be answered now.
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

/// What of a pool may be answered now in one address family.
#[derive(Clone, Debug)]
pub struct FamilyView {
    /// Whether what is healthy satisfies `min_healthy`.
    pub usable: bool,
    /// Those that may appear in an answer now.
    pub eligible: Choice,
    /// Those that answer when the pool fails open.
    pub everyone: Arc<Choice>,
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
    /// What is answered.
    pub address: IpAddr,
    /// Index of its backend within the pool.
    pub backend: u32,
}

/// What the checks say of a backend address.
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

/// Where the addresses of an answer come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The first usable tier.
    Tier {
        /// Its place in the service's list.
        tier: usize,
        /// Its pool.
        pool: PoolId,
        /// What it may answer.
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
}

impl PoolView {
    /// Builds the view of a pool from the standing of each address, asked for by the index of the
    /// backend and of the address within it.
    ///
    /// `previous` is the view of the same pool with the same backends, if there is one: its
    /// counters, and what does not depend on health, are taken over.
    pub fn build(
        pool: &Pool,
        previous: Option<&PoolView>,
        counter_rows: usize,
        standing: impl Fn(usize, usize) -> Standing,
    ) -> Self {
        Self {
            name: previous.map_or_else(|| pool.name.as_str().into(), |view| Arc::clone(&view.name)),
            backends: previous.map_or_else(
                || pool.backends.iter().map(|backend| backend.name.as_str().into()).collect(),
                |view| Arc::clone(&view.backends),
            ),
            families: Family::ALL.map(|family| {
                let everyone = previous.map(|view| Arc::clone(&view.family(family).everyone));
                FamilyView::build(pool, family, everyone, &standing)
            }),
            answers: previous.map_or_else(
                || Arc::new(Counters::new(counter_rows, pool.backends.len())),
                |view| Arc::clone(&view.answers),
            ),
        }
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
    fn build(
        pool: &Pool,
        family: Family,
        everyone: Option<Arc<Choice>>,
        standing: &impl Fn(usize, usize) -> Standing,
    ) -> Self {
        let pick = |wanted: &dyn Fn(Standing) -> bool| {
            Choice::new(
                members(pool, family)
                    .filter(|(index, address, backend, _)| {
                        backend.weight > 0 && wanted(standing(*index, *address))
                    })
                    .map(|(_, _, backend, member)| (member, backend.weight)),
            )
        };
        let total_weight = members(pool, family).map(|(_, _, backend, _)| u64::from(backend.weight)).sum();
        let enough = |choice: &Choice| {
            pool.min_healthy.is_met(choice.members.len(), choice.candidates.total_weight(), total_weight)
        };
        let mut eligible = pick(&|standing| standing == Standing::Healthy);
        // What has not been judged yet counts only where the healthy alone do not suffice.
        if !enough(&eligible) {
            let unjudged = pick(&|standing| matches!(standing, Standing::Healthy | Standing::Unknown));
            if enough(&unjudged) {
                eligible = unjudged;
            }
        }
        Self {
            usable: enough(&eligible),
            eligible,
            everyone: everyone.unwrap_or_else(|| Arc::new(everyone_of(pool, family))),
        }
    }

    /// Whether the pool has an enabled address of this family.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.everyone.members.is_empty()
    }
}

/// The enabled addresses of a family: index of backend and of address, backend, member.
fn members(pool: &Pool, family: Family) -> impl Iterator<Item = (usize, usize, &Backend, Member)> {
    pool.backends.iter().enumerate().filter(|(_, backend)| backend.enabled).flat_map(
        move |(index, backend)| {
            backend
                .addresses
                .iter()
                .enumerate()
                .filter(move |(_, address)| Family::of(**address) == family)
                .map(move |(place, address)| {
                    let member =
                        Member { address: *address, backend: u32::try_from(index).unwrap_or(u32::MAX) };
                    (index, place, backend, member)
                })
        },
    )
}

/// All of a family as if healthy: by weight, or each alike when all weights are 0.
fn everyone_of(pool: &Pool, family: Family) -> Choice {
    let all_zero = members(pool, family).all(|(_, _, backend, _)| backend.weight == 0);
    Choice::new(
        members(pool, family)
            .filter(|(_, _, backend, _)| all_zero || backend.weight > 0)
            .map(|(_, _, backend, member)| (member, if all_zero { 1 } else { backend.weight })),
    )
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
        let mut fail_open = None;
        for (tier, &pool) in service.tiers.iter().enumerate() {
            let Some(view) = self.pool(pool) else { continue };
            let here = view.family(family);
            if here.usable {
                return Source::Tier { tier, pool, choice: &here.eligible };
            }
            if here.is_configured() {
                fail_open.get_or_insert((pool, &*here.everyone));
            } else if view.families.iter().any(|other| other.usable) {
                return Source::NoAddress;
            }
        }
        match (&service.when_down, fail_open) {
            (WhenDown::FailOpen, Some((pool, choice))) => Source::FailOpen { pool, choice },
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

    /// Publishes a table. Only the owner of health calls this.
    pub fn store(&self, table: Table) {
        self.0.store(Arc::new(table));
    }

    /// A reader for one query loop.
    #[must_use]
    pub fn reader(&self) -> Reader {
        arc_swap::Cache::new(Arc::clone(&self.0))
    }
}
