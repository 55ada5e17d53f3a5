//! The checker's status, fetched piece by piece while it is written as JSON.
//!
//! A piece is requested when the previous one is written, so only one of them is in memory. All
//! functions block, and must run on the thread of a rendering.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::ser::{Error, Serialize, SerializeSeq, Serializer};
use tokio::sync::{mpsc, oneshot};

use crate::admin::status::{Backend, Pool};
use crate::admin::traffic::PoolTraffic;
use crate::checker::CheckerCommand;
use crate::fleet::{BackendStatus, Cursor, PoolPiece, PoolStatus, Suspected};
use crate::pool::PoolId;
use crate::table::Table;

/// Why there is no further piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The configuration has changed since the start.
    Outdated,
    /// The checker has ended.
    Ended,
}

/// The remaining pieces.
pub(super) struct Pieces<'a> {
    commands: &'a mpsc::Sender<CheckerCommand>,
    rest: RefCell<Rest>,
    /// The table on which the pieces report.
    table: &'a Table,
    /// Whether backends include their history.
    history: bool,
}

struct Rest {
    told: VecDeque<PoolPiece>,
    /// The pool after the current one.
    pool: PoolId,
    suspected: Option<Suspected>,
    next: Option<Cursor>,
    broken: Option<Broken>,
}

impl<'a> Pieces<'a> {
    /// Requests the first piece about all pools of a table.
    pub(super) fn all(
        commands: &'a mpsc::Sender<CheckerCommand>,
        table: &'a Arc<Table>,
    ) -> Result<Self, Broken> {
        Self::new(commands, table, Cursor::all(Arc::clone(table)), PoolId(0), false)
    }

    /// Requests the first piece about one pool, with history.
    pub(super) fn of_pool(
        commands: &'a mpsc::Sender<CheckerCommand>,
        table: &'a Arc<Table>,
        pool: PoolId,
    ) -> Result<Self, Broken> {
        Self::new(commands, table, Cursor::with_history(Arc::clone(table), pool), pool, true)
    }

    /// Requests the first piece about one pool, without history.
    pub(super) fn of_pool_now(
        commands: &'a mpsc::Sender<CheckerCommand>,
        table: &'a Arc<Table>,
        pool: PoolId,
    ) -> Result<Self, Broken> {
        Self::new(commands, table, Cursor::of_pool(Arc::clone(table), pool), pool, false)
    }

    /// Requests the state of one backend.
    pub(super) fn of_backend(
        commands: &'a mpsc::Sender<CheckerCommand>,
        table: &'a Arc<Table>,
        (pool, backend): (PoolId, usize),
    ) -> Result<Option<BackendStatus>, Broken> {
        let cursor = Cursor::at_backend(Arc::clone(table), pool, backend);
        let pieces = Self::new(commands, table, cursor, pool, false)?;
        Ok(pieces.next()?.and_then(|piece| piece.backends.into_iter().next()))
    }

    fn new(
        commands: &'a mpsc::Sender<CheckerCommand>,
        table: &'a Table,
        cursor: Cursor,
        pool: PoolId,
        history: bool,
    ) -> Result<Self, Broken> {
        let rest = Rest { told: VecDeque::new(), pool, suspected: None, next: Some(cursor), broken: None };
        let pieces = Self { commands, rest: RefCell::new(rest), table, history };
        pieces.ask()?;
        Ok(pieces)
    }

    /// Why this machine is suspected, according to the last piece.
    pub(super) fn suspected(&self) -> Option<Suspected> {
        self.rest.borrow().suspected.clone()
    }

    /// Why writing failed, if it was because of a missing piece.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.rest.borrow().broken
    }

    /// The next pool, with the first of its backends.
    pub(super) fn next_pool(&self) -> Result<Option<(PoolStatus, Backends<'_>)>, Broken> {
        let Some(PoolPiece { pool: Some(pool), backends }) = self.next()? else { return Ok(None) };
        let id = self.rest.borrow().pool;
        self.rest.borrow_mut().pool = PoolId(id.0 + 1);
        let traffic = PoolTraffic::new(self.table, id);
        Ok(Some((pool, Backends { first: backends, traffic, pieces: self })))
    }

    /// Further backends of the current pool.
    fn more_backends(&self) -> Result<Option<Vec<BackendStatus>>, Broken> {
        let go_on = {
            let rest = self.rest.borrow();
            match rest.told.front() {
                Some(piece) => piece.pool.is_none(),
                None => rest.next.as_ref().is_some_and(Cursor::is_within_a_pool),
            }
        };
        Ok(if go_on { self.next()?.map(|piece| piece.backends) } else { None })
    }

    fn next(&self) -> Result<Option<PoolPiece>, Broken> {
        let is_empty = self.rest.borrow().told.is_empty();
        if is_empty {
            self.ask()?;
        }
        Ok(self.rest.borrow_mut().told.pop_front())
    }

    fn ask(&self) -> Result<(), Broken> {
        let mut rest = self.rest.borrow_mut();
        let Some(cursor) = rest.next.take() else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.blocking_send(CheckerCommand::Tell(cursor, reply)).is_ok();
        let told = if sent { answer.blocking_recv().map_err(|_| Broken::Ended) } else { Err(Broken::Ended) };
        match told.and_then(|piece| piece.ok_or(Broken::Outdated)) {
            Ok(piece) => {
                rest.told = piece.pools.into();
                (rest.suspected, rest.next) = (piece.suspected, piece.next);
                Ok(())
            }
            Err(broken) => {
                rest.broken = Some(broken);
                Err(broken)
            }
        }
    }
}

/// Writes all remaining pools as an array.
impl Serialize for Pieces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(None)?;
        while let Some((pool, backends)) = self.next_pool().map_err(told_by_broken)? {
            array.serialize_element(&Pool::new(&pool, backends))?;
        }
        array.end()
    }
}

/// The backends of a pool.
pub(super) struct Backends<'a> {
    first: Vec<BackendStatus>,
    traffic: PoolTraffic<'a>,
    pieces: &'a Pieces<'a>,
}

impl Backends<'_> {
    /// Hands over each backend with its index, one piece at a time.
    pub(super) fn for_each(self, mut take: impl FnMut(usize, BackendStatus)) -> Result<(), Broken> {
        let (mut index, mut piece) = (0, Some(self.first));
        while let Some(backends) = piece {
            for backend in backends {
                take(index, backend);
                index += 1;
            }
            piece = self.pieces.more_backends()?;
        }
        Ok(())
    }
}

impl Serialize for Backends<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(None)?;
        let mut index = 0;
        let mut write = |backends: &[BackendStatus]| {
            backends.iter().try_for_each(|backend| {
                let traffic = self.traffic.of(index);
                index += 1;
                array.serialize_element(&Backend::new(backend, self.pieces.history).with(traffic))
            })
        };
        write(&self.first)?;
        while let Some(more) = self.pieces.more_backends().map_err(told_by_broken)? {
            write(&more)?;
        }
        array.end()
    }
}

/// A substitute for the reason, which is in [`Pieces::broken`].
fn told_by_broken<E: Error>(_broken: Broken) -> E {
    E::custom("the next piece is missing")
}
