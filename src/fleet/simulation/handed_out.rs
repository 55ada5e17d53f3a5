//! The answers that a world has handed out, for the check of TTLs in `certainty`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::targets::Spot;
use crate::health::{TargetId, Verdict};
use crate::settings::Settings;
use crate::table::Standing;

/// The answers so far, and the changes that were pending at the end of the last turn. Times are those of the clock of
/// elapsed time.
#[derive(Default)]
pub(super) struct HandedOut {
    /// The configuration to which all of this belongs.
    pub(super) settings: Option<Arc<Settings>>,
    /// When an answer was given, the index of its service, and its TTL.
    pub(super) answers: VecDeque<(Duration, usize, u32)>,
    /// The verdict on each target, and since when it was in doubt.
    pub(super) doubts: BTreeMap<TargetId, (Option<Verdict>, Option<Duration>)>,
    pub(super) standings: BTreeMap<Spot, Standing>,
    /// The number of answers that were given while a change was pending, and of completions after them.
    pub(super) uncertain: usize,
    pub(super) completions: usize,
}
