//! Since when a pool is usable, or is not.

use crate::fleet::calendar::Stamp;

/// Whether a pool is usable, and since when it is or is not. For display.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usability {
    /// None before the first view.
    is_usable: Option<bool>,
    pub(super) since: Stamp,
}

impl Usability {
    /// Of a pool without a view.
    pub(super) fn unknown(since: Stamp) -> Self {
        Self { is_usable: None, since }
    }

    /// Takes over whether a new view is usable.
    pub(super) fn note(&mut self, is_usable: bool, at: Stamp) {
        if self.is_usable.is_some_and(|before| before != is_usable) {
            self.since = at;
        }
        self.is_usable = Some(is_usable);
    }
}
