//! The plain specification of a health check: what to send, what to expect, TLS settings, thresholds, timing.
//!
//! `config` makes it, `probe` runs it, and `fleet` compares it: two equal probes to one address with equal
//! timing are one target. So a specification contains only values that can be compared. It names files by their
//! paths; `probe` reads and prepares them, and keeps the result for all probes that name the same files. The
//! only exception is a regular expression: it is compiled when it is created, and compared by its text.
//!
//! The comments on the fields state what a configuration must guarantee. If it does not, the probe gets a void
//! outcome or, at worst, sends an odd request; it never panics. Nothing here reads a file, opens a connection or
//! reads a clock.

mod exec;
mod expected;
mod grpc;
mod http;
mod proxy;
mod talk;
mod tcp;
mod timing;
mod tls;

use crate::pool::{Backend, Pool, Require};

pub use exec::ExecProbe;
pub use expected::{Expected, MAX_COMPILED, Pattern};
pub use grpc::GrpcProbe;
pub use http::{BODY_LIMIT, HttpProbe, Version, name_in};
pub use proxy::ProxyProtocol;
pub use talk::{TALK_LIMIT, Talk};
pub use tcp::TcpProbe;
pub use timing::{FLIPS, INTERVALS, TIMEOUTS, Timing};
pub use tls::{ClientFiles, TlsProbe, TlsSettings};

/// A pool with its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSetup {
    /// The pool.
    pub pool: Pool,
    /// Its checks, each with a unique name. A pool without a deciding check is always healthy.
    pub checks: Vec<Check>,
    /// How many of the deciding checks must pass for an address to be healthy.
    pub require: Require,
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The configured name, otherwise the kind; unique within the pool.
    pub name: String,
    /// The probe to run.
    pub probe: Probe,
    /// When it runs, and how many outcomes change a state.
    pub timing: Timing,
    /// Whether its failure alone makes an address unhealthy, whatever the others report.
    pub critical: bool,
    /// Whether it is only displayed and counted, and never decides.
    pub observe_only: bool,
}

impl Check {
    /// A check with its kind as name, neither critical nor observe-only.
    #[must_use]
    pub fn new(probe: Probe, timing: Timing) -> Self {
        Self { name: probe.kind().into(), probe, timing, critical: false, observe_only: false }
    }
}

/// The kind and the settings of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A connection, optionally with an exchange of bytes.
    Tcp(TcpProbe),
    /// A TLS handshake, optionally with an exchange of bytes.
    Tls(TlsProbe),
    /// An HTTP request, with or without TLS.
    Http(HttpProbe),
    /// A call of `grpc.health.v1`.
    Grpc(GrpcProbe),
    /// A program.
    Exec(ExecProbe),
}

impl Probe {
    /// Its kind as a word: `http`, `https`, `tcp`, `tls`, `grpc` or `exec`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Tls(_) => "tls",
            Self::Http(probe) if probe.tls.is_some() => "https",
            Self::Http(_) => "http",
            Self::Grpc(_) => "grpc",
            Self::Exec(_) => "exec",
        }
    }

    /// Its TLS settings, if it uses TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSettings> {
        match self {
            Self::Tls(probe) => Some(&probe.tls),
            Self::Http(probe) => probe.tls.as_ref(),
            Self::Grpc(probe) => probe.tls.as_ref(),
            Self::Tcp(_) | Self::Exec(_) => None,
        }
    }

    fn tls_mut(&mut self) -> Option<&mut TlsSettings> {
        match self {
            Self::Tls(probe) => Some(&mut probe.tls),
            Self::Http(probe) => probe.tls.as_mut(),
            Self::Grpc(probe) => probe.tls.as_mut(),
            Self::Tcp(_) | Self::Exec(_) => None,
        }
    }

    /// This probe with the port and host of a backend that has its own.
    #[must_use]
    pub fn of_backend(&self, backend: &Backend) -> Self {
        let Backend { port, host, .. } = backend;
        let mut probe = self.clone();
        if let Some(own) = *port {
            match &mut probe {
                Self::Tcp(TcpProbe { port, .. })
                | Self::Tls(TlsProbe { port, .. })
                | Self::Http(HttpProbe { port, .. })
                | Self::Grpc(GrpcProbe { port, .. }) => *port = own,
                Self::Exec(ExecProbe { port, .. }) => *port = Some(own),
            }
        }
        if let Some(own) = host {
            match &mut probe {
                Self::Http(HttpProbe { host, .. }) | Self::Grpc(GrpcProbe { host, .. }) => {
                    *host = Some(own.clone());
                }
                Self::Tcp(_) | Self::Tls(_) | Self::Exec(_) => {}
            }
            if let Some(tls) = probe.tls_mut() {
                tls.name = Some(name_in(own).to_owned());
            }
        }
        probe
    }
}
