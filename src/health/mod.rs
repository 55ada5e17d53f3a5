//! Health of backend addresses, sans-IO: outcomes and the time go in, transitions come out.
//!
//! Nothing here knows DNS, sockets or clocks. Time is an argument ([`Moment`]), and so is chance.

mod schedule;
mod state;

use std::time::Duration;

/// Time since the checker started. Monotonic; the wall clock is for display only.
pub type Moment = Duration;

/// When a probe runs and how many outcomes flip a state. The limits are those of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// From one probe to the next.
    pub interval: Duration,
    /// The longest a probe may take; below `interval`.
    pub timeout: Duration,
    /// Consecutive passed probes that make an unhealthy address healthy, at least 1.
    pub rise: u16,
    /// Consecutive failed probes that make a healthy address unhealthy, at least 1.
    pub fall: u16,
    /// From an outcome that contradicts the state to the next probe; not above `interval`.
    pub recheck: Duration,
}

/// What a probe says of a backend address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The backend did what the check asks for.
    Passed,
    /// It did not.
    Failed,
    /// The probe could not be made, or not fairly: a fault of this machine, no verdict on the backend.
    Void,
}
