//! Runs an exec probe: a program decides; exit code 0 passes.
//!
//! The program gets the backend's address in an almost empty environment. A supervisor (`program`) kills it and its
//! descendants when it exits, when its time is over, when the probe is dropped, and when this process ends.

use std::net::IpAddr;
use std::time::Duration;

use crate::check::ExecProbe;
use crate::probe::failure::ProbeFailure;
use crate::probe::supervised::{self, ProgramStart};
use crate::probe::{Cause, Finding, ProbeStep, Trace};

pub(super) async fn attempt(
    probe: &ExecProbe,
    address: IpAddr,
    timeout: Duration,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    trace.rename(ProbeStep::Start);
    let mut environment =
        vec![("STEERD_ADDRESS", address.to_string()), ("STEERD_TIMEOUT_MS", timeout.as_millis().to_string())];
    environment.extend(probe.port.map(|port| ("STEERD_PORT", port.to_string())));
    let start =
        ProgramStart { program: &probe.program, arguments: &probe.arguments, environment, input: None };
    let mut running = start.start().await.map_err(ProbeFailure::local)?;
    trace.enter(ProbeStep::Program);
    let mut kept = Vec::new();
    let status = running.watch(&mut kept, |part| trace.hear(part)).await.map_err(ProbeFailure::local)?;
    match supervised::ended(status, &kept) {
        Ok(words) => Ok(Finding::passed(words)),
        Err(words) => Err(ProbeFailure::new(Cause::Status, words)),
    }
}
