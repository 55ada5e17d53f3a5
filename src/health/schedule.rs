//! When each probe is due.
