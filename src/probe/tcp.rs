//! TCP probe: a connection within the time limit is a pass, or what is heard on it.
//!
//! Without anything to say or to expect, the handshake is all: the kernel of the backend agrees to it, and
//! the program that listens hears nothing of it. To see whether that is alive, ask it for its greeting.

use std::net::{IpAddr, SocketAddr};

use crate::probe::connect::ProxyProtocol;
use crate::probe::fault::Fault;
use crate::probe::{Finding, Trace, connect, talk};

pub use crate::probe::talk::Talk;

/// Connects to a port; may speak and listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpProbe {
    /// The port to connect to.
    pub port: u16,
    /// The words to say and to expect.
    pub talk: Talk,
    /// The PROXY header to begin with.
    pub proxy: Option<ProxyProtocol>,
}

impl TcpProbe {
    /// Connects to a port and closes.
    #[must_use]
    pub fn connect(port: u16) -> Self {
        Self { port, talk: Talk::default(), proxy: None }
    }

    pub(super) async fn attempt(&self, address: IpAddr, trace: &mut Trace) -> Result<Finding, Fault> {
        let address = SocketAddr::new(address, self.port);
        if self.talk.is_silent() && self.proxy.is_none() {
            connect::knock(address).await?;
            return Ok(Finding::passed("connected"));
        }
        let mut stream =
            connect::connect(address, self.talk.begins(), talk::HEARING_LIMIT, self.proxy).await?;
        Box::pin(talk::talk(&self.talk, &mut stream, trace)).await?;
        Ok(Finding::passed(self.talk.in_words("connected")))
    }
}
