//! Runs a TLS probe: it passes if the handshake completes, and an exchange, if configured,
//! succeeds.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;

use tokio::io::AsyncWrite;

use crate::check::{TALK_LIMIT, TlsProbe};
use crate::probe::failure::ProbeFailure;
use crate::probe::handshake::Handshake;
use crate::probe::{Finding, Trace, connect, talk};

pub(super) async fn attempt(
    probe: &TlsProbe,
    address: IpAddr,
    handshake: Option<Handshake>,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    let target = SocketAddr::new(address, probe.port);
    let handshake = handshake.ok_or_else(|| ProbeFailure::local("the handshake was not prepared"))?;
    let stream = connect::connect(target, true, TALK_LIMIT, probe.proxy).await?;
    let mut stream = handshake.shake(stream, trace).await?;
    talk::run(&probe.talk, &mut stream, trace).await?;
    // Sends close_notify if that is possible without waiting.
    poll_fn(|context| {
        let _ = Pin::new(&mut stream).poll_shutdown(context);
        Poll::Ready(())
    })
    .await;
    Ok(talk::passed(&probe.talk, "TLS handshake done"))
}
