//! Runs a TCP probe: it passes if the connection is established in time, and an exchange, if configured,
//! succeeds.
//!
//! Without an exchange, only the handshake counts: the backend's kernel completes it, and the listening program
//! does not notice. Expect its greeting to find out whether that program is alive.

use std::net::{IpAddr, SocketAddr};

use crate::check::{TALK_LIMIT, TcpProbe};
use crate::probe::failure::ProbeFailure;
use crate::probe::{Finding, Trace, connect, talk};

pub(super) async fn attempt(
    probe: &TcpProbe,
    address: IpAddr,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    let address = SocketAddr::new(address, probe.port);
    if probe.talk.is_silent() && probe.proxy.is_none() {
        connect::knock(address).await?;
        return Ok(Finding::passed("connected"));
    }
    let mut stream = connect::connect(address, probe.talk.speaks_first(), TALK_LIMIT, probe.proxy).await?;
    Box::pin(talk::run(&probe.talk, &mut stream, trace)).await?;
    Ok(talk::passed(&probe.talk, "connected"))
}
