//! When much of a group fails at once, the fault may be here.

use std::sync::Arc;

use crate::health::{Moment, TargetId};

/// Targets that are suspected together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The pool whose targets these are; none for all pools together.
    pub pool: Option<Arc<str>>,
    /// Percent of the watched members that have to fail at once, 1 to 100.
    pub share: u8,
    /// Who belongs to it.
    pub members: Vec<TargetId>,
}

/// So much of a group fails at once that nobody is judged for the time being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The pool of the group; none for all pools together.
    pub pool: Option<Arc<str>>,
    /// When it began.
    pub since: Moment,
    /// When it ends: failures count again from then on.
    pub until: Moment,
    /// How many members failed when it began.
    pub failing: usize,
    /// Of how many that were watched then.
    pub members: usize,
}

/// What to tell of a suspicion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// From now on failures of its members flip nobody.
    Began(Suspicion),
    /// They count again.
    Ended(Suspicion),
}
