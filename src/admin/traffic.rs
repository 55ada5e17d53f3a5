//! The part of the traffic that each backend is to get, and the answers that it has got, from a table.

use std::borrow::Cow;

use serde::Serialize;

use crate::pool::{Family, PoolId};
use crate::table::{PoolShares, Table};

/// The traffic of one backend.
#[derive(Serialize)]
pub(super) struct Traffic<'a> {
    /// Wanted now; one for each family, or more if services draw in different ways.
    shares: Vec<Share<'a>>,
    /// The answers that contained it, since the counters began.
    answers: u64,
}

/// The probability of being first in an answer from the pool.
#[derive(Serialize)]
struct Share<'a> {
    family: &'static str,
    draw: &'a str,
    wanted: f64,
}

/// The traffic of all backends of a pool.
pub(super) struct PoolTraffic<'t> {
    table: &'t Table,
    pool: PoolId,
    shares: Vec<(Family, Cow<'static, str>, PoolShares)>,
}

impl<'t> PoolTraffic<'t> {
    pub(super) fn new(table: &'t Table, pool: PoolId) -> Self {
        let of_family = |family| {
            table.shares(pool, family).into_iter().map(move |shares| (family, shares.first.label(), shares))
        };
        Self { table, pool, shares: Family::ALL.into_iter().flat_map(of_family).collect() }
    }

    /// The traffic of one backend, by its index.
    pub(super) fn of(&self, backend: usize) -> Traffic<'_> {
        let shares = self.shares.iter().filter_map(|(family, draw, shares)| {
            let wanted = shares.of_backends.get(backend).copied().flatten()?;
            Some(Share { family: family.as_str(), draw, wanted })
        });
        Traffic { shares: shares.collect(), answers: self.table.answers().of_backend(self.pool, backend) }
    }
}
